"""NIfTI: values, header and orientation come back, and what would lie is refused."""

import dataclasses
import gzip

import nibabel as nib
import numpy as np
import pytest

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import read, write

AFFINE = np.array([[-1.5, 0.2, 0, 12], [0.1, 2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def _file(path, array, *, affine=AFFINE, codes=(1, 1), kind=nib.Nifti1Image, change=lambda header: None):
    image = kind(array, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    change(image.header)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_volume_and_its_place(tmp_path, kind, name):
    array = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2)
    image = read(_file(tmp_path / name, array, kind=kind))
    assert image.axes == "ZYX"
    assert image.dtype == np.int16
    assert image.array[1, 2, 3] == array[3, 2, 1]
    assert image.units == ("millimeter",) * 3
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(image.spacing, nib.affines.voxel_sizes(AFFINE)[::-1], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 3), "YX"), ((4, 3, 1), "ZYX"), ((4, 3, 2, 5), "TZYX"), ((4, 3, 2, 1, 6), "CTZYX"), ((4, 3, 1, 5), "TZYX")],
)
def test_axes_by_dimensions(tmp_path, shape, axes):
    image = read(_file(tmp_path / "x.nii", np.zeros(shape, np.float32)))
    assert image.axes == axes
    assert image.shape == shape[::-1]


def test_scaled_integers_become_float32_and_their_scale_is_kept(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    path = _file(tmp_path / "x.nii", array, change=lambda h: h.set_slope_inter(0.25, -100))
    # nibabel divides when it writes with a slope.
    stored = nib.load(path).dataobj.get_unscaled()
    image = read(path)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image.array, stored.T * 0.25 - 100)
    assert (image.source.header["slope"], image.source.header["inter"]) == (0.25, -100)
    again = nib.load(write(tmp_path / "y.nii", image))
    assert again.get_data_dtype() == np.float32
    assert (again.dataobj.slope, again.dataobj.inter) == (1, 0)


def test_big_endian_becomes_native(tmp_path):
    array = np.arange(24, dtype=">i2").reshape(4, 3, 2)
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.Nifti1Image(array, AFFINE, header).to_filename(tmp_path / "x.nii")
    image = read(tmp_path / "x.nii")
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.array, array.T)
    np.testing.assert_array_equal(read(write(tmp_path / "y.nii", image)).array, image.array)


def test_the_header_comes_back(tmp_path):
    def change(header):
        header["descrip"] = b"scan of a banana"
        header["intent_code"] = 1001
        header["cal_max"] = 77
        header["toffset"] = 3.5
        header["pixdim"][4] = 2.25
        header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept" * 4))

    path = _file(tmp_path / "x.nii.gz", np.ones((4, 3, 2), np.uint8), codes=(4, 2), change=change)
    image = read(path)
    before, after = nib.load(path), nib.load(write(tmp_path / "y.nii.gz", image.with_array(image.array * 2)))
    for key in before.header:
        if key not in ("scl_slope", "scl_inter"):
            np.testing.assert_array_equal(before.header[key], after.header[key], err_msg=key)
    assert [e.get_content() for e in after.header.extensions] == [e.get_content() for e in before.header.extensions]
    np.testing.assert_array_equal(before.affine, after.affine)


def test_a_changed_affine_keeps_its_codes(tmp_path):
    image = read(_file(tmp_path / "x.nii", np.ones((4, 3, 2), np.uint8), codes=(4, 2)))
    moved = image.affine.copy()
    moved[:3, 3] += 10
    again = nib.load(write(tmp_path / "y.nii", dataclasses.replace(image, affine=moved)))
    assert (int(again.header["sform_code"]), int(again.header["qform_code"])) == (4, 2)
    np.testing.assert_allclose(again.affine, moved, atol=1e-5)


def test_no_code_means_no_affine(tmp_path):
    image = read(_file(tmp_path / "x.nii", np.ones((4, 3, 2), np.uint8), codes=(0, 0)))
    assert image.affine is None
    again = nib.load(write(tmp_path / "y.nii", image))
    assert (int(again.header["sform_code"]), int(again.header["qform_code"])) == (0, 0)


def test_an_affine_of_no_numbers_is_left_out_and_said(tmp_path):
    header = nib.Nifti1Header()
    header["qform_code"] = 1
    header["quatern_b"] = np.nan
    nib.Nifti1Image(np.ones((4, 3, 2), np.uint8), None, header).to_filename(tmp_path / "x.nii")
    image = read(tmp_path / "x.nii")
    assert image.affine is None
    assert "orientation" in image.source.notes[0]
    assert read(write(tmp_path / "y.nii", image)).affine is None


