"""Super-resolution: finer voxels in the same field of view, better than interpolated ones; the operator's phase."""

import math

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny

from dip_sci.checkpoint import Checkpoint
from dip_sci.errors import ImageError, RecipeError
from dip_sci.functions import super_resolve
from dip_sci.image import Image
from dip_sci.operators import Downsample
from dip_sci.resampling import matrix, resample
from dip_sci.supervision_scale import SHARES, Resample
from dip_sci.tasks import SuperResolve

LEARN = {"generator": {"channels": (16, 16)}, "fit": {"steps": 150, "rate": 0.004, "precision": "float32"}}


def stripes(*shape):
    """Sharp slanted stripes: what they look like is the same at every size."""
    grids = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    phase = sum(g * w for g, w in zip(grids, (0.07, 0.19, 0.12)[-len(shape) :], strict=True))
    return (100 + 50 * np.sign(np.sin(phase))).astype(np.float32)


def coarse(truth, factors, kernel="lanczos2"):
    sizes = [n // f for n, f in zip(truth.shape, factors, strict=True)]
    return resample(torch.from_numpy(truth), sizes, kernel).numpy()


def psnr(values, truth):
    inside = tuple(slice(4, -4) for _ in truth.shape)
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((values[inside] - truth[inside]) ** 2))


