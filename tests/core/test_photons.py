"""Noise that goes by the brightness: photons, read noise and speckle."""

import numpy as np
import pytest
from estimates import AUTO, found, lamps, ramp
from scipy.ndimage import gaussian_filter

from dip_sci.findings import find
from dip_sci.noise import Gaussian, Poisson, PoissonGaussian, Rician, Speckle
from dip_sci.noise_blocks import cut
from dip_sci.noise_curve import Curve, curve, photons
from dip_sci.noise_estimate import estimate
from dip_sci.recipe import NoiseOptions


@pytest.mark.parametrize("seed", range(3))
def test_photons_are_not_taken_for_noise_of_a_place(seed):
    rng = np.random.default_rng(seed)
    estimated = found(100 + 2 * rng.poisson(lamps()) + rng.normal(0, 3, (192, 192)))
    assert isinstance(estimated.model, PoissonGaussian)
    assert estimated.model.gain == pytest.approx(2, rel=0.1)
    assert estimated.structure.sd_map is None


@pytest.mark.parametrize(
    "truth",
    [
        PoissonGaussian(2.0, 0.0, 0.0),
        PoissonGaussian(5.0, 100.0, 10.0),
        PoissonGaussian(0.5, 20, 2),
        PoissonGaussian(0.5, -20, 2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("seed", range(4))
def test_photon_noise_gives_its_variance_curve(truth, seed):
    y, x = np.mgrid[:192, :192] / 192
    photons = 5 + 200 * x**2 + 20 * np.sin(4 * y) ** 2
    clean = truth.offset + truth.gain * photons
    model = found(truth.sample(clean, np.random.default_rng(seed))).model
    assert isinstance(model, PoissonGaussian)
    means = truth.offset + truth.gain * np.array([20.0, 60.0, 120.0, 200.0])
    np.testing.assert_allclose(model.variance(means), truth.variance(means), rtol=0.15)


def specks(edge=192, seed=0):
    """Cells on a dark ground, between 0 and 1."""
    spots = np.random.default_rng(seed).random((edge, edge)) < 0.001
    bright = gaussian_filter(spots.astype(float), 4)
    return 0.03 + bright / bright.max()


@pytest.mark.parametrize("peak", [1, 3, 10, 30])
@pytest.mark.parametrize("seed", range(3))
def test_photons_that_are_counted_one_by_one_are_known_exactly(peak, seed):
    photons = np.random.default_rng(seed).poisson(peak * specks(seed=seed))
    assert found(photons.astype(np.uint16)).model == Poisson(1.0, 0.0)
    told = found(100 + 2.5 * photons)
    assert told.model == Poisson(2.5, 100.0)
    assert told.structure is None
    assert told.error == 0
    assert "photon" in told.sentence
    assert "cut off" not in told.sentence


@pytest.mark.parametrize("kind", ["half empty", "saturated", "hot", "bright specks", "volume"])
def test_counted_photons_are_known_whatever_else_there_is(kind):
    rng = np.random.default_rng(0)
    photons = rng.poisson(6 * specks()).astype(np.float32)
    if kind == "half empty":
        photons[:, :96] = 0
    elif kind == "saturated":
        photons = np.minimum(photons, 4)
    elif kind == "hot":
        photons[40, 50] = 6e4
    elif kind == "bright specks":
        photons = rng.poisson(80 * np.maximum(specks() - 0.02, 0.001)).astype(np.float32)
    elif kind == "volume":
        photons = rng.poisson(np.stack([6 * specks(64, seed) for seed in range(12)])).astype(np.float32)
    assert found(photons, volume=kind == "volume").model == Poisson(1.0, 0.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["cut off", "read noise", "several steps a photon", "magnitudes"])
def test_whole_numbers_alone_are_no_counted_photons(kind, seed):
    rng, light = np.random.default_rng(seed), 30 * specks(seed=seed)
    values = {
        "cut off": light - 2 + rng.normal(0, 1.2, light.shape),
        "read noise": 10 + rng.poisson(light) + rng.normal(0, 2, light.shape),
        "several steps a photon": 1.3 * rng.poisson(light),
        "magnitudes": Rician(6.0).sample(light, rng),
    }[kind]
    assert not isinstance(found(np.clip(np.rint(values), 0, None)).model, Poisson)


@pytest.mark.parametrize("given", [{"offset": 90.0}, {"read_noise": 3.0}, {"model": "gaussian"}, {"gain": 2.0}])
def test_counted_photons_do_not_overrule_what_is_given(given):
    photons = np.random.default_rng(0).poisson(10 * specks())
    assert found(100.0 + photons).model == Poisson(1.0, 100.0)
    assert found(100.0 + photons, **given).model != Poisson(1.0, 100.0)


def test_a_camera_half_known_keeps_what_is_known():
    truth = PoissonGaussian(4.0, 100.0, 12.0)
    y, x = np.mgrid[:192, :192] / 192
    noisy = truth.sample(truth.offset + truth.gain * (3 + 150 * x**2 + 9 * y), np.random.default_rng(0))
    by_offset, by_read_noise = found(noisy, offset=100.0).model, found(noisy, read_noise=12.0).model
    assert by_offset.offset == 100
    assert by_offset.gain == pytest.approx(4, rel=0.15)
    assert by_read_noise.read_noise == 12
    assert by_read_noise.gain == pytest.approx(4, rel=0.15)
    both = found(noisy, offset=90.0, read_noise=1.0).model
    assert (both.offset, both.read_noise) == (90, 1)


def cells(edge=256):
    """Photons behind cells on a dark ground, from a quarter to twenty, and nothing quite flat."""
    y, x = np.mgrid[:edge, :edge] / edge
    spots = sum(
        np.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.01) for a, b in [(0.2, 0.3), (0.7, 0.2), (0.5, 0.7), (0.9, 0.9)]
    )
    return 0.25 + 20 * np.clip(spots, 0, 1) + x


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("read_noise", [5.0, 15.0, 25.0])
def test_read_noise_is_told_from_an_offset_by_how_skewed_photons_are(read_noise, seed):
    """The variance alone has them as one number."""
    truth = PoissonGaussian(12.0, 100.0, read_noise)
    model = found(truth.sample(truth.offset + truth.gain * cells(), np.random.default_rng(seed))).model
    assert isinstance(model, PoissonGaussian)
    assert model.gain == pytest.approx(12, rel=0.1)
    assert model.read_noise == pytest.approx(read_noise, rel=0.15, abs=1.0)
    assert model.offset == pytest.approx(100, abs=4)


@pytest.mark.parametrize("shift", [0.0, -300.0])
@pytest.mark.parametrize("seed", range(3))
def test_without_an_offset_the_noise_of_no_light_was_read(seed, shift):
    """Photons are too many to be skewed; values below 0 say that something was taken off."""
    y, x = np.indices((256, 256)) / 256
    truth = PoissonGaussian(2.0, shift, 16.0)
    light = shift + 2 * (10 + 110 * x + 20 * np.sin(9 * y))
    model = found(truth.sample(light, np.random.default_rng(seed))).model
    assert isinstance(model, PoissonGaussian)
    assert model.gain == pytest.approx(2, rel=0.1)
    if shift:
        assert model.read_noise**2 == pytest.approx(256 + model.gain * (model.offset - shift), rel=0.15, abs=40)
    else:
        assert model.read_noise == pytest.approx(16, rel=0.1)
        assert model.offset == pytest.approx(0, abs=5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("counted", [True, False], ids=["photons", "white"])
def test_where_texture_hides_most_of_the_noise_its_rise_still_tells_photons(seed, counted):
    """Half of the brightnesses have no flat part: the curve is crooked."""
    light = woven(np.random.default_rng(seed))
    truth = PoissonGaussian(0.255, 0.0, 0.0) if counted else Gaussian(5.0)
    told = found(truth.sample(light, np.random.default_rng(seed)))
    strength = np.sqrt(told.model.variance(light)).mean() / np.sqrt(truth.variance(light)).mean()
    assert strength == pytest.approx(1, abs=0.08), told.sentence
    assert isinstance(told.model, PoissonGaussian) == counted


@pytest.mark.parametrize("looks", [2.0, 16.0, 45.0])
@pytest.mark.parametrize("seed", range(3))
def test_speckle_is_told_from_photons_by_a_noise_in_proportion_to_the_signal(looks, seed):
    light = woven(np.random.default_rng(seed))
    noisy = Speckle(looks, 1.0).sample(light, np.random.default_rng(seed)).clip(0)
    told = found(noisy)
    assert isinstance(told.model, Speckle), told.sentence
    assert told.model.looks == pytest.approx(looks, rel=0.1)
    assert told.model.read_noise < 8
    assert "speckle" in told.sentence.lower()


@pytest.mark.parametrize("given", [{"model": "speckle"}, {"looks": 16.0}, {"looks": 16.0, "read_noise": 3.0}], ids=str)
def test_speckle_may_be_given(given):
    noisy = Speckle(16.0, 3.0).sample(woven(rng := np.random.default_rng(0)), rng) - 5
    model = found(noisy, **given).model
    assert isinstance(model, Speckle)
    assert model.looks == pytest.approx(16, rel=0.15)
    assert model.read_noise == 3.0 if "read_noise" in given else model.read_noise > 0


def test_behind_an_operator_speckle_counts_as_gaussian_noise_of_the_same_power():
    light = woven(np.random.default_rng(0))
    noisy = Speckle(16.0, 1.0).sample(light, np.random.default_rng(0))
    stack = noisy[None, None, None]
    linear = find(stack, np.ones(stack.shape, bool), NoiseOptions(looks=16.0), colour=False, volume=False, linear=True)
    (model,) = (e.model for e in linear.estimates)
    assert isinstance(model, Gaussian)
    assert model.sigma == pytest.approx(np.std(noisy - light), rel=0.05)


def test_what_is_no_speckle_is_said_not_to_be():
    told = found(np.random.default_rng(0).normal(100, 5, (128, 128)), model="speckle")
    assert told.model.sigma == pytest.approx(5, rel=0.1)
    assert "does not rise" in told.sentence


def woven(rng):
    """Patches of 64 pixels, each of another brightness and woven throughout, or around its middle."""
    ranks = rng.permutation(36).reshape(6, 6).repeat(64, 0).repeat(64, 1)
    texture = gaussian_filter(rng.normal(size=ranks.shape), 0.8)
    middle = (np.abs(np.indices(ranks.shape) % 64 - 31.5) < 16).all(axis=0)
    amount = np.where(ranks // 3 % 2 == 1, 0.18, np.where(middle, 0, 0.1))
    return (25 + 225 * ranks / 35) * (1 + amount * texture / texture.std())


@pytest.mark.parametrize("seed", range(3))
def test_without_read_noise_none_is_found(seed):
    """A camera whose photons are no whole numbers: its gain varies."""
    gain = np.random.default_rng(9).normal(12, 0.3, (512, 512))
    noisy = 100 + gain * np.random.default_rng(seed).poisson(cells(512))
    model = found(noisy).model
    assert isinstance(model, PoissonGaussian)
    assert model.read_noise < 2
    assert model.gain == pytest.approx(12, rel=0.07)
    assert model.offset == pytest.approx(100, abs=4)


def test_where_noise_hides_content_all_blocks_tell_how_strong_it_is():
    """And not a tenth of them; where there is content, only those without."""
    y, x = np.mgrid[:512, :512] / 512
    light = 12 + 6 * np.sin(5 * x) * np.cos(4 * y)
    light[:, 384:] += 4 * (np.arange(128) // 2 % 2)
    truth, off = PoissonGaussian(10.0, 100.0, 20.0), {False: [], True: []}
    for seed in range(3):
        values = truth.sample(100 + 10 * light, np.random.default_rng(seed))
        blocks = cut(values[None], np.ones((1, 512, 512), bool))
        for near, errors in off.items():
            measured = curve(blocks, truth if near else None)
            errors.append(measured.variance / truth.variance(measured.mean) - 1)
    few, all_of_them = (float(np.sqrt(np.mean(np.square(errors)))) for errors in off.values())
    assert all_of_them < 0.75 * few


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_grows_without_being_skewed_is_mostly_read_noise(seed):
    """The same variances: only how skewed the noise is tells them apart."""
    y, x = np.mgrid[:256, :256] / 256
    truth = PoissonGaussian(12.0, 100.0, 6.0)
    values = truth.offset + truth.gain * (4 + 12 * x + 0.5 * np.sin(9 * y))
    rng = np.random.default_rng(seed)
    counted = found(truth.sample(values, rng)).model
    even = found(values + rng.normal(0, np.sqrt(truth.variance(values)))).model
    assert isinstance(counted, PoissonGaussian)
    assert isinstance(even, PoissonGaussian)
    assert counted.read_noise < 12 < 20 < even.read_noise


def test_variance_that_is_nothing_anywhere_is_no_rise():
    nothing = Curve(np.arange(1.0, 9.0), np.zeros(8))
    blocks = cut(np.random.default_rng(0).normal(size=(1, 32, 32)), np.ones((1, 32, 32), bool))
    assert photons(nothing, blocks, AUTO, 0.0, 0.0) is None


@pytest.mark.parametrize("options", [{"model": "poisson_gaussian"}, {"offset": 20.0}, {"read_noise": 1.0}], ids=str)
def test_photon_noise_asked_for_but_not_found_is_told(options):
    # The brighter, the weaker.
    noisy = ramp() + (600 - ramp()) / 20 * np.random.default_rng(0).normal(size=(128, 128))
    told = found(noisy, **options)
    assert isinstance(told.model, Gaussian)
    assert "was to be that of photons" in told.sentence
    assert "photons" not in found(noisy).sentence


@pytest.mark.parametrize("seed", range(3))
def test_no_offset_is_above_what_is_dark_in_spots(seed):
    """Noise that rises faster than photons' (reconstructed counts) makes a line that crosses zero where there is light."""
    y, x = np.indices((128, 128))
    body = 40 * np.exp(-((y - 64.0) ** 2 + (x - 64) ** 2) / 900)
    # Dark only between the bright: no block of 16 voxels holds nothing else.
    body = np.maximum(body, 6) * ((y // 6 + x // 6) % 3 > 0)
    noisy = body + np.random.default_rng(seed).normal(0, 0.02 * body**1.7 + 0.05)
    told = estimate(noisy, np.ones(noisy.shape, bool), NoiseOptions(model="poisson_gaussian"))
    offset = getattr(told.model, "offset", 0.0)
    assert offset < 2, told.sentence
