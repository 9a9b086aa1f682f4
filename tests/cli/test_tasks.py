"""The commands of the other tasks: what they write, what they record, what they refuse."""

import json

import numpy as np
import pytest

from dip_sci import read, write
from dip_sci.image import Image

FAST = ["--preset", "fast", "--fit.steps", "3", "--supervision.passes", "1", "--generator.channels", "8", "8"]


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(0)
    values = np.clip(100 + 40 * np.sin(np.arange(32) / 5) + rng.normal(0, 5, (32, 32)), 0, 255).astype(np.uint8)
    return write(tmp_path / "scan.nii.gz", Image(values, "YX", (0.5, 0.5), ("millimeter",) * 2))


def record_of(path):
    return json.loads(path.with_name(path.name.split(".")[0] + ".json").read_text())


def test_inpaint(run, scan, tmp_path):
    missing = np.zeros((32, 32), np.uint8)
    missing[:, 5:7] = 1
    mask = write(tmp_path / "mask.nii.gz", Image(missing, "YX", (0.5, 0.5), ("millimeter",) * 2))
    code, _, err = run("inpaint", scan, "-o", tmp_path / "out.nii.gz", "--missing", mask, *FAST)
    assert code == 0, err
    before, after = read(scan).array, read(tmp_path / "out.nii.gz").array
    np.testing.assert_array_equal(after[missing == 0], before[missing == 0])
    assert (after != before)[missing == 1].any()
    assert record_of(tmp_path / "out.nii.gz")["task"] == "inpaint"


def test_inpaint_without_anything_missing(run, scan, tmp_path):
    code, _, err = run("inpaint", scan, "-o", tmp_path / "out.nii.gz", *FAST)
    assert code == 1
    assert "Nothing is missing" in err
    assert not (tmp_path / "out.nii.gz").exists()


def test_super_resolve(run, scan, tmp_path):
    code, _, err = run("super-resolve", scan, "-o", tmp_path / "fine.nii.gz", "--factor", "2", *FAST)
    assert code == 0, err
    fine = read(tmp_path / "fine.nii.gz")
    assert fine.shape == (64, 64)
    assert fine.spacing == pytest.approx((0.25, 0.25))
    record = record_of(tmp_path / "fine.nii.gz")
    assert (record["task"], record["asked"]) == ("super_resolve", {"factors": [1, 2, 2]})


@pytest.mark.parametrize("factor", ["0", "two", "1.5", "2,2,2"])
def test_a_factor_that_makes_no_sense(run, scan, tmp_path, factor):
    code, _, err = run("super-resolve", scan, "-o", tmp_path / "fine.nii.gz", "--factor", factor, *FAST)
    assert code in (1, 2)
    assert "actors" in err
    assert list(tmp_path.iterdir()) == [scan]


def test_fuse(run, scan, tmp_path):
    guide = write(tmp_path / "guide.nii.gz", read(scan).with_array(255 - read(scan).array))
    code, _, err = run("fuse", scan, "-o", tmp_path / "out.nii.gz", "--guide", guide, *FAST)
    assert code == 0, err
    assert record_of(tmp_path / "out.nii.gz")["task"] == "fuse"
    code, _, err = run("fuse", scan, "-o", guide, "--guide", guide, "--overwrite", *FAST)
    assert code == 1


def test_deconvolve(run, scan, tmp_path):
    psf = write(tmp_path / "psf.tif", Image(np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.uint8), "YX"))
    code, _, err = run("deconvolve", scan, "-o", tmp_path / "out.nii.gz", "--psf", psf, *FAST)
    assert code == 1
    assert "not normalised" in err
    code, _, err = run("deconvolve", scan, "-o", tmp_path / "out.nii.gz", "--psf", psf, "--normalise", *FAST)
    assert code == 0, err
    assert record_of(tmp_path / "out.nii.gz")["task"] == "deconvolve"
