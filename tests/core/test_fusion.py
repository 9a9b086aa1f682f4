"""Fusion: a clean guide helps a noisy image, wherever its own grid lies; a guide that makes no sense is refused."""

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny

from dip_sci.errors import ImageError, RecipeError
from dip_sci.functions import fuse
from dip_sci.guided import RADII, guided
from dip_sci.image import Image
from dip_sci.restore import denoise
from dip_sci.tasks import Fuse

LEARN = {"generator": {"channels": (12, 12, 12), "dropout": 0.2}, "fit": {"steps": 100, "rate": 0.005}}


def shapes(n):
    """Squares of random brightness: no two tell of each other, but where one ends another begins."""
    rng = np.random.default_rng(0)
    return np.kron(rng.uniform(50, 150, (n // 6, n // 6)), np.ones((6, 6)))


def psnr(values, truth):
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((values - truth) ** 2))


def test_a_clean_guide_is_worth_more_than_a_decibel():
    truth = shapes(96)
    image = Image((truth + np.random.default_rng(1).normal(0, 40, truth.shape)).astype(np.float32), "YX")
    recipe = tiny(**LEARN, noise={"sigma": 40.0})
    alone, by_guide = denoise(image, recipe), fuse(image, 300 - 2 * truth, recipe)
    assert psnr(by_guide.image.array, truth) > psnr(alone.image.array, truth) + 1
    assert by_guide.report.task == "fuse"


def test_full_supervision_sees_the_guide():
    image = noisy(32, 32)
    recipe = tiny(supervision={"kind": "full"})
    results = [fuse(image, guide, recipe).image.array for guide in (scene(32, 32), scene(32, 32, seed=5))]
    assert not np.array_equal(*results)


def test_a_generator_that_cannot_be_shown_a_guide_is_refused():
    with pytest.raises(RecipeError, match="deep_decoder"):
        fuse(noisy(32, 32), scene(32, 32), tiny(generator={"kind": "deep_decoder"}))


def test_a_guide_on_another_grid_is_interpolated():
    """The guide's value is its place: on the image's grid it must say where each of its voxels lies."""
    turned = np.array([[0, 1.0, 0, 2], [-1.0, 0, 0, 50], [0, 0, 2.0, -3], [0, 0, 0, 1.0]])
    image = noisy(6, 20, 24, axes="ZYX", affine=turned, spacing=(2.0, 1.0, 1.0), units=("millimeter",) * 3)
    affine = np.diag([0.8, 1.1, 1.5, 1.0])
    affine[:3, 3] = -5, 20, -6
    x = np.indices((20, 40, 50))[::-1].astype(float)
    places = affine[0, 0] * x[0] + affine[0, 3]
    guide = Image(places, "ZYX", (1.5, 1.1, 0.8), ("millimeter",) * 3, affine)
    task = Fuse.of(image, guide)
    z, y, x = np.indices(image.shape)
    wanted = (turned @ np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1))[0].reshape(image.shape)
    found = task.guides[0]
    inside = found != 0
    assert task.resampled
    assert inside.mean() > 0.5
    slope, start = np.polyfit(wanted[inside], found[inside], 1)
    np.testing.assert_allclose(found[inside], slope * wanted[inside] + start, atol=1e-3)


MM = ("millimeter",) * 3


@pytest.mark.parametrize("step", [1, 2], ids=["same", "coarser"])
@pytest.mark.parametrize("axes", ["ZYX", "XYZ"])
def test_axes_go_by_their_names_and_not_by_their_order(axes, step):
    """An image stored along X, Y, Z, and a guide stored either way, on the same grid or on another."""
    image = Image(scene(6, 20, 24), "ZYX", (3.0, 1.0, 1.0), MM)
    guide = Image(scene(6, 20, 24)[:, ::step, ::step], "ZYX", (3.0, step, step), MM)
    wanted = Fuse.of(image, guide)
    turned = Image(image.array.T, "XYZ", (1.0, 1.0, 3.0), MM)
    other = guide if axes == "ZYX" else Image(guide.array.T, "XYZ", (step, step, 3.0), MM)
    found = Fuse.of(turned, other)
    assert found.resampled is wanted.resampled is (step > 1)
    np.testing.assert_allclose(found.guides[0].T, wanted.guides[0], atol=1e-5)


def test_to_its_borders_a_coarser_guide_counts():
    """In the outer half of a border's voxels, as the border's voxels."""
    place = {"axes": "YX", "units": MM[:2]}
    image = noisy(24, 24, spacing=(1.0, 1.0), **place)
    columns = np.broadcast_to(np.arange(6.0), (6, 6))
    (found,) = Fuse.of(image, Image(columns, spacing=(4.0, 4.0), **place)).guides
    assert found.all()
    at = (np.arange(24) + 0.5) / 4 - 0.5
    wanted = np.clip(at, 0, 5)
    np.testing.assert_allclose(found, np.broadcast_to((wanted - wanted.mean()) / wanted.std(), (24, 24)), atol=1e-5)


@pytest.mark.parametrize("step", [1, 2, 0.5], ids=["same", "coarser", "finer"])
@pytest.mark.parametrize("how", ["padding", "nan"])
def test_what_was_not_measured_of_a_guide_is_absent(step, how):
    place = {"axes": "YX", "units": MM[:2]}
    image = noisy(32, 32, spacing=(1.0, 1.0), **place)
    n = int(32 / step)
    values = scene(n, n).astype(np.float32)
    valid = np.ones((n, n), bool)
    valid[:, : n // 4] = False
    if how == "padding":
        guide = Image(np.where(valid, values, -2000), spacing=(step, step), valid=valid, **place)
    else:
        guide = Image(np.where(valid, values, np.nan), spacing=(step, step), **place)
    whole = Image(np.where(valid, values, values[:, n // 4 :][:, :1]), spacing=(step, step), **place)
    (found,) = Fuse.of(image, guide).guides
    assert not found[:, :8].any()
    np.testing.assert_allclose((found[:, 8:].mean(), found[:, 8:].std()), (0, 1), atol=1e-4)
    # As if the guide went on as at the border of what was measured.
    wanted = Fuse.of(image, whole).guides[0][:, 8:]
    np.testing.assert_allclose(found[:, 8:], (wanted - wanted.mean()) / wanted.std(), atol=0.05)


def test_channels_of_a_guide_count_each():
    image = noisy(2, 24, 24, axes="TYX")
    guide = Image(np.stack([scene(24, 24, seed=k) for k in range(3)], axis=-1), "YXS")
    task = Fuse.of(image, guide)
    assert len(task.guides) == 3
    assert not task.resampled
    assert fuse(image, guide, tiny()).image.shape == image.shape


def far_away():
    affine = np.eye(4)
    affine[:3, 3] = 1000
    return Image(scene(24, 24, 24), "ZYX", (1.0, 1.0, 1.0), ("millimeter",) * 3, affine)


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (np.ones((32, 32)), "constant"),
        (scene(32, 30), "shape"),
        (Image(scene(8, 32, 32), "ZYX"), "axes ZYX"),
        (Image(scene(30, 30), "YX"), "cannot be resampled"),
        (np.full((32, 32), np.nan), "do not overlap"),
        (scene(32, 32) + 1j, "complex128"),
    ],
    ids=["constant", "shape", "axes", "unplaced", "empty", "complex"],
)
def test_a_guide_that_makes_no_sense_is_refused(guide, words):
    with pytest.raises(ImageError, match=words):
        fuse(noisy(32, 32), guide, tiny())


def test_a_single_plane_counts_where_it_lies():
    """Beside it, in its own plane, there is nothing to be guided by."""
    place = {"axes": "YX", "spacing": (1.0, 1.0), "units": ("millimeter",) * 2}
    here, aside, far = np.eye(4), np.eye(4), np.eye(4)
    aside[0, 3], far[0, 3] = 10, 500
    image = noisy(24, 24, affine=here, **place)
    (found,) = Fuse.of(image, Image(scene(24, 24), affine=aside, **place)).guides
    assert not found[:, :10].any()
    assert np.corrcoef(found[:, 10:].ravel(), scene(24, 24)[:, :14].ravel())[0, 1] > 0.999
    with pytest.raises(ImageError, match="do not overlap"):
        Fuse.of(image, Image(scene(24, 24), affine=far, **place))


def test_a_guide_from_elsewhere_is_refused():
    image = noisy(24, 24, 24, axes="ZYX", affine=np.eye(4), spacing=(1.0, 1.0, 1.0), units=("millimeter",) * 3)
    with pytest.raises(ImageError, match="do not overlap"):
        fuse(image, far_away(), tiny())


@pytest.mark.parametrize("shape", [(48, 40), (10, 24, 20)])
@pytest.mark.parametrize("radius", RADII)
def test_what_a_guide_tells_of_an_image_is_found_under_its_noise(shape, radius):
    """Two samples, another linear function of the guides each."""
    g = torch.Generator().manual_seed(radius)
    guides = torch.randn(2, *shape, generator=g)
    truth = torch.stack([3 * guides[0] - guides[1] + 100, 2 * guides[1] - 50])
    sd = torch.tensor([0.5, 0.2]).view(2, *(1,) * len(shape))
    noisy = truth + sd * torch.randn(truth.shape, generator=g)
    found = guided(noisy, guides, sd, radius)
    many = (2 * min(radius, min(shape) // 4) + 1) ** len(shape)
    error = (found - truth).square().flatten(1).mean(dim=1).sqrt() / sd.flatten()
    # Three numbers are learned from every window.
    assert (error < 1.5 * (3 / many) ** 0.5).all()
    assert found.dtype == noisy.dtype


def test_a_constant_part_of_a_guide_leaves_the_mean():
    guides, sd = torch.zeros(1, 32, 32), torch.full((1, 1, 1), 1.0)
    guides[:, :, 20:] = 1
    noisy = 5 + torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = guided(noisy, guides, sd, 4)
    assert torch.isfinite(found).all()
    assert float((found - 5).abs().max()) < 1


def test_detail_that_the_guide_foretells_is_no_noise():
    """Fine detail everywhere, so that nothing is flat: what the guide leaves of it is."""
    detail = 30 * np.random.default_rng(1).normal(size=(96, 96))
    seen = 100 + detail + np.random.default_rng(0).normal(0, 5, detail.shape)
    recipe = tiny(output={"classical": "blend", "dtype": "float32"})
    result = fuse(Image(seen.astype(np.float32), "YX"), detail.astype(np.float32), recipe)
    assert "standard deviation 5." in result.report.noise[0] or "standard deviation 4.9" in result.report.noise[0]
    assert np.square(result.image.array - 100 - detail).mean() < 0.1 * 5**2


def test_voxels_that_were_not_measured_say_nothing_of_what_a_guide_foretells():
    detail = 30 * np.random.default_rng(1).normal(size=(96, 96))
    seen = 100 + detail + np.random.default_rng(0).normal(0, 5, detail.shape)
    seen[40:44, 50:60] = np.nan
    result = fuse(Image(seen.astype(np.float32), "YX"), detail.astype(np.float32), tiny())
    assert "standard deviation 5." in result.report.noise[0] or "standard deviation 4.9" in result.report.noise[0]
