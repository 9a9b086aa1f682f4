"""Plain areas: padding, saturation and empty frames hold no noise, and stay as they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import noisy, scene, tiny

from dip_sci import plain
from dip_sci.choices import decide
from dip_sci.image import Image
from dip_sci.preparation import Preparation
from dip_sci.restore import denoise


def disc(*shape, radius=0.8):
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return np.hypot(y, x) < radius


def found_in(values):
    return plain.find(values, np.ones(values.shape, bool))


@settings(max_examples=40, deadline=None)
@given(
    value=st.sampled_from([0.0, -1000.0, 100.0]),
    radius=st.floats(0.5, 1.0),
    edge=st.integers(60, 100),
    seed=st.integers(0, 3),
)
def test_padding_is_found_to_the_voxel_whatever_its_value(value, radius, edge, seed):
    inside = disc(edge, edge + 7, radius=radius)
    values = scene(edge, edge + 7) + np.random.default_rng(seed).normal(0, 10, inside.shape)
    assert np.array_equal(found_in(np.where(inside, values, value)), ~inside)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_where_photons_are_few_nothing_is_plain(rate):
    rng = np.random.default_rng(0)
    light = rate * (1 + 20 * disc(96, 96, radius=0.3))
    assert not found_in(rng.poisson(light).astype(float)).any()


def test_noise_that_was_cut_off_is_not_plain():
    values = np.maximum(np.random.default_rng(0).normal(0, 10, (96, 96)) + scene(96, 96) - 100, 0)
    assert not found_in(values).any()


def test_fine_steps_are_not_plain():
    values = np.rint(scene(96, 96) / 8 + np.random.default_rng(0).normal(0, 0.3, (96, 96)))
    assert not found_in(values).any()


def drawing():
    steps = 4.0 * np.random.default_rng(0).permutation(64).reshape(8, 8)
    return np.kron(steps, np.ones((16, 16)))


def grid():
    """Thin lines that leave no whole part of the ground between them, with a few shades as letters have."""
    y, x = np.mgrid[:96, :96]
    rng = np.random.default_rng(0)
    lines = np.where((x % 5 == 0) | (y % 5 == 0), 10.0, 200.0)
    return np.where(rng.random(lines.shape) < 0.05, rng.integers(10, 201, lines.shape), lines)


@pytest.mark.parametrize(
    "drawn", [np.where(disc(64, 64), 255.0, 0.0), drawing(), grid()], ids=["mask", "steps", "grid"]
)
def test_a_drawing_without_noise_stays_as_it_is(drawn):
    assert found_in(drawn).all()
    result = denoise(Image(drawn.astype(np.uint8), "YX"), tiny(output={"classical": "blend"}))
    assert np.array_equal(result.image.array, drawn)
    assert result.report.noise == (plain.describe(1.0),)


@pytest.mark.parametrize("sigma", [1, 5, 20])
@pytest.mark.parametrize(
    "drawn", [np.where(disc(64, 64), 200.0, 50.0), drawing(), grid()], ids=["mask", "steps", "grid"]
)
def test_a_drawing_with_noise_is_none(drawn, sigma):
    noisy = drawn + np.random.default_rng(0).normal(0, sigma, drawn.shape)
    assert not found_in(np.rint(noisy)).any()
    assert found_in(np.clip(np.rint(noisy), 0, 255)).mean() < 0.02


def test_what_was_not_measured_is_not_plain():
    values, seen = np.zeros((32, 32)), np.zeros((32, 32), bool)
    assert not plain.find(values, seen).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_padding_stays_exactly_as_it_is_and_makes_no_noise(dtype):
    image = noisy(96, 96, sigma=20, dtype=dtype)
    inside = disc(96, 96)
    values = np.where(inside, image.array, 0).astype(dtype)
    result = denoise(Image(values, "YX"), tiny(output={"classical": "blend"}))
    assert np.array_equal(result.image.array[~inside], values[~inside])
    assert (result.image.array[inside] != values[inside]).mean() > 0.5
    assert "Gaussian noise" in result.report.noise[0]
    assert "cut off" not in result.report.noise[0]
    assert result.report.noise[-1].startswith("51% of the voxels lie in areas of one value")


def test_padding_below_a_camera_s_offset_casts_no_doubt_on_it():
    light = (
        np.random.default_rng(0).poisson(scene(96, 96) / 4) * 3.0
        + 100
        + np.random.default_rng(1).normal(0, 2, (96, 96))
    )
    values = np.where(disc(96, 96), light, 0).astype(np.float32)
    result = denoise(Image(values, "YX"), tiny(noise={"gain": 3.0, "offset": 100.0, "read_noise": 2.0}))
    assert not any("hardly that of this image" in note for note in result.report.notes)


def test_an_empty_frame_of_a_series_stays_empty():
    series = np.stack([noisy(48, 48, sigma=10, seed=k).array for k in range(4)])
    series[2] = 0
    result = denoise(Image(series, "TYX"), tiny(generator={"ndim": "2d"}))
    assert not result.image.array[2].any()
    assert all((result.image.array[k] != series[k]).mean() > 0.9 for k in (0, 1, 3))


def test_the_noise_map_has_none_in_padding():
    inside = disc(96, 96)
    image = Image(np.where(inside, noisy(96, 96, sigma=20).array, 0).astype(np.float32), "YX")
    recipe = decide(tiny(), image, fast_bfloat16=False).recipe
    found = Preparation(image, recipe, None).noise_map(image.array)
    assert not found[~inside].any()
    assert found[inside].mean() == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize("model", ["auto", "poisson", "rician"])
def test_a_single_voxel_beside_a_plain_area_is_no_end_of_the_world(model):
    """It is an outlier, so that no voxel is left that holds noise."""
    values = np.full((12, 12), 8, np.uint8)
    values[0, 0] = 1
    result = denoise(Image(values, "YX"), tiny(noise={"model": model}))
    assert np.array_equal(result.image.array.flat[1:], values.flat[1:])


def test_nothing_is_restored_where_a_region_holds_padding_alone():
    values = np.where(disc(96, 96), noisy(96, 96, sigma=20).array, 0).astype(np.float32)
    corner = np.zeros(values.shape, bool)
    corner[:8, :8] = True
    result = denoise(Image(values, "YX"), tiny(), region=corner)
    assert np.array_equal(result.image.array, values)
