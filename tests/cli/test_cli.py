"""The command line as its users meet it: results, records, exit codes, and one clear sentence for bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from dicom_files import ct_slice, save

import dip_sci
from dip_sci.recipe import Recipe, options

TINY = ["--fit.steps", "3", "--generator.channels", "8", "8", "--supervision.passes", "1"]
RNG = np.random.default_rng(0)


@pytest.fixture
def scan(tmp_path):
    """A noisy picture of two halves."""
    truth = np.full((40, 48), 80.0)
    truth[:, 24:] = 160
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.rint(truth + RNG.normal(0, 10, truth.shape)).astype(np.uint8), photometric="minisblack")
    return path


def test_denoise_writes_the_result_and_its_record(run, scan, tmp_path):
    target = tmp_path / "out.tif"
    code, _, err = run("denoise", scan, "-o", target, "--seed", 5, *TINY)
    assert code == 0, err
    before, after = tifffile.imread(scan), tifffile.imread(target)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert not np.array_equal(after, before)
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["seed"] == 5
    assert record["complete"] is True
    assert record["recipe"]["fit"]["steps"] == 3
    assert record["input"]["sha256"] is not None
    assert "scan" not in json.dumps(record), "a file's name may hold patient data"


def test_the_command_gives_what_the_api_gives(run, scan, tmp_path):
    target = tmp_path / "out.tif"
    run("denoise", scan, "-o", target, *TINY)
    recipe = Recipe.parse({"fit": {"steps": 3}, "generator": {"channels": [8, 8]}, "supervision": {"passes": 1}})
    assert np.array_equal(tifffile.imread(target), dip_sci.denoise(dip_sci.read(scan), recipe).image.array)


def test_json_prints_the_record_and_nothing_else(run, scan, tmp_path):
    code, out, err = run("denoise", scan, "-o", tmp_path / "out.tif", "--json", *TINY)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((tmp_path / "out.json").read_text())


def test_flags_win_over_the_recipe_file(run, scan, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 7\nfit: {steps: 2}\ngenerator: {channels: [8, 8]}\nsupervision: {passes: 1}\n")
    code, out, _ = run("denoise", scan, "-o", tmp_path / "out.tif", "--recipe", recipe, "--fit.steps", 4, "--json")
    assert code == 0
    record = json.loads(out)
    assert (record["seed"], record["recipe"]["fit"]["steps"]) == (7, 4)


def test_every_option_of_the_recipe_is_a_flag(run):
    code, _, err = run("denoise", "--help")
    assert code == 0
    shown = err.replace(" ", "").replace("│", "")
    missing = [name for name in options() if f"--{name.replace('_', '-')}" not in shown]
    assert not missing


def test_a_region_leaves_the_rest_bit_identical(run, scan, tmp_path):
    mask = np.zeros((40, 48), np.uint8)
    mask[10:20, 10:30] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    code, _, err = run("denoise", scan, "-o", tmp_path / "out.tif", "--region", tmp_path / "mask.tif", *TINY)
    assert code == 0, err
    changed = tifffile.imread(tmp_path / "out.tif") != tifffile.imread(scan)
    assert changed[mask > 0].any()
    assert not changed[mask == 0].any()


def test_the_noise_is_measured_in_the_background(run, scan, tmp_path):
    mask = np.zeros((40, 48), np.uint8)
    mask[:, :20] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    noise = []
    for number, given in enumerate(([], ["--background", tmp_path / "mask.tif"])):
        code, out, err = run("denoise", scan, "-o", tmp_path / f"out{number}.tif", "--json", *given, *TINY)
        assert code == 0, err
        noise.append(json.loads(out)["noise"])
    assert noise[0] != noise[1]


def test_info_says_what_it_is_and_what_it_takes(run, scan):
    code, out, _ = run("info", scan, "--json", *TINY)
    assert code == 0
    facts = json.loads(out)
    assert facts["axes"] == "YX"
    assert facts["shape"] == "40 x 48"
    assert facts["type"] == "uint8"
    assert "noise" in facts["noise"][0]
    assert facts["time"].startswith("about ")
    assert facts["memory"].endswith("GB")
    assert run("info", scan, *TINY)[0] == 0


def test_demo_ends_with_the_paths_of_result_and_picture(run, tmp_path):
    code, out, err = run("demo", "-o", tmp_path / "demo", *TINY)
    assert code == 0, err
    paths = [line.split(maxsplit=1)[1] for line in out.strip().splitlines()]
    assert [Path(p).stat().st_size > 1000 for p in paths] == [True, True]
    assert "PSNR" in err


def _nifti(path, array):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def _claims_30000(path):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    raw = bytearray(header.binaryblock)
    raw[40:56] = np.array([3, 30000, 30000, 30000, 1, 1, 1, 1], "<i2").tobytes()
    raw[108:112] = np.float32(352).tobytes()
    raw[344:348] = b"n+1\0"
    path.write_bytes(bytes(raw) + b"\0" * 2000)
    return path


def _text(path):
    path.write_text("this is no picture")
    return path


def _truncated(path, whole):
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _png(folder):
    from PIL import Image

    path = folder / "whole.png"
    Image.fromarray(RNG.integers(0, 255, (60, 60), np.uint8)).save(path)
    return path.read_bytes()


def _folder(path):
    path.mkdir()
    (path / "notes.txt").write_text("nothing")
    return path


BAD_INPUT = {
    "missing": (lambda d: d / "nowhere.nii", "nowhere.nii"),
    "no images in it": (lambda d: _folder(d / "folder"), "folder"),
    "text": (lambda d: _text(d / "text.tif"), "text.tif"),
    "truncated nifti": (
        lambda d: _truncated(d / "t.nii", _nifti(d / "w.nii", np.ones((20, 20, 9))).read_bytes()),
        "t.nii",
    ),
    "truncated tiff": (lambda d: _truncated(d / "t.tif", (d / "scan.tif").read_bytes()), "t.tif"),
    "truncated png": (lambda d: _truncated(d / "t.png", _png(d)), "t.png"),
    "30000 cubed": (lambda d: _claims_30000(d / "huge.nii"), "huge.nii"),
    "all NaN": (lambda d: _nifti(d / "nan.nii", np.full((20, 20, 9), np.nan, np.float32)), "no finite"),
    "one voxel": (lambda d: _nifti(d / "one.nii", np.ones((1, 1, 1), np.float32)), "too small"),
    "complex": (lambda d: _nifti(d / "c.nii", np.ones((20, 20, 9), np.complex64)), "complex"),
    "rgb": (
        lambda d: _nifti(d / "rgb.nii", np.zeros((20, 20, 9), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "RGB|colour",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_in_one_sentence_and_no_file(run, scan, tmp_path, name):
    make, expected = BAD_INPUT[name]
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("denoise", source, "-o", tmp_path / "result.nii.gz", *TINY)
    assert code == 1
    assert out == ""
    assert err.startswith("Error: ")
    assert "Traceback" not in err
    assert any(word.lower() in err.lower() for word in expected.split("|")), err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_constant_image_comes_back_as_it_is(run, tmp_path):
    source = _nifti(tmp_path / "flat.nii", np.full((20, 20, 9), 7, np.int16))
    code, _, err = run("denoise", source, "-o", tmp_path / "result.nii", *TINY)
    assert code == 0
    assert "nothing to restore" in err
    assert np.array_equal(np.asanyarray(nibabel.load(tmp_path / "result.nii").dataobj), np.full((20, 20, 9), 7))


def test_a_volume_of_three_planes_works(run, tmp_path):
    source = _nifti(tmp_path / "thin.nii", RNG.normal(100, 10, (30, 28, 3)).astype(np.float32))
    code, _, err = run("denoise", source, "-o", tmp_path / "result.nii", *TINY)
    assert code == 0, err
    assert nibabel.load(tmp_path / "result.nii").shape == (30, 28, 3)


BAD_OUTPUT = {
    "missing folder": lambda d: d / "nowhere" / "out.tif",
    "below a file": lambda d: d / "scan.tif" / "out.tif",
    "the input": lambda d: d / "scan.tif",
    "unknown suffix": lambda d: d / "out.xyz",
    "a folder": lambda d: _folder(d / "out"),
    "exists": lambda d: _text(d / "exists.tif"),
}


@pytest.mark.parametrize("name", BAD_OUTPUT)
def test_a_bad_target_is_refused_before_the_fit(run, scan, tmp_path, name):
    target = BAD_OUTPUT[name](tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    flags = ["--overwrite"] if name == "the input" else []
    # A fit of so many steps would end by the test's time limit.
    code, _, err = run("denoise", scan, "-o", target, "--fit.steps", 900_000, *flags)
    assert code == 1, err
    assert err.startswith("Error: ")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_record_in_the_way_is_not_replaced(run, scan, tmp_path):
    (tmp_path / "out.json").write_text("{}")
    code, _, err = run("denoise", scan, "-o", tmp_path / "out.tif", *TINY)
    assert code == 1
    assert "out.json" in err
    assert not (tmp_path / "out.tif").exists()
    assert (tmp_path / "out.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--fit.steps", "many"], "fit.steps"),
        (["--fit.stepz", "3"], "--fit.steps"),
        (["--preset", "magic"], "fast"),
        (["--device", "toaster"], "device"),
        (["--device", "cuda:97"], "cuda:97"),
    ],
)
def test_wrong_options_name_the_option(run, scan, tmp_path, flags, expected):
    code, _, err = run("denoise", scan, "-o", tmp_path / "out.tif", *flags)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert "pydantic" not in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fit: {steps: many}", "fit.steps"),
        ("fit: {stepz: 3}", "did you mean 'fit.steps'"),
        ("sed: 3", "did you mean 'seed'"),
        ("- 1", "groups of options"),
        ("fit: {steps: [", "not valid YAML"),
    ],
)
def test_a_wrong_recipe_file_is_explained(run, scan, tmp_path, text, expected):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    code, _, err = run("denoise", scan, "-o", tmp_path / "out.tif", "--recipe", recipe)
    assert code == 2
    assert expected in err
    assert "recipe.yaml" in err


def _start(scan, target, *flags):
    """Start the command in a process of its own and wait for its first step."""
    command = [sys.executable, "-m", "dip_sci.cli", "denoise", str(scan), "-o", str(target), *flags]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "TTY_COMPATIBLE": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env)
    _await(process, b"left")
    return process


def _await(process, words):
    seen = b""
    while words not in seen:
        new = os.read(process.stderr.fileno(), 4096)
        assert new, seen
        seen += new


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_once_keeps_the_best_so_far_and_marks_it(scan, tmp_path):
    process = _start(scan, tmp_path / "out.tif", *TINY[2:], "--fit.steps", "1000000")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    record = json.loads((tmp_path / "out.json").read_text())
    assert (record["stop_reason"], record["complete"]) == ("CANCELLED", False)
    assert tifffile.imread(tmp_path / "out.tif").shape == (40, 48)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_twice_abandons_and_leaves_nothing(tmp_path):
    # Large enough for a step to last: the second signal comes before the first is acted on.
    tifffile.imwrite(tmp_path / "big.tif", RNG.normal(100, 9, (700, 700)).astype(np.float32), photometric="minisblack")
    flags = ["--supervision.patch", "700", "--generator.channels", *["32"] * 3]
    process = _start(tmp_path / "big.tif", tmp_path / "out.tif", *flags)
    process.send_signal(signal.SIGINT)
    _await(process, b"Stopping")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [p.name for p in tmp_path.iterdir()] == ["big.tif"]


@pytest.fixture
def studies(tmp_path):
    """A folder with two DICOM series: number 7 of three slices, and number 9 of one."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for i in range(3):
        stored = np.rint(RNG.normal(1000, 30, (24, 28))).astype(np.uint16)
        save(ct_slice(stored, position=(0, 0, 3.0 * i), number=i), folder / f"{i}.dcm")
    save(ct_slice(stored, series="1.9", SeriesNumber=9, Modality="MR"), folder / "other.dcm")
    return folder


