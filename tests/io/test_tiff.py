"""TIFF in its three kinds, read back by ourselves and by tifffile."""

import numpy as np
import pytest
import tifffile

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import read, write

RNG = np.random.default_rng(1)
UM = "micrometer"


def _noise(*shape, dtype=np.uint16):
    return RNG.integers(0, 200, shape).astype(dtype)


def test_plain_keeps_axes_of_length_one_spacing_and_units(tmp_path):
    image = Image(_noise(1, 5, 6), "TYX", (0.1, 0.25, 1 / 3), ("second", UM, "nanometer"))
    path = write(tmp_path / "x.tif", image)
    again = read(path)
    assert (again.axes, again.spacing, again.units) == ("TYX", image.spacing, image.units)
    np.testing.assert_array_equal(again.array, image.array)
    assert again.source.notes == ()
    with tifffile.TiffFile(path) as tif:
        assert not tif.is_ome
        x = tif.pages[0].tags["XResolution"].value
        assert x[0] / x[1] == pytest.approx(1e7 * 3, rel=1e-5)


def test_ome_is_read_by_a_foreign_reader(tmp_path):
    image = Image(_noise(2, 3, 4, 5, 6), "TCZYX", (1.5, None, 2.0, 0.3, 0.25), ("second", None, UM, UM, UM))
    path = write(tmp_path / "x.ome.tif", image)
    with tifffile.TiffFile(path) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert tif.series[0].axes == "TCZYX"
        np.testing.assert_array_equal(tif.asarray(), image.array)
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"], pixels["TimeIncrement"]) == (0.25, "µm", 1.5)
    again = read(path)
    assert (again.axes, again.spacing, again.units) == (image.axes, image.spacing, image.units)


def test_an_ome_source_stays_ome_with_its_channel_names(tmp_path):
    metadata = {"axes": "CYX", "PhysicalSizeX": 200, "PhysicalSizeXUnit": "nm", "Channel": {"Name": ["DNA", "actin"]}}
    tifffile.imwrite(tmp_path / "x.ome.tif", _noise(2, 5, 6), ome=True, photometric="minisblack", metadata=metadata)
    image = read(tmp_path / "x.ome.tif")
    assert (image.spacing_of("X"), image.units[2]) == (200, "nanometer")
    assert image.source.channels == ("DNA", "actin")
    again = read(write(tmp_path / "y.tif", image))
    assert again.source.header["kind"] == "ome"
    assert again.source.channels == ("DNA", "actin")
    assert (again.spacing, again.units) == (image.spacing, image.units)


def test_imagej_comes_back_as_imagej(tmp_path):
    metadata = {
        "axes": "TZYX",
        "spacing": 0.5,
        "unit": "um",
        "finterval": 2.0,
        "Info": "objective 63x",
        "Labels": [str(i) for i in range(6)],
        "min": 3.0,
        "max": 99.0,
    }
    array = _noise(2, 3, 5, 6)
    tifffile.imwrite(tmp_path / "x.tif", array, imagej=True, resolution=(10, 5), metadata=metadata)
    image = read(tmp_path / "x.tif")
    assert image.axes == "TZYX"
    assert image.spacing == (2.0, 0.5, 0.2, 0.1)
    assert image.units == ("second", UM, UM, UM)
    again = read(write(tmp_path / "y.tif", image))
    np.testing.assert_array_equal(again.array, array)
    assert (again.spacing, again.units) == (image.spacing, image.units)
    assert again.source.header["kind"] == "imagej"
    assert again.source.header["imagej"]["Info"] == "objective 63x"
    assert again.source.header["imagej"]["Labels"] == metadata["Labels"]
    # ImageJ knows no doubles: the kind gives way, not the values.
    wide = read(write(tmp_path / "z.tif", image.with_array(array.astype(float))))
    assert (wide.dtype, wide.source.header["kind"]) == (np.float64, "plain")
    assert wide.spacing == image.spacing


def test_unnamed_pages_are_slices_and_said_to_be_so(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", _noise(4, 5, 6), photometric="minisblack")
    image = read(tmp_path / "x.tif")
    assert image.axes == "ZYX"
    assert "Z" in image.source.notes[0]
    assert "TYX" in image.source.notes[0]
    movie = read(tmp_path / "x.tif", axes="TYX")
    assert (movie.axes, movie.source.notes) == ("TYX", ())
    with pytest.raises(ReadError, match=r"\(4, 5, 6\)"):
        read(tmp_path / "x.tif", axes="YX")
    tifffile.imwrite(tmp_path / "y.tif", _noise(2, 4, 5, 6), photometric="minisblack")
    with pytest.raises(ReadError, match="give them"):
        read(tmp_path / "y.tif")
    assert read(tmp_path / "y.tif", axes="TZYX").axes == "TZYX"


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("name", ["x.tif", "x.ome.tif"])
def test_colour_samples_come_last(tmp_path, separate, name):
    array = _noise(5, 6, 3, dtype=np.uint8)
    tifffile.imwrite(
        tmp_path / name,
        np.moveaxis(array, -1, 0) if separate else array,
        photometric="rgb",
        planarconfig="separate" if separate else "contig",
    )
    image = read(tmp_path / name)
    assert image.axes == "YXS"
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_array_equal(read(write(tmp_path / f"again_{name}", image)).array, array)


def test_samples_that_are_no_colours_are_channels(tmp_path):
    array = _noise(5, 6, 2)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", planarconfig="contig")
    image = read(tmp_path / "x.tif")
    assert image.axes == "CYX"
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize(("compression", "kept"), [("lzw", "lzw"), ("zlib", "zlib"), ("zstd", "zstd"), (None, None)])
def test_the_compression_is_kept(tmp_path, compression, kept):
    array = _noise(30, 40)
    tifffile.imwrite(tmp_path / "x.tif", array, compression=compression, predictor=bool(compression))
    again = read(write(tmp_path / "y.tif", read(tmp_path / "x.tif")))
    assert again.source.header["compression"] == kept
    assert again.source.header["predictor"] == bool(compression)
    np.testing.assert_array_equal(again.array, array)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.float64, np.int8])
