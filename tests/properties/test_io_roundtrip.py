"""What is written comes back: values, type, axes, spacing, units and affine, for every format."""

import dataclasses
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dip_sci.image import Image
from dip_sci.io import read, write

NIFTI_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]
STEPS = st.floats(2.0**-10, 2.0**10, width=32)
COMMON = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def _again(image, name):
    with tempfile.TemporaryDirectory() as folder:
        return read(write(Path(folder) / name, image))


@st.composite
def images(draw, types, axes, *, least=1, space=("micrometer", "millimeter", None), time=("second",)):
    names = draw(st.sampled_from(axes))
    shape = draw(st.tuples(*[st.integers(1 if a in "YX" else least, 4) for a in names]))
    dtype = np.dtype(draw(st.sampled_from(types)))
    array = draw(arrays(dtype, shape))
    unit = draw(st.sampled_from(space))
    spacing, units = [], []
    for a in names:
        known = a != "C" and a != "S" and (a != "T" or bool(time))
        spacing.append(draw(STEPS) if known else None)
        units.append(draw(st.sampled_from(time)) if known and a == "T" else unit if known else None)
    return Image(array, names, tuple(spacing), tuple(units))


def _assert_same(again, image, rel=0.0):
    assert (again.axes, again.dtype) == (image.axes, image.dtype)
    np.testing.assert_array_equal(again.array, image.array)
    assert again.units == image.units
    for a, b in zip(again.spacing, image.spacing, strict=True):
        assert (a is None) == (b is None)
        assert a is None or abs(a - b) <= rel * b


@COMMON
@given(
    images(NIFTI_TYPES, ["YX", "ZYX", "TZYX"], time=("second", "millisecond", "microsecond")),
    st.sampled_from(["x.nii", "x.nii.gz"]),
)
def test_nifti(image, name):
    _assert_same(_again(image, name), image)


@COMMON
@given(
    images(NIFTI_TYPES, ["ZYX", "TZYX"], space=("millimeter",)),
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3),
)
def test_nifti_with_a_place(image, turn, offset):
    affine = np.eye(4)
    zooms = [image.spacing_of(a) for a in "XYZ"]
    affine[:3, :3] = nib.eulerangles.euler2mat(*turn) * zooms
    affine[:3, 3] = offset
    again = _again(dataclasses.replace(image, affine=affine), "x.nii")
    _assert_same(again, image, rel=1e-5)
    np.testing.assert_allclose(again.affine, affine, rtol=1e-5, atol=1e-4)


@COMMON
@given(
    images([*NIFTI_TYPES, "f2", "i8", "u8"], ["YX", "ZYX", "TYX", "CYX", "TZCYX", "TCZYX"], time=("second", "minute"))
)
def test_plain_tiff(image):
    _assert_same(_again(image, "x.tif"), image)


@COMMON
@given(
    images(
        NIFTI_TYPES,
        ["YX", "ZYX", "TYX", "CYX", "TCZYX", "TZCYX"],
        least=2,
        space=("micrometer", "nanometer", "millimeter"),
        time=("second", "millisecond"),
    )
)
def test_ome_tiff(image):
    _assert_same(_again(image, "x.ome.tif"), image)


@COMMON
@given(images(["u1", "u2"], ["YX", "TYX", "ZYX", "TZYX"], least=2), st.integers(3, 4))
def test_colour_tiff(image, samples):
    array = np.repeat(image.array[..., None], samples, -1)
    colour = Image(array, f"{image.axes}S", (*image.spacing, None), (*image.units, None))
    _assert_same(_again(colour, "x.tif"), colour)


ALL_TYPES = [*NIFTI_TYPES, "i8", "u8"]


@COMMON
@given(
    images(ALL_TYPES, ["YX", "ZYX", "TYX", "CYX", "TCZYX"], time=("second", "millisecond", "hour")),
    st.booleans(),
)
def test_ome_zarr(image, swapped):
    # Every axis of OME-Zarr has a scale; 1 without a unit is read as "not known".
    assume(all(u or s != 1 for s, u in zip(image.spacing, image.units, strict=True)))
    given = image.with_array(image.array.astype(image.dtype.newbyteorder(">"))) if swapped else image
    again = _again(given, "x.ome.zarr")
    _assert_same(again, image)


@COMMON
@given(
    images(ALL_TYPES, ["YX", "ZYX", "TYX", "CYX", "TCZYX", "TZYX"], time=("second", "millisecond")),
    st.booleans(),
)
def test_nrrd(image, swapped):
    given = image.with_array(image.array.astype(image.dtype.newbyteorder(">"))) if swapped else image
    _assert_same(_again(given, "x.nrrd"), image, rel=1e-12)


@COMMON
@given(
    images(ALL_TYPES, ["ZYX", "TZYX", "CZYX"], space=("millimeter",)),
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3),
    st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3),
)
def test_nrrd_with_a_place(image, turn, offset):
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*turn) * [image.spacing_of(a) for a in "XYZ"]
    affine[:3, 3] = offset
    again = _again(dataclasses.replace(image, affine=affine), "x.nrrd")
    _assert_same(again, image, rel=1e-9)
    np.testing.assert_allclose(again.affine, affine, rtol=1e-12, atol=1e-9)


@COMMON
@given(images(["u2", "i2", "f4", "f8", "u4"], ["YX", "ZYX"]), st.sampled_from(["x.nii", "x.tif", "x.ome.tif"]))
def test_big_endian_values_are_written_as_they_are(image, name):
    again = _again(image.with_array(image.array.astype(image.dtype.newbyteorder(">"))), name)
    assert again.dtype == image.dtype
    np.testing.assert_array_equal(again.array.reshape(image.shape), image.array)


@COMMON
@given(images(["u1", "u2"], ["YX"]))
def test_png(image):
    image = Image(image.array, "YX")
    _assert_same(_again(image, "x.png"), image)
