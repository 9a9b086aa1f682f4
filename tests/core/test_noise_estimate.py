"""Which noise an image holds: found within a few per cent, and told."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter, rotate
from skimage.io import imread

from dip_sci import noise_places, noise_spectrum, noise_structure
from dip_sci.errors import ImageError
from dip_sci.findings import find
from dip_sci.noise import Gaussian, Poisson, PoissonGaussian, Rician, Speckle
from dip_sci.noise_blocks import cut
from dip_sci.noise_curve import Curve, curve, photons
from dip_sci.noise_estimate import DOUBT, NoiseEstimate, estimate
from dip_sci.recipe import NoiseOptions

AUTO = NoiseOptions()


def ramp(edge=128):
    y, x = np.mgrid[:edge, :edge] / edge
    return 200 + 300 * x + 100 * np.sin(3 * y)


def found(values, measured=None, *, volume=False, **options):
    seen = np.ones(values.shape, bool) if measured is None else measured
    return estimate(values, seen, NoiseOptions(**options), volume=volume)


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


def lamps(edge=192):
    """Some bright disks, more of them at the right."""
    y, x = np.mgrid[:edge, :edge]
    places = [(30, 160, 25), (110, 120, 20), (90, 50, 14), (160, 150, 22)]
    return 40.0 + 120 * sum(np.hypot(y - v, x - u) < r for v, u, r in places)


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
def test_photons_are_not_taken_for_noise_of_a_place(seed):
    rng = np.random.default_rng(seed)
    estimated = found(100 + 2 * rng.poisson(lamps()) + rng.normal(0, 3, (192, 192)))
    assert isinstance(estimated.model, PoissonGaussian)
    assert estimated.model.gain == pytest.approx(2, rel=0.1)
    assert estimated.structure.sd_map is None


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


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_noise_on_a_real_scan(sample_data, seed):
    clean = imread(sample_data / "microscopy" / "bpae_flim_mean_of_5.tif").astype(float)[:256, :256]
    # Smoothed, so that what is added is all the noise there is.
    clean = gaussian_filter(clean, 2)
    sigma = 0.15 * clean.std()
    noisy = clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)
    assert found(noisy, model="gaussian").model.sigma == pytest.approx(sigma, rel=0.05)


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


@pytest.mark.parametrize("model", ["auto", "speckle"])
def test_a_drawing_of_even_patches_holds_hardly_any_noise(model):
    drawing = np.random.default_rng(0).integers(0, 255, (16, 16)).repeat(16, axis=0).repeat(16, axis=1)
    told = found(drawing.astype(float), model=model)
    assert np.sqrt(told.model.variance(drawing)).mean() < 0.5, told.sentence


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


@pytest.mark.parametrize("options", [{"model": "poisson_gaussian"}, {"offset": 20.0}, {"read_noise": 1.0}], ids=str)
def test_photon_noise_asked_for_but_not_found_is_told(options):
    # The brighter, the weaker.
    noisy = ramp() + (600 - ramp()) / 20 * np.random.default_rng(0).normal(size=(128, 128))
    told = found(noisy, **options)
    assert isinstance(told.model, Gaussian)
    assert "was to be that of photons" in told.sentence
    assert "photons" not in found(noisy).sentence


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


def test_noise_that_is_hardly_known_is_said_to_be_and_not_taken_for_more():
    told = NoiseEstimate(Gaussian(2.0), "", error=0.9)
    assert told.doubt == DOUBT < told.error
    assert NoiseEstimate(Gaussian(2.0), "", error=0.03).doubt == 0.03


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
