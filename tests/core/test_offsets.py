"""Offsets of columns and rows: found where they are, taken out, and nothing else with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import noisy, scene, tiny
from scipy.ndimage import gaussian_filter

from dip_sci.image import Image
from dip_sci.offsets import LOUDEST, SMALLEST, describe, take_out
from dip_sci.restore import denoise


def offsets(count, sd, seed=0):
    return np.random.default_rng(seed).normal(0, sd, count)


def blobs(height, width, seed=0, sigma=8.0):
    """Content that is not the same along any line, under noise."""
    rng = np.random.default_rng(seed)
    spots = np.zeros((height, width))
    spots[rng.integers(0, height, 40), rng.integers(0, width, 40)] = rng.uniform(2000, 20000, 40)
    return 100 + gaussian_filter(spots, 6) + rng.normal(0, sigma, spots.shape)


def all_seen(planes):
    return np.ones(planes.shape, bool)


@settings(max_examples=25, deadline=None)
@given(
    strength=st.floats(0.4, 1.2),
    rows=st.booleans(),
    height=st.integers(160, 300),
    width=st.integers(160, 300),
    seed=st.integers(0, 1000),
    gain=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_offsets_of_lines_are_taken_out(strength, rows, height, width, seed, gain):
    plain = blobs(height, width, seed)
    each = offsets(height if rows else width, 8 * strength, seed + 1)
    each = each[:, None] if rows else each[None]
    rest, found = take_out(gain * (plain + each), all_seen(plain))
    assert [one.along for one in found] == ["X" if rows else "Y"]
    assert 0.7 * strength < found[0].strength < 1.4 * strength
    assert np.std(rest / gain - plain) < 0.55 * each.std()
    assert abs(np.mean(rest / gain - plain - each)) < 0.5


def test_both_directions_are_found_at_once():
    plain, sd = blobs(192, 192), 5
    rest, found = take_out(plain + offsets(192, sd)[None] + offsets(192, sd, 1)[:, None], all_seen(plain))
    assert [one.along for one in found] == ["Y", "X"]
    assert np.std(rest - plain) < 0.6 * np.sqrt(2) * sd
    assert "columns and rows" in describe(found)


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_scenes_hold_none(seed):
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(256, 256))
    smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(3), "same"), 1, white)
    streaks = np.apply_along_axis(lambda row: np.convolve(row, np.ones(15) / 4, "same"), 0, white)
    for planes in (white, smooth, streaks, rng.poisson(3.0, (256, 256)).astype(float), scene(256, 256, seed=seed)):
        assert take_out(planes, all_seen(planes))[0] is planes


def content(kind):
    y, x = np.indices((256, 256))
    return {
        "grating": 20 * np.sin(2 * np.pi * x / 3.1),
        "fine grating": 20 * (x % 2),
        "bars": 60.0 * ((x // 16) % 2),
        "shade": 0.3 * x,
        "half": np.where(y < 128, offsets(256, 6)[None], 0),
        "strong": np.broadcast_to(offsets(256, 3 * LOUDEST * 8)[None], (256, 256)),
        "nothing": np.zeros((256, 256)),
    }[kind]


@pytest.mark.parametrize("kind", ["grating", "fine grating", "bars", "shade", "half", "strong", "nothing"])
def test_content_along_the_lines_is_left(kind):
    plane = content(kind) + np.random.default_rng(5).normal(0, 8, (256, 256))
    assert take_out(plane, all_seen(plane))[0] is plane


def test_planes_with_holes_small_and_constant_ones_are_left_alone():
    plane = noisy(160, 160).array + offsets(160, 6).astype(np.float32)
    seen = all_seen(plane)
    seen[80, 80] = False
    small = plane[: SMALLEST - 1]
    assert take_out(plane, all_seen(plane))[1]
    assert take_out(plane, seen)[0] is plane
    assert take_out(small, all_seen(small))[0] is small
    assert take_out(np.zeros((160, 160)), seen | True)[1] == []


def test_content_that_is_the_same_along_all_lines_is_told_from_them():
    waves = 8 * np.sin(2 * np.pi * np.arange(200) / 23)
    noise = np.random.default_rng(1).normal(0, 8, (200, 200))
    each = offsets(200, 6)
    rest, found = take_out(waves + noise + each, all_seen(noise))
    assert len(found) == 1
    taken = (waves + noise + each - rest).mean(axis=0)
    assert abs(taken @ waves) < 0.15 * waves @ waves
    assert np.std(taken - each) < 0.7 * each.std()


def test_each_plane_of_a_stack_has_its_own():
    stack = np.stack([blobs(160, 160, seed=k) for k in range(3)])
    added = stack.copy()
    added[1] += offsets(160, 6)
    rest, found = take_out(added, all_seen(stack))
    assert len(found) == 1
    np.testing.assert_array_equal(rest[[0, 2]], stack[[0, 2]])
    assert np.std(rest[1] - stack[1]) < 0.6 * 6


def test_denoising_takes_them_out_and_says_so_unless_asked_to_keep_them():
    plain = Image(blobs(160, 160).astype(np.float32), "YX")
    image = Image((plain.array + offsets(160, 6)).astype(np.float32), "YX")
    given_values = image.array.copy()
    cleaned = denoise(image, tiny())
    kept = denoise(image, tiny(noise={"interference": "keep"}))

    def told(result):
        return [sentence for sentence in result.report.noise if "Whole columns" in sentence]

    assert len(told(cleaned)) == 1
    assert told(kept) == told(denoise(plain, tiny())) == []
    columns = [np.std(np.diff((r.image.array - blobs(160, 160, sigma=0)).mean(axis=0))) for r in (cleaned, kept)]
    assert columns[0] < 0.9 * columns[1]
    np.testing.assert_array_equal(image.array, given_values)
