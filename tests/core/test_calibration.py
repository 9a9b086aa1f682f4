"""Calibration: a simulated camera is measured as it is, whatever its defects and its lamp."""

import re
from dataclasses import replace

import numpy as np
import pytest

from dip_sci.calibration import Calibration, calibrate, frames
from dip_sci.errors import ImageError, RecipeError, WriteError
from dip_sci.image import Image
from dip_sci.recipe import Recipe

SHAPE = (60, 80)


def camera(seed, photons, n=10, *, gain=2.0, offset=100.0, read=5.0, top=4095, shape=SHAPE, flicker=0.02, hot=25):
    """Frames of a camera with fixed pattern, uneven sensitivity and hot pixels, under a flickering lamp with a spot."""
    body = np.random.default_rng(99)
    pattern, sensitivity = body.normal(0, 3, shape), body.normal(1, 0.02, shape)
    broken = body.integers(0, shape[0], hot), body.integers(0, shape[1], hot)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    lamp = photons * sensitivity * (1 + 0.6 * np.exp(-(y**2 + x**2) / 300))
    lit = np.stack([lamp * (1 + flicker * rng.normal()) for _ in range(n)])
    values = gain * rng.poisson(lit) + offset + pattern + read * rng.normal(size=(n, *shape))
    values[:, broken[0], broken[1]] += rng.exponential(800, (n, hot))
    return np.clip(np.rint(values), 0, top).astype(np.uint16)


