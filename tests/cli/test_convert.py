"""Conversion, names without suffix, masks on other grids and BIDS derivatives, from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dip_sci.io import read

TINY = ["--fit.steps", "2", "--generator.channels", "8", "8", "--supervision.passes", "1"]
RNG = np.random.default_rng(0)
AFFINE = np.diag([1.5, 1.5, 4, 1])


def _nifti(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = b"scan"
    image.to_filename(path)
    return path


@pytest.fixture
def scan(tmp_path):
    return _nifti(tmp_path / "scan.nii.gz", RNG.normal(100, 9, (30, 24, 3)).astype(np.float32))


def test_convert_keeps_the_geometry_and_lists_what_it_cannot_keep(run, scan, tmp_path):
    code, out, err = run("convert", scan, tmp_path / "y.ome.zarr")
    assert (code, out) == (0, "")
    assert "Not kept in an OME-Zarr image" in err
    assert "descrip" in err
    record = json.loads((tmp_path / "y.json").read_text())
    assert "orientation" in record["notes"][0]
    assert record["input"]["sha256"]
    before, after = read(scan), read(tmp_path / "y.ome.zarr")
    assert (before.axes, before.spacing, before.units) == (after.axes, after.spacing, after.units)
    np.testing.assert_array_equal(before.array, after.array)
    code, _, err = run("convert", scan, tmp_path / "y.ome.zarr")
    assert code == 1
    assert "--overwrite" in err


def test_convert_to_the_same_format_loses_nothing(run, scan, tmp_path):
    code, out, _ = run("convert", scan, tmp_path / "y", "--json")
    assert code == 0
    assert json.loads(out)["notes"] == []
    assert (tmp_path / "y.nii.gz").is_file()
    assert nib.load(tmp_path / "y.nii.gz").header["descrip"] == b"scan"


def test_a_result_without_suffix_has_the_scans_own_format(run, scan, tmp_path):
    code, _, err = run("denoise", scan, "-o", tmp_path / "clean", *TINY)
    assert code == 0, err
    assert nib.load(tmp_path / "clean.nii.gz").shape == (30, 24, 3)
    assert (tmp_path / "clean.json").is_file()


def test_what_a_result_cannot_keep_is_in_its_record(run, scan, tmp_path):
    code, _, err = run("denoise", scan, "-o", tmp_path / "clean.tif", *TINY)
    assert code == 0
    assert "Not kept in a TIFF file: its orientation" in err
    assert "Not kept in a TIFF file: its orientation" in " ".join(
        json.loads((tmp_path / "clean.json").read_text())["notes"]
    )


def _mask():
    mask = np.zeros((30, 24, 3), np.uint8)
    mask[5:20, 5:15] = 1
    return mask


@pytest.mark.parametrize("name", ["m.nii", "m.tif", "m.nrrd", "m.ome.zarr"])
def test_a_region_in_any_format(run, scan, tmp_path, name):
    mask = _nifti(tmp_path / "first" / "m.nii", _mask())
    if name != "m.nii":
        assert run("convert", mask, tmp_path / name)[0] == 0
        mask = tmp_path / name
    code, _, err = run("denoise", scan, "-o", tmp_path / "out.nii", "--region", mask, *TINY)
    assert code == 0, err
    changed = np.asanyarray(nib.load(tmp_path / "out.nii").dataobj) != np.asanyarray(nib.load(scan).dataobj)
    assert changed[_mask() > 0].any()
    assert not changed[_mask() == 0].any()


@pytest.mark.parametrize("flag", ["--region", "--background"])
def test_a_mask_at_another_place_is_refused_with_both_geometries(run, scan, tmp_path, flag):
    shifted = AFFINE.copy()
    shifted[0, 3] = 12.25
    mask = _nifti(tmp_path / "mask.nii", _mask(), shifted)
    code, _, err = run("denoise", scan, "-o", tmp_path / "out.nii", flag, mask, *TINY)
    assert code == 1
    assert "12.25" in err
    assert "3 Z x 24 Y x 30 X voxels of 4 x 1.5 x 1.5" in err
    assert "--resample-region" in err
    assert not (tmp_path / "out.nii").exists()


def test_a_flipped_mask_of_half_the_resolution_is_resampled_when_asked(run, scan, tmp_path):
    # Voxels of 3 mm that run against x; corners as the scan's.
    coarse = _mask()[::2, ::2][::-1]
    affine = np.diag([-3.0, 3, 4, 1])
    affine[:3, 3] = (-0.75 + 15 * 3 - 1.5, 0.75, 0)
    mask = _nifti(tmp_path / "mask.nii", coarse, affine)
    given = ["denoise", scan, "-o", tmp_path / "out.nii", "--region", mask, *TINY]
    assert run(*given)[0] == 1
    code, _, err = run(*given, "--resample-region")
    assert code == 0, err
    changed = np.asanyarray(nib.load(tmp_path / "out.nii").dataobj) != np.asanyarray(nib.load(scan).dataobj)
    inside = coarse[::-1].repeat(2, 0).repeat(2, 1) > 0
    assert changed[inside].any()
    assert not changed[~inside].any()


def _dataset(root):
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0", "License": "CC0"}')
    (root / "README").write_text(
        "A dataset made for a test. It holds nothing but noise, and nobody was scanned for it.\n" * 3
    )
    (root / "participants.tsv").write_text("participant_id\nsub-01\n")
    array = RNG.normal(100, 9, (30, 24, 3)).astype(np.float32)
    return _nifti(root / "sub-01" / "anat" / "sub-01_acq-fast_T1w.nii.gz", array)


def test_a_scan_in_a_bids_dataset_gets_a_derivative(run, tmp_path):
    source = _dataset(tmp_path / "ds")
    folder = tmp_path / "ds" / "derivatives" / "dip_sci"
    code, _, err = run("denoise", source, "-o", folder, *TINY)
    assert code == 0, err
    target = folder / "sub-01" / "anat" / "sub-01_acq-fast_desc-denoised_T1w.nii.gz"
    assert nib.load(target).shape == (30, 24, 3)
    sidecar = json.loads(target.with_name(target.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-01/anat/sub-01_acq-fast_T1w.nii.gz"]
    assert sidecar["SpatialReference"] == "orig"
    assert sidecar["DipSciRecord"]["complete"] is True
    described = json.loads((folder / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "dip_sci"
    assert described["DatasetLinks"] == {"raw": "../.."}
    assert run("denoise", source, "-o", folder, *TINY)[0] == 1
    assert _bids_errors(folder) == []


def _bids_errors(folder):
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip("bids-validator-deno is not here")
    done = subprocess.run([validator, "--json", str(folder)], capture_output=True, text=True, timeout=60)
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [i for i in issues if i["severity"] == "error"]


def test_raw_data_stay_raw(run, tmp_path):
    source = _dataset(tmp_path / "ds")
    for place in ("", "sub-01", "derivatives"):
        code, _, err = run("denoise", source, "-o", tmp_path / "ds" / place, *TINY)
        assert code == 1
        assert "raw data" in err or "is a folder" in err
    assert not (tmp_path / "ds" / "derivatives").exists()
