"""`dip-sci calibrate`: from stacks to a recipe that the other commands use."""

import json

import numpy as np
import pytest
import tifffile

from dip_sci.calibration import Calibration
from dip_sci.recipe import Recipe

GAIN, OFFSET, READ = 2.0, 100.0, 5.0


def shoot(path, photons, n=6, shape=(48, 40), seed=0, **how):
    """Write frames of a camera."""
    rng = np.random.default_rng(seed + photons)
    values = GAIN * rng.poisson(photons, (n, *shape)) + OFFSET + READ * rng.normal(size=(n, *shape))
    tifffile.imwrite(path, np.rint(values).astype(np.uint16), photometric="minisblack", **how)
    return path


@pytest.fixture
def stacks(tmp_path):
    """A dark stack and flat stacks of two levels, one of them of frames in time."""
    return (
        shoot(tmp_path / "dark.tif", 0),
        shoot(tmp_path / "dim.tif", 200, metadata={"axes": "TYX"}, ome=True),
        shoot(tmp_path / "bright.tif", 1500),
    )


def test_a_calibration_is_written_and_used(run, stacks, tmp_path):
    dark, dim, bright = stacks
    camera = tmp_path / "camera.yaml"
    code, out, err = run("calibrate", "--dark", dark, "--flat", dim, "--flat", bright, "-o", camera)
    assert (code, out) == (0, ""), err
    assert "grey levels per photon" in err
    assert str(camera) in err
    noise = Recipe.load(camera).noise
    assert noise.gain == pytest.approx(GAIN, rel=0.05)
    assert noise.read_noise == pytest.approx(READ, rel=0.1)
    assert noise.offset == pytest.approx(OFFSET, abs=1)

    scan = shoot(tmp_path / "scan.tif", 50, n=1)
    tiny = ["--fit.steps", "2", "--generator.channels", "8", "8", "--supervision.passes", "1"]
    code, out, err = run("denoise", scan, "-o", tmp_path / "clean.tif", "--recipe", camera, "--json", *tiny)
    assert code == 0, err
    record = json.loads(out)
    assert record["recipe"]["noise"]["gain"] == noise.gain
    assert f"{noise.gain:.4g} grey levels per photon" in json.dumps(record)
    assert "as given" in json.dumps(record)


CAMERA = (
    "# Measured.\n# facts: {gain_error: 0.1, offset_error: 0.1, read_noise_error: 0.1, shape: [48, 40], saturated: 0, "
    "defective: 0}\nnoise: {model: poisson_gaussian, gain: 2.0, offset: 100.0, read_noise: 5.0}\n"
)

TINY = ["--fit.steps", "2", "--generator.channels", "8", "8", "--supervision.passes", "1"]


@pytest.fixture
def camera(tmp_path):
    """A calibration."""
    (tmp_path / "camera.yaml").write_text(CAMERA)
    return tmp_path / "camera.yaml"


def test_options_win_over_the_calibration(run, camera, tmp_path):
    scan = shoot(tmp_path / "scan.tif", 50, n=1)
    command = ["denoise", scan, "--recipe", camera, "--json", *TINY]
    code, out, err = run(*command, "-o", tmp_path / "sigma.tif", "--noise.sigma", "10")
    assert code == 0, err
    noise = json.loads(out)["recipe"]["noise"]
    assert noise["model"] in ("auto", "gaussian")
    assert (noise["sigma"], noise["gain"], noise["offset"], noise["read_noise"]) == (10, None, None, None)
    code, out, err = run(*command, "-o", tmp_path / "gain.tif", "--noise.gain", "3")
    assert code == 0, err
    noise = json.loads(out)["recipe"]["noise"]
    assert (noise["gain"], noise["offset"], noise["read_noise"]) == (3, 100, 5)