@pytest.mark.parametrize("f", [2, 4, 8])
def test_the_lanczos_taps_are_the_papers(f):
    """Kernel of 4 f taps at d = |i + 1/2 - c| / f, i = 1 .. 4 f, c = (4 f + 2) / 2; edges repeated 1.5 f times."""
    i = np.arange(1, 4 * f + 1)
    d = math.pi * np.abs(i + 0.5 - (4 * f + 2) / 2) / f
    taps = 2 * np.sin(d) * np.sin(d / 2) / d**2
    taps /= taps.sum()
    x = np.random.default_rng(0).normal(size=8 * f)
    padded = np.pad(x, int(1.5 * f), mode="edge")
    wanted = [padded[k * f : k * f + 4 * f] @ taps for k in range(8)]
    np.testing.assert_allclose(x @ matrix(8 * f, 8, "lanczos2").numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("kernel", ["lanczos2", "lanczos3", "box", "gaussian", "cubic"])
@pytest.mark.parametrize(("before", "after"), [(24, 8), (24, 12), (8, 24), (9, 6), (7, 7)])
def test_a_ramp_stays_the_same_ramp(kernel, before, after):
    """Corners are kept: sample j of n lies at (j + 1/2) / n of the field of view."""
    ramp = (np.arange(before) + 0.5) / before
    found = ramp @ matrix(before, after, kernel).numpy()
    wanted = (np.arange(after) + 0.5) / after
    inner = slice(3, -3) if after > 8 else slice(2, -2)
    tolerance = 0.02 if kernel == "cubic" else 0.05
    np.testing.assert_allclose(found[inner], wanted[inner], atol=tolerance)
    np.testing.assert_allclose(np.ones(before) @ matrix(before, after, kernel).numpy(), 1, atol=1e-6)


def test_a_box_is_the_mean_over_a_voxel():
    x = np.arange(12.0) ** 2
    np.testing.assert_allclose(x @ matrix(12, 4, "box").double().numpy(), x.reshape(4, 3).mean(axis=1), rtol=1e-6)


def test_the_operator_and_its_grids():
    operator = Downsample((1, 3, 2), "box", (1.0, 1.0, 1.0))
    x = torch.rand(1, 2, 4, 9, 8)
    y = operator.forward(x)
    assert y.shape == (1, 2, 4, 3, 4)
    assert operator.finer(y).shape == x.shape
    guess = operator.guess(y, torch.ones(1, 1, 4, 3, 4))
    assert guess.base.shape == guess.filled.shape == x.shape
    assert guess.features.shape[1] == operator.features(2)


@pytest.mark.parametrize(
    ("shape", "factors", "axes"),
    [((96, 96), (2, 2), "YX"), ((150, 144), (3, 3), "YX"), ((24, 32, 32), (2, 2, 2), "ZYX")],
)
def test_better_than_interpolation(shape, factors, axes):
    truth = stripes(*shape)
    image = Image(coarse(truth, factors), axes)
    result = super_resolve(image, factors, tiny(**LEARN))
    plain = super_resolve(image, factors, tiny(fit={"steps": 0})).image.array
    assert result.image.shape == truth.shape
    assert psnr(result.image.array, truth) > psnr(plain, truth) + 0.5
    np.testing.assert_allclose(coarse(result.image.array, factors), image.array, atol=6)
    assert (result.report.task, result.report.asked["factors"][-1]) == ("super_resolve", factors[-1])


def test_thick_slices_learn_from_their_planes():
    truth = stripes(36, 40, 40)
    image = Image(coarse(truth, (3, 1, 1), "box"), "ZYX", spacing=(3.0, 1.0, 1.0))
    recipe = tiny(**LEARN, operator={"kernel": "box"})
    result = super_resolve(image, (3, 1, 1), recipe).image
    plain = super_resolve(image, (3, 1, 1), tiny(fit={"steps": 0})).image.array
    assert result.spacing == (1.0, 1.0, 1.0)
    assert psnr(result.array, truth) > psnr(plain, truth) + 1


@pytest.mark.parametrize(
    ("truth", "factors", "axes"),
    [(scene(96, 96), (4, 4), "YX"), (stripes(36, 40, 40), (3, 1, 1), "ZYX")],
    ids=["planes", "slices"],
)
def test_like_patches_add_to_the_network_unless_it_is_wanted_alone(truth, factors, axes):
    image = Image(coarse(truth.astype(np.float32), factors), axes)
    both, alone = (
        super_resolve(image, factors, tiny(**LEARN, output={"classical": kind})) for kind in ("blend", "none")
    )
    assert psnr(both.image.array, truth) > psnr(alone.image.array, truth) + 0.1
    assert "like patches" in both.report.reasons["output.classical"]
    assert "output.classical" not in alone.report.reasons


def test_a_factor_learned_in_steps_goes_on_from_its_checkpoint_in_any_of_them(tmp_path, monkeypatch):
    image, path = Image(coarse(stripes(64, 64), (4, 4)), "YX"), tmp_path / "run.npz"
    recipe = tiny(fit={"steps": 2}, output={"classical": "blend"})
    whole = super_resolve(image, 4, recipe).image.array
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    rounds = 0
    with monkeypatch.context() as patched:
        go_on = Resample._go_on

        def cut_off(self, made, network, y):
            nonlocal rounds
            rounds += 1
            if rounds % 4 == 0:
                raise KeyboardInterrupt
            go_on(self, made, network, y)

        patched.setattr(Resample, "_go_on", cut_off)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                super_resolve(image, 4, recipe, checkpoint=path)
        # Two levels of two views and the rounds of like patches, of which each run but the last has done three.
        done = []
        patched.setattr(Resample, "_go_on", lambda *given: done.append(1) or go_on(*given))
        again = super_resolve(image, 4, recipe, checkpoint=path)
    assert np.array_equal(again.image.array, whole)
    assert len(done) == 2 * (2 + len(SHARES)) - 9


def test_the_kernel_makes_a_difference():
    image = noisy(32, 32)
    results = [super_resolve(image, 2, tiny(operator={"kernel": k})).image.array for k in ("lanczos2", "gaussian")]
    assert not np.array_equal(*results)


def test_noise_that_is_given_is_removed_first():
    truth = scene(64, 64)
    image = Image(np.clip(coarse(truth, (2, 2)) + np.random.default_rng(0).normal(0, 15, (32, 32)), 0, 255), "YX")
    image = image.with_array(image.array.astype(np.uint8))
    recipe = tiny(fit={"steps": 10}, noise={"sigma": 15.0})
    # The first fit takes the preset's own, longer recipe.
    results = [
        super_resolve(image, 2, recipe.merged({"operator": {"denoise": d}, "preset": "fast"})) for d in ("no", "yes")
    ]
    noisy_one, clean = (psnr(r.image.array.astype(float), truth) for r in results)
    assert clean > noisy_one + 2
    assert results[1].image.dtype == np.uint8
    assert "15, as given" in results[1].report.noise[0]


def test_full_supervision_reaches_the_finer_grid():
    result = super_resolve(noisy(24, 24), 2, tiny(supervision={"kind": "full"}, generator={"kind": "hourglass"}))
    assert result.image.shape == (48, 48)


def test_several_channels_frames_and_colours():
    image = noisy(2, 3, 24, 24, 3, axes="TCYXS", dtype=np.uint8)
    result = super_resolve(image, 2, tiny()).image
    assert (result.shape, result.axes, result.dtype) == ((2, 3, 48, 48, 3), "TCYXS", np.uint8)


@pytest.mark.parametrize("axes", ["XYZ", "YXZ", "ZXY"])
def test_a_single_factor_is_for_rows_and_columns_wherever_they_are(axes):
    image = Image(scene(9, 24, 26).astype(np.float32), "ZYX", (3.0, 1.0, 1.0))
    order = ["ZYX".index(a) for a in axes]
    turned = Image(image.array.transpose(order), axes, tuple(image.spacing[k] for k in order))
    wanted, found = (super_resolve(i, 2, tiny(fit={"steps": 0})).image for i in (image, turned))
    assert wanted.shape == (9, 48, 52)
    assert found.spacing == tuple(wanted.spacing[k] for k in order)
    np.testing.assert_allclose(found.array, wanted.array.transpose(order), atol=1e-3)


@pytest.mark.parametrize("axes", ["ZYX", "XYZ"])
def test_factors_are_in_the_order_of_the_axes(axes):
    assert SuperResolve.of(noisy(24, 24, 24, axes=axes), (3, 1, 2)).finer(axes) == (3, 1, 2)


@pytest.mark.parametrize("factor", [2.0, np.int64(2), np.float32(2), np.array(2), [2, 2], np.array([2, 2])])
def test_whole_numbers_of_any_type_are_factors(factor):
    assert SuperResolve.of(noisy(24, 24), factor).factors == (1, 2, 2)


def test_padding_stays_padding_and_outside_the_region_it_is_interpolated():
    valid = np.ones((32, 32), bool)
    valid[:8] = False
    region = np.zeros((32, 32), bool)
    region[16:28, 4:28] = True
    image = Image(np.where(valid, scene(32, 32), -1000).astype(np.int16), "YX", valid=valid)
    result = super_resolve(image, 2, tiny(), region=region).image
    plain = super_resolve(image, 2, tiny(fit={"steps": 0})).image.array
    fine = np.kron(region, np.ones((2, 2), bool))
    np.testing.assert_array_equal(result.array[:16], -1000)
    np.testing.assert_array_equal(result.array[~fine], plain[~fine])
    assert not np.array_equal(result.array[fine], plain[fine])
    assert result.valid.sum() == 4 * valid.sum()


def test_seeds_give_a_spread_on_the_finer_grid():
    result = super_resolve(noisy(24, 24), 2, tiny(fit={"seeds": 2}))
    assert result.spread.shape == (48, 48)
    assert result.spread.array.std() > 0


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (0, "whole numbers"),
        (-2, "whole numbers"),
        (2.5, "whole numbers"),
        ((2, 2.5), "whole numbers"),
        (np.float32(2.5), "whole numbers"),
        (math.nan, "whole numbers"),
        (math.inf, "whole numbers"),
        (True, "whole numbers"),
        (None, "whole numbers"),
        ("2", "whole numbers"),
        ((2, "x"), "whole numbers"),
        ((2, 2, 2), "3 factors were given"),
        (1, "All factors are 1"),
        (17, "from 1 to 16"),
        (16, "too small"),
    ],
)
def test_a_factor_that_makes_no_sense_is_refused(factor, words):
    with pytest.raises(ImageError, match=words):
        super_resolve(noisy(24, 24), factor, tiny())


@pytest.mark.parametrize("kind", ["hide", "split"])
def test_other_lessons_make_nothing_finer(kind):
    with pytest.raises(RecipeError, match=kind):
        super_resolve(noisy(24, 24), 2, tiny(supervision={"recorrupt": kind}))


@pytest.mark.parametrize("rule", ["held_out", "sure"])
def test_rules_that_judge_noise_are_refused(rule):
    with pytest.raises(RecipeError, match=rf"stop\.rule is {rule}.*fixed"):
        super_resolve(noisy(24, 24), 2, tiny(stop={"rule": rule}))


def test_thick_slices_need_three_dimensions():
    with pytest.raises(RecipeError, match="2d"):
        super_resolve(noisy(8, 24, 24, axes="ZYX"), (2, 1, 1), tiny(generator={"ndim": "2d"}))
