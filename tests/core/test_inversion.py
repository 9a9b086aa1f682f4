"""Natural pre-image: the activations of a layer are met, whatever the module, and the module stays as it was."""

import threading

import numpy as np
import pytest
import torch
from scenes import scene
from torch import nn

from dip_sci.errors import ImageError, RecipeError
from dip_sci.image import Image
from dip_sci.inversion import iter_pre_image, pre_image
from dip_sci.recipe import Recipe

QUICK = {
    "device": "cpu",
    "generator": {"channels": (8, 8)},
    "fit": {"steps": 40, "rate": 0.01, "precision": "float32"},
    "input": {"channels": 4},
}


def quick(**changes):
    return Recipe.parse(QUICK).merged(changes)


class Small(nn.Module):
    """Two convolutions with what has a state or is random between them, and a part that is never called."""

    def __init__(self, ndim=2, channels=1):
        super().__init__()
        conv, norm, drop = (getattr(nn, f"{name}{ndim}d") for name in ("Conv", "BatchNorm", "Dropout"))
        self.first = nn.Sequential(conv(channels, 6, 3, padding=1), norm(6), nn.ReLU())
        self.drop = drop(0.5)
        self.second = conv(6, 4, 3, stride=2)
        self.head = nn.Linear(4, 3)
        self.idle = nn.Linear(2, 2)

    def forward(self, x):
        x = self.second(self.drop(self.first(x)))
        return self.head(x.flatten(2).mean(2))


def small(ndim=2, channels=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small(ndim, channels)


def plane(dtype=np.uint8):
    return Image(np.rint(scene(24, 20)).astype(dtype), "YX", (0.5, 0.5))


@pytest.mark.parametrize("layer", ["first", "first.0", "second", "head"])
def test_the_activations_are_met(layer):
    result = pre_image(small(), layer, plane(), quick(), preprocess=lambda x: (x - 100) / 50)
    terms = result.report.data_terms
    assert terms[-1] < 0.4 * terms[0]
    assert result.report.steps == 40
    assert (result.image.dtype, result.image.shape, result.image.spacing) == (np.uint8, (24, 20), (0.5, 0.5))


def test_a_layer_that_keeps_everything_gives_the_image_back():
    keep = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Identity())
    image = plane(np.float32)
    result = pre_image(keep, "1", image, quick(generator={"channels": (16, 16, 16)}, fit={"steps": 250}))
    error = np.square(result.image.array - image.array).mean()
    assert error < 0.1 * image.array.var()
    assert result.image.array.min() >= image.array.min() - 1e-3
    assert result.image.array.max() <= image.array.max() + 1e-3


def test_without_a_network_total_variation_is_all_the_prior():
    image = plane(np.float32)
    blur = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(4))

    def found(**fit):
        fit = {"steps": 200, "rate": 0.02, **fit}
        return pre_image(blur, "1", image, Recipe.parse({"device": "cpu", "generator": {"kind": "pixels"}, "fit": fit}))

    free, smooth = found(), found(tv=100.0)
    assert free.report.data_terms[-1] < 0.05 * free.report.data_terms[0]
    steps = [np.abs(np.diff(r.image.array, axis=0)).mean() for r in (free, smooth)]
    assert steps[1] < 0.8 * steps[0]


