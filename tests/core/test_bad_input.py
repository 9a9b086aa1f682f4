"""Images that mislead a measurement of noise: a right estimate, or a sentence that warns and a safe choice."""

import numpy as np
import pytest
from scenes import scene, tiny

from dip_sci.image import Image
from dip_sci.noise import Gaussian, PoissonGaussian
from dip_sci.noise_estimate import estimate
from dip_sci.recipe import NoiseOptions
from dip_sci.restore import denoise

SEEDS = range(3)


def found(values, measured=None, **options):
    return estimate(values, np.ones(values.shape, bool) if measured is None else measured, NoiseOptions(**options))


def smooth(seed, size=256):
    y, x = np.indices((size, size)) / size
    phase = np.random.default_rng(seed).uniform(0, 6)
    return 128 + 70 * np.sin(4 * x + phase) * np.cos(3 * y)


def finite(values, axes="YX", **changes):
    image = Image(values, axes)
    result = denoise(image, tiny(**changes))
    assert np.isfinite(result.image.array).all()
    assert result.image.array.dtype == image.dtype
    return result


@pytest.mark.parametrize("seed", SEEDS)
def test_saturation_does_not_hide_the_noise(seed):
    noisy = np.clip(2 * smooth(seed) + np.random.default_rng(seed).normal(0, 12, (256, 256)), 0, 255)
    told = found(noisy, model="gaussian")
    assert told.model.sigma == pytest.approx(12, rel=0.1)
    assert "cut off at 255" in told.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_values_cut_off_at_zero_do_not_hide_the_noise(seed):
    noisy = np.clip(smooth(seed) - 90 + np.random.default_rng(seed).normal(0, 12, (256, 256)), 0, None)
    told = found(noisy, model="gaussian")
    assert told.model.sigma == pytest.approx(12, rel=0.1)
    assert "cut off at 0" in told.sentence


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("seed", SEEDS)
def test_whole_numbers_coarser_than_the_noise_bound_it(sigma, seed):
    noisy = np.round(smooth(seed) + np.random.default_rng(seed).normal(0, sigma, (256, 256)))
    told = found(noisy, model="gaussian").model.sigma
    # Rounding adds an error of its own, spread evenly over a step.
    assert 0.9 * np.sqrt(1 / 12) < told < 1.35 * np.hypot(sigma, np.sqrt(1 / 12))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", SEEDS)
def test_an_empty_part_does_not_dilute_the_noise(share, seed):
    noisy = smooth(seed) + np.random.default_rng(seed).normal(0, 10, (256, 256))
    noisy[:, : int(256 * share)] = 0
    assert found(noisy, model="gaussian").model.sigma == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_padding_is_not_measured(seed):
    noisy = smooth(seed) + np.random.default_rng(seed).normal(0, 10, (256, 256))
    inside = np.hypot(*(np.indices((256, 256)) - 128)) < 110
    noisy[~inside] = -2000
    assert found(noisy, inside, model="gaussian").model.sigma == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_below_zero_are_no_counts(seed):
    noisy = np.random.default_rng(seed).normal(0, 5, (128, 128))
    for model in ("poisson", "poisson_gaussian"):
        told = found(noisy, model=model)
        assert isinstance(told.model, Gaussian)
        assert "was to be that of photons" in told.sentence


def test_counts_with_an_offset_below_zero_are_measured():
    photons = np.random.default_rng(0).poisson(5 + 60 * np.indices((256, 256))[1] / 256)
    told = found(3.0 * photons - 50.0).model
    assert isinstance(told, PoissonGaussian)
    assert told.gain == pytest.approx(3, rel=0.1)
    assert told.variance(np.array(40.0)) == pytest.approx(3 * 90, rel=0.1)


@pytest.mark.parametrize("model", ["auto", "gaussian", "poisson", "poisson_gaussian", "rician", "speckle"])
@pytest.mark.parametrize(
    "values",
    [
        np.full((32, 32), 7, np.uint8),
        np.zeros((32, 32), np.float32),
        np.where(np.indices((32, 32))[0] < 31, 0, 255).astype(np.uint8),
        -np.random.default_rng(0).poisson(3.0, (32, 32)).astype(np.int16),
        np.random.default_rng(0).integers(0, 2, (32, 32)).astype(np.uint8),
        np.random.default_rng(0).choice([0, 65535], (32, 32)).astype(np.uint16),
    ],
    ids=["constant", "zero", "one bright row", "negative counts", "two values", "both ends"],
)
def test_whatever_comes_the_result_is_finite(values, model):
    finite(values, noise={"model": model})


def test_a_saturated_stack_keeps_its_type():
    noisy = np.clip(scene(4, 40, 40) + np.random.default_rng(0).normal(60, 20, (4, 40, 40)), 0, 255)
    finite(noisy.astype(np.uint8), "TYX")


@pytest.mark.parametrize("model", ["auto", "gaussian", "poisson_gaussian", "rician", "speckle"])
@pytest.mark.parametrize("kind", ["ramp", "steps of one", "coarse steps", "blob"])
def test_an_image_without_noise_is_left_about_as_it_is(kind, model):
    y, x = np.indices((64, 64))
    values = {
        "ramp": (y / 3 + x).astype(np.float32),
        "steps of one": x.astype(np.uint8),
        "coarse steps": (100 * x).astype(np.uint16),
        "blob": np.exp(-((y - 32.0) ** 2 + (x - 32) ** 2) / 200),
    }[kind]
    result = denoise(Image(values, "YX"), tiny(noise={"model": model}, output={"dtype": "float32"}))
    assert np.abs(result.image.array - values).mean() < 0.1 * np.ptp(values)


@pytest.mark.parametrize(
    ("noise", "word"),
    [
        ({"model": "poisson_gaussian", "gain": 2.0, "offset": 150.0, "read_noise": 3.0}, "offset of 150"),
        ({"model": "poisson", "gain": 1.0}, "offset of 0"),
        ({"model": "rician"}, "negative"),
        ({"model": "rician", "sigma": 8.0}, "negative"),
        ({"looks": 9.0}, "negative"),
    ],
)
def test_a_model_that_cannot_make_such_values_is_doubted(noise, word):
    seen = (scene(64, 64) - 90 + np.random.default_rng(0).normal(0, 8, (64, 64))).astype(np.float32)
    assert any(word in note for note in finite(seen, noise=noise).report.notes)


def test_values_that_noise_takes_below_the_offset_are_no_reason_for_doubt():
    rng = np.random.default_rng(0)
    seen = (2 * rng.poisson(scene(64, 64) / 50) + 100 + rng.normal(0, 10, (64, 64))).astype(np.float32)
    given = {"model": "poisson_gaussian", "gain": 2.0, "offset": 100.0, "read_noise": 10.0}
    assert not any("hardly that of this image" in note for note in finite(seen, noise=given).report.notes)
