"""On real scans, a short run gains what a short run should: a floor, far below what a full one reaches."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from dip_sci.image import Image
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise

SHORT = {
    "device": "cpu",
    "generator": {"channels": (16,) * 4},
    "fit": {"steps": 60, "rate": 0.004, "precision": "float32"},
    "supervision": {"passes": 4},
}


def psnr(image, truth):
    return 10 * np.log10(np.ptp(truth) ** 2 / np.mean((image.astype(float) - truth) ** 2))


def gain(noisy, truth, seed):
    out = denoise(Image(noisy, "YX"), Recipe.parse({**SHORT, "seed": seed})).image.array
    return psnr(out, truth) - psnr(noisy, truth)


@pytest.fixture(scope="module")
def cells(sample_data):
    folder = sample_data / "microscopy"
    return imread(folder / "bpae_flim_noisy.tif"), imread(folder / "bpae_flim_mean_of_5.tif")


@pytest.mark.parametrize("seed", range(3))
def test_a_shot_of_cells_comes_closer_to_the_mean_of_five(cells, seed):
    crop = np.s_[100 + 60 * seed : 196 + 60 * seed, 200:296]
    shot, mean = (c[crop] for c in cells)
    # 2.5 to 2.9 dB when this was written.
    assert gain(shot, mean, seed) > 1.8


@pytest.mark.parametrize("seed", range(3))
def test_few_photons_are_denoised(cells, seed):
    crop = np.s_[100 + 60 * seed : 196 + 60 * seed, 200:296]
    smooth = gaussian_filter(cells[1].astype(float), 1)[crop]
    truth = 1 + 20 * (smooth - smooth.min()) / np.ptp(smooth)
    shot = np.random.default_rng(seed).poisson(truth).astype(np.float32)
    # 10.7 to 11.5 dB when this was written.
    assert gain(shot, truth, seed) > 9


def test_a_long_fit_does_not_know_its_noise_by_heart(cells):
    truth = gaussian_filter(cells[1].astype(float), 1)[100:164, 200:264]
    noisy = truth + np.random.default_rng(0).normal(0, 0.2 * np.ptp(truth), truth.shape)
    network = {"generator": {"channels": (32,) * 4}, "output": {"classical": "none"}}
    found = {}
    for steps in (60, 300):
        fit = {"steps": steps, "precision": "float32"}
        recipe = Recipe.parse({**SHORT, **network, "fit": fit, "stop": {"rule": "fixed"}})
        found[steps] = psnr(denoise(Image(noisy.astype(np.float32), "YX"), recipe).image.array, truth)
    # Flipped patches make the difference: 0.3 dB more than the short fit; without them 2.3 dB less.
    assert found[300] > found[60] - 0.5


def patchwork(levels):
    """Four flat quarters, ``(96, 96)``, and the inside of each."""
    truth = np.kron(np.reshape(levels, (2, 2)), np.ones((48, 48)))
    return truth, [np.s_[y : y + 36, x : x + 36] for y in (6, 54) for x in (6, 54)]


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_means_are_kept(kind):
    truth, quarters = patchwork([2, 4, 6, 8])
    rng = np.random.default_rng(0)
    noisy = truth + rng.normal(0, 1, truth.shape) if kind == "gaussian" else rng.poisson(truth)
    out = denoise(Image(noisy.astype(np.float32), "YX"), Recipe.parse(SHORT)).image.array
    for quarter in quarters:
        sd = 1 if kind == "gaussian" else truth[quarter].mean() ** 0.5
        # A tenth of the noise, and three standard errors of the noise's own mean.
        assert abs((out - truth)[quarter].mean()) < (0.1 + 3 / 36) * sd
        assert abs((out - noisy)[quarter].mean()) < 0.1 * sd


@pytest.mark.parametrize("sigma", [None, 1.0])
def test_a_magnitudes_bias_is_taken_off(sigma):
    truth, quarters = patchwork([2, 4, 6, 8])
    rng = np.random.default_rng(0)
    magnitude = np.hypot(truth + rng.normal(0, 1, truth.shape), rng.normal(0, 1, truth.shape)).astype(np.float32)
    noise = {"model": "rician", "sigma": sigma}
    out = denoise(Image(magnitude, "YX"), Recipe.parse({**SHORT, "noise": noise})).image.array
    # Where the signal is twice the noise: a tenth of the raw bias.
    before, after = ((image - truth)[quarters[0]].mean() for image in (magnitude, out))
    assert before > 0.2
    assert abs(after) < 0.1 * before + 3 / 36 * 0.5
