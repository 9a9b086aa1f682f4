"""Electric hum: found where it is, taken out, and nothing else with it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import noisy, scene, tiny

from dip_sci import io
from dip_sci.image import Image
from dip_sci.interference import LOUDEST, SMALLEST, describe, take_out
from dip_sci.restore import denoise

SAMPLES = Path(__file__).parents[2] / "sample_data"


def hum(shape, frequency, amplitude, phase=0.0):
    y, x = np.indices(shape)
    return amplitude * np.cos(2 * np.pi * (frequency[0] * y + frequency[1] * x) + phase)


def all_seen(planes):
    return np.ones(planes.shape, bool)


@settings(max_examples=25, deadline=None)
@given(
    across=st.floats(0.06, 0.48) | st.just(0.5),
    along=st.floats(-0.004, 0.004),
    turned=st.booleans(),
    amplitude=st.floats(0.3, 0.6),
    phase=st.floats(0, 2 * np.pi),
    seed=st.integers(0, 1000),
)
def test_faint_stripes_all_over_an_image_are_taken_out(across, along, turned, amplitude, phase, seed):
    # Half a cycle per voxel and a slope make a beat: stripes that come and go.
    frequency = (0.0 if across == 0.5 else along, across)[:: 1 if turned else -1]
    size = (192, 224)
    stripes = hum(size, frequency, 8 * amplitude, phase)
    # At half a cycle per voxel, a phase may leave nothing of it.
    assume(stripes.std() > 0.6 * 8 * amplitude)
    y, x = np.indices(size)
    # No edge along the stripes, which would hold their frequency, too.
    blob = 90 * np.exp(-((y - 80) ** 2 + (x - 120) ** 2) / 800)
    plain = blob + np.random.default_rng(seed).normal(0, 8, size)
    rest, tones = take_out((plain + stripes).astype(np.float32), all_seen(plain))
    assert np.std(rest - plain) < 0.25 * stripes.std()
    assert {tone.along for tone in tones} == {"Y" if turned else "X"}
    assert abs(tones[0].period * np.hypot(*frequency) - 1) < 0.5 / min(size) / across


@pytest.mark.parametrize("seed", range(4))
def test_noise_holds_none(seed):
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(256, 256))
    smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(3), "same"), 1, white)
    for planes in (white, smooth, rng.poisson(3.0, (256, 256)).astype(float)):
        assert take_out(planes, all_seen(planes))[0] is planes


def strong(size):
    return hum(size, (0.21, 0.0), 8 * LOUDEST * 1.5)


def local(size):
    return hum(size, (0.21, 0.0), 8.0) * (np.arange(size[1]) < 0.6 * size[1])


def fading(size):
    return hum(size, (0.0, 0.21), 6.0) * np.linspace(0.1, 1, size[0])[:, None]


def slanted(size):
    return hum(size, (0.21, 0.1), 4.0)


def coarse(size):
    return hum(size, (0.03, 0.0), 4.0)


@pytest.mark.parametrize("content", [strong, local, fading, slanted, coarse], ids=lambda f: f.__name__)
def test_stripes_that_are_content_stay(content):
    size = (256, 256)
    planes = (scene(*size) + content(size) + np.random.default_rng(1).normal(0, 8, size)).astype(np.float32)
    assert take_out(planes, all_seen(planes))[0] is planes


@pytest.mark.parametrize("turned", [0, 2, 8])
def test_a_lattice_fainter_than_the_noise_stays(turned):
    """Crystals make tones, too: in several directions, of which one may lie along an axis."""
    directions = np.deg2rad(turned + np.array([0, 60, 120]))
    fringes = sum(hum((256, 256), (0.15 * np.sin(a), 0.15 * np.cos(a)), 4) for a in directions)
    planes = 100 + fringes + np.random.default_rng(3).normal(0, 8, fringes.shape)
    cleaned, tones = take_out(planes, all_seen(planes))
    assert not tones
    assert cleaned is planes


def test_lines_of_one_period_stay():
    """Lines of text: their period's harmonics stand out along an axis, though each is fainter than the noise."""
    rows = np.arange(256) % 14 < 2
    planes = 100.0 + 70 * np.repeat(rows[:, None], 256, axis=1) + np.random.default_rng(4).normal(0, 40, (256, 256))
    cleaned, tones = take_out(planes, all_seen(planes))
    assert not tones
    assert cleaned is planes


@pytest.mark.parametrize(
    "name",
    ["ct_series", "mri/neck_t2star.nii.gz", "microscopy/nuclear_envelope_3d.tif", "microscopy/nuclei_very_noisy.tif"],
)
def test_scans_without_hum_are_left_alone(name):
    image = io.read(SAMPLES / name)
    axes = [image.axes.index(a) for a in "YX"]
    planes = np.moveaxis(np.asarray(image.array, np.float32), axes, (-2, -1))
    assert take_out(planes, all_seen(planes))[0] is planes


def test_the_hum_of_a_real_microscope_is_found():
    planes = io.read(SAMPLES / "microscopy/bpae_flim_noisy.tif").array
    rest, tones = take_out(planes, all_seen(planes))
    assert [round(tone.period, 1) for tone in tones[:2]] == [2.5, 5.2]
    assert 0.1 < tones[0].amplitude < 0.5
    assert "along X, every 2.5 and 5.2 voxels along Y" in describe(tones)
    # Row by row, the stripes stick out of the spectrum by far; then they do not.
    before, after = (np.abs(np.fft.rfft(p.mean(axis=1)))[80:] for p in (planes, rest))
    assert before.max() > 15 * np.median(before)
    assert after.max() < 8 * np.median(after)


def test_planes_are_looked_at_one_by_one():
    stack = np.stack([noisy(160, 160, seed=k).array for k in range(3)])
    stack[1] += hum((160, 160), (0.3, 0.0), 4.0)
    rest, tones = take_out(stack, all_seen(stack))
    assert len(tones) == 1
    assert [np.array_equal(a, b) for a, b in zip(stack, rest, strict=True)] == [True, False, True]


def test_planes_with_holes_and_small_ones_are_left_alone():
    plane = noisy(160, 160).array + hum((160, 160), (0.3, 0.0), 4.0).astype(np.float32)
    seen = all_seen(plane)
    seen[80, 80] = False
    small = plane[: SMALLEST - 1]
    assert take_out(plane, all_seen(plane))[1]
    assert take_out(plane, seen)[0] is plane
    assert take_out(small, all_seen(small))[0] is small


def test_denoising_takes_it_out_and_says_so_unless_asked_to_keep_it():
    plain = noisy(160, 160)
    image = Image((plain.array + hum((160, 160), (0.3, 0.0), 4.0)).astype(np.float32), "YX")
    given = image.array.copy()
    cleaned = denoise(image, tiny())
    kept = denoise(image, tiny(noise={"interference": "keep"}))

    def told(result):
        return [sentence for sentence in result.report.noise if "interference" in sentence]

    assert len(told(cleaned)) == 1
    assert "every 3.3 voxels along Y" in told(cleaned)[0]
    assert told(kept) == told(denoise(plain, tiny())) == []
    assert not np.array_equal(cleaned.image.array, kept.image.array)
    np.testing.assert_array_equal(image.array, given)


def test_outside_of_a_region_it_stays():
    image = Image((noisy(160, 160).array + hum((160, 160), (0.3, 0.0), 4.0)).astype(np.float32), "YX")
    region = np.zeros(image.shape, bool)
    region[40:90, 40:90] = True
    result = denoise(image, tiny(), region=region)
    np.testing.assert_array_equal(result.image.array[~region], image.array[~region])
    assert "interference" in result.report.noise[-1]
