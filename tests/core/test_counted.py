"""Photons dealt out to two observations: independent, right on average, and what the blend is judged by."""

import numpy as np
import pytest
import torch
from scenes import rng

from dip_sci.counted import ANSCOMBE, Counted
from dip_sci.image import Image
from dip_sci.noise import Poisson
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise


def dealt(light, share, size=400_000, unit=0.5):
    """Both observations of a flat image, and the variance that is said of the second."""
    photons = torch.from_numpy(np.random.default_rng(1).poisson(light, (1, 1, size)).astype(np.float32))
    mean = float(2 * unit * (photons + ANSCOMBE).sqrt().mean())
    slope = unit * float(Poisson().stable_slope(np.array(mean / unit)))
    flat = torch.ones_like(photons)
    counted = Counted(mean * flat, photons, unit * flat[..., :1], light * flat, slope * flat)
    return *counted.dealt(2 * unit * (photons + ANSCOMBE).sqrt(), share, rng()), mean, slope


@pytest.mark.parametrize("light", [0.1, 1.0, 8.0, 200.0])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_dealt_photons_make_independent_observations(light, share):
    first, second, variance, mean, slope = dealt(light, share)
    assert np.corrcoef(first.flatten(), second.flatten())[0, 1] == pytest.approx(0, abs=0.006)
    spiky = (first - first.mean()) ** 3
    assert np.corrcoef(spiky.flatten(), second.flatten())[0, 1] == pytest.approx(0, abs=0.006)
    assert float(second.mean()) == pytest.approx(mean, abs=0.01)
    assert float(second.var()) == pytest.approx(slope**2 * light / (1 - share), rel=0.02)
    assert float(variance.mean()) == pytest.approx(float(second.var()), rel=0.02)


def test_with_much_light_the_first_is_the_observation_with_so_much_more_noise():
    first, *_ = dealt(200.0, 0.8)
    assert float(first.std()) == pytest.approx(0.5 / np.sqrt(0.8), rel=0.01)


def test_parts_of_what_was_counted_are_cut_alike():
    parts = [torch.rand(2, 1, 6, 5) for _ in range(5)]
    cut = Counted(*parts).mapped(lambda part: part[1:])
    assert all(torch.equal(a, b[1:]) for a, b in zip(vars(cut).values(), parts, strict=True))


def cells(edge=128):
    """A sixth of a photon a voxel, at most."""
    y, x = np.mgrid[:edge, :edge] / 16.0
    return 0.01 + 0.15 * np.exp(-((np.sin(x) + np.cos(y)) ** 2) * 3)


def denoised(photons, seed):
    recipe = Recipe.parse({"preset": "fast", "seed": seed, "fit": {"steps": 30}})
    return denoise(Image(photons.astype(np.float32), "YX"), recipe)


@pytest.mark.parametrize("seed", range(2))
def test_single_photons_are_not_kept_as_if_they_were_content(seed):
    """Most voxels saw none: what is stabilised is spikes, and whatever keeps them seems good to who takes them for normal."""
    photons = np.random.default_rng(seed).poisson(cells())
    result = denoised(photons, seed)
    assert "each step of the values is a photon" in result.report.noise[0]
    least = 0.025 * np.square(photons - cells()).mean()
    assert np.square(result.image.array - cells()).mean() < least
    assert np.square(result.baseline.array - cells()).mean() < least
    assert result.image.array.mean() == pytest.approx(photons.mean(), rel=0.1)


@pytest.mark.parametrize("seed", range(2))
def test_photons_too_few_to_judge_by_leave_the_network_alone(seed):
    """A gain that is not the same everywhere: values are no whole photons, and stabilised noise is no normal noise."""
    values = np.random.default_rng(seed).poisson(cells()) * np.linspace(0.95, 1.05, 128)
    result = denoised(values, seed)
    assert "photons are so few" in result.report.reasons["output.classical"]
    assert np.square(result.image.array - cells()).mean() < 0.025 * np.square(values - cells()).mean()


def test_among_many_photons_a_dark_ground_does_not_matter():
    light = 400 * np.maximum(cells() - 0.1, 0.0)
    result = denoised(np.random.default_rng(0).poisson(light) * np.linspace(0.95, 1.05, 128), 0)
    assert "photons are so few" not in result.report.reasons["output.classical"]


def test_a_channel_whose_noise_is_not_of_photons_does_not_speak_for_one_with_few():
    rng = np.random.default_rng(0)
    few = rng.poisson(cells()) * np.linspace(0.95, 1.05, 128)
    other = 500 + 3000 * cells() + rng.normal(0, 9, few.shape)
    recipe = Recipe.parse({"preset": "fast", "fit": {"steps": 30}})
    result = denoise(Image(np.stack([few, other]).astype(np.float32), "CYX"), recipe)
    assert [sentence.split()[0] for sentence in result.report.noise] == ["Poisson-Gaussian", "Gaussian"]
    assert "photons are so few" in result.report.reasons["output.classical"]
