"""`dip-sci compress` and `decompress`: a scan becomes a small file and a scan again."""

import json

import nibabel
import numpy as np
import pytest

AFFINE = np.diag([0.5, 0.5, 2.0, 1.0])


@pytest.fixture
def scan(tmp_path):
    y, x = np.mgrid[0:40, 0:48]
    values = (100 * np.sin(x / 9) * np.cos(y / 7))[..., None] + np.arange(12) * 10
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), AFFINE), path)
    return path


def test_a_scan_becomes_a_small_file_and_a_scan_again(run, scan, tmp_path):
    packed, back = tmp_path / "scan.npz", tmp_path / "back.nii.gz"
    code, out, err = run("compress", scan, "-o", packed, "--steps", 20, "--factor", 6, "--device", "cpu", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["factor"] >= 6
    assert said["psnr"] > 5
    code, _, err = run("decompress", packed, "-o", back)
    assert code == 0
    assert "not equal" in err
    image = nibabel.load(back)
    assert image.shape == (40, 48, 12)
    assert image.get_data_dtype() == np.int16
    assert np.allclose(image.affine, AFFINE)


def test_it_says_what_it_cost(run, scan, tmp_path):
    code, out, err = run("compress", scan, "-o", tmp_path / "scan.npz", "--steps", 5, "--device", "cpu")
    assert (code, out) == (0, "")
    assert "times smaller" in err
    assert "dB" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-o", "a.nii"], 1, "written as .npz"),
        (["-o", "a.npz", "--factor", "-1"], 2, "factor must be positive"),
        (["-o", "a.npz", "--weights", "int4"], 2, "int4"),
        (["-o", "missing/a.npz"], 1, "does not exist"),
    ],
)
def test_a_mistake_is_told(run, scan, tmp_path, monkeypatch, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    found, _, err = run("compress", scan, *arguments)
    assert found == code
    assert says in err
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_something_else_is_not_decompressed(run, scan, tmp_path):
    code, _, err = run("decompress", scan, "-o", tmp_path / "back.nii.gz")
    assert code == 1
    assert "no file of dip-sci compress" in err
    assert not (tmp_path / "back.nii.gz").exists()
