"""PNG in and out, JPEG and BMP in."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import read, write


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "axes"), [((7, 9), "YX"), ((7, 9, 3), "YXS"), ((7, 9, 4), "YXS")])
def test_png_comes_back(tmp_path, dtype, shape, axes):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    again = read(write(tmp_path / "x.png", Image(array, axes)))
    assert (again.axes, again.dtype, again.source.format) == (axes, dtype, "raster")
    np.testing.assert_array_equal(again.array, array)


def test_a_single_plane_of_a_stack_fits(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(read(write(tmp_path / "x.png", Image(array, "ZYX"))).array, array[0])


@pytest.mark.parametrize(
    ("array", "axes", "reason"),
    [
        (np.zeros((3, 4), np.float32), "YX", "Write .tif"),
        (np.zeros((3, 4), np.int16), "YX", "int16"),
        (np.zeros((2, 3, 4), np.uint8), "ZYX", "one plane"),
        (np.zeros((3, 4, 2), np.uint8), "YXS", "colour samples"),
    ],
)
def test_what_png_cannot_hold(tmp_path, array, axes, reason):
    with pytest.raises(WriteError, match=reason):
        write(tmp_path / "x.png", Image(array, axes))
    assert not list(tmp_path.iterdir())


def test_conversions_are_said(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Pillow.fromarray(grey).convert("P").save(tmp_path / "p.png")
    image = read(tmp_path / "p.png")
    assert image.axes == "YXS"
    assert "colour table" in image.source.notes[0]
    Pillow.fromarray(grey > 20).save(tmp_path / "b.png")
    assert "1-bit" in read(tmp_path / "b.png").source.notes[0]
    Pillow.fromarray(grey).convert("LA").save(tmp_path / "la.png")
    image = read(tmp_path / "la.png")
    assert image.axes == "YX"
    assert "transparency" in image.source.notes[0]
    np.testing.assert_array_equal(image.array, grey)
    Pillow.fromarray(np.stack([grey] * 3, -1)).convert("CMYK").save(tmp_path / "c.jpg")
    assert "CMYK" in read(tmp_path / "c.jpg").source.notes[0]


def test_jpeg_and_bmp_are_read(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Pillow.fromarray(grey).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(read(tmp_path / "x.jpg").array.astype(int) - grey).max() < 10
    Pillow.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "x.bmp")
    np.testing.assert_array_equal(read(tmp_path / "x.bmp").array[..., 1], grey)


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_truncation_is_one_clear_error(tmp_path, name):
    array = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    Pillow.fromarray(array).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for length in (12, 30, 60, len(data) // 2, len(data) - 8):
        if name == "x.jpg" and length == len(data) - 8:
            continue
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(ReadError, match=name):
            read(tmp_path / name)


def test_a_damaged_png_is_refused(tmp_path):
    data = bytearray(imagecodecs.png_encode(np.arange(3000, dtype=np.uint16).reshape(50, 60)))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ReadError, match="damaged"):
        read(tmp_path / "x.png")


def test_pictures_that_claim_too_much(tmp_path, monkeypatch):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 400_000, 400_000, 16, 6, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "x.png").write_bytes(head + b"\0\0\0\0IEND\xaeB`\x82")
    with pytest.raises(ReadError, match="truncated or its header is wrong"):
        read(tmp_path / "x.png")
    Pillow.new("L", (50, 50)).save(tmp_path / "x.jpg")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(ReadError, match="plausible"):
        read(tmp_path / "x.jpg")
