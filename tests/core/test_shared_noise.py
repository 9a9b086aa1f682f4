"""Noise that neighbours share, told from content and from independent noise."""

import numpy as np
import pytest
from estimates import AUTO, found, lamps, ramp
from scipy.ndimage import convolve1d, gaussian_filter, rotate

from dip_sci import noise_places, noise_spectrum, noise_structure
from dip_sci.noise import Gaussian, PoissonGaussian, Rician
from dip_sci.noise_blocks import cut
from dip_sci.noise_estimate import estimate


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_alike_all_over_and_texture_is_not(seed):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((192, 192)), 0.8)
    strength = np.kron(np.exp(rng.normal(2.3, 1.3, (16, 16))), np.ones((12, 12)))
    seen = np.ones((1, 192, 192), bool)
    noise, texture = (noise_places.alike(cut((100 + part)[None], seen)) for part in (20 * smooth, strength * smooth))
    assert noise > 0.6
    assert texture < 0.2
    assert texture < noise_structure.FLOOR or noise > 5 * texture


@pytest.mark.parametrize("seed", range(4))
def test_white_noise_is_not_called_correlated(seed):
    noisy = ramp() + np.random.default_rng(seed).normal(0, 10, (128, 128))
    assert abs(found(noisy).correlation) < 0.08


@pytest.mark.parametrize("seed", range(4))
def test_blurred_noise_is_called_correlated(seed):
    noise = gaussian_filter(np.random.default_rng(seed).normal(0, 30, (128, 128)), 1)
    assert found(ramp() + noise).correlation > 0.3


@pytest.mark.parametrize("seed", range(4))
def test_smooth_texture_on_weak_noise_is_not_called_noise(seed):
    """As strong noise as that, were it shared by neighbours, would be much weaker at the finest frequencies."""
    rng = np.random.default_rng(seed)
    texture = 80 * gaussian_filter(rng.normal(size=(192, 192)), 2)
    estimated = found(100 + texture + rng.normal(0, 5, texture.shape))
    assert not estimated.structure.correlated
    assert estimated.structure.excess == 1
    assert estimated.model.sigma == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_texture_on_weak_noise_does_not_make_it_stronger(seed):
    """Nor where it is so fine that noise is not even thought to be shared."""
    rng = np.random.default_rng(seed)
    texture = gaussian_filter(rng.normal(size=(192, 192)), 1.6)
    estimated = found(100 + 10 / texture.std() * texture + rng.normal(0, 10, texture.shape))
    assert not estimated.structure.correlated
    assert estimated.structure.excess * estimated.model.sigma < 10.7


@pytest.mark.parametrize("seed", range(4))
def test_noise_that_a_row_shares_is_called_correlated(seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 15, (192, 192)) + rng.normal(0, 15, (192, 1))
    assert found(lamps() + noise).structure.correlated


