"""Photons and other noise, and the magnitudes of magnetic resonance, which scatter much the same in the dark."""

import numpy as np
import pytest
from estimates import found
from scipy.ndimage import gaussian_filter

from dip_sci.noise import Poisson, PoissonGaussian, Rician


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


def interpolated(truth, sigma, finer, seed, axes=(-2, -1)):
    """Magnitudes of which the middle of the spectrum was measured, as scanners hand them out; and their lag-1 autocorrelation."""
    rng = np.random.default_rng(seed)
    kept = np.ones(truth.shape)
    for axis in axes:
        frequency = np.abs(np.fft.fftfreq(truth.shape[axis])) < 0.5 / finer
        kept *= frequency[:, None] if axis == -2 else frequency
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)) * kept)
    signal = np.fft.ifft2(np.fft.fft2(truth) * kept).real
    correlation = np.fft.ifft2(kept).real
    return np.abs(signal + sigma / noise.real.std() * noise), correlation[0, 1] / correlation[0, 0]


def head(size=256):
    """Bright tissue with some texture and folds, in an empty background."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tissue = 160 + 30 * np.sin(9 * x) * np.cos(7 * y) + 40 * (np.sin(40 * np.hypot(x, y - 0.2)) > 0.8)
    return np.where(np.hypot(x / 0.7, y / 0.85) < 1, tissue, 0)


@pytest.mark.parametrize("finer", [1.33, 1.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_magnitudes_that_a_scanner_interpolated_share_their_noise(finer, seed):
    noisy, lag = interpolated(head(), 12, finer, seed)
    estimate = found(noisy)
    assert isinstance(estimate.model, Rician)
    assert estimate.model.sigma == pytest.approx(12, rel=0.05)
    assert estimate.structure.correlated
    assert estimate.structure.sd_map is None
    assert estimate.structure.level == pytest.approx(1, abs=0.15)
    assert estimate.structure.plane_kernel[7, 8] == pytest.approx(lag, abs=0.12)


@pytest.mark.parametrize("finer", [1.5, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_magnitudes_that_were_interpolated_along_one_axis_share_noise_along_it(finer, seed):
    noisy, lag = interpolated(head(), 12, finer, seed, axes=(-1,))
    estimate = found(noisy)
    assert estimate.model.sigma == pytest.approx(12, rel=0.05)
    assert estimate.structure.correlated
    along, across = estimate.structure.plane_kernel[7, 8], estimate.structure.plane_kernel[8, 7]
    assert along == pytest.approx(lag, abs=0.12)
    assert abs(across) < 0.2


@pytest.mark.parametrize("sigma", [12, 18, 24])
def test_a_strength_that_is_given_too_large_makes_no_noise_shared(sigma):
    noisy = Rician(12).sample(head(), np.random.default_rng(0))
    assert not found(noisy, model="rician", sigma=sigma).structure.correlated


@pytest.mark.parametrize("seed", range(3))
def test_magnitudes_that_were_not_interpolated_share_none(seed):
    estimate = found(Rician(12).sample(head(), np.random.default_rng(seed)))
    assert estimate.model.sigma == pytest.approx(12, rel=0.03)
    assert not estimate.structure.correlated


def unfolded(factor, size=256):
    """Noise's standard deviation where coils unfold an image: more in the middle."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    return 8 * (1 + (factor - 1) * np.exp(-(x**2 + y**2) / 0.3))


@pytest.mark.parametrize("factor", [1.5, 2.5])
@pytest.mark.parametrize("seed", range(2))
def test_signal_with_more_noise_than_its_background_is_measured_where_it_is(factor, seed):
    sd, rng = unfolded(factor), np.random.default_rng(seed)
    noisy = np.hypot(head() + sd * rng.normal(size=sd.shape), sd * rng.normal(size=sd.shape))
    told = found(noisy)
    assert "parallel imaging" in told.sentence
    ratio = told.model.sigma * np.broadcast_to(told.structure.sd_map, sd.shape)[head() > 0] / sd[head() > 0]
    assert np.median(ratio) == pytest.approx(1, abs=0.12)
    assert np.quantile(ratio, 0.1) > 0.75
    assert np.quantile(ratio, 0.9) < 1.25


@pytest.mark.parametrize("sigma", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_fine_texture_of_a_signal_is_no_noise_of_parallel_imaging(sigma, seed):
    fine = gaussian_filter(np.random.default_rng(7).normal(size=(256, 256)), 0.8)
    _, x = np.mgrid[-1:1:256j, -1:1:256j]
    truth = head() + (head() > 0) * fine / fine.std() * 15 * (1 + x)
    assert found(Rician(sigma).sample(truth, np.random.default_rng(seed))).model.sigma == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_darkness_that_is_not_quite_empty_is_no_background(seed):
    """Signal a little under the noise still looks like none, and the noise stronger than it is."""
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    truth = np.where(np.hypot(x / 0.7, y / 0.85) < 1, 160 + 60 * x, 8 + 6 * np.sin(3 * x) * np.sin(4 * y))
    noisy = Rician(12).sample(truth, np.random.default_rng(seed))
    assert found(noisy).model.sigma == pytest.approx(12, rel=0.06)
