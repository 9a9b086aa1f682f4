"""Inpainting: what is missing is filled, what is known stays, and a mask that makes no sense is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scenes import noisy, scene, tiny

from dip_sci.errors import ImageError, RecipeError
from dip_sci.functions import inpaint
from dip_sci.image import Image
from dip_sci.restore import denoise
from dip_sci.ways import LOW_RANK

LEARN = {
    "generator": {"channels": (8, 8, 8), "dropout": 0.0},
    "fit": {"steps": 60, "rate": 0.01, "precision": "float32"},
}


def holes(*shape, share=0.5, seed=3):
    return np.random.default_rng(seed).random(shape) < share


def psnr(values, truth, where):
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((values[where] - truth[where]) ** 2))


def nearest(image, missing):
    """What the result would be without a network."""
    return inpaint(image, missing, tiny(fit={"steps": 0})).image.array


@pytest.mark.parametrize(("shape", "axes"), [((40, 44), "YX"), ((10, 24, 24), "ZYX"), ((2, 32, 32), "CYX")])
def test_missing_voxels_are_filled_better_than_by_their_neighbours(shape, axes):
    truth, missing = scene(*shape).astype(np.float32), holes(*shape)
    image = Image(np.where(missing, -999, truth).astype(np.float32), axes)
    result = inpaint(image, missing, tiny(**LEARN)).image
    np.testing.assert_array_equal(result.array[~missing], truth[~missing])
    assert psnr(result.array, truth, missing) > psnr(nearest(image, missing), truth, missing) + 3


def test_known_voxels_are_restored_on_request():
    truth = scene(40, 40)
    missing = holes(40, 40, share=0.2)
    image = noisy(40, 40, sigma=20)
    image = image.with_array(np.where(missing, 0, image.array).astype(np.float32))
    known = tiny(**LEARN, output={"known": "restore"}, noise={"sigma": 20.0})
    result = inpaint(image, missing, known).image.array
    assert psnr(result, truth, ~missing) > psnr(image.array, truth, ~missing) + 3
    assert psnr(result, truth, missing) > psnr(nearest(image, missing), truth, missing) + 3


def test_values_that_are_not_finite_are_missing_where_no_mask_is_given():
    truth = scene(32, 32).astype(np.float32)
    broken = truth.copy()
    broken[:, 7] = np.nan
    result = inpaint(Image(broken, "YX"), recipe=tiny(**LEARN)).image.array
    assert np.isfinite(result).all()
    assert np.abs(result[:, 7] - truth[:, 7]).mean() < 10


def test_padding_is_filled_where_it_is_asked_for_and_stays_padding_elsewhere():
    valid = np.ones((32, 32), bool)
    valid[:, :6] = False
    missing = np.zeros_like(valid)
    missing[:, 4:8] = True
    image = Image(np.where(valid, scene(32, 32), -1000).astype(np.int16), "YX", valid=valid)
    result = inpaint(image, missing, tiny()).image
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result.array[:, :4], -1000)
    assert (result.array[:, 4:8] > 0).all()
    np.testing.assert_array_equal(result.valid, valid | missing)


def test_missing_slices_are_filled_from_their_neighbours():
    z, y, x = np.meshgrid(np.arange(12), np.arange(24), np.arange(24), indexing="ij")
    truth = (100 + 40 * np.sin(x / 4 + z / 3) + 2 * y).astype(np.float32)
    missing = np.zeros(truth.shape, bool)
    missing[[4, 8]] = True
    result = inpaint(Image(np.where(missing, 0, truth), "ZYX"), missing, tiny(**LEARN))
    assert result.report.recipe.generator.ndim == "3d"
    filled = result.image.array
    assert psnr(filled, truth, missing) > psnr(np.roll(truth, 1, axis=0), truth, missing) + 2


def test_a_large_hole_is_left_to_the_prior_alone():
    missing = np.zeros((48, 48), bool)
    missing[8:40, 8:40] = True
    report = inpaint(noisy(48, 48), missing, tiny(fit={"steps": 2})).report
    decided = report.recipe
    assert (decided.supervision.kind, decided.generator.kind, decided.generator.skip_channels) == (
        "full",
        "hourglass",
        (0,),
    )
    assert report.reasons["supervision.kind"].startswith("full: a hole is 16 voxels deep")
    assert report.task == "inpaint"


def test_outside_the_region_holes_stay_as_they_are():
    missing = holes(32, 32)
    region = np.zeros((32, 32), bool)
    region[8:20, 8:20] = True
    image = noisy(32, 32)
    result = inpaint(image, missing, tiny(), region=region).image.array
    np.testing.assert_array_equal(result[~(region & missing)], image.array[~(region & missing)])
    assert (result != image.array)[region & missing].all()
    # Where the region only counts more, all is filled.
    everywhere = inpaint(image, missing, tiny(output={"outside": "restore"}), region=region).image.array
    assert (everywhere != image.array)[missing].all()


def test_outside_the_region_what_is_not_finite_or_padding_stays_so():
    image = noisy(32, 32)
    broken = image.array.astype(np.float32)
    broken[::4, 3:] = np.nan
    valid = np.ones((32, 32), bool)
    valid[:, :3] = False
    region = np.zeros((32, 32), bool)
    region[8:20] = True
    result = inpaint(replace(image, array=broken, valid=valid), recipe=tiny(), region=region).image
    np.testing.assert_array_equal(result.array[~region], broken[~region])
    assert np.isfinite(result.array[region]).all()
    np.testing.assert_array_equal(result.valid, valid)


def test_a_constant_image_is_filled_with_its_constant():
    values = np.full((16, 16), 7, np.uint8)
    values[3, 3] = 0
    missing = values == 0
    np.testing.assert_array_equal(inpaint(Image(values, "YX"), missing, tiny()).image.array, 7)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (np.ones((32, 32), bool), "Everything is missing"),
        (np.zeros((32, 32), bool), "mask of missing voxels is empty"),
        (np.ones((32, 31), bool), "mask of missing voxels's shape"),
        (None, "Nothing is missing"),
    ],
    ids=["all", "none", "shape", "finite"],
)
def test_a_mask_that_makes_no_sense_is_refused(missing, words):
    with pytest.raises(ImageError, match=words):
        inpaint(noisy(32, 32), missing, tiny())


def test_a_region_without_anything_missing_is_refused():
    missing, region = np.zeros((32, 32), bool), np.zeros((32, 32), bool)
    missing[:4], region[20:] = True, True
    with pytest.raises(ImageError, match="no missing voxel"):
        inpaint(noisy(32, 32), missing, tiny(), region=region)


def test_splitting_the_noise_fills_no_holes():
    with pytest.raises(RecipeError, match="split"):
        inpaint(noisy(32, 32), holes(32, 32), tiny(supervision={"recorrupt": "split"}))


def test_the_same_seed_gives_the_same_result():
    image, missing = noisy(32, 32), holes(32, 32)
    first, second = (inpaint(image, missing, tiny()).image.array for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("noise", [{"sigma": 15.0}, {"model": "poisson", "gain": 1.0}], ids=["gaussian", "photons"])
def test_beside_holes_noise_is_removed_as_anywhere_else(noise):
    truth = scene(64, 64)
    draws = np.random.default_rng(5)
    seen = truth + draws.normal(0, 15, truth.shape) if "sigma" in noise else draws.poisson(truth)
    missing = holes(64, 64, share=0.1)
    image = Image(np.where(missing, 0, seen).astype(np.float32), "YX")
    blend = tiny(**LEARN, output={"known": "restore", "classical": "blend"}, noise=noise)
    result = inpaint(image, missing, blend)
    plain = denoise(Image(seen.astype(np.float32), "YX"), tiny(**LEARN, output={"classical": "blend"}, noise=noise))
    assert LOW_RANK in result.report.weights
    assert sum(result.report.weights.values()) == pytest.approx(1)
    assert psnr(result.image.array, truth, ~missing) > psnr(plain.image.array, truth, ~missing) - 2.5
    assert psnr(result.image.array, truth, missing) > psnr(nearest(image, missing), truth, missing) + 3
