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
