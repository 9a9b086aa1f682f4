"""A hostile file ends, soon and in little memory, in an image or in an error of ours."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MUTATIONS = 500


def _judge(arguments, timeout=90):
    done = subprocess.run(
        [sys.executable, str(HERE / "judge_hostile.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("form", ["dicom", "nifti", "tiff", "png", "jpeg", "nrrd", "zarr", "vendor"])
def test_mutations(form, tmp_path):
    assert "0 crashers" in _judge([form, 0, MUTATIONS, tmp_path])


def test_bombs(tmp_path):
    assert "0 crashers" in _judge(["bombs", 0, 0, tmp_path])
