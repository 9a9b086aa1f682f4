"""Deconvolution: a known blur is undone under photon noise; a point spread function that is none is refused."""

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny
from scipy.ndimage import convolve, gaussian_filter

from dip_sci import preferences
from dip_sci.blur import Blur
from dip_sci.detection import Detected
from dip_sci.errors import ImageError, RecipeError
from dip_sci.functions import deconvolve
from dip_sci.image import Image
from dip_sci.implied import too_wide
from dip_sci.noise import PoissonGaussian
from dip_sci.problem import Problem
from dip_sci.recipe import Recipe
from dip_sci.scaling import Scaling
from dip_sci.sharpening import sharpen
from dip_sci.tasks import Deconvolve, normalised

LEARN = {"generator": {"channels": (16, 16, 16)}, "fit": {"steps": 200, "rate": 0.005, "precision": "float32"}}


def gaussian(sigma, *shape):
    point = np.zeros(shape)
    point[tuple(n // 2 for n in shape)] = 1
    psf = gaussian_filter(point, sigma)
    return psf / psf.sum()


def beads(*shape):
    """Small bright blobs on a dim ground, in photons."""
    rng = np.random.default_rng(0)
    points = np.zeros(shape)
    points[tuple(rng.integers(3, n - 3, 40) for n in shape)] = rng.uniform(500, 1500, 40)
    return 20 + 4 * gaussian_filter(points, 0.8)


def error(values, truth):
    return float(np.mean((values - truth) ** 2))


def test_the_blur_is_a_convolution_that_keeps_constants():
    rng = np.random.default_rng(0)
    psf = rng.random((3, 5)).astype(np.float32)
    psf /= psf.sum()
    x = rng.random((12, 14)).astype(np.float32)
    wanted = convolve(x, psf, mode="nearest")
    found = Blur(psf, (1.0, 1.0), 0.1).forward(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    ones = torch.ones(2, 1, 3, 6, 6, 6)
    volume = Blur(gaussian(1, 3, 3, 3).astype(np.float32), (1.0,) * 3, 0.1)
    torch.testing.assert_close(volume.forward(ones), ones)


@pytest.mark.parametrize("given", ["auto", "split", "hide"])
def test_how_sharp_an_image_is_made_is_not_judged_by_what_the_blur_left(given):
    image = Image(np.zeros((32, 32), np.float32), "YX")
    task = Deconvolve.of(image, gaussian(1, 5, 5))
    recipe = preferences.of(task, Recipe.parse({"supervision": {"recorrupt": given}}), image)[0]
    assert recipe.stop.rule == "fixed"
    assert recipe.supervision.recorrupt == ("split" if given == "auto" else given)


def test_only_behind_a_symmetric_blur_are_flipped_images_alike():
    image = Image(np.zeros((32, 32), np.float32), "YX")
    even, lopsided = gaussian(1, 5, 5), gaussian((1, 2), 5, 5)
    lopsided[0, 1] *= 1.5
    flips = {}
    for name, psf in {"even": even, "lopsided": lopsided / lopsided.sum()}.items():
        task = Deconvolve.of(image, psf)
        flips[name] = preferences.of(task, Recipe(), image)[0].supervision.flips
    assert flips == {"even": "auto", "lopsided": "no"}
    with pytest.raises(RecipeError, match="is not symmetric"):
        preferences.of(task, Recipe.parse({"supervision": {"flips": "yes"}}), image)


@pytest.mark.parametrize("sizes", [(9, 5), (13, 15), (23, 27)])
def test_a_point_spread_function_may_be_larger_than_the_image(sizes):
    """On a grid that ends where it begins, it goes round; elsewhere an image goes on as at its border."""
    rng = np.random.default_rng(0)
    psf = rng.random(sizes).astype(np.float32)
    psf /= psf.sum()
    x = rng.random((12, 14)).astype(np.float32)
    blur, y = Blur(psf, (1.0, 1.0), 0.1), torch.from_numpy(x)[None, None]
    np.testing.assert_allclose(blur.forward(y)[0, 0].numpy(), convolve(x, psf, mode="nearest"), atol=1e-5)
    around = np.fft.rfftn(convolve(np.pad([[1.0]], ((0, 11), (0, 13))), psf, mode="wrap"))
    wanted = np.fft.irfftn(np.fft.rfftn(x) * np.sqrt(1.1 / (np.abs(around) ** 2 + 0.1)), s=x.shape, axes=(0, 1))
    np.testing.assert_allclose(blur.evened(y)[0, 0].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize(("shape", "sizes", "axes"), [((12, 24, 24), (13, 5, 5), "ZYX"), ((32, 40), (63, 5), "YX")])
def test_the_blur_of_an_image_smaller_than_it_is_undone(shape, sizes, axes):
    image = noisy(*shape, axes=axes)
    result = deconvolve(image, gaussian(1, *sizes), tiny(output={"classical": "blend"})).image
    assert result.shape == image.shape
    assert np.isfinite(result.array).all()


def test_a_point_spread_function_has_the_axes_that_it_names():
    """An array has those of the image, in their order."""
    psf, image = gaussian((0.5, 1, 2), 3, 5, 7), noisy(24, 26, 9, axes="XYZ")
    for given in (psf.T, Image(psf.T, "XYZ"), Image(psf, "ZYX"), Image(psf[None, ..., None], "TZYXS")):
        np.testing.assert_allclose(Deconvolve.of(image, given).psf, psf, rtol=1e-5)
    plane = gaussian((1, 2), 5, 7)
    for given in (plane, Image(plane, "YX"), Image(plane.T, "XY"), Image(plane[None], "ZYX")):
        np.testing.assert_allclose(Deconvolve.of(image, given).psf, plane, rtol=1e-5)


@pytest.mark.parametrize("axes", ["TYX", "CYX", "YXS"])
def test_a_point_spread_function_of_several_channels_is_refused(axes):
    psf = np.full((3, 3, 3), 1 / 27)
    with pytest.raises(ImageError, match=f"has the axes {axes}.*spatial axes only"):
        deconvolve(noisy(9, 24, 24, axes="ZYX"), Image(psf, axes), tiny())


def test_behind_a_detector_light_is_stabilised_after_the_operator():
    model = PoissonGaussian(2.0, 10.0, 3.0)
    light = np.random.default_rng(0).uniform(20, 200, (1, 16, 16))
    one = np.ones((1, 1, 1))
    scales = Scaling(50 * one, 30 * one), Scaling(12 * one, 4 * one)
    psf = gaussian(1, 5, 5).astype(np.float32)
    blurred = convolve(light[0], psf, mode="nearest")
    operator = Detected(Blur(psf, (1.0, 1.0), 0.1), model, *scales)
    x = torch.from_numpy(scales[0].forward(light))[None]
    found = operator.forward(x)[0].numpy()
    np.testing.assert_allclose(found, scales[1].forward(model.stabilise(blurred[None])), atol=1e-4)
    y = torch.from_numpy(scales[1].forward(model.stabilise(np.full((1, 16, 16), 90.0)))).float()[None]
    base = operator.guess(y, torch.ones(1, 1, 16, 16)).base
    np.testing.assert_allclose(scales[0].inverse(base.numpy()), 90, atol=0.5)
    np.testing.assert_allclose(scales[0].inverse(operator.light(y).numpy()), 90, atol=0.5)
    np.testing.assert_allclose(scales[0].inverse(operator.dark.numpy()), 10, atol=1e-4)
    variance = operator.variance(torch.from_numpy(scales[0].forward(np.full((1, 16, 16), 90.0))))
    np.testing.assert_allclose(variance * 30**2, 2 * 80 + 0.375 * 2**2 + 3**2, rtol=1e-5)


def test_the_image_next_to_another_that_agrees_solves_its_equations():
    """Against a dense solution, with weights that differ from voxel to voxel, and voxels that were not observed."""
    rng = np.random.default_rng(0)
    n, reach = 6, 1
    psf = gaussian(0.8, 3, 3)
    blur = Blur(psf.astype(np.float32), (1.0, 1.0), 0.1)
    x, y = rng.normal(size=(2, n, n))
    precision = 10 ** rng.uniform(1, 2, (n, n)) * (rng.random((n, n)) < 0.8)
    pull = 10 ** rng.uniform(0, 0.5, (n, n))
    parts = (torch.from_numpy(part).float()[None] for part in (x, y, precision, pull))
    found = blur.agreeing(*parts)[0].numpy()
    size = n + 2 * reach
    columns = [convolve(one.reshape(size, size), psf, mode="wrap").ravel() for one in np.eye(size**2)]
    matrix = np.stack(columns, axis=1)
    weight, seen = np.pad(precision, reach).ravel(), np.pad(y, reach).ravel()
    stay, first = np.pad(pull, reach, mode="edge").ravel(), np.pad(x, reach, mode="edge").ravel()
    normal = matrix.T @ (weight[:, None] * matrix) + np.diag(stay)
    wanted = np.linalg.solve(normal, matrix.T @ (weight * seen) + stay * first).reshape(size, size)
    np.testing.assert_allclose(found, wanted[reach:-reach, reach:-reach], atol=0.02)


def test_what_a_blur_leaves_faint_is_brought_up():
    blur = Blur(gaussian(1.5, 9, 9).astype(np.float32), (1.0, 1.0), 0.01)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 64, 64))).float()
    blurred = blur.forward(image)
    assert float((blur.evened(blurred) - image).square().mean()) < float((blurred - image).square().mean())
    ones = torch.ones(1, 1, 32, 32)
    torch.testing.assert_close(blur.evened(ones), ones)


def test_first_guesses_are_sharper_than_what_was_observed():
    truth = (beads(64, 64) - 100) / 300
    psf = gaussian(1.5, 9, 9)
    seen = convolve(truth, psf, mode="nearest") + np.random.default_rng(0).normal(0, 0.02, truth.shape)
    blur = Blur(psf.astype(np.float32), (1.0, 1.0), 0.02)
    base = blur.guess(torch.from_numpy(seen).float()[None, None], torch.ones(1, 1, 64, 64)).base[0, 0].numpy()
    assert error(base, truth) < 0.7 * error(seen, truth)


@pytest.mark.parametrize(("shape", "axes", "sigma"), [((64, 64), "YX", 1.5), ((8, 20, 20), "ZYX", 1.0)])
def test_the_blur_is_undone_under_photon_noise(shape, axes, sigma):
    truth = beads(*shape)
    psf = gaussian(sigma, *(7,) * len(shape))
    seen = np.random.default_rng(1).poisson(convolve(truth, psf, mode="nearest"))
    image = Image(seen.astype(np.float32), axes)
    recipe = tiny(**LEARN, noise={"model": "poisson", "gain": 1.0})
    if len(shape) == 3:
        recipe = recipe.merged({"fit": {"steps": 80, "rate": 0.005}, "generator": {"channels": (12, 12)}})
    result = deconvolve(image, psf, recipe)
    assert error(result.image.array, truth) < 0.8 * error(seen, truth)
    assert (result.report.task, result.report.asked["psf_shape"]) == ("deconvolve", list(psf.shape))


@pytest.mark.parametrize(("shape", "axes", "sigma"), [((64, 64), "YX", 1.5), ((12, 24, 24), "ZYX", 1.0)])
def test_like_patches_lead_on_where_the_network_left_it(shape, axes, sigma):
    """About as good as the iterate of Richardson and Lucy that the truth says is best, or better, after few steps of a small network."""
    truth = scene(*shape)
    psf = gaussian(sigma, *(9,) * len(shape))
    light = convolve(truth, psf, mode="nearest")
    seen = np.random.default_rng(1).poisson(light)
    recipe = tiny(**LEARN, noise={"model": "poisson", "gain": 1.0}).merged({"fit": {"steps": 40}})
    image = Image(seen.astype(np.float32), axes)
    alone = deconvolve(image, psf, recipe)
    result = deconvolve(image, psf, recipe.merged({"output": {"classical": "blend"}}))
    assert error(result.image.array, truth) < 0.7 * error(alone.image.array, truth)
    assert error(result.image.array, truth) < 1.1 * richardson_lucy(seen, psf, truth)
    assert "like patches" in result.report.reasons["output.classical"]
    assert error(result.baseline.array, truth) < 0.7 * error(seen, truth)


def richardson_lucy(seen, psf, truth):
    """Return the least error of all iterates."""
    image, found = np.full(seen.shape, seen.mean()), []
    for _ in range(100):
        image = image * convolve(seen / convolve(image, psf, mode="nearest"), psf, mode="nearest")
        found.append(error(image, truth))
    return min(found)


@pytest.mark.parametrize(("times", "told", "heard"), [(1.0, False, False), (3.0, False, True), (3.0, True, False)])
def test_noise_that_is_weaker_than_was_found_shows_in_what_is_left(times, told, heard):
    """Most of the image holds neither content nor noise, which says nothing."""
    rng = np.random.default_rng(1)
    truth, psf = (scene(64, 320) - 100) / 30, gaussian(1.2, 7, 7).astype(np.float32)
    truth[:, 60:] = -2
    blur = Blur(psf, (1.0, 1.0), times * 0.2)
    seen = torch.from_numpy(convolve(truth, psf, mode="nearest")).float()[None, None]
    seen[..., :64] += 0.2 * torch.from_numpy(rng.normal(size=(64, 64))).float()
    ones = torch.ones_like(seen)
    *_, found = sharpen(Problem(seen, ones, ones, 0.2 * times * ones, blur), seen[None], told=told)
    assert (found.noise < 0.6) == heard
    assert found.noise == 1 or found.noise == pytest.approx(1 / times, rel=0.25)


@pytest.mark.parametrize("clean", [True, False])
def test_without_noise_or_with_it_in_a_corner_alone_the_result_is_finite(clean):
    truth, psf = scene(64, 64), gaussian(1.2, 7, 7)
    seen = convolve(truth, psf, mode="nearest")
    if not clean:
        seen[:] = np.where(np.arange(64) < 12, seen + np.random.default_rng(0).normal(0, 8, seen.shape), 0)
    result = deconvolve(Image(seen.astype(np.float32), "YX"), psf, tiny(output={"classical": "blend"}))
    assert np.isfinite(result.image.array).all()


def test_beside_leaves_the_network_as_it_is():
    image, psf = noisy(32, 32), gaussian(1, 5, 5)
    alone, beside = (deconvolve(image, psf, tiny(output={"classical": kind})) for kind in ("none", "beside"))
    assert np.array_equal(alone.image.array, beside.image.array)
    assert alone.baseline is None
    assert beside.baseline is not None


def test_each_network_is_led_on_by_itself():
    recipe = tiny(fit={"seeds": 2}, output={"classical": "blend"})
    assert deconvolve(noisy(32, 32), gaussian(1, 5, 5), recipe).spread.array.max() > 0


def test_what_was_not_measured_says_nothing():
    image = noisy(48, 48)
    holes = image.array.astype(np.float32)
    holes[10:14, 20:30] = np.nan
    psf = gaussian(1, 5, 5)
    result = deconvolve(image.with_array(holes), psf, tiny(output={"classical": "blend"})).image.array
    assert np.array_equal(np.isnan(result), np.isnan(holes))


def test_planes_may_be_blurred_each_for_itself():
    image = noisy(9, 24, 24, axes="ZYX")
    assert deconvolve(image, gaussian(1, 5, 5), tiny()).report.recipe.generator.ndim == "2d"
    assert deconvolve(image, gaussian(1, 3, 5, 5), tiny()).report.recipe.generator.ndim == "3d"


def test_channels_have_detectors_of_their_own():
    values = np.random.default_rng(0).poisson(np.stack([beads(32, 32), 7 * beads(32, 32)])).astype(np.float32)
    recipe = tiny(noise={"model": "poisson"})
    result = deconvolve(Image(values, "CYX"), gaussian(1, 5, 5), recipe).image.array
    assert 5 < result[1].mean() / result[0].mean() < 9


def test_what_is_blurred_reaches_over_a_patch():
    """With a patch hardly wider than the point spread function the whole image is fitted at once."""
    result = deconvolve(noisy(40, 40), gaussian(3, 21, 21), tiny(supervision={"patch": 16}))
    assert np.isfinite(result.image.array).all()


@pytest.mark.parametrize(
    ("psf", "words"),
    [
        (gaussian(1, 4, 5), "must be odd"),
        (np.array([[0, -0.1, 0], [0, 1.1, 0], [0, 0, 0]]), "negative"),
        (np.full((3, 3), np.nan), "not finite"),
        (np.ones((3, 3)), "not normalised"),
        (gaussian(1, 5), "dimensions"),
        (gaussian(1, 3, 5, 5), "dimensions"),
        (gaussian(1, 65, 65), "larger than the image"),
        (gaussian(1, 5, 5) + 0j, "complex128"),
        (normalised(Image(gaussian(1, 5, 5) + 0j, "YX")), "complex128"),
    ],
)
def test_a_point_spread_function_that_is_none_is_refused(psf, words):
    with pytest.raises(ImageError, match=words):
        deconvolve(noisy(32, 32), psf, tiny())


@pytest.mark.parametrize(
    ("step", "unit", "words"),
    [
        (0.1, "micrometer", "0.1 micrometer apart along Y, the image's 0.2 micrometer"),
        (100, "nanometer", "100 nanometer apart along Y, the image's 0.2 micrometer"),
        (0.2, "nanometer", "0.2 nanometer apart"),
    ],
)
def test_a_point_spread_function_on_another_grid_is_refused(step, unit, words):
    image = noisy(32, 32, spacing=(0.2, 0.2), units=("micrometer",) * 2)
    psf = Image(gaussian(1, 5, 5), "YX", (step, step), (unit,) * 2)
    with pytest.raises(ImageError, match=words):
        deconvolve(image, psf, tiny())


@pytest.mark.parametrize(("step", "unit"), [(200, "nanometer"), (0.202, "micrometer"), (5, None), (None, None)])
def test_a_point_spread_function_on_the_same_grid_or_on_none_known_is_not(step, unit):
    image = noisy(32, 32, spacing=(0.2, 0.2), units=("micrometer",) * 2)
    assert Deconvolve.of(image, Image(gaussian(1, 5, 5), "YX", (step, step), (unit,) * 2)).psf.shape == (5, 5)


def test_dimensions_that_contradict_each_other_are_refused():
    image = noisy(9, 24, 24, axes="ZYX")
    with pytest.raises(RecipeError, match="two dimensions"):
        deconvolve(image, gaussian(1, 5, 5), tiny(generator={"ndim": "3d"}))
    with pytest.raises(RecipeError, match="three dimensions"):
        deconvolve(image, gaussian(1, 3, 5, 5), tiny(generator={"ndim": "2d"}))


def blurred(sigma, *shape, noise=1.0, seed=0):
    """Beads behind a blur, and the noise that came after it."""
    light = gaussian_filter(beads(*shape), sigma, mode="nearest")
    return light + np.random.default_rng(seed).normal(0, noise, shape)


@pytest.mark.parametrize(("times", "told"), [(0.7, False), (1, False), (1.2, False), (2, True), (3, True)])
def test_a_point_spread_function_that_is_far_too_wide_is_told_of(times, told):
    image = Image(blurred(1.7, 128, 128).astype(np.float32), "YX")
    n = 2 * int(4 * 1.7 * times) + 1
    notes = deconvolve(image, gaussian(1.7 * times, n, n), tiny()).report.notes
    assert any("too wide" in note for note in notes) == told, notes


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_it_is_told_of_in_whatever_unit(scale):
    image = Image((blurred(1.7, 96, 96) * scale).astype(np.float64), "YX")
    notes = deconvolve(image, gaussian(4.0, 33, 33), tiny()).report.notes
    assert any("too wide" in note for note in notes)


@pytest.mark.parametrize("shape", [(128, 128), (60, 200), (8, 64, 64), (20, 48, 48), (40, 40, 40)])
@pytest.mark.parametrize("seed", range(3))
def test_the_right_one_never_is(shape, seed):
    """Also where a volume has so few planes that its frequencies along Z run into each other."""
    sigma = (2.5, 1.3, 1.3)[-len(shape) :]
    psf = gaussian(sigma, *(2 * int(4 * s) + 1 for s in sigma))
    assert not too_wide(blurred(sigma, *shape, seed=seed), psf, 1.0)
    flat = np.random.default_rng(seed).normal(0, 1, shape)
    assert not too_wide(flat, psf, 1.0)


def test_planes_with_holes_are_not_asked_how_wide_it_may_be():
    values = np.stack([blurred(1.7, 96, 96, seed=seed) for seed in range(2)]).astype(np.float32)
    values[0, 40, 40] = np.nan
    notes = deconvolve(Image(values, "TYX"), gaussian(4.0, 33, 33), tiny()).report.notes
    assert any("too wide" in note for note in notes)
    values[1, 40, 40] = np.nan
    notes = deconvolve(Image(values, "TYX"), gaussian(4.0, 33, 33), tiny()).report.notes
    assert not any("too wide" in note for note in notes)