def test_micrometres(tmp_path):
    affine = np.diag([100.0, 200, 300, 1])
    path = _file(
        tmp_path / "x.nii",
        np.ones((4, 3, 2), np.uint8),
        affine=affine,
        change=lambda h: h.set_xyzt_units("micron", "msec"),
    )
    image = read(path)
    assert image.units == ("micrometer",) * 3
    assert image.spacing == (300, 200, 100)
    np.testing.assert_allclose(image.affine, np.diag([0.1, 0.2, 0.3, 1]))
    again = nib.load(write(tmp_path / "y.nii", image))
    np.testing.assert_allclose(again.affine, affine)
    assert again.header.get_xyzt_units() == ("micron", "msec")


def test_an_image_from_elsewhere(tmp_path):
    image = Image(np.ones((2, 3, 4), np.uint16), "ZYX", (2.0, 50.0, 25.0), ("micrometer", "nanometer", "nanometer"))
    again = nib.load(write(tmp_path / "y.nii.gz", image))
    np.testing.assert_allclose(again.header.get_zooms(), (25e-6, 50e-6, 2e-3))
    assert again.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(again.affine, np.diag([25e-6, 50e-6, 2e-3, 1]))


def test_a_movie_gets_a_depth_of_one(tmp_path):
    image = Image(np.arange(24.0).reshape(2, 3, 4), "TYX", (500.0, None, None), ("millisecond", None, None))
    again = read(write(tmp_path / "y.nii", image))
    assert (again.axes, again.shape) == ("TZYX", (2, 1, 3, 4))
    assert (again.spacing[0], again.units[0]) == (500, "millisecond")
    np.testing.assert_array_equal(again.array[:, 0], image.array)


@pytest.mark.parametrize(
    ("given", "written"), [(bool, np.uint8), (np.float16, np.float32), (np.int64, np.int32), (np.uint64, np.int32)]
)
def test_unknown_types_are_widened_without_loss(tmp_path, given, written):
    array = np.arange(6).reshape(2, 3).astype(given)
    again = read(write(tmp_path / "y.nii", Image(array, "YX")))
    assert again.dtype == written
    np.testing.assert_array_equal(again.array, array)


def test_what_cannot_be_held_is_refused(tmp_path):
    with pytest.raises(WriteError, match="64-bit"):
        write(tmp_path / "y.nii", Image(np.full((2, 3), 2**40), "YX"))
    with pytest.raises(WriteError, match="colour"):
        write(tmp_path / "y.nii", Image(np.zeros((2, 3, 3), np.uint8), "YXS"))
    with pytest.raises(WriteError, match="complex"):
        write(tmp_path / "y.nii", Image(np.zeros((2, 3), complex), "YX"))
    assert not list(tmp_path.iterdir())


def test_complex_and_colour_files_say_what_to_do(tmp_path):
    _file(tmp_path / "c.nii", np.zeros((4, 3, 2), np.complex64))
    with pytest.raises(ReadError, match="magnitude"):
        read(tmp_path / "c.nii")
    rgb = np.zeros((4, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    _file(tmp_path / "rgb.nii", rgb)
    with pytest.raises(ReadError, match="RGB"):
        read(tmp_path / "rgb.nii")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_that_claims_too_much_is_refused_before_any_allocation(tmp_path, name):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((30000, 30000, 30000))
    data = header.binaryblock + b"\0" * 3000
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(ReadError, match="header"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_truncation_anywhere_is_one_clear_error(tmp_path, name):
    array = np.random.default_rng(0).integers(0, 999, (9, 8, 7)).astype(np.int16)
    data = _file(tmp_path / name, array).read_bytes()
    for length in (4, 200, 340, 349, len(data) // 2, len(data) - 9):
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(ReadError, match=name):
            read(tmp_path / name)


def test_a_pair(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    nib.Nifti1Pair(array, AFFINE).to_filename(tmp_path / "x.hdr")
    for name in ("x.hdr", "x.img"):
        np.testing.assert_array_equal(read(tmp_path / name).array, array.T)
    np.testing.assert_array_equal(read(write(tmp_path / "y.nii", read(tmp_path / "x.hdr"))).array, array.T)
    (tmp_path / "x.img").unlink()
    with pytest.raises(ReadError, match="missing beside it"):
        read(tmp_path / "x.hdr")


def test_axes_given_by_the_user(tmp_path):
    path = _file(tmp_path / "x.nii", np.zeros((4, 3, 2), np.float32))
    image = read(path, axes="TYX")
    assert image.axes == "TYX"
    assert image.affine is None
    assert image.spacing[0] is None
    with pytest.raises(ReadError, match="axes='TZYX' does not fit"):
        read(path, axes="TZYX")
