"""Which noise an image holds: found within a few per cent, and told."""

import numpy as np
import pytest
from estimates import found, lamps, ramp
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from dip_sci.errors import ImageError
from dip_sci.noise import Gaussian, PoissonGaussian
from dip_sci.noise_estimate import DOUBT, NoiseEstimate


@pytest.mark.parametrize("sigma", [0.5, 5.0, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_gaussian_noise_on_a_ramp(sigma, seed):
    noisy = ramp() + np.random.default_rng(seed).normal(0, sigma, (128, 128))
    assert found(noisy, model="gaussian").model.sigma == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_noise_as_strong_everywhere_is_called_gaussian(seed):
    noisy = ramp() + np.random.default_rng(seed).normal(0, 20, (128, 128))
    model = found(noisy).model
    assert isinstance(model, Gaussian)
    assert model.sigma == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_grows_from_side_to_side_is_mapped(seed):
    """It is stronger where it is brighter, but where tells more."""
    sd = np.linspace(5, 25, 192)
    estimated = found(lamps() + np.random.default_rng(seed).normal(0, sd, (192, 192)))
    assert isinstance(estimated.model, Gaussian)
    assert not estimated.structure.correlated
    off = estimated.model.sigma * estimated.structure.sd_map[:, 10:-10] / sd[10:-10] - 1
    assert np.abs(off).mean() < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_noise_on_a_real_scan(sample_data, seed):
    clean = imread(sample_data / "microscopy" / "bpae_flim_mean_of_5.tif").astype(float)[:256, :256]
    # Smoothed, so that what is added is all the noise there is.
    clean = gaussian_filter(clean, 2)
    sigma = 0.15 * clean.std()
    noisy = clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)
    assert found(noisy, model="gaussian").model.sigma == pytest.approx(sigma, rel=0.05)


def test_planes_are_measured_together():
    rng = np.random.default_rng(0)
    stack = np.stack([ramp(32)] * 6) + rng.normal(0, 9, (6, 32, 32))
    assert found(stack, model="gaussian").model.sigma == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sigma": 3.0}, Gaussian(3.0)),
        ({"sigma": 3.0, "model": "gaussian"}, Gaussian(3.0)),
        ({"gain": 2.0}, PoissonGaussian(2.0, 0.0, 0.0)),
        ({"gain": 2.0, "offset": 10.0, "read_noise": 4.0}, PoissonGaussian(2.0, 10.0, 4.0)),
        ({"model": "poisson_gaussian", "gain": 0.5, "offset": -3.0}, PoissonGaussian(0.5, -3.0, 0.0)),
    ],
)
def test_what_the_user_gives_wins(options, expected):
    told = found(ramp() + np.random.default_rng(0).normal(0, 20, (128, 128)), **options)
    assert told.model == expected
    assert "as given" in told.sentence


@pytest.mark.parametrize("model", ["auto", "speckle"])
def test_a_drawing_of_even_patches_holds_hardly_any_noise(model):
    drawing = np.random.default_rng(0).integers(0, 255, (16, 16)).repeat(16, axis=0).repeat(16, axis=1)
    told = found(drawing.astype(float), model=model)
    assert np.sqrt(told.model.variance(drawing)).mean() < 0.5, told.sentence


def test_a_constant_image_has_an_estimate_that_divides():
    told = found(np.full((64, 64), 7.0))
    assert isinstance(told.model, Gaussian)
    assert np.isfinite(told.model.sigma)
    assert told.model.sigma > 0
    assert told.correlation == 0


def test_an_image_mostly_empty_is_measured_where_it_is_not():
    noisy = np.zeros((128, 128))
    noisy[:48, :48] = 300 + np.random.default_rng(0).normal(0, 10, (48, 48))
    assert 5 < found(noisy, model="gaussian").model.sigma < 15


def test_unmeasured_voxels_do_not_count():
    rng = np.random.default_rng(0)
    clean = ramp() + rng.normal(0, 20, (128, 128))
    measured = np.ones(clean.shape, bool)
    measured[:, 100:] = False
    measured[5, 7] = False
    results = []
    for fill in (np.nan, 0.0, -1e4, np.inf):
        spoiled = np.where(measured, clean, fill)
        results.append(found(spoiled, measured))
    assert all((r.model, r.sentence) == (results[0].model, results[0].sentence) for r in results)
    assert results[0].model.sigma == pytest.approx(20, rel=0.05)


def test_nothing_measured_is_an_error():
    with pytest.raises(ImageError, match="no finite, measured voxel"):
        found(np.full((32, 32), np.nan), np.zeros((32, 32), bool))


@pytest.mark.parametrize("ends", [(0, 255), (-np.inf, 255), (-np.inf, np.inf)])
def test_noise_that_is_cut_off_is_counted(ends):
    noisy = np.clip(lamps() * 1.5 + np.random.default_rng(0).normal(0, 30, (192, 192)), *ends)
    assert found(noisy).cut_off == pytest.approx(np.isin(noisy, ends).mean(), abs=1e-9)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_the_stored_type_does_not_matter(dtype):
    noisy = np.rint(ramp() / 4 + np.random.default_rng(0).normal(0, 6, (128, 128)))
    told, stored = found(noisy), found(np.clip(noisy, 0, 255).astype(dtype))
    assert stored.model.sigma == pytest.approx(told.model.sigma, rel=1e-3)


def test_the_sentence_names_the_model_and_its_numbers():
    assert found(np.eye(32), sigma=2.5).sentence == "Gaussian noise of standard deviation 2.5, as given."
    sentence = found(np.eye(32), gain=2, offset=3, read_noise=4).sentence
    for part in ("Poisson-Gaussian", "2 grey levels per photon", "offset 3", "read noise 4"):
        assert part in sentence


def test_noise_that_is_hardly_known_is_said_to_be_and_not_taken_for_more():
    told = NoiseEstimate(Gaussian(2.0), "", error=0.9)
    assert told.doubt == DOUBT < told.error
    assert NoiseEstimate(Gaussian(2.0), "", error=0.03).doubt == 0.03
