"""Deconvolution: a known blur is undone under photon noise; a point spread function that is none is refused."""

import numpy as np
import pytest
import torch
from scenes import noisy, tiny
from scipy.ndimage import convolve, gaussian_filter

from dip_sci.detection import Detected
from dip_sci.errors import ImageError, RecipeError
from dip_sci.functions import deconvolve
from dip_sci.image import Image
from dip_sci.noise import PoissonGaussian
from dip_sci.operators import Blur
from dip_sci.scaling import Scaling

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
    found = Blur(psf, (1.0, 1.0)).forward(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    ones = torch.ones(2, 1, 3, 6, 6, 6)
    volume = Blur(gaussian(1, 3, 3, 3).astype(np.float32), (1.0,) * 3)
    torch.testing.assert_close(volume.forward(ones), ones)


def test_behind_a_detector_light_is_stabilised_after_the_operator():
    model = PoissonGaussian(2.0, 10.0, 3.0)
    light = np.random.default_rng(0).uniform(20, 200, (1, 16, 16))
    one = np.ones((1, 1, 1))
    scales = Scaling(50 * one, 30 * one), Scaling(12 * one, 4 * one)
    psf = gaussian(1, 5, 5).astype(np.float32)
    blurred = convolve(light[0], psf, mode="nearest")
    operator = Detected(Blur(psf, (1.0, 1.0)), model, *scales)
    x = torch.from_numpy(scales[0].forward(light))[None]
    found = operator.forward(x)[0].numpy()
    np.testing.assert_allclose(found, scales[1].forward(model.stabilise(blurred[None])), atol=1e-4)
    y = torch.from_numpy(scales[1].forward(model.stabilise(np.full((1, 16, 16), 90.0))))[None]
    base = operator.guess(y, torch.ones(1, 1, 16, 16)).base
    np.testing.assert_allclose(scales[0].inverse(base.numpy()), 90, atol=0.5)


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
    ],
)
def test_a_point_spread_function_that_is_none_is_refused(psf, words):
    with pytest.raises(ImageError, match=words):
        deconvolve(noisy(32, 32), psf, tiny())


def test_a_point_spread_function_on_another_grid_is_refused():
    image = noisy(32, 32, spacing=(0.2, 0.2), units=("micrometer",) * 2)
    psf = Image(gaussian(1, 5, 5), "YX", (0.1, 0.1), ("micrometer",) * 2)
    with pytest.raises(ImageError, match="apart along Y"):
        deconvolve(image, psf, tiny())


def test_dimensions_that_contradict_each_other_are_refused():
    image = noisy(9, 24, 24, axes="ZYX")
    with pytest.raises(RecipeError, match="two dimensions"):
        deconvolve(image, gaussian(1, 5, 5), tiny(generator={"ndim": "3d"}))
    with pytest.raises(RecipeError, match="three dimensions"):
        deconvolve(image, gaussian(1, 3, 5, 5), tiny(generator={"ndim": "2d"}))
