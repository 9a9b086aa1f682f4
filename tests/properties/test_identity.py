"""With no steps to do, every image comes back bit for bit, whatever its type, axes and shape."""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_files import ct_slice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread
from pydicom.uid import ExplicitVRBigEndian

from dip_sci.errors import ImageError
from dip_sci.image import Image
from dip_sci.io import read, write
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise
from dip_sci.stopping import StopReason

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">i4", ">u8", ">f4"]
NONE = Recipe.parse({"device": "cpu", "fit": {"steps": 0}})


def values(kind):
    kind = np.dtype(kind)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return st.integers(int(info.min), int(info.max))
    # Values as scans hold them: their squares are finite, and those of their differences are not zero.
    whole = st.integers(-2047, 2047).map(lambda n: n / 16)
    return st.one_of(whole, st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))


@st.composite
def images(draw):
    others = draw(st.sets(st.sampled_from("TCZS"), max_size=2))
    axes = "".join(draw(st.permutations(sorted({"Y", "X"} | others))))
    shape = tuple(draw(st.integers(8, 12) if a in "YX" else st.integers(1, 4)) for a in axes)
    kind = draw(st.sampled_from(TYPES))
    array = draw(arrays(kind, shape, elements=values(kind)))
    valid = draw(st.one_of(st.none(), arrays(bool, shape)))
    # One plane, sample or channel may hold no measured voxel at all.
    across = draw(st.sampled_from([None, *sorted(others)]))
    if across is not None:
        at = axes.index(across)
        blank = tuple(slice(1, 2) if k == at else slice(None) for k in range(len(axes)))
        if array.dtype.kind == "f":
            array[blank] = np.nan
        else:
            valid = np.ones(shape, bool) if valid is None else valid
            valid[blank] = False
    # One voxel of the image is measured, whatever else is not.
    array.flat[0] = 1
    if valid is not None:
        valid.flat[0] = True
    return Image(array, axes, valid=valid)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(images())
def test_no_steps_change_no_bit(image):
    result = denoise(image, NONE)
    assert result.report.reason is StopReason.NOTHING
    assert result.report.clipped == 0
    assert result.image.array.dtype == image.array.dtype
    assert result.image.array.tobytes() == image.array.tobytes()
    assert result.image.axes == image.axes


@st.composite
def series(draw):
    """Stored values of a few CT slices, and what their headers say of them."""
    signed = draw(st.booleans())
    bits = draw(st.sampled_from([8, 12, 16]))
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    stored = draw(arrays(kind, (3, 8, 9), elements=st.integers(low, high)))
    slopes = draw(st.lists(st.sampled_from([1, 1, 0.5, 0.1, 2.7e-3]), min_size=3, max_size=3))
    attributes = {"BitsStored": bits, "HighBit": bits - 1, "RescaleIntercept": draw(st.sampled_from([0, -1024, 0.25]))}
    padding = draw(st.sampled_from([None, low, high, int(stored[0, 0, 0])]))
    if padding is not None:
        attributes["PixelPaddingValue"] = padding
    return stored, slopes, attributes, draw(st.booleans())


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(series())
def test_no_steps_change_no_stored_bit_of_a_dicom_series(made):
    stored, slopes, attributes, big = made
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for i, slope in enumerate(slopes):
            ds = ct_slice(stored[i], position=(0, 0, 2.5 * i), number=i + 1, RescaleSlope=slope, **attributes)
            if big:
                ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
                ds.PixelData = stored[i].astype(stored.dtype.newbyteorder(">")).tobytes()
            ds.save_as(folder / "in" / f"{i}.dcm", enforce_file_format=True)
        image = read(folder / "in")
        try:
            result = denoise(image, NONE)
        except ImageError as error:
            assert "no finite, measured voxel" in str(error)  # noqa: PT017
            return
        write(folder / "out", result.image)
        again = sorted((dcmread(f) for f in (folder / "out").iterdir()), key=lambda ds: ds.ImagePositionPatient[2])
        assert [ds.PixelData[: stored[0].nbytes] for ds in again] == [s.tobytes() for s in stored]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(arrays(np.int16, (3, 8, 9)), st.sampled_from([1.0, 0.5, 3e-4]), st.sampled_from("<>"), st.booleans())
def test_no_steps_change_no_value_of_a_nifti_file(stored, slope, order, lazy):
    with tempfile.TemporaryDirectory() as name:
        header = nib.Nifti1Header(endianness=order)
        header.set_data_dtype(f"{order}i2")
        made = nib.Nifti1Image(stored.T, np.diag([1, 2, 3, 1.0]), header)
        made.header.set_slope_inter(slope, 0 if slope == 1 else 7)
        made.to_filename(Path(name) / "in.nii")
        image = read(Path(name) / "in.nii", lazy=lazy)
        write(Path(name) / "out.nii", denoise(image, NONE).image)
        np.testing.assert_array_equal(read(Path(name) / "out.nii").array, image.loaded().array)