def close(found, *, gain=2.0, offset=100.0, read=5.0):
    assert found.gain == pytest.approx(gain, rel=0.05)
    assert found.read_noise == pytest.approx(read, rel=0.1)
    assert found.offset == pytest.approx(offset, abs=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("levels", [(1400,), (300, 1400)], ids=str)
@pytest.mark.parametrize("n", [2, 10])
def test_a_camera_with_hot_pixels_and_a_saturated_corner(seed, levels, n):
    dark = camera(seed, 0, n)
    flats = [camera(100 * seed + photons, photons, n) for photons in levels]
    assert (flats[-1] == 4095).mean() > 0.01, "the corner is saturated"
    found = calibrate(dark, flats)
    close(found)
    assert 20 <= found.defective <= 40
    assert 60 < found.saturated < 400
    assert found.shape == SHAPE
    assert "disagree" not in found.sentence


@pytest.mark.parametrize(
    "body",
    [{"gain": 0.3, "read": 1.5, "offset": 20.0}, {"gain": 12.0, "read": 30.0, "offset": 500.0, "top": 65535}],
    ids=str,
)
def test_other_cameras(body):
    found = calibrate(camera(0, 0, **body), [camera(1, 150, **body)])
    close(found, **{name: value for name, value in body.items() if name != "top"})


@pytest.mark.parametrize("photons", [0.7, 300])
def test_the_errors_are_those_of_repeated_measurements(photons):
    body = {"n": 8, "flicker": 0, "hot": 0}
    found = [calibrate(camera(s, 0, **body), [camera(s + 500, photons, **body)]) for s in range(60)]
    for name in ("gain", "read_noise"):
        scatter = np.std([getattr(c, name) for c in found])
        assert np.mean([getattr(c, f"{name}_error") for c in found]) == pytest.approx(scatter, rel=0.2)
    gains = [c.gain for c in found]
    assert np.mean(gains) == pytest.approx(2, abs=5 * np.std(gains) / np.sqrt(len(gains)))


def test_a_drifting_level_blinking_pixels_and_cosmic_rays():
    rng = np.random.default_rng(5)
    dark, flat = (camera(s, p, hot=0, top=65535).astype(int) for s, p in [(0, 0), (1, 300)])
    dark += 8 * np.arange(-5, 5)[:, None, None]
    dark[:, 30, :40] += np.rint(rng.normal(0, 60, (10, 40))).astype(int)
    flat[3, 20, ::2] += 3000
    found = calibrate(dark, [flat])
    assert found.gain == pytest.approx(2, rel=0.05)
    assert found.read_noise == pytest.approx(5, rel=0.03)
    assert 60 <= found.defective <= 100


def test_a_lamp_that_goes_out_is_only_flicker():
    close(calibrate(camera(0, 0), [np.concatenate([camera(1, 900, flicker=0.2), camera(2, 0, 2)])]))


def test_the_end_of_a_narrow_distribution_is_no_saturation():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        dark, flat = (
            np.rint(0.02 * rng.poisson(p, (60, *SHAPE)) + 10 + rng.normal(0, 0.6, (60, *SHAPE))) for p in (0, 1000)
        )
        found = calibrate(dark.astype(np.uint8), [flat.astype(np.uint8)])
        assert found.saturated == 0
        assert found.gain == pytest.approx(0.02, rel=0.05)


def test_counts_of_single_photons():
    body = {"gain": 1.0, "offset": 50.0, "read": 0.3, "hot": 5}
    found = calibrate(camera(0, 0, **body), [camera(1, 4, **body)])
    assert found.gain == pytest.approx(1, rel=0.05)
    # Rounding to whole numbers adds its own variance: what stays is what a recipe needs.
    assert 0.25 < found.read_noise < 0.45


def test_pixels_without_a_value_are_left_out():
    dark, flat = (camera(s, p).astype(np.float32) for s, p in [(0, 0), (1, 300)])
    dark[2, 10, :] = np.nan
    flat[3, 20, :] = np.inf
    found = calibrate(dark, [flat])
    close(found)
    assert found.defective >= 160


def test_what_makes_doubt_is_said():
    bent = camera(2, 1400, top=65535, offset=0.0, read=0.0, hot=0) * 0.8
    found = calibrate(camera(0, 0, hot=0), [camera(1, 300, hot=0), np.rint(bent + 100)])
    assert "not linear" in found.sentence
    cut = calibrate(camera(0, 0, offset=4.0), [camera(1, 300, offset=4.0)])
    assert "black level" in cut.sentence


BAD = {
    "one dark frame": (lambda: (camera(0, 0, 1), [camera(1, 300)]), "one frame only"),
    "one flat frame": (lambda: (camera(0, 0), [camera(1, 300), camera(1, 900, 1)]), "Flat stack 2"),
    "no flat": (lambda: (camera(0, 0), []), "flat stack is needed"),
    "another size": (lambda: (camera(0, 0, shape=(50, 80)), [camera(1, 300)]), "60 x 80"),
    "exchanged": (lambda: (camera(1, 300), [camera(0, 0)]), "not brighter"),
    "dark flat": (lambda: (camera(0, 0), [camera(1, 0)]), "not brighter"),
    "saturated": (lambda: (camera(0, 0), [camera(1, 300), camera(2, 9000)]), "Flat stack 2 is saturated: 100%"),
    "nearly saturated": (lambda: (camera(0, 0), [camera(2, 1950)]), "saturated"),
    "one frame twice": (lambda: (camera(0, 0), [camera(1, 300, 1).repeat(2, 0)]), "no noisier"),
    "colour": (lambda: (np.ones((3, 20, 20, 3)), [camera(1, 300)]), "grey frames"),
    "nothing finite": (lambda: (np.full((3, 60, 80), np.nan), [camera(1, 300)]), "finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_stacks_that_do_not_do_are_refused(name):
    make, words = BAD[name]
    with pytest.raises(ImageError, match=words):
        calibrate(*make())


def test_frames_are_those_along_time_or_depth():
    stack = np.arange(2 * 9 * 8).reshape(2, 9, 8)
    for axes in ("TYX", "ZYX"):
        np.testing.assert_array_equal(frames(Image(stack, axes), "it"), stack)
    np.testing.assert_array_equal(frames(Image(stack.transpose(1, 2, 0)[:, None], "YCXT"), "it"), stack)
    for axes, array, words in [
        ("YX", stack[0], "one frame only"),
        ("CYX", stack, "one stack of grey frames"),
        ("YXS", stack, "one stack of grey frames"),
        ("TZYX", np.stack([stack, stack]), "one stack of grey frames"),
    ]:
        with pytest.raises(ImageError, match=f"^it .*{words}"):
            frames(Image(array, axes), "it")


def test_a_saved_calibration_is_a_recipe_and_comes_back(tmp_path):
    found = calibrate(camera(0, 0), [camera(1, 300)])
    found.save(tmp_path / "camera.yaml")
    assert Calibration.load(tmp_path / "camera.yaml") == found
    noise = Recipe.load(tmp_path / "camera.yaml").noise
    assert (noise.model, noise.gain, noise.offset) == ("poisson_gaussian", found.gain, found.offset)
    assert noise.read_noise == found.read_noise == found.model.read_noise


def test_an_image_larger_than_the_frames_is_doubted():
    found = replace(calibrate(camera(0, 0), [camera(1, 300)]), shape=(48, 40))
    for axes, shape in (("YX", (48, 40)), ("TYX", (90, 5, 40)), ("XY", (40, 48)), ("YXS", (48, 40, 3))):
        assert found.doubts(Image(np.zeros(shape), axes)) == ()
    for axes, shape in (("YX", (49, 40)), ("ZYX", (2, 8, 41)), ("XY", (48, 40))):
        (sentence,) = found.doubts(Image(np.zeros(shape), axes))
        assert "48 x 40 pixels" in sentence
        assert "same camera" in sentence


def test_files_that_do_not_do_are_refused(tmp_path):
    found = calibrate(camera(0, 0), [camera(1, 300)])
    with pytest.raises(WriteError, match="yaml"):
        found.save(tmp_path / "camera.json")
    with pytest.raises(WriteError, match="cannot be written"):
        found.save(tmp_path / "nowhere" / "camera.yaml")
    text = found.text()
    misspelt, shapeless = text.replace("read_noise_error", "misspelt"), re.sub(r"shape: \[.*?\]", "shape: [a, b]", text)
    for text in ("noise: {gain: 2}", "", f"{misspelt}seed: 1", shapeless):
        (tmp_path / "other.yaml").write_text(text)
        with pytest.raises(RecipeError, match="no calibration"):
            Calibration.load(tmp_path / "other.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        Calibration.load(tmp_path / "missing.yaml")
