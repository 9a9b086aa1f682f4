"""Noise models: what they sample has the variance they state, and stabilising undoes that."""

import numpy as np
import pytest

from dip_sci.noise import Gaussian, PoissonGaussian

MODELS = [Gaussian(7.0), PoissonGaussian(2.0, 0.0, 0.0), PoissonGaussian(3.5, 100.0, 6.0), PoissonGaussian(0.2, -5, 1)]
COUNTS = [PoissonGaussian(1.0, 0.0, 0.0), PoissonGaussian(2.5, 100.0, 3.0), PoissonGaussian(0.1, -20.0, 0.2)]


def many(model, mean, seed=0, count=200_000):
    return model.sample(np.full(count, float(mean)), np.random.default_rng(seed))


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("photons", [0, 1, 10, 300])
def test_samples_have_the_mean_and_the_variance_of_the_model(model, photons):
    mean = photons * getattr(model, "gain", 1) + getattr(model, "offset", 0)
    variance = float(model.variance(np.array([float(mean)]))[0])
    drawn = many(model, mean)
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / drawn.size) + 1e-9)
    assert drawn.var() == pytest.approx(variance, rel=0.03, abs=1e-9)


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


@pytest.mark.parametrize("model", COUNTS, ids=repr)
def test_darker_never_comes_back_brighter(model):
    back = model.unstabilise(np.linspace(-5, 30, 500))
    assert (np.diff(back) >= 0).all()
    assert back[0] == model.offset
