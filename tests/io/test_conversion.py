"""From one format to another: what can be kept is kept, what cannot is listed."""

import dataclasses
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import ome_types
import pydicom.data
import pytest
import tifffile

from dip_sci.errors import ReadError
from dip_sci.image import Image, Source
from dip_sci.io import completed, not_kept, read, write

UM = "micrometer"
RNG = np.random.default_rng(4)
CELLS = Image(
    RNG.integers(0, 900, (2, 2, 3, 8, 9)).astype(np.uint16),
    "TCZYX",
    (1.5, None, 2.0, 0.5, 0.25),
    ("second", None, UM, UM, UM),
    source=Source(channels=("DNA", "actin")),
)
AFFINE = np.array([[-1.5, 0.2, 0, 12], [0.1, 2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("first", ["x.ome.tif", "x.ome.zarr"])
@pytest.mark.parametrize("second", ["y.ome.tif", "y.ome.zarr"])
def test_microscopy_formats_keep_all_of_each_other(tmp_path, first, second):
    image = read(write(tmp_path / first, CELLS))
    said = " ".join(not_kept(tmp_path / second, image))
    assert all(word not in said for word in ("size", "names", "time"))
    again = read(write(tmp_path / second, image))
    assert (again.axes, again.spacing, again.units) == (CELLS.axes, CELLS.spacing, CELLS.units)
    assert again.source.channels == ("DNA", "actin")
    np.testing.assert_array_equal(again.array, CELLS.array)


def test_ome_xml_is_valid_to_a_foreign_judge(tmp_path):
    pixels = ome_types.from_tiff(write(tmp_path / "x.ome.tif", CELLS)).images[0].pixels
    assert [c.name for c in pixels.channels] == ["DNA", "actin"]
    assert (pixels.physical_size_x, pixels.physical_size_z, pixels.time_increment) == (0.25, 2, 1.5)
    assert pixels.physical_size_x_unit.value == "µm"
    assert (pixels.size_t, pixels.size_c, pixels.size_z) == (2, 2, 3)


@pytest.mark.parametrize("name", ["y.nii.gz", "y.nrrd"])
def test_corners_stay_between_the_formats_of_medicine(tmp_path, name):
    source = Image(RNG.normal(size=(3, 4, 5)).astype(np.float32), "ZYX", affine=AFFINE)
    image = read(write(tmp_path / name, read(write(tmp_path / "x.nii", source))))
    for corner in np.ndindex(2, 2, 2):
        voxel = np.array([*(np.array(corner) * (4, 3, 2)), 1.0])
        np.testing.assert_allclose(image.affine @ voxel, AFFINE @ voxel, atol=1e-4)
    np.testing.assert_array_equal(image.array, source.array)


@pytest.mark.parametrize(
    ("name", "listed", "kept"),
    [
        ("y.png", ["orientation", "voxel size", "descrip", "extensions"], []),
        ("y.tif", ["orientation", "descrip"], ["voxel size"]),
        ("y.nrrd", ["descrip"], ["orientation", "voxel size"]),
        ("y.ome.zarr", ["orientation"], ["voxel size"]),
    ],
)
def test_what_a_nifti_header_says_is_listed(tmp_path, name, listed, kept):
    header = nib.Nifti1Header()
    header["descrip"] = b"secret of Mr X"
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept" * 4))
    nib.Nifti1Image(np.ones((4, 3, 1), np.uint8), AFFINE, header).to_filename(tmp_path / "x.nii")
    said = " ".join(not_kept(tmp_path / name, read(tmp_path / "x.nii")))
    assert all(word in said for word in listed), said
    assert not any(word in said for word in kept)
    assert "secret" not in said
    assert not_kept(tmp_path / "y.nii.gz", read(tmp_path / "x.nii")) == ()


def test_what_a_dicom_series_says_is_listed(series, tmp_path):
    image = read(series())
    assert "DICOM attributes" in not_kept(tmp_path / "y.nii", image)[0]
    assert "channels" in not_kept(tmp_path / "y.nii", CELLS)[0]


def test_what_ome_xml_says_beyond_the_image_is_listed(tmp_path):
    tifffile.imwrite(
        tmp_path / "x.ome.tif", CELLS.array, ome=True, photometric="minisblack", metadata={"axes": "TCZYX"}
    )
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as tif:
        xml = tif.ome_metadata
    xml = xml.replace("<Image", '<Instrument ID="Instrument:0"/><Image', 1)
    tifffile.tiffcomment(tmp_path / "x.ome.tif", xml.encode())
    image = read(tmp_path / "x.ome.tif")
    assert "OME's Instrument" in not_kept(tmp_path / "y.ome.tif", image)[0]


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        ("scan.nii", "clean", "clean.nii"),
        ("scan.NII.GZ", "clean", "clean.NII.GZ"),
        ("cells.ome.tif", "clean", "clean.ome.tif"),
        ("cells.ome.zarr", "clean", "clean.ome.zarr"),
        ("scan.nii", "clean.tif", "clean.tif"),
        ("scan.nii", "clean.v2", "clean.v2"),
    ],
)
def test_a_name_without_suffix_takes_the_images_own(source, given, expected):
    form = {"nii": "nifti", "GZ": "nifti", "tif": "tiff", "arr": "ome_zarr"}[source[-3:].lstrip(".")]
    image = dataclasses.replace(CELLS, source=Source(form, source))
    assert completed(given, image).name == expected


def _escaped(tmp_path, name):
    array = RNG.integers(0, 9, (2, 5, 6)).astype(np.uint8)
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    inside = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:1</UUID></TiffData></Pixels>'
    xml = xml.replace("</Pixels>", inside)
    tifffile.imwrite(path, array, photometric="minisblack", description=xml.encode(), metadata=None)
    return path


@pytest.mark.parametrize("name", ["..&#47;secret.tif", "&#x2e;&#x2e;&#x2f;secret.tif", "/secret.tif", "a\\b.tif"])
def test_ome_paths_are_refused_however_they_are_spelled(tmp_path, name):
    with pytest.raises(ReadError, match="another folder"):
        read(_escaped(tmp_path, name))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.tif").touch()
    (tmp_path / "in" / "part.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(ReadError, match="another folder"):
        read(_escaped(tmp_path / "in", "part.tif"))


def test_xml_that_defines_its_own_words_is_refused(tmp_path):
    path = _escaped(tmp_path, "x.ome.tif")
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    bomb = xml.replace("<OME", '<!DOCTYPE OME [<!ENTITY a "aaaa">]><OME', 1)
    tifffile.tiffcomment(path, bomb.encode())
    with pytest.raises(ReadError, match="definitions"):
        read(path)


def test_a_set_of_files_in_one_folder_is_one_image(tmp_path):
    array = RNG.integers(0, 900, (2, 5, 6)).astype(np.uint16)
    uuids = ["urn:uuid:00000000-0000-0000-0000-00000000000" + n for n in "12"]
    data = "".join(
        f'<TiffData FirstZ="{i}" IFD="0" PlaneCount="1"><UUID FileName="part{i}.ome.tif">{uuids[i]}</UUID></TiffData>'
        for i in (0, 1)
    )
    for i in (0, 1):
        xml = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[i]}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="6" SizeY="5" '
            f'SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )
        target = tmp_path / f"part{i}.ome.tif"
        tifffile.imwrite(target, array[i], photometric="minisblack", description=xml, metadata=None)
    image = read(tmp_path / "part0.ome.tif")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.array, array)
    (tmp_path / "part1.ome.tif").unlink()
    with pytest.raises(ReadError, match="missing"):
        read(tmp_path / "part0.ome.tif")


