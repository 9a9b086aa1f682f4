"""Total variation beside the data term, and the baseline without a network."""

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny
from skimage.restoration import denoise_tv_chambolle

from dip_sci.problem import total_variation
from dip_sci.restore import denoise


@pytest.mark.parametrize("shape", [(9, 11), (5, 7, 9)], ids=str)
def test_total_variation_is_the_mean_length_of_the_gradient(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    steps = [np.diff(x, axis=k, append=np.take(x, [-1], axis=k)) for k in range(x.ndim)]
    expected = np.sqrt(sum(s.astype(float) ** 2 for s in steps)).mean()
    assert float(total_variation(torch.from_numpy(x)[None, None])) == pytest.approx(expected, rel=1e-3)
    assert float(total_variation(torch.full((1, 2, *shape), 3.0))) == pytest.approx(0, abs=2e-4)


def test_total_variation_has_a_gradient_everywhere():
    x = torch.zeros(1, 1, 6, 6, requires_grad=True)
    total_variation(x).backward()
    assert torch.isfinite(x.grad).all()


def without_network(**fit):
    changes = {"kind": "pixels", "channels": None}
    full = {"kind": "full"}
    fit = {"steps": 400, "rate": 0.02, "averaging": 0.5, **fit}
    return tiny(generator=changes, supervision=full, fit=fit, stop={"rule": "fixed"}, noise={"sigma": 12.0})


def test_without_a_network_the_noise_is_fitted():
    image = noisy(32, 32, sigma=12.0)
    result = denoise(image, without_network()).image.array
    assert np.abs(result - image.array).max() < 0.5


@pytest.mark.parametrize("weight", [0.3, 0.8])
def test_pixels_under_total_variation_are_its_minimiser(weight):
    image = noisy(32, 32, sigma=12.0)
    result = denoise(image, without_network(tv=weight)).image.array
    # Ours: mean squares + w times the mean variation; theirs: half the squares + their weight times it.
    sd = image.array.std()
    theirs = sd * denoise_tv_chambolle(image.array / sd, weight=weight / 2, eps=1e-6, max_num_iter=2000)
    assert np.abs(result - theirs).mean() < 0.02 * sd
    error = [np.square(x - scene(32, 32)).mean() for x in (result, image.array)]
    assert error[0] < 0.7 * error[1]


def test_total_variation_smooths_a_volume_of_a_network_too():
    image = noisy(8, 16, 16, axes="ZYX", sigma=12.0)
    rough, smooth = (
        denoise(image, tiny(generator={"kind": "hourglass", "ndim": "3d"}, supervision={"kind": "full"}, fit=fit))
        for fit in ({"steps": 60, "rate": 0.02}, {"steps": 60, "rate": 0.02, "tv": 3.0})
    )
    variation = [total_variation(torch.from_numpy(r.image.array)[None, None]) for r in (rough, smooth)]
    assert variation[1] < 0.7 * variation[0]


@pytest.mark.parametrize("kind", ["classic_unet", "resnet", "deep_decoder", "conv_decoder"])
@pytest.mark.parametrize(("shape", "axes"), [((13, 17), "YX"), ((8, 9, 10), "ZYX")])
def test_every_generator_fits_an_image(kind, shape, axes):
    image = noisy(*shape, axes=axes)
    recipe = tiny(
        generator={"kind": kind, "channels": (4, 4), "ndim": f"{len(shape)}d"},
        supervision={"kind": "full"},
        fit={"steps": 20, "rate": 0.02},
        stop={"rule": "fixed"},
    )
    terms = denoise(image, recipe).report.data_terms
    assert terms[-1] < 0.9 * terms[0]
    again = denoise(image, recipe)
    assert again.report.data_terms == terms