def test_a_dicom_series_goes_to_a_derived_series(run, studies, tmp_path):
    code, _, err = run("denoise", studies, "-o", tmp_path / "clean", "--series", 7, "--seed", 5, *TINY)
    assert code == 0, err
    derived = [pydicom.dcmread(p) for p in sorted((tmp_path / "clean").iterdir())]
    said = derived[0].DerivationDescription
    assert said.startswith("Denoised by dip-sci")
    assert "3 steps; seed 5" in said
    assert "?" not in said
    assert json.loads((tmp_path / "clean.json").read_text())["seed"] == 5
    assert len(derived) == 3
    assert not np.array_equal(derived[0].pixel_array, pydicom.dcmread(studies / "0.dcm").pixel_array)


def test_no_steps_give_back_every_bit_of_a_series(run, studies, tmp_path):
    code, _, err = run("denoise", studies, "-o", tmp_path / "clean", "--series", 7, "--fit.steps", 0)
    assert code == 0, err
    for i, file in enumerate(sorted((tmp_path / "clean").iterdir())):
        np.testing.assert_array_equal(
            pydicom.dcmread(file).pixel_array, pydicom.dcmread(studies / f"{i}.dcm").pixel_array
        )


def test_several_series_are_listed(run, studies, tmp_path):
    for command in (["info", studies], ["denoise", studies, "-o", tmp_path / "clean"]):
        code, _, err = run(*command)
        assert code == 1
        assert "number 9 (MR, 1 files)" in err
        assert "--series 7" in err
    assert run("info", studies, "--series", 9, "--json", *TINY)[0] == 0


def test_a_series_is_not_written_beside_its_source(run, studies):
    code, _, err = run("denoise", studies, "-o", studies / "clean", "--series", 7, "--fit.steps", 900_000)
    assert code == 1
    assert "folder of the series" in err