@pytest.mark.parametrize("compression", ["lzw", "zlib", "jpeg", "zstd", None])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiles_in_any_compression(tmp_path, compression, bigtiff):
    y, x = np.mgrid[:70, :90]
    array = (100 + y + x).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "x.tif", array, tile=(32, 32), compression=compression, bigtiff=bigtiff, photometric="minisblack"
    )
    image = read(tmp_path / "x.tif")
    np.testing.assert_allclose(image.array, array, atol=3 if compression == "jpeg" else 0)
    again = read(write(tmp_path / "y.tif", image))
    np.testing.assert_array_equal(again.array, image.array)


def _others():
    """Pydicom's own test files and, where it is there, the folder of images at the edges."""
    folders = [Path(pydicom.data.__file__).parent / "test_files"]
    data = Path(os.environ.get("DIP_SCI_DATA", "nowhere"))
    return [*folders, *(data / name for name in ("dicom_edge", "formats") if (data / name).is_dir())]


@pytest.mark.parametrize("folder", _others(), ids=lambda folder: folder.name)
def test_every_file_of_others_is_an_image_or_refused_by_name(folder):
    """No other error, no nonsense: what `benchmarks/formats.py` tells of in docs/formats.md."""
    read_, refused = 0, []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".zarr/" not in p.as_posix()):
        try:
            image = read(path)
        except ReadError as error:
            refused.append((str(path), str(error)))
            continue
        assert image.array.size == np.prod(image.shape)
        assert image.source.path == str(path)
        read_ += 1
    assert all(path in said and "None" not in said for path, said in refused)
    assert read_ > len(refused) / 4
