"""Scans to restore by the dozen."""

import numpy as np
import pytest
import tifffile

from dip_sci import cli
from dip_sci.recipe import Recipe

TINY = {
    "device": "cpu",
    "generator": {"channels": (8, 8)},
    "supervision": {"passes": 1},
    "fit": {"steps": 3, "precision": "float32"},
    "output": {"classical": "none"},
}
FLAGS = [
    *("--device", "cpu", "--generator.channels", "8", "8", "--supervision.passes", "1"),
    *("--fit.precision", "float32", "--output.classical", "none"),
]


@pytest.fixture
def recipe():
    """A recipe that takes a moment."""
    return Recipe.parse(TINY)


@pytest.fixture
def flags():
    """The same as flags of the command."""
    return [*FLAGS, "--fit.steps", "3"]


@pytest.fixture
def endless():
    """Flags of a run that does not end by itself."""
    return [*FLAGS, "--fit.steps", "1000000"]


def write(path, seed=0, shape=(40, 48), dtype=np.uint8):
    """Write a noisy picture of two halves, in TIFF or what numpy makes a volume of in NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = np.full(shape, 80.0)
    truth[..., shape[-1] // 2 :] = 160
    values = np.rint(truth + np.random.default_rng(seed).normal(0, 10, shape)).astype(dtype)
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel

        nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    elif path.suffix == ".png":
        from PIL import Image

        Image.fromarray(values).save(path)
    else:
        tifffile.imwrite(path, values, photometric="minisblack")
    return path


@pytest.fixture
def scan():
    """Write a scan: `scan(path, seed=0, shape=(40, 48))`."""
    return write


@pytest.fixture
def scans(tmp_path):
    """Three pictures, one of them in a folder of its own, and the folder of all."""
    for n, name in enumerate(("a.tif", "b.tif", "deep/c.tif")):
        write(tmp_path / "in" / name, seed=n)
    return tmp_path / "in"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit code, standard output, standard error on one line."""

    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, " ".join(err.split())

    return call
