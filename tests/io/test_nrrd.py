"""NRRD: values, place and header come back; pynrrd agrees; what would lie is refused."""

import bz2

import nrrd
import numpy as np
import pytest

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import not_kept, read, write

AFFINE = np.array([[-1.5, 0.2, 0, 12], [0.1, 2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1.0]])
RNG = np.random.default_rng(3)


def _file(path, array, **header):
    nrrd.write(str(path), array, header)
    return path


def test_a_foreign_reader_agrees(tmp_path):
    image = Image(RNG.normal(size=(2, 3, 4)).astype(np.float32), "ZYX", affine=AFFINE)
    data, header = nrrd.read(str(write(tmp_path / "x.nrrd", image)))
    np.testing.assert_array_equal(data, image.array.T)
    assert header["space"] == "left-posterior-superior"
    lps = np.diag([-1, -1, 1]) @ AFFINE[:3]
    np.testing.assert_allclose(header["space directions"].T, lps[:, :3])
    np.testing.assert_allclose(header["space origin"], lps[:, 3])
    again = read(tmp_path / "x.nrrd")
    np.testing.assert_allclose(again.affine, AFFINE)
    np.testing.assert_allclose(again.spacing, np.linalg.norm(AFFINE[:3, :3], axis=0)[::-1])


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior"])
def test_each_patient_frame_gives_the_same_place(tmp_path, space):
    signs = {"l": (-1, -1, 1), "R": (1, 1, 1)}[space[0]] if "anterior" not in space else (-1, 1, 1)
    rows = np.diag(signs) @ AFFINE[:3]
    header = {"space": space, "space directions": rows[:, :3].T, "space origin": rows[:, 3]}
    image = read(_file(tmp_path / "x.nrrd", np.ones((4, 3, 2), np.int16), **header))
    np.testing.assert_allclose(image.affine, AFFINE)
    again = read(write(tmp_path / "y.nrrd", image))
    np.testing.assert_allclose(again.affine, AFFINE)
    assert again.source.header["space"] == space


def test_a_frame_that_is_no_patient_gives_spacing_alone(tmp_path):
    header = {"space": "scanner-xyz", "space directions": np.diag([0.5, 0.5, 2]), "space units": ["um"] * 3}
    image = read(_file(tmp_path / "x.nrrd", np.ones((4, 3, 2), np.int16), **header))
    assert (image.affine, image.spacing, image.units) == (None, (2, 0.5, 0.5), ("micrometer",) * 3)


def test_colour_time_and_lists(tmp_path):
    array = RNG.integers(0, 255, (3, 4, 5, 6), np.uint8)
    image = read(_file(tmp_path / "x.nrrd", array, kinds=["RGB-color", "domain", "domain", "time"]))
    assert (image.axes, image.shape) == ("TYXS", (6, 5, 4, 3))
    np.testing.assert_array_equal(image.array, array.T)
    image = read(_file(tmp_path / "y.nrrd", array, kinds=["list", "domain", "domain", "domain"]))
    assert image.axes == "ZYXC"
    assert read(_file(tmp_path / "z.nrrd", array)).axes == "TZYX"
    assert "fourth" in read(tmp_path / "z.nrrd").source.notes[0]
    assert read(tmp_path / "z.nrrd", axes="CZYX").axes == "CZYX"


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_encodings(tmp_path, encoding, endian):
    array = RNG.integers(-300, 300, (4, 3, 2)).astype(">i2" if endian == "big" else "<i2")
    header = {"encoding": encoding, "endian": endian}
    image = read(_file(tmp_path / "x.nrrd", array, **header))
    np.testing.assert_array_equal(image.array, array.T)
    assert image.dtype == np.int16
    assert image.dtype.isnative


def test_pixels_beside_the_header_and_nowhere_else(tmp_path):
    array = RNG.integers(0, 99, (4, 3, 2)).astype(np.int16)
    nrrd.write(str(tmp_path / "x.nhdr"), array, detached_header=True)
    np.testing.assert_array_equal(read(tmp_path / "x.nhdr").array, array.T)
    text = (tmp_path / "x.nhdr").read_text()
    name = next(line for line in text.splitlines() if line.startswith("data file"))
    for place in ("../secret.raw", "/etc/passwd"):
        (tmp_path / "y.nhdr").write_text(text.replace(name, f"data file: {place}"))
        with pytest.raises(ReadError, match="another folder"):
            read(tmp_path / "y.nhdr")
    (tmp_path / "y.nhdr").write_text(text.replace(name, "data file: gone.raw"))
    with pytest.raises(ReadError, match="missing beside"):
        read(tmp_path / "y.nhdr")


def test_the_header_comes_back(tmp_path):
    header = {"kinds": ["domain"] * 3, "spacings": [1.0, 2.0, 3.0], "exposure": "12 ms"}
    image = read(_file(tmp_path / "x.nrrd", np.ones((4, 3, 2), np.int16), **header))
    assert (image.spacing, image.units) == ((3, 2, 1), (None,) * 3)
    assert nrrd.read_header(str(write(tmp_path / "y.nrrd", image)))["exposure"] == "12 ms"
    assert not not_kept(tmp_path / "y.nrrd", image)
    assert "1 entries of the NRRD header" in not_kept(tmp_path / "y.tif", image)[0]


def test_truncation_and_claims(tmp_path):
    path = _file(tmp_path / "x.nrrd", RNG.integers(0, 99, (9, 8, 7)).astype(np.int16), encoding="gzip")
    data = path.read_bytes()
    for length in (9, 40, len(data) - 200, len(data) - 9):
        path.write_bytes(data[:length])
        with pytest.raises(ReadError, match=r"x\.nrrd"):
            read(path)
    path.write_bytes(data.replace(b"sizes: 9 8 7", b"sizes: 30000 30000 30000"))
    with pytest.raises(ReadError, match=r"memory|truncated"):
        read(path)
    bomb = data.partition(b"\n\n")[0].replace(b"gzip", b"bzip2") + b"\n\n" + bz2.compress(bytes(2**28))
    path.write_bytes(bomb)
    assert read(path).array.sum() == 0


def test_odd_types(tmp_path):
    for given, written in ((bool, np.uint8), (np.float16, np.float32), (np.int64, np.int64)):
        array = np.arange(6).reshape(2, 3).astype(given)
        again = read(write(tmp_path / "x.nrrd", Image(array, "YX"), overwrite=True))
        assert again.dtype == written
        np.testing.assert_array_equal(again.array, array)
    with pytest.raises(WriteError, match="complex"):
        write(tmp_path / "y.nrrd", Image(np.zeros((2, 3), complex), "YX"))