def test_a_predictor_is_kept_where_the_type_allows_it(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "x.tif", _noise(30, 40), compression="zlib", predictor=True)
    array = _noise(30, 40, dtype=dtype)
    again = read(write(tmp_path / "y.tif", read(tmp_path / "x.tif").with_array(array)))
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.array, array)


def test_print_resolutions_say_nothing(tmp_path):
    for name, resolution, unit in (("x", 72, "INCH"), ("y", 300, "INCH"), ("z", 28.3465, "CENTIMETER")):
        tifffile.imwrite(tmp_path / f"{name}.tif", _noise(5, 6), resolution=(resolution,) * 2, resolutionunit=unit)
        assert read(tmp_path / f"{name}.tif").spacing == (None, None)
    tifffile.imwrite(tmp_path / "m.tif", _noise(5, 6), resolution=(40000, 20000), resolutionunit="CENTIMETER")
    assert read(tmp_path / "m.tif").spacing == (0.5, 0.25)


def test_odd_types(tmp_path):
    ome = tmp_path / "x.ome.tif"
    for given, written in ((np.float16, np.float32), (np.int64, np.int32), (bool, np.uint8)):
        array = _noise(5, 6).astype(given)
        again = read(write(ome, Image(array, "YX"), overwrite=True))
        assert again.dtype == written
        np.testing.assert_array_equal(again.array, array)
    for kept in (np.float16, np.int64):
        assert read(write(tmp_path / "x.tif", Image(_noise(5, 6).astype(kept), "YX"), overwrite=True)).dtype == kept
    with pytest.raises(WriteError, match="64-bit"):
        write(ome, Image(np.full((2, 3), 2**40), "YX"), overwrite=True)
    with pytest.raises(WriteError, match="complex"):
        write(tmp_path / "c.tif", Image(np.zeros((2, 3), complex), "YX"))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((2, 3), np.complex64))
    with pytest.raises(ReadError, match="complex"):
        read(tmp_path / "c.tif")


def test_a_bit_map_is_read_as_numbers(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", _noise(5, 16) > 100)
    assert read(tmp_path / "x.tif").dtype == np.uint8


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"metadata": None},
        {"metadata": None, "compression": "lzw"},
        {"ome": True},
        {"imagej": True},
        {"bigtiff": True, "tile": (16, 16)},
    ],
)
def test_truncation_is_one_clear_error(tmp_path, options):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, _noise(4, 50, 60), photometric="minisblack", **options)
    assert read(path).size_of("Y") == 50
    data = path.read_bytes()
    for share in (0.0005, 0.01, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ReadError, match=r"x\.tif"):
            read(path)


def test_a_small_file_that_claims_much_is_refused(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, _noise(5, 6), photometric="minisblack", metadata=None)
    for rows, reason in ((1 << 20, "truncated|memory"), (1 << 31, "memory|truncated")):
        with tifffile.TiffFile(path, mode="r+") as tif:
            tif.pages[0].tags["ImageLength"].overwrite(rows, dtype="I")
            tif.pages[0].tags["ImageWidth"].overwrite(1 << 16, dtype="I")
        with pytest.raises(ReadError, match=reason):
            read(path)


def test_ome_that_names_files_elsewhere_is_refused(tmp_path):
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, _noise(2, 5, 6), ome=True, photometric="minisblack", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    inside = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="../secret.tif">urn:uuid:1</UUID></TiffData></Pixels>'
    xml = xml.replace("</Pixels>", inside)
    tifffile.imwrite(path, _noise(2, 5, 6), photometric="minisblack", description=xml.encode(), metadata=None)
    with pytest.raises(ReadError, match="another folder"):
        read(path)


def test_more_than_one_image_is_said(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as tif:
        tif.write(_noise(5, 6), photometric="minisblack")
        tif.write(_noise(7, 8, 9), photometric="minisblack")
    image = read(tmp_path / "x.tif")
    assert image.shape == (5, 6)
    assert "2 images" in image.source.notes[0]


def test_rows_and_columns_are_written_last(tmp_path):
    image = Image(_noise(4, 5, 6), "YXZ", (1.0, 2.0, 3.0), (UM,) * 3)
    again = read(write(tmp_path / "x.tif", image))
    assert again.axes == "ZYX"
    assert again.spacing == (3, 1, 2)
    np.testing.assert_array_equal(again.array, image.array.transpose(2, 0, 1))


def test_white_at_zero_and_colour_tables(tmp_path):
    array = _noise(5, 6, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "w.tif", array, photometric="miniswhite")
    image = read(tmp_path / "w.tif")
    np.testing.assert_array_equal(image.array, array)
    with tifffile.TiffFile(write(tmp_path / "w2.tif", image)) as tif:
        assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.MINISWHITE
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", array, photometric="palette", colormap=colours)
    image = read(tmp_path / "p.tif")
    np.testing.assert_array_equal(image.array, array)
    assert "colour table" in image.source.notes[0]


def test_nothing_is_said_by_tifffile(tmp_path, caplog, capfd):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, _noise(4, 50, 60), photometric="minisblack", metadata=None)
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(ReadError):
        read(path)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
