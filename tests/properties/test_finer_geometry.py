"""A finer image keeps the corners of its field of view, through the files of every family."""

import sys
from pathlib import Path

import numpy as np
import pytest

from dip_sci import read, write
from dip_sci.image import Image
from dip_sci.tasks import SuperResolve

sys.path.insert(0, str(Path(__file__).parent.parent / "io"))
from dicom_files import ct_slice, save

FACTORS = pytest.mark.parametrize("factors", [(1, 2, 2), (3, 1, 1), (2, 4, 2)])


def ends(image):
    """Where the far corner lies from the near one, along Z, Y and X, and both in the patient's frame."""
    lengths = [image.size_of(a) * image.spacing_of(a) for a in "ZYX"]
    if image.affine is None:
        return lengths, None
    near, far = np.full(3, -0.5), np.array([image.size_of(a) - 0.5 for a in "XYZ"])
    return lengths, [image.affine @ [*corner, 1] for corner in (near, far)]


def same_ends(a, b):
    (lengths, corners), (others, theirs) = ends(a), ends(b)
    np.testing.assert_allclose(lengths, others, rtol=1e-4)
    if corners is not None:
        np.testing.assert_allclose(corners, theirs, atol=2e-2)


@FACTORS
@pytest.mark.parametrize("name", ["a.nii.gz", "a.ome.tif", "a.tif", "a.ome.zarr", "a.nrrd"])
def test_files(tmp_path, name, factors):
    values = np.random.default_rng(0).integers(0, 1000, (8, 16, 12)).astype(np.uint16)
    unit = "millimeter" if name.endswith((".nii.gz", ".nrrd")) else "micrometer"
    affine = np.array([[0, -0.5, 0.1, 7], [0.75, 0, 0, -8], [0, 0.1, 2.5, 9], [0, 0, 0, 1.0]])
    spacing = (float(np.hypot(0.1, 2.5)), float(np.hypot(0.5, 0.1)), 0.75) if unit == "millimeter" else (2.5, 0.5, 0.5)
    image = Image(values, "ZYX", spacing, (unit,) * 3, affine if unit == "millimeter" else None)
    source = read(write(tmp_path / f"coarse_{name}", image))
    finer = SuperResolve.of(source, factors).canvas(source)
    back = read(write(tmp_path / name, finer))
    assert back.shape == tuple(n * f for n, f in zip(values.shape, factors, strict=True))
    np.testing.assert_array_equal(back.array, finer.array)
    same_ends(back, source)


@FACTORS
def test_a_dicom_series(tmp_path, factors):
    stored = np.random.default_rng(0).integers(0, 4096, (6, 16, 12)).astype(np.uint16)
    (tmp_path / "series").mkdir()
    for k, values in enumerate(stored):
        save(ct_slice(values, position=(-10.0, -20.0, 30 + 2.5 * k), number=k + 1), tmp_path / "series" / f"{k}.dcm")
    source = read(tmp_path / "series")
    finer = SuperResolve.of(source, factors).canvas(source)
    write(tmp_path / "fine", finer)
    back = read(tmp_path / "fine")
    assert back.shape == tuple(n * f for n, f in zip(stored.shape, factors, strict=True))
    np.testing.assert_array_equal(back.array, finer.array)
    same_ends(back, source)
