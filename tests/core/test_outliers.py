"""Outliers: hot and dead pixels are filled in, and nothing that noise or optics explain is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import noisy, scene, tiny

from dip_sci import outliers
from dip_sci.image import Image
from dip_sci.restore import denoise


def even(sd):
    return lambda truth: np.full(truth.shape, sd)


def seen(values):
    return np.ones(values.shape, bool)


def found(values, sd=1.0, **more):
    return outliers.find(values, seen(values), even(sd), **more)


def spot(width, size=31):
    """A point, as optics of a full width at half maximum show it, ten times as high as the noise of 1."""
    y, x = np.indices((size, size)) - size // 2
    return 10 * np.exp(-4 * np.log(2) * (y**2 + x**2) / width**2)


@settings(max_examples=40, deadline=None)
@given(
    at=st.tuples(st.integers(0, 2), st.integers(0, 39), st.integers(0, 39)),
    height=st.floats(12, 1000),
    sign=st.sampled_from([-1, 1]),
    pair=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_voxel_or_two_that_stand_out_are_found_wherever_they_are(at, height, sign, pair, seed):
    values = np.random.default_rng(seed).normal(50, 1, (3, 40, 40))
    there = np.zeros(values.shape, bool)
    there[at] = True
    if pair:
        there[at[0], at[1], at[2] - 1 if at[2] else 1] = True
    values[there] += sign * height
    np.testing.assert_array_equal(found(values), there)
    filled = outliers.replaced(values, seen(values), there)
    assert np.abs(filled[there] - 50).max() < 4
    np.testing.assert_array_equal(filled[~there], values[~there])


@pytest.mark.parametrize("width", [1.6, 2.5, 5])
def test_a_point_that_optics_have_spread_is_none(width):
    assert not found(100 * spot(width)).any()
    assert width < 2.2 or not found(100 * spot(width), often=True).any()
    assert found(100 * spot(0.6)).sum() == 1


def test_lines_edges_and_their_ends_are_none():
    values = np.zeros((40, 40))
    values[10, 5:30] = 50
    values[20:, 20:] = 80
    values[np.arange(3, 9), np.arange(30, 36)] = 60
    values[35:37, 3:6] = -70
    assert not found(values).any()


@pytest.mark.parametrize("often", [False, True])
def test_noise_holds_next_to_none(often):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 256, 256))
    assert found(values, often=often).mean() < (1e-4 if often else 1e-6)
    light = scene(256, 256) / 20
    photons = rng.poisson(light).astype(float)
    explained = outliers.find(photons, seen(photons), lambda truth: np.sqrt(np.maximum(truth, 1)), often=often)
    assert explained.mean() < 1e-4


def test_voxels_that_were_not_measured_say_nothing():
    values = np.random.default_rng(0).normal(size=(40, 40))
    measured = seen(values)
    values[20, 20], measured[20, 20] = 1e6, False
    values[20, 21] = 30
    measured[5:8, 5:8] = False
    measured[6, 6], values[6, 6] = True, 50
    there = outliers.find(values, measured, even(1.0))
    assert there[20, 21]
    assert there.sum() == 1, "with nothing around it, nobody knows"


def test_values_filled_in_are_those_of_neighbours():
    values = np.random.default_rng(0).integers(10, 20, (40, 40)).astype(np.float32)
    values[7, 7] = 250
    filled = outliers.replaced(values, seen(values), found(values, sd=3.0))
    assert filled[7, 7] in values[6:9, 6:9]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_hot_pixels_go_and_the_rest_is_as_if_there_had_been_none(dtype):
    plain = noisy(96, 96).array
    rng = np.random.default_rng(3)
    hot = rng.random(plain.shape) < 0.01
    values = np.where(hot, 255, np.clip(plain, 0, 254)).astype(dtype)
    clean = scene(96, 96)
    result = denoise(Image(values, "YX"), tiny(output={"dtype": "float32"}))
    kept = denoise(Image(values, "YX"), tiny(noise={"outliers": "keep"}, output={"dtype": "float32"}))
    without = denoise(Image(np.clip(plain, 0, 254).astype(dtype), "YX"), tiny(output={"dtype": "float32"}))

    def error(made):
        return float(np.square(made.image.array - clean).mean())

    assert error(result) < 1.1 * error(without)
    assert error(kept) > 1.3 * error(result)
    assert "stands out from all around it" in result.report.noise[-1]
    assert not any("stands out" in sentence for made in (kept, without) for sentence in made.report.noise)


def test_noise_is_measured_without_them():
    plain = noisy(128, 128).array
    hot = np.random.default_rng(0).random(plain.shape) < 0.02
    image = Image(np.where(hot, plain + 150, plain).astype(np.float32), "YX")

    def sd(made):
        return float(made.report.noise[0].split("deviation ")[1].split(",")[0])

    truth = sd(denoise(Image(plain, "YX"), tiny()))
    assert sd(denoise(image, tiny())) == pytest.approx(truth, rel=0.06)


def test_in_a_region_of_interest_only():
    values = noisy(96, 96).array.copy()
    values[20, 20] = values[70, 70] = 900
    region = np.zeros(values.shape, bool)
    region[10:40, 10:40] = True
    out = denoise(Image(values, "YX"), tiny(), region=region).image.array
    assert out[70, 70] == 900
    assert out[20, 20] < 300


def test_the_noise_of_a_bright_voxel_is_that_of_its_own_light():
    """Flat parts, which are dark, hold less stabilised noise where photons are few: their share is not that of all."""
    from dip_sci.findings import find
    from dip_sci.recipe import Recipe

    rng = np.random.default_rng(0)
    light = np.full((256, 256), 0.15)
    light[100:140, 100:140] = 12.0
    stack = (7.0 * rng.poisson(light) * rng.uniform(0.8, 1.2, light.shape))[None, None, None]
    noise = find(stack, seen(stack), Recipe().noise, colour=False, volume=False, linear=False)
    truth = np.broadcast_to(7.0 * light, stack.shape)
    bright = noise.strength(truth)[0, 0, 0, 110:130, 110:130]
    assert bright.mean() == pytest.approx(7 * np.sqrt(12.0), rel=0.25)