def test_a_volume_and_colours_are_shown_as_they_are():
    volume = Image(scene(8, 16, 14).astype(np.float32), "ZYX")
    result = pre_image(small(3), "second", volume, quick(fit={"steps": 5}))
    assert result.image.shape == (8, 16, 14)
    colour = Image(np.stack([scene(24, 20, seed=k) for k in range(3)], -1).astype(np.float32), "YXS")
    assert pre_image(small(2, 3), "second", colour, quick(fit={"steps": 5})).image.shape == (24, 20, 3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_network_of_monai_is_a_module_like_any_other(ndim):
    from monai.networks.nets import BasicUNet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = BasicUNet(spatial_dims=ndim, in_channels=1, out_channels=2, features=(4, 4, 4, 4, 4, 4))
    shape = (32, 32) if ndim == 2 else (16, 16, 16)
    image = Image(scene(*shape).astype(np.float32), "ZYX"[-ndim:])
    result = pre_image(net, "down_1", image, quick(fit={"steps": 30}), preprocess=lambda x: (x - 100) / 50)
    assert result.report.data_terms[-1] < 0.6 * result.report.data_terms[0]
    with pytest.raises(RecipeError, match=r"no layer 'down_7'; near ones are 'down_"):
        pre_image(net, "down_7", image, quick())


def test_the_module_stays_as_it_was():
    net = small().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    pre_image(net, "second", plane(), quick(fit={"steps": 3}))
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_the_same_seed_gives_the_same_pre_image():
    a, b, c = (pre_image(small(), "second", plane(np.float32), quick(seed=s)).image.array for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_several_networks_give_a_spread():
    result = pre_image(small(), "second", plane(), quick(fit={"seeds": 2, "steps": 5}))
    assert result.spread is not None
    assert result.spread.array.max() > 0


def test_it_goes_by_steps_and_ends_when_asked():
    stop, seen = threading.Event(), []
    run = iter_pre_image(small(), "second", plane(), quick(), cancel=stop)
    try:
        while True:
            seen.append(next(run))
            stop.set()
    except StopIteration as end:
        result = end.value
    assert len(seen) == 1
    assert seen[0].preview().shape == (24, 20)
    assert result.report.reason.name == "CANCELLED"


def test_a_variance_rule_may_stop_it():
    rule = {"rule": "moving_variance", "min_start": 0, "patience": 4}
    result = pre_image(small(), "second", plane(), quick(stop=rule, fit={"steps": 400, "rate": 0.05}))
    assert result.report.stop_curve
    assert result.report.steps < 400


@pytest.mark.parametrize(
    ("layer", "image", "recipe", "error", "says"),
    [
        ("secnd", plane(), {}, RecipeError, r"no layer 'secnd'; near ones are 'second'"),
        ("", plane(), {}, RecipeError, r"no layer ''; near ones are"),
        ("idle", plane(), {}, RecipeError, "'idle' takes no part"),
        ("second", Image(scene(24, 20, 3), "YXS"), {}, ImageError, r"does not take an image of shape \(1, 3, 24, 20\)"),
        (
            "second",
            Image(scene(8, 16, 16), "ZYX"),
            {},
            ImageError,
            r"does not take an image of shape \(1, 1, 8, 16, 16\)",
        ),
        ("second", Image(scene(3, 24, 20), "TYX"), {}, ImageError, "has 3 times"),
        ("second", Image(scene(24, 20) > 100, "YX"), {}, ImageError, "type bool"),
        ("second", Image(np.full((24, 20), np.nan), "YX"), {}, ImageError, "without a measurement"),
        ("second", plane(), {"noise": {"sigma": 3.0}}, RecipeError, "noise.sigma means nothing"),
        ("second", plane(), {"supervision": {"recorrupt": "hide"}}, RecipeError, "supervision.recorrupt means nothing"),
        ("second", plane(), {"stop": {"rule": "held_out"}}, RecipeError, "stop.rule is held_out"),
    ],
)
def test_what_cannot_be_inverted_is_named(layer, image, recipe, error, says):
    with pytest.raises(error, match=says):
        pre_image(small(), layer, image, quick(**recipe))


def test_the_papers_settings_are_the_default():
    recipe = pre_image(small(), "second", plane(), Recipe.parse({"device": "cpu", "fit": {"steps": 1}})).report.recipe
    assert recipe.generator.channels == (16, 32, 64, 128, 128, 128)
    assert recipe.generator.kernel_up == (7, 7, 5, 5, 3, 3)
    assert (recipe.fit.rate, recipe.input.jitter, recipe.input.channels) == (0.001, 0.0, 32)