def page(edge=256):
    """Lines of letters from edge to edge: no part of 16 voxels is flat, but spots between the lines are."""
    letters = np.random.default_rng(1).random((edge // 16, 9, edge)) < 0.5
    lines = np.concatenate([letters, np.zeros((edge // 16, 7, edge), bool)], axis=1)
    return np.where(lines.reshape(edge, edge), 20.0, 230.0)


@pytest.mark.parametrize("sigma", [3, 10, 20])
@pytest.mark.parametrize("seed", range(2))
def test_a_page_without_a_flat_part_is_not_all_noise(sigma, seed):
    told = found(page() + np.random.default_rng(seed).normal(0, sigma, (256, 256)))
    assert isinstance(told.model, Gaussian)
    assert told.model.sigma == pytest.approx(sigma, rel=0.1)
    assert told.correlation == 0
    assert "spots" in told.sentence


def test_what_the_user_says_of_noise_stays_in_a_page_of_text():
    noisy = page() + np.random.default_rng(0).normal(0, 10, (256, 256))
    assert "spots" not in found(noisy, spatial="correlated").sentence
    assert isinstance(found(noisy, model="rician").model, Rician)


@pytest.mark.parametrize("seed", range(2))
def test_noise_that_is_weak_in_a_part_is_noise_elsewhere(seed):
    """Half of the image is empty but for a little noise."""
    sd = np.where(np.arange(256) < 128, 1.0, 8.0)
    told = found(100 + sd * np.random.default_rng(seed).normal(size=(256, 256)))
    assert "spots" not in told.sentence


def anatomy(shape=(24, 96, 96)):
    """Structure everywhere, which goes on from plane to plane."""
    content = gaussian_filter(np.random.default_rng(2).normal(size=shape), (6, 2, 2))
    return 500 + 40 * content / content.std()


@pytest.mark.parametrize("sigma", [3, 8])
@pytest.mark.parametrize("seed", range(2))
def test_content_that_goes_on_from_plane_to_plane_is_not_noise(sigma, seed):
    volume = anatomy() + np.random.default_rng(seed).normal(0, sigma, (24, 96, 96))
    found = estimate(volume, np.ones(volume.shape, bool), AUTO, volume=True)
    assert not found.structure.correlated
    assert found.model.variance(500.0) == pytest.approx(sigma**2, rel=0.12)


@pytest.mark.parametrize("sigma", [5, 10])
@pytest.mark.parametrize("seed", range(2))
def test_content_that_is_weak_in_some_spots_is_not_noise_in_a_plane(sigma, seed):
    swells = gaussian_filter(np.random.default_rng(1).normal(size=(256, 256)), 3)
    told = found(127 + 60 * swells / swells.std() + np.random.default_rng(seed).normal(0, sigma, swells.shape))
    assert not told.structure.correlated
    assert told.model.variance(127.0) == pytest.approx(sigma**2, rel=0.3)


@pytest.mark.parametrize("kernel_sd", [(0, 0.7, 0.7), (0.7, 0.7, 0.7), (0, 1.2, 1.2)])
def test_noise_that_a_volume_s_planes_hold_is_still_found_to_be_shared(kernel_sd):
    noise = gaussian_filter(np.random.default_rng(4).normal(size=(24, 96, 96)), kernel_sd, mode="wrap")
    volume = anatomy() / 4 + 15 * noise / noise.std()
    assert estimate(volume, np.ones(volume.shape, bool), AUTO, volume=True).structure.correlated


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_measured_on_as_few_blocks_as_are_flat(seed):
    """A flat corner, and blocky detail everywhere else: more blocks would hold content."""
    tiles = np.kron(np.random.default_rng(1).normal(size=(43, 43)), np.ones((3, 3)))[:128, :128]
    tiles[:64, :64] = 0
    told = found(100 + 30 * tiles + np.random.default_rng(seed).normal(0, 1, tiles.shape))
    assert told.model.sigma == pytest.approx(1, rel=0.12)


def honeycomb(edge=96):
    """Structure everywhere, down to the pixel: no flat part to see the noise in."""
    y, x = np.mgrid[:edge, :edge]
    return 100 + 40 * np.sin(0.9 * x + 0.3 * np.sin(y / 9)) * np.sin(0.8 * y)


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_of_known_strength_is_not_taken_for_correlated_in_texture(seed):
    noisy = honeycomb() + np.random.default_rng(seed).normal(0, 15, (96, 96))
    told = found(noisy, sigma=15.0)
    assert told.structure is not None
    assert not told.structure.correlated
    assert told.correlation == 0
    np.testing.assert_allclose(told.structure.kernel, np.pad([[1.0]], 7), atol=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_photons_of_known_gain_are_not_taken_for_correlated_in_texture(seed):
    noisy = np.random.default_rng(seed).poisson(honeycomb() / 10).astype(np.float32)
    told = found(noisy, model="poisson", gain=1.0)
    assert told.structure is not None
    assert not told.structure.correlated


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("picture", [ramp, honeycomb])
def test_shared_noise_of_known_strength_is_still_found(picture, seed):
    shared = gaussian_filter(np.random.default_rng(seed).normal(size=picture().shape), 1.5 / 2.355)
    told = found(picture() + 15 * shared / shared.std(), sigma=15.0)
    assert told.structure is not None
    assert told.structure.correlated


def shared(kernel_sd, size, seed):
    """Noise of unit variance whose neighbours are alike, and its autocorrelation at lags -7 to 7."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(size), kernel_sd, mode="wrap")
    lag = np.arange(-7, 8)
    kernel = np.exp(-(lag[:, None] ** 2 + lag**2) / (4 * kernel_sd**2))
    return noise / noise.std(), kernel


@pytest.mark.parametrize("seed", range(4))
def test_smooth_noise_over_a_white_floor_is_found_with_it(seed):
    """As sharp kernels of computed tomography make it: level at the finest frequencies, as white noise under content is."""
    noise = 12 * shared(1.06, (256, 256), seed)[0] + np.random.default_rng(seed + 9).normal(0, 8, (256, 256))
    estimated = found(ramp(256) + noise)
    assert estimated.structure.correlated
    assert estimated.model.sigma == pytest.approx(np.hypot(12, 8), rel=0.08)


@pytest.mark.parametrize("seed", range(4))
def test_texture_that_is_stronger_in_places_is_no_smooth_noise(seed):
    texture = np.linspace(2, 40, 256) * shared(1.06, (256, 256), seed)[0]
    assert not found(
        ramp(256) + texture + np.random.default_rng(seed + 9).normal(0, 8, (256, 256))
    ).structure.correlated


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_noise_that_is_hardly_shared_along_one_axis_is_found(axis, seed):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(256, 256)), (0.42, 0)[:: 1 - 2 * axis], truncate=6)
    estimated = found(ramp(256) + 10 / noise.std() * noise)
    assert estimated.structure.correlated
    assert max(estimated.structure.lags) < noise_structure.ANISOTROPIC


def along(axis, shared, shape, seed):
    """Normal noise of which neighbours along one axis share a part."""
    near = (1 - np.sqrt(1 - 4 * shared**2)) / (2 * shared)
    return convolve1d(np.random.default_rng(seed).normal(size=shape), [near, 1, 0], axis) / np.hypot(1, near)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("counted", [False, True])
def test_noise_that_is_shared_too_little_to_go_by_is_known_in_all_its_strength(counted, axis):
    """At the finest frequencies, where it is measured, it is 5 % weaker."""
    strengths = []
    for seed in range(6):
        light = ramp(256)
        noise = along(axis, 0.07, light.shape, seed)
        model = found(light + (np.sqrt(4 * light) if counted else 20) * noise).model
        assert isinstance(model, PoissonGaussian) == counted
        strengths.append(
            np.sqrt(np.median(model.variance(light)) / (4 * np.median(light))) if counted else model.sigma / 20
        )
    assert np.mean(strengths) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("kernel_sd", [0.7, 0.9, 1.3])
@pytest.mark.parametrize("seed", range(3))
def test_all_of_smooth_noise_is_found_where_there_is_nothing_else(kernel_sd, seed):
    noise, kernel = shared(kernel_sd, (384, 384), seed)
    estimated = found(100 + 20 * noise)
    assert estimated.structure.correlated
    # Blocks of 16 voxels show 12 % less of the smoothest, and there are not many independent values of it.
    assert estimated.model.sigma == pytest.approx(20, rel=0.09)
    assert np.abs(estimated.structure.kernel - kernel).max() < 0.12


@pytest.mark.parametrize("kernel_sd", [0.9, 1.3])
def test_smooth_noise_hides_no_edges_from_what_measures_it(kernel_sd):
    """Its power is at coarse frequencies; at the others, edges are seen that are twice as high as it is strong."""
    strengths = []
    for seed in range(3):
        y, x = np.mgrid[:256, :256]
        rng = np.random.default_rng(seed + 5)
        places = rng.uniform((0, 0, 3, -1), (256, 256, 9, 1), (150, 4))
        discs = sum(40 * np.sign(sign) * (np.hypot(y - a, x - b) < radius) for a, b, radius, sign in places)
        strengths.append(found(ramp(256) + discs + 20 * shared(kernel_sd, (256, 256), seed)[0]).model.sigma)
    assert np.mean(strengths) == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("kernel_sd", [0.7, 0.9, 1.3])
def test_a_spectrum_is_freed_of_what_blocks_blur(kernel_sd):
    noise = np.stack([shared(kernel_sd, (256, 256), seed)[0] for seed in range(12)])
    blocks = cut(noise, np.ones(noise.shape, bool))
    spectrum = noise_spectrum.resolved(noise_spectrum.measured_power(blocks, 1.0))
    assert noise_spectrum.mean(spectrum) == pytest.approx(1, rel=0.03)
    assert np.abs(noise_spectrum.autocorrelation(spectrum) - shared(kernel_sd, (8, 8), 0)[1]).max() < 0.04
    blurred = noise_spectrum.mean(noise_spectrum.as_measured(noise_spectrum.measured_power(blocks, 1.0)))
    assert blurred < 0.95


def test_a_white_spectrum_is_flat():
    noise = np.random.default_rng(0).standard_normal((8, 256, 256))
    power = noise_spectrum.measured_power(cut(noise, np.ones(noise.shape, bool)), 1.0)
    for spectrum in (noise_spectrum.resolved(power), noise_spectrum.as_measured(power)):
        assert noise_spectrum.mean(spectrum) == pytest.approx(1, rel=0.02)
        assert np.abs(spectrum - 1).mean() < 0.08


@pytest.mark.parametrize("seed", range(3))
def test_known_strength_caps_the_spectrum(seed):
    """What is over it is content."""
    rng = np.random.default_rng(seed)
    smooth = np.full((17, 17), 1.0)
    smooth[:9, :9] = 1 + rng.uniform(3, 9, (9, 9))
    capped = noise_spectrum.capped(smooth, 1.2)
    assert noise_spectrum.mean(capped) == pytest.approx(1.2, rel=1e-6)
    assert np.all(capped <= smooth)
    assert np.array_equal(capped[9:], smooth[9:])
    assert np.array_equal(noise_spectrum.capped(smooth, 100.0), smooth)


@pytest.mark.parametrize("seed", range(3))
def test_all_of_the_noise_of_an_image_that_was_turned_is_found(seed):
    """Bilinear interpolation weakens it, most at fine frequencies, and nowhere in the same way."""

    def turned(values):
        return rotate(values, 7, reshape=False, order=1, mode="reflect")

    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    truth = 100 + 60 * (np.hypot(x, y) < 0.5) + 20 * np.sin(4 * x + 3 * y)
    noisy = turned(truth + np.random.default_rng(seed).normal(0, 20, truth.shape))
    assert found(noisy).model.sigma == pytest.approx((noisy - turned(truth)).std(), rel=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_a_fine_pattern_beside_shared_noise_is_no_floor(seed):
    """A floor is level; a pattern at the finest frequencies, as compression leaves it, is not."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:256, :256]
    noise = gaussian_filter(rng.normal(size=(256, 256)), 1.06)
    pattern = 3.2 * np.sin(2.65 * x) * np.sin(2.65 * y)
    noisy = 100 + 60 * (np.hypot(x - 128, y - 128) < 60) + 15 / noise.std() * noise + pattern
    assert found(noisy).structure.correlated
