"""Photons and other noise, and the magnitudes of magnetic resonance, which scatter much the same in the dark."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip_sci.noise import Poisson, PoissonGaussian, Rician
from dip_sci.noise_estimate import estimate
from dip_sci.recipe import NoiseOptions


def found(values):
    return estimate(values, np.ones(values.shape, bool), NoiseOptions())


def dark(edge=160):
    """Signal from next to nothing to much, and nowhere an empty background."""
    y, x = np.mgrid[:edge, :edge] / edge
    return 5 + 300 * x**2 + 20 * np.sin(9 * y) ** 2


def specks(edge, seed):
    """Bright cells on a dark ground, 0 to 1."""
    spots = np.random.default_rng(seed).random((edge, edge)) < 0.001
    bright = gaussian_filter(spots.astype(float), 4)
    return bright / bright.max()


@pytest.mark.parametrize("seed", range(3))
def test_magnitudes_without_a_background_are_known_by_avoiding_zero(seed):
    noisy = Rician(15.0).sample(dark(), np.random.default_rng(seed))
    model = found(noisy).model
    assert isinstance(model, Rician)
    assert model.sigma == pytest.approx(15, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_magnitudes_of_much_darkness_are_not_taken_for_photons(seed):
    """Their noise, too, is weaker in the dark than where there is signal."""
    y, x = np.mgrid[:160, :160] / 160
    noisy = Rician(40.0).sample(5 + 300 * x**4 + 20 * np.sin(9 * y) ** 2, np.random.default_rng(seed))
    model = found(noisy).model
    assert isinstance(model, Rician)
    assert model.sigma == pytest.approx(40, rel=0.06)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["negative", "clipped", "absolute"])
def test_other_noise_near_zero_is_not_taken_for_rician(kind, seed):
    noisy = dark() + np.random.default_rng(seed).normal(0, 15, dark().shape)
    seen = {"negative": noisy, "clipped": np.clip(np.rint(noisy), 0, None), "absolute": np.abs(noisy)}[kind]
    assert not isinstance(found(seen).model, Rician)


@pytest.mark.parametrize("edge", [128, 256])
@pytest.mark.parametrize("seed", range(3))
def test_three_photons_in_the_dark_are_no_magnitude_without_signal(edge, seed):
    """A ground of 3.6 photons has Rayleigh's ratio of mean and scatter, and nearly its law."""
    rng, light = np.random.default_rng(seed), 3.6 + 150 * specks(edge, seed)
    photons = rng.poisson(light)
    assert found(2.0 * photons).model == Poisson(2.0, 0.0)
    read = found(2.0 * np.maximum(photons + rng.normal(0, 0.5, light.shape), 0)).model
    assert isinstance(read, PoissonGaussian)
    assert read.gain == pytest.approx(2, rel=0.2)
    faint = found(1e-12 * np.maximum(photons + rng.normal(0, 0.5, light.shape), 0)).model
    assert isinstance(faint, PoissonGaussian)


@pytest.mark.parametrize("seed", range(3))
def test_magnitudes_with_such_cells_are_still_known_by_their_background(seed):
    model = found(Rician(2.9).sample(150 * specks(256, seed), np.random.default_rng(seed))).model
    assert isinstance(model, Rician)
    assert model.sigma == pytest.approx(2.9, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_rough_ground_in_much_light_is_no_magnitude_that_avoids_zero(seed):
    """Noise as strong as the texture would reach far below the dark coat beside it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256] / 256
    rough = 500 + 200 * np.sin(4 * y + 3 * x) + 60 * rng.normal(0, 1, x.shape)
    light = np.where(x < 0.3, 30 + 10 * np.sin(5 * y), rough)
    assert not isinstance(found(rng.poisson(light) + rng.normal(0, 0.5, light.shape)).model, Rician)