def test_what_contradicts_itself_is_one_sentence(run, camera, tmp_path):
    scan = shoot(tmp_path / "scan.tif", 50, n=1)
    command = ["denoise", scan, "-o", tmp_path / "clean.tif", "--recipe", camera]
    code, _, flags = run(*command, "--noise.sigma", "10", "--noise.gain", "2")
    assert code == 2
    camera.write_text(CAMERA.replace("gain: 2.0", "gain: 2.0, sigma: 10"))
    code, _, file = run(*command, "--noise.sigma", "10")
    assert code == 2
    assert "camera.yaml" in file
    for err in (flags, file):
        assert "noise.sigma belongs to" in err or "noise.sigma to" in err
        assert "{" not in err
        assert "found" not in err


@pytest.mark.parametrize(
    ("shape", "flags", "told"),
    [((48, 40), [], 0), ((48, 41), [], 1), ((50, 20), [], 1), ((50, 20), ["--noise.sigma", "10"], 0)],
    ids=str,
)
def test_an_image_larger_than_the_calibrated_frames_is_told(run, camera, tmp_path, shape, flags, told):
    scan = shoot(tmp_path / "scan.tif", 50, n=1, shape=shape)
    words = "measured on frames of 48 x 40 pixels"
    code, out, err = run("denoise", scan, "-o", tmp_path / "c.tif", "--recipe", camera, "--json", *TINY, *flags)
    assert code == 0, err
    assert sum(words in note for note in json.loads(out)["notes"]) == told
    code, out, err = run("info", scan, "--recipe", camera, "--json", *flags)
    assert code == 0, err
    assert sum(words in note for note in json.loads(out).get("notes", [])) == told
    plain = tmp_path / "plain.yaml"
    plain.write_text(CAMERA.splitlines()[-1])
    code, out, err = run("info", scan, "--recipe", plain, "--json", *flags)
    assert code == 0, err
    assert words not in out


def test_json_prints_what_was_measured_and_nothing_else(run, stacks, tmp_path):
    camera = tmp_path / "camera.yaml"
    code, out, err = run("calibrate", "--dark", stacks[0], "--flat", stacks[2], "-o", camera, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    loaded = Calibration.load(camera)
    assert {name: getattr(loaded, name) for name in facts} == facts | {"shape": (48, 40)}


def test_an_existing_calibration_is_replaced_only_when_asked(run, stacks, tmp_path):
    camera = tmp_path / "camera.yaml"
    camera.write_text("seed: 1\n")
    command = ["calibrate", "--dark", stacks[0], "--flat", stacks[1], "-o", camera]
    code, _, err = run(*command)
    assert code == 1
    assert "exists already" in err
    assert camera.read_text() == "seed: 1\n"
    assert run(*command, "--overwrite")[0] == 0
    assert Calibration.load(camera).shape == (48, 40)


BAD = {
    "one frame": (lambda d: {"flat": shoot(d / "one.tif", 200, n=1)}, "one.tif holds one frame only"),
    "another size": (lambda d: {"dark": shoot(d / "small.tif", 0, shape=(40, 40))}, "40 x 40 pixels"),
    "exchanged": (lambda d: {"dark": d / "bright.tif", "flat": d / "dark.tif"}, "not brighter"),
    "missing": (lambda d: {"flat": d / "nowhere.tif"}, "nowhere.tif"),
    "not yaml": (lambda d: {"output": d / "camera.json"}, ".yaml"),
    "no folder": (lambda d: {"output": d / "nowhere" / "camera.yaml"}, "does not exist"),
    "an input": (lambda d: {"output": shoot(d / "dark.yaml", 0), "dark": d / "dark.yaml"}, "the input itself"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_do_ends_in_one_sentence_and_no_file(run, stacks, tmp_path, name):
    make, words = BAD[name]
    given = {"dark": stacks[0], "flat": stacks[1], "output": tmp_path / "camera.yaml"} | make(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*")}
    flags = [part for key, value in given.items() for part in (f"--{key}", value)]
    code, out, err = run("calibrate", *flags, "--overwrite")
    assert (code, out) == (1, ""), err
    assert err.startswith("Error: ")
    assert words in err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*")} == before


def test_a_flat_is_asked_for(run, stacks, tmp_path):
    code, _, err = run("calibrate", "--dark", stacks[0], "-o", tmp_path / "camera.yaml")
    assert code == 2
    assert "--flat" in err
