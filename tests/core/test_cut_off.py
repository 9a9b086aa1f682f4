"""Noise that is cut off at the ends of a range: what is left of it, and the way back without bias."""

import math

import numpy as np
import pytest

from dip_sci import denoise
from dip_sci.image import Image
from dip_sci.noise import CutOff, Gaussian
from dip_sci.noise_estimate import estimate
from dip_sci.recipe import NoiseOptions, Recipe

ENDS = [CutOff(0.0, math.inf), CutOff(-math.inf, 4.0), CutOff(0.0, 4.0), CutOff(-1.0, 1.0), CutOff(0.0, 1000.0)]


def drawn(ends, truth, seed=0):
    return np.clip(truth + np.random.default_rng(seed).standard_normal(200_000), ends.low, ends.high)


@pytest.mark.parametrize("ends", ENDS, ids=repr)
@pytest.mark.parametrize("truth", [-2.0, -0.5, 0.0, 0.7, 2.0, 4.0, 4.5, 30.0])
def test_values_that_are_cut_off_have_the_mean_and_the_variance_that_are_said(ends, truth):
    values = drawn(ends, truth)
    at = np.array([truth])
    assert ends.mean(at)[0] == pytest.approx(values.mean(), abs=0.01)
    assert ends.variance(at)[0] == pytest.approx(values.var(), abs=0.02)


@pytest.mark.parametrize("ends", ENDS, ids=repr)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 1.0])
def test_a_mean_of_stabilised_values_comes_back_without_bias(ends, share):
    low, high = max(ends.low, min(ends.high, 5) - 5), min(ends.high, max(ends.low, -1) + 5)
    truth = low + share * (high - low)
    stable = ends.stabilise(drawn(ends, truth))
    assert ends.unstabilise(stable.mean(keepdims=True))[0] == pytest.approx(truth, abs=0.02)
    assert ends.stable_variance(stable.mean(keepdims=True))[0] == pytest.approx(stable.var(), abs=0.02)
    assert 0.4 < stable.var() < 1.2


@pytest.mark.parametrize("ends", ENDS[:3], ids=repr)
def test_stabilised_noise_is_more_even_than_what_is_cut_off(ends):
    truths = np.linspace(max(ends.low, min(ends.high, 5) - 5), min(ends.high, max(ends.low, -1) + 5), 9)
    plain = [drawn(ends, t).var() for t in truths]
    stable = [ends.stabilise(drawn(ends, t)).var() for t in truths]
    assert min(stable) > 1.5 * min(plain)


def test_far_from_the_ends_nothing_changes():
    values = np.linspace(20, 980, 50)
    ends = CutOff(0.0, 1000.0)
    np.testing.assert_allclose(ends.stabilise(values), values, atol=1e-6)
    np.testing.assert_allclose(ends.unstabilise(values), values, atol=1e-6)
    np.testing.assert_allclose(ends.stable_variance(values), 1, atol=1e-6)


@pytest.mark.parametrize("ends", ENDS, ids=repr)
def test_what_lies_outside_the_range_all_the_same_is_not_lost(ends):
    """Padding of another part of a scan than that in which the noise was found."""
    outside = np.array(
        [e + way * far for e, way in ((ends.low, -1), (ends.high, 1)) if abs(e) < 1e4 for far in (0, 0.5, 900)]
    )
    np.testing.assert_allclose(ends.unstabilise(ends.stabilise(outside)), outside, atol=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_what_is_not_allowed_for_is_not_said_to_be(linear):
    """Behind a blur, as in deconvolution."""
    found = estimate(cut(scene(), 30, 0), np.ones((128, 128), bool), NoiseOptions(), linear=linear)
    assert (found.ends is None) == linear
    assert ("which is allowed for" in found.sentence) != linear
    assert ("do not count" in found.sentence) == linear


def test_single_precision_stays():
    ends = CutOff(0.0, 4.0)
    for function in (ends.stabilise, ends.unstabilise, ends.stable_variance):
        assert function(np.ones(3, np.float32)).dtype == np.float32


def scene(edge=128):
    """Grey, with a part as dark and one as bright as can be."""
    y, x = np.mgrid[:edge, :edge] / edge
    truth = 90 + 60 * np.sin(4 * x) * np.cos(3 * y)
    truth[:, : edge // 4] = 0
    truth[:, -edge // 4 :] = 255
    return truth


def cut(truth, sd, seed):
    return np.clip(truth + np.random.default_rng(seed).normal(0, sd, truth.shape), 0, 255)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_found_and_told(seed):
    found = estimate(cut(scene(), 30, seed), np.ones((128, 128), bool), NoiseOptions())
    assert isinstance(found.model, Gaussian)
    assert found.ends is not None
    assert found.ends.low == pytest.approx(0)
    assert found.ends.high == pytest.approx(255 / found.model.sigma)
    assert "cut off at 0, which is allowed for" in found.sentence


@pytest.mark.parametrize("seed", range(3))
def test_skewed_noise_at_the_end_of_a_range_is_none_that_was_cut_off(seed):
    """The logarithm of speckle reaches far down, as in optical coherence tomography."""
    speckle = 22 * np.log(np.random.default_rng(seed).exponential(size=(128, 128)))
    found = estimate(np.clip(scene() / 2 + 40 + speckle, 0, 255), np.ones((128, 128), bool), NoiseOptions())
    assert found.ends is None
    assert found.cut_off > 0


def test_values_that_pile_up_without_noise_come_back_as_they_were():
    """Padding of nothing around an image whose noise is far from it."""
    values = 500 + 200 * np.random.default_rng(0).normal(0, 0.05, (96, 96))
    values[:30] = 0
    found = estimate(values, np.ones(values.shape, bool), NoiseOptions())
    assert found.ends is not None
    np.testing.assert_allclose(found.unstabilise(found.stabilise(values)), values, atol=1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_means_of_dark_and_bright_parts_are_kept(seed):
    """Noise of 30 that is cut off adds 12 to a dark part, and takes 12 from a bright one."""
    truth = scene(96)
    image = Image(cut(truth, 30, seed).astype(np.float32), "YX")
    recipe = Recipe.parse({"preset": "fast", "fit": {"steps": 150}, "seed": seed})
    result = denoise(image, recipe).image.array
    for part in (np.s_[8:-8, 2:18], np.s_[8:-8, -18:-2], np.s_[8:-8, 30:60]):
        assert abs(float(result[part].mean() - truth[part].mean())) < 3
    assert abs(float(image.array[np.s_[8:-8, 2:18]].mean())) > 10
