"""Noise models: what they sample has the moments they state, stabilising undoes that, and halves share no noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import polygamma

from dip_sci.noise import Gaussian, Poisson, PoissonGaussian, Rician, Speckle, Structured, correlated_normal

MODELS = [
    Gaussian(7.0),
    Poisson(),
    Poisson(2.0, 50.0),
    PoissonGaussian(2.0, 0.0, 0.0),
    PoissonGaussian(3.5, 100.0, 6.0),
    PoissonGaussian(0.2, -5, 1),
    Rician(4.0),
    Speckle(9.0, 2.0),
]
COUNTS = [
    PoissonGaussian(1.0, 0.0, 0.0),
    PoissonGaussian(2.5, 100.0, 3.0),
    PoissonGaussian(0.1, -20.0, 0.2),
    Poisson(0.5, 7.0),
]
KERNEL = np.array([[0.04, 0.2, 0.04], [0.2, 1.0, 0.2], [0.0, 0.2, 0.0]])
KERNEL = (KERNEL + KERNEL[::-1, ::-1]) / 2


def many(model, mean, seed=0, count=200_000):
    return model.sample(np.full(count, float(mean)), np.random.default_rng(seed))


def level(model, photons):
    """Truth at so many photons, or so many standard deviations of noise."""
    return photons * getattr(model, "gain", getattr(model, "sigma", 1)) + getattr(model, "offset", 0)


def at(function, value):
    return float(function(np.array([float(value)]))[0])


def standard_error(values):
    return values.std() / np.sqrt(values.size)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("photons", [0, 1, 10, 300])
def test_samples_have_the_mean_and_the_variance_of_the_model(model, photons):
    truth = level(model, photons)
    variance = at(model.variance, truth)
    drawn = many(model, truth)
    assert drawn.mean() == pytest.approx(at(model.mean, truth), abs=5 * np.sqrt(variance / drawn.size) + 1e-9)
    assert drawn.var() == pytest.approx(variance, rel=0.02, abs=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_samples_follow_their_generator(model):
    np.testing.assert_array_equal(many(model, 200, seed=3, count=50), many(model, 200, seed=3, count=50))
    assert not np.array_equal(many(model, 200, seed=3, count=50), many(model, 200, seed=4, count=50))


def test_variance_follows_foi():
    model = PoissonGaussian(2.0, 10.0, 3.0)
    np.testing.assert_allclose(model.variance(np.array([5.0, 10.0, 15.0])), [9, 9, 19])


@pytest.mark.parametrize("model", COUNTS, ids=repr)
@pytest.mark.parametrize("photons", [4, 8, 20, 100, 1000, 20_000])
def test_stabilised_noise_has_unit_variance(model, photons):
    stable = model.stabilise(many(model, model.offset + model.gain * photons))
    assert stable.var() == pytest.approx(1, abs=0.07 if photons < 20 else 0.02)


@pytest.mark.parametrize("model", COUNTS, ids=repr)
@pytest.mark.parametrize("photons", [1, 2, 4, 10, 100, 1000])
def test_the_way_back_has_no_bias(model, photons):
    truth = model.offset + model.gain * photons
    mean = model.stabilise(many(model, truth)).mean()
    back = float(model.unstabilise(np.array([mean]))[0])
    assert (back - truth) / model.gain == pytest.approx(0, abs=0.03 * max(np.sqrt(photons), 1))


@pytest.mark.parametrize("model", COUNTS, ids=repr)
def test_the_way_back_is_finite_where_there_is_no_light(model):
    stable = model.stabilise(np.array([model.offset - 1000 * model.gain, model.offset]))
    assert np.isfinite(stable).all()
    assert model.unstabilise(np.array([50.0]))[0] == pytest.approx(
        model.offset + model.gain * (50**2 / 4 - 1 / 8 - (model.read_noise / model.gain) ** 2), rel=1e-2
    )


def test_gaussian_noise_is_stabilised_and_brought_back_exactly():
    model = Gaussian(4.0)
    values = np.array([-8.0, 0.0, 2.0, 1e6])
    np.testing.assert_array_equal(model.unstabilise(model.stabilise(values)), values)
    assert model.stabilise(many(model, 50)).std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("model", [*COUNTS, Rician(3.0), Speckle(9.0, 2.0), Speckle(1.0, 0.1)], ids=repr)
def test_darker_never_comes_back_brighter(model):
    back = model.unstabilise(np.linspace(-5, 30, 500))
    assert (np.diff(back) >= 0).all()
    assert back[0] == getattr(model, "offset", 0)


def test_poisson_noise_is_poisson_gaussian_noise_without_read_noise():
    values = np.linspace(0, 500, 50)
    one, other = Poisson(2.0, 5.0), PoissonGaussian(2.0, 5.0, 0.0)
    for function in ("mean", "variance", "stabilise", "unstabilise"):
        np.testing.assert_array_equal(getattr(one, function)(values), getattr(other, function)(values))


# The magnitude of a complex signal.


def test_the_moments_of_a_magnitude_keep_their_digits():
    snr = np.array([0.0, 0.3, 1, 4, 30])
    model = Rician(2.0)
    mean, variance = stats.rice.stats(snr)
    np.testing.assert_allclose(model.mean(2 * snr), 2 * mean, rtol=1e-9)
    np.testing.assert_allclose(model.variance(2 * snr), 4 * variance, rtol=1e-6)
    # 2 sigma^2 + nu^2 - mean^2 has no digit left here.
    far = np.array([79.9, 80.1, 2e3, 2e9])
    np.testing.assert_allclose(model.variance(far), 4 - 0.5 * 4**2 / far**2, rtol=1e-5)
    np.testing.assert_allclose(model.mean(far) - far, 0.5 * 4 / far, rtol=1e-3, atol=1e-6)


def exact_moments(model, snr):
    """Mean and standard deviation of the stabilised magnitude, by quadrature."""
    m = np.linspace(max(0, snr - 9), snr + 9, 20_001)
    p = stats.rice.pdf(m, snr)
    p /= p.sum()
    f = model.stabilise(m * model.sigma)
    mean = (p * f).sum()
    return mean, np.sqrt((p * (f - mean) ** 2).sum())


@pytest.mark.parametrize("snr", [0, 0.2, 0.5, 0.8, 1, 1.3, 1.6, 2, 2.5, 3, 3.5, 4, 5, 7, 8.9, 9.1, 11.9, 12.1, 20, 30])
def test_stabilised_magnitudes_are_as_documented(snr):
    model = Rician(5.0)
    mean, sd = exact_moments(model, snr)
    assert sd == pytest.approx(1, abs=0.025 if snr >= 1 else 0.03)
    assert at(model.unstabilise, mean) / 5 == pytest.approx(snr, abs=1e-3)


@pytest.mark.parametrize("snr", [0.7, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_stabilised_magnitudes_is_the_signal(snr, seed):
    model = Rician(3.0)
    stable = model.stabilise(many(model, 3 * snr, seed))
    low, high = (at(model.unstabilise, stable.mean() + k * standard_error(stable)) for k in (-5, 5))
    assert low < 3 * snr < high
    raw = at(model.mean, 3 * snr) - 3 * snr
    assert abs(at(model.unstabilise, stable.mean()) - 3 * snr) < 0.1 * raw


def test_background_comes_back_as_no_signal():
    model = Rician(3.0)
    quiet = model.stabilise(many(model, 0)).mean()
    assert at(model.unstabilise, quiet) < 0.15 * 3
    assert at(model.unstabilise, quiet - 0.1) == 0


@given(m=st.floats(0, 1e6), step=st.floats(1e-3, 10))
def test_brighter_magnitudes_are_brighter_when_stabilised(m, step):
    low, high = Rician(2.0).stabilise(np.array([m, m + step]))
    assert low < high
    # The straight part of the scale: distances are in units of sigma.
    if m > 40:
        assert high - low == pytest.approx(step / 2, rel=1e-2, abs=1e-9)


# Noise in proportion to the signal.


@pytest.mark.parametrize("looks", [1.0, 4.0, 25.0, 1e4])
@pytest.mark.parametrize("truth", [0.0, 1.0, 10.0, 100.0, 1e5])
def test_stabilised_speckle_is_as_stated_and_comes_back_without_bias(looks, truth):
    model = Speckle(looks, 0.5)
    stable = model.stabilise(many(model, truth))
    fourth = np.mean((stable - stable.mean()) ** 4)
    assert stable.var() == pytest.approx(
        at(model.stable_variance, truth), abs=5 * np.sqrt(fourth / stable.size) + 0.005
    )
    low, high = (at(model.unstabilise, stable.mean() + k * standard_error(stable)) for k in (-5, 5))
    assert low * 0.999 <= truth <= high * 1.001


def test_far_above_the_detectors_noise_speckle_is_stable():
    for looks in (1.0, 9.0, 300.0):
        model = Speckle(looks, 1e-3)
        assert at(model.stable_variance, 100) == pytest.approx(1, abs=0.01)
        factor = model.stabilise(np.array([50.0, 100.0, 200.0]))
        assert np.diff(factor) == pytest.approx([np.log(2) / np.sqrt(polygamma(1, looks))] * 2, rel=1e-4)


@pytest.mark.parametrize("looks", [1.0, 9.0])
def test_speckle_of_a_given_field_follows_its_law(looks):
    model, rng = Speckle(looks, 1e-6), np.random.default_rng(0)
    drawn = model.observe(np.full(50_000, 7.0), rng.standard_normal)
    assert stats.kstest(drawn, stats.gamma(looks, scale=7 / looks).cdf).pvalue > 1e-3


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_single_precision_stays(model):
    values = np.linspace(100, 200, 9, dtype=np.float32)
    assert model.stabilise(values).dtype == np.float32
    assert model.unstabilise(model.stabilise(values)).dtype == np.float32


# Two copies of one observation.


def noises(model, truth, strength, seed=0, count=200_000, sampler=None):
    """Noise of both copies, on the scale where the split is made, and the variance they share out."""
    rng = np.random.default_rng(seed)
    observed = model.sample(np.full(count, float(truth)), rng)
    copies = model.split(observed, strength, rng)
    if model.name == "rician":
        stable = model.stabilise(observed)
        return *(model.stabilise(c) - stable.mean() for c in copies), stable.var()
    return *(c - at(model.mean, truth) for c in copies), at(model.variance, truth)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("photons", [5, 100])
@pytest.mark.parametrize("strength", [0.5, 1, 2])
def test_copies_keep_the_mean_and_share_no_noise(model, photons, strength):
    one, other, variance = noises(model, level(model, photons), strength)
    assert abs(one.mean()) < 5 * standard_error(one)
    assert abs(other.mean()) < 5 * standard_error(other)
    off = 0.03 if model.name == "rician" else 0.015
    assert one.var() == pytest.approx(variance * (1 + strength**2), rel=off)
    assert other.var() == pytest.approx(variance * (1 + 1 / strength**2), rel=off)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(one.size)


@pytest.mark.parametrize("model", [Gaussian(7.0), Poisson(0.37, 50.0)], ids=repr)
@pytest.mark.parametrize("strength", [0.5, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_exact_copies_are_independent_in_the_higher_moments_too(model, strength, seed):
    one, other, _ = noises(model, level(model, 2), strength, seed)
    for a, b in [(one**2, other), (one, other**2), (one**2, other**2)]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(one.size)


def test_the_variance_at_the_observed_level_makes_copies_symmetric():
    one, other, variance = noises(PoissonGaussian(1.0, 0.0, 0.0), 5, 1)
    # Were the variance that of the truth, the third moment would be that of the counts, 5.
    for a, b in [(one, other), (other, one)]:
        assert abs(np.mean(a**2 * b)) < 5 * standard_error(a**2 * b) < 0.2 * variance


def test_copies_in_the_dark_share_little_noise():
    one, other, _ = noises(PoissonGaussian(3.5, 100.0, 6.0), 100, 1)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


def test_counts_are_thinned_to_counts_and_others_are_not_refused():
    rng = np.random.default_rng(0)
    counts = rng.poisson(20.0, 5000).astype(float)
    one, other = Poisson().split(counts, 1.0, rng)
    np.testing.assert_array_equal(one / 2 + other / 2, counts)
    np.testing.assert_array_equal(one % 2, 0)
    broken, _ = Poisson().split(counts + 0.3, 1.0, rng)
    assert (broken % 1 != 0).any()
    assert np.isfinite(Poisson().split(counts - 30, 1.0, rng)).all()


def test_copies_of_a_magnitude_may_be_negative_and_still_halve_on_the_stabilised_scale():
    model, observed = Rician(2.0), np.array([0.0, 0.1, 3.0, 17.9, 18.1, 500.0])
    for score in (-3.0, -1.0, 2.0):
        one, other = model.couple(observed, 1.0, lambda shape, score=score: np.full(shape, score))
        np.testing.assert_allclose(model.stabilise(one) - score, model.stabilise(observed), atol=1e-9)
        np.testing.assert_allclose(model.stabilise(other) + score, model.stabilise(observed), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_the_signal_of_a_mean_magnitude(sigma):
    model = Rician(sigma)
    truth = sigma * np.array([0.0, 0.2, 1.0, 3.0, 8.9, 9.1, 50.0])
    np.testing.assert_allclose(model.signal(model.mean(truth)), truth, atol=3e-3 * sigma)
    assert model.signal(np.array([0.0, sigma])).tolist() == [0, 0]


# Likelihood.


@pytest.mark.parametrize(
    ("model", "law"),
    [
        (Gaussian(3.0), lambda x: stats.norm(x, 3.0).logpdf),
        (Poisson(), lambda x: stats.poisson(x).logpmf),
        (PoissonGaussian(2.0, 10.0, 3.0), lambda x: stats.norm(x, np.sqrt(2 * (x - 10) + 9)).logpdf),
        (Rician(3.0), lambda x: stats.rice(x / 3.0, scale=3.0).logpdf),
        (Speckle(9.0, 2.0), lambda x: stats.norm(x, np.hypot(x / 3, 2)).logpdf),
    ],
    ids=["gaussian", "poisson", "poisson_gaussian", "rician", "speckle"],
)
def test_likelihood_is_that_of_the_law(model, law):
    truth = np.array([15.0, 40.0, 90.0])
    observed = np.array([12.0, 44.0, 93.0])
    assert model.negative_log_likelihood(observed, truth) == pytest.approx(-law(truth)(observed).mean(), rel=1e-9)


@pytest.mark.parametrize("model", [*MODELS, Structured(Gaussian(7.0), KERNEL, np.array(2.0))], ids=repr)
@pytest.mark.parametrize("photons", [2, 50])
def test_the_truth_is_the_likeliest(model, photons):
    truth = level(getattr(model, "model", model), photons)
    drawn = many(model, truth) if not isinstance(model, Structured) else many(model.model, truth)
    there, below, above = (
        model.negative_log_likelihood(drawn, np.full(drawn.shape, truth + k * np.sqrt(at(model.variance, truth))))
        for k in (0, -0.2, 0.2)
    )
    assert there < min(below, above)


def test_likelihood_is_finite_at_the_edges():
    dark = np.zeros(3)
    assert np.isfinite(PoissonGaussian(2.0, 0.0, 0.0).negative_log_likelihood(dark, dark - 5))
    assert Poisson().negative_log_likelihood(dark, dark - 5) == 0
    assert np.isinf(Poisson().negative_log_likelihood(dark + 1, dark))
    assert np.isfinite(Rician(2.0).negative_log_likelihood(dark, dark))
    assert np.isfinite(Rician(2.0).negative_log_likelihood(dark + 1e6, dark + 1e6))


@pytest.mark.parametrize("model", [Poisson(), PoissonGaussian(2.0, 0.0, 0.0), Gaussian(2.0)], ids=repr)
@pytest.mark.parametrize("truth", [0.0, -5.0])
def test_likelihood_with_a_map_is_finite_in_the_dark(model, truth):
    truth = np.full(4, truth)
    structured = Structured(model, None, np.ones(4))
    seen = [structured.negative_log_likelihood(np.full(4, y), truth) for y in (0.0, 10.0, 20.0)]
    assert np.isfinite(seen).all()
    assert seen == sorted(seen), "what is less likely counts for more"
    if model.name != "poisson":
        assert seen[1] == pytest.approx(model.negative_log_likelihood(truth * 0 + 10, truth))


# Correlation in space and strength from place to place.


def autocorrelation(fields, lag):
    """Mean correlation and its standard error over independent fields, mean 0 and variance 1 assumed."""
    dy, dx = lag
    h, w = fields.shape[-2:]
    here = fields[..., max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)]
    there = fields[..., max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)]
    each = (here * there).mean(axis=(-2, -1))
    return each.mean(), each.std() / np.sqrt(each.size)


def kernel_at(lag):
    return KERNEL[1 + lag[0], 1 + lag[1]] if max(map(abs, lag)) <= 1 else 0.0


LAGS = [(0, 0), (0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 1), (5, 5)]


def test_fields_have_the_correlation_of_their_kernel():
    fields = correlated_normal((400, 64, 60), KERNEL, np.random.default_rng(0))
    for lag in LAGS:
        found, error = autocorrelation(fields, lag)
        assert abs(found - kernel_at(lag)) < 5 * error < 0.01


def test_fields_smaller_than_the_kernel_have_its_correlation_too():
    fields = correlated_normal((40_000, 2, 2), KERNEL, np.random.default_rng(0))
    for lag in LAGS[:5]:
        found, error = autocorrelation(fields, lag)
        assert abs(found - kernel_at(lag)) < 5 * error < 0.05


def test_opposite_edges_know_nothing_of_each_other():
    fields = correlated_normal((50_000, 6, 6), KERNEL, np.random.default_rng(0))
    assert abs(np.mean(fields[:, 0, 0] * fields[:, -1, 0])) < 5 / np.sqrt(50_000)
    assert abs(np.mean(fields[:, 2, 0] * fields[:, 2, -1])) < 5 / np.sqrt(50_000)


def test_leading_axes_are_independent_and_kernels_may_have_one_axis():
    fields = correlated_normal((4, 20_000, 5), np.array([0.4, 1.0, 0.4]), np.random.default_rng(0))
    assert np.mean(fields[..., 1:] * fields[..., :-1]) == pytest.approx(0.4, abs=0.01)
    assert np.mean(fields[1:] * fields[:-1]) == pytest.approx(0, abs=0.01)
    assert np.mean(fields[:, 1:] * fields[:, :-1]) == pytest.approx(0, abs=0.01)


def test_a_kernel_that_dips_a_little_below_zero_still_gives_unit_variance():
    fields = correlated_normal((4000, 50), np.array([0.7, 1.0, 0.7]), np.random.default_rng(0))
    angle = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    spectrum = np.maximum(1 + 1.4 * np.cos(angle), 0)
    assert spectrum.mean() > 1.04, "clipping matters"
    assert fields.var() == pytest.approx(1, abs=0.015)
    wanted = (spectrum * np.cos(angle)).mean() / spectrum.mean()
    assert np.mean(fields[:, 1:] * fields[:, :-1]) == pytest.approx(wanted, abs=0.015)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (np.ones((2, 3)), "odd"),
        (np.array([0.5, 2.0, 0.5]), "centre"),
        (np.array([1.0, 1.0, 1.0]), "autocorrelation"),
        (np.array([np.nan, 1.0, 0.0]), "finite"),
    ],
)
def test_a_kernel_that_is_none_is_refused(kernel, words):
    with pytest.raises(ValueError, match=words):
        Structured(Gaussian(1.0), kernel)
    with pytest.raises(ValueError, match=words):
        correlated_normal((9, 9), kernel, np.random.default_rng(0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="axes"):
        correlated_normal((9,), KERNEL, np.random.default_rng(0))
    for factor in (np.nan, np.inf, 0.0, -1.0):
        with pytest.raises(ValueError, match="sd_map"):
            Structured(Gaussian(1.0), None, np.array([1.0, factor]))


def test_gaussian_noise_with_correlation_and_map_is_exact():
    sd_map = np.linspace(0.5, 3, 40)
    model = Structured(Gaussian(4.0), KERNEL, sd_map)
    truth = np.full((300, 40, 40), 20.0)
    noise = model.sample(truth, np.random.default_rng(0)) - 20
    np.testing.assert_allclose(noise.var(axis=(0, 1)), model.variance(truth)[0, 0], rtol=0.08)
    for lag in LAGS[:4]:
        found, error = autocorrelation(noise / (4 * sd_map), lag)
        assert abs(found - kernel_at(lag)) < 5 * error


POINTWISE = [(Poisson(2.0, 5.0), 3), (Poisson(), 200), (PoissonGaussian(3.5, 100.0, 6.0), 4)]
POINTWISE += [(Rician(4.0), snr) for snr in (0, 1.5, 15, 60)]


@pytest.mark.parametrize("snr", [0, 2, 9, 19, 21, 500])
def test_magnitudes_of_given_scores_are_the_quantiles(snr):
    scores = np.array([-4.0, -2, 0, 1, 4])
    found = Rician(1.0).observe(np.full(5, float(snr)), lambda shape: scores)
    np.testing.assert_allclose(found, stats.rice.ppf(stats.norm.cdf(scores), snr), atol=5e-4)


@pytest.mark.parametrize(("model", "photons"), POINTWISE, ids=repr)
def test_correlated_noise_has_the_law_of_each_voxel(model, photons):
    truth = np.full((50, 40, 40), float(level(model, photons)))
    drawn = Structured(model, KERNEL).sample(truth, np.random.default_rng(0))
    # Two voxels apart they are independent.
    alone = drawn[:, ::2, ::2].ravel()
    plain = model.sample(np.full(alone.size, truth[0, 0, 0]), np.random.default_rng(1))
    assert stats.ks_2samp(alone, plain).pvalue > 1e-3
    assert alone.var() == pytest.approx(at(model.variance, truth[0, 0, 0]), rel=0.05)


@pytest.mark.parametrize(("model", "photons"), POINTWISE, ids=repr)
def test_correlated_noise_has_the_kernel(model, photons):
    truth = np.full((40, 40, 40), float(level(model, photons)))
    noise = model.stabilise(Structured(model, KERNEL).sample(truth, np.random.default_rng(0)))
    noise = (noise - noise.mean()) / noise.std()
    for lag in LAGS:
        found, error = autocorrelation(noise, lag)
        assert found == pytest.approx(kernel_at(lag), abs=0.015 + 5 * error)


@pytest.mark.parametrize(("model", "photons"), [(Poisson(2.0, 5.0), 40), (Rician(4.0), 5)], ids=repr)
def test_the_map_scales_the_stabilised_noise(model, photons):
    sd_map = np.array([0.5, 1.0, 1.5])
    truth = np.full((20_000, 3), float(level(model, photons)))
    structured = Structured(model, None, sd_map)
    drawn = structured.sample(truth, np.random.default_rng(0))
    np.testing.assert_allclose(structured.stabilise(drawn).std(axis=0), sd_map, rtol=0.04)
    np.testing.assert_allclose(drawn.var(axis=0), structured.variance(truth)[0], rtol=0.08)


@pytest.mark.parametrize("model", [Gaussian(4.0), PoissonGaussian(2.0, 10.0, 5.0), Poisson(), Rician(2.0)], ids=repr)
def test_structured_copies_share_no_noise_with_their_neighbours(model):
    truth = np.full((100, 40, 40), float(level(model, 30)))
    structured = Structured(model, KERNEL, np.linspace(0.8, 1.2, 40))
    rng = np.random.default_rng(0)
    observed = structured.sample(truth, rng)
    copies = structured.split(observed, 1.0, rng)
    if model.name == "rician":
        copies = [structured.stabilise(c) for c in copies]
    one, other = (c - c.mean(axis=(0, 1)) for c in copies)
    for lag in [(0, 0), (0, 1), (1, 0)]:
        near = np.roll(other, lag, (-2, -1))[:, 1:, 1:]
        each = (one[:, 1:, 1:] * near).mean(axis=(-2, -1)) / (one.std() * other.std())
        assert abs(each.mean()) < 5 * each.std() / np.sqrt(each.size) + 0.005
    # Without correlation in what is added, this would be 0.1.
    found, _ = autocorrelation(one / one.std(), (0, 1))
    assert found == pytest.approx(0.2, abs=0.02)


def test_without_correlation_and_map_nothing_is_added():
    truth = np.full((50, 50), 20.0)
    plain, structured = Poisson(), Structured(Poisson())
    drawn = structured.sample(truth, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, plain.sample(truth, np.random.default_rng(0)))
    for a, b in zip(*(m.split(drawn, 1.0, np.random.default_rng(1)) for m in (plain, structured)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert structured.name == "poisson"
    assert structured.negative_log_likelihood(drawn, truth) == plain.negative_log_likelihood(drawn, truth)


@pytest.mark.parametrize("model", [Poisson(3.0, 10.0), PoissonGaussian(2.0, 5.0, 0.5), PoissonGaussian(2.0, 5.0, 8.0)])
@pytest.mark.parametrize("photons", [0.05, 0.5, 2.0, 7.0, 200.0])
def test_where_photons_are_few_stabilised_noise_is_as_weak_as_said(model, photons):
    truth = np.full(200_000, model.offset + model.gain * photons)
    drawn = model.stabilise(model.sample(truth, np.random.default_rng(0)))
    assert model.stable_variance(truth[:1])[0] == pytest.approx(np.var(drawn), rel=0.03, abs=0.01)


@pytest.mark.parametrize("gain", [0.25, 1.0, 3.5, 19.55])
def test_nothing_scatters_where_there_is_no_light(gain):
    """Rounding makes it no less than nothing either: its root is taken."""
    (variance,) = Poisson(gain).stable_variance(np.zeros(1))
    assert 0 <= variance < 1e-12


@pytest.mark.parametrize("photons", [0.05, 0.5, 2.0, 10.0, 100.0])
def test_stabilised_means_rise_with_the_light_as_said(photons):
    model, step = Poisson(3.0, 20.0), 0.02 * max(photons, 1)
    counts = np.arange(400)
    low, high = (
        (stats.poisson.pmf(counts, rate) * model.stabilise(model.offset + model.gain * counts)).sum()
        for rate in (photons - step, photons + step)
    )
    assert model.stable_slope((low + high) / 2) == pytest.approx((high - low) / (2 * step), rel=0.03)
