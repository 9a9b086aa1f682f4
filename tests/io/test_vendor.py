"""Microscopes' own files: the missing library is named, and what the libraries return is read rightly."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dip_sci.errors import ReadError, WriteError
from dip_sci.io import check_target, read

ND2 = b"\xda\xce\xbe\x0a" + bytes(100)
LIF = b"\x70\0\0\0\x20\0\0\0\x2a\x08\0\0\0<\0L\0M\0S\0" + bytes(100)
CZI = b"ZISRAWFILE" + bytes(100)


@pytest.mark.parametrize(
    ("head", "module", "extra"),
    [(ND2, "nd2", "vendor"), (LIF, "liffile", "vendor"), (CZI, "pylibCZIrw.czi", "czi")],
)
def test_the_extra_is_named(tmp_path, monkeypatch, head, module, extra):
    (tmp_path / "x.bin").write_bytes(head)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ReadError, match=rf"pip install 'dip-sci\[{extra}\]'"):
        read(tmp_path / "x.bin")


def test_they_are_not_written(tmp_path):
    with pytest.raises(WriteError, match=r"write \.ome\.tif"):
        check_target(tmp_path / "x.nd2", None)


class _Opened:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_nd2(tmp_path, monkeypatch):
    array = np.arange(2 * 3 * 2 * 5 * 6, dtype=np.uint16).reshape(2, 3, 2, 5, 6)

    class ND2File(_Opened):
        dtype = array.dtype
        metadata = SimpleNamespace(channels=[SimpleNamespace(channel=SimpleNamespace(name=n)) for n in ("a", "b")])

        def __init__(self, path):
            self.sizes = {"P": 2, "T": 3, "C": 2, "Y": 5, "X": 6}
            self.experiment = [SimpleNamespace(type="TimeLoop", parameters=SimpleNamespace(periodMs=500.0))]

        def asarray(self):
            return array

        def voxel_size(self):
            return SimpleNamespace(x=0.25, y=0.5, z=1.0)

    monkeypatch.setitem(sys.modules, "nd2", SimpleNamespace(ND2File=ND2File))
    (tmp_path / "x.nd2").write_bytes(ND2)
    image = read(tmp_path / "x.nd2", series=2)
    assert (image.axes, image.spacing) == ("TCYX", (0.5, None, 0.5, 0.25))
    assert image.units == ("second", None, "micrometer", "micrometer")
    assert image.source.channels == ("a", "b")
    np.testing.assert_array_equal(image.array, array[1])
    with pytest.raises(ReadError, match=r"2 images: #1 3 T x 2 C x 5 Y x 6 X; #2 .*--series 1"):
        read(tmp_path / "x.nd2")


def test_lif(tmp_path, monkeypatch):
    array = np.arange(30, dtype=np.uint8).reshape(5, 6)
    one = SimpleNamespace(
        dims=("Y", "X"),
        shape=(5, 6),
        coords={"Y": np.arange(5) * 5e-7, "X": np.arange(6) * 2.5e-7},
        nbytes=30,
        asarray=lambda: array,
    )
    section = SimpleNamespace(**{**vars(one), "dims": ("Z", "X"), "coords": {"Z": np.arange(5) * 2e-6}})

    class LifFile(_Opened):
        def __init__(self, path):
            self.images = found

    found = [one]
    monkeypatch.setitem(sys.modules, "liffile", SimpleNamespace(LifFile=LifFile))
    (tmp_path / "x.lif").write_bytes(LIF)
    image = read(tmp_path / "x.lif")
    assert image.axes == "YX"
    np.testing.assert_allclose(image.spacing, (0.5, 0.25))
    np.testing.assert_array_equal(image.array, array)
    found.append(section)
    with pytest.raises(ReadError, match=r"2 images: #1 5 Y x 6 X; #2"):
        read(tmp_path / "x.lif")
    with pytest.raises(ReadError, match="2 images"):
        read(tmp_path / "x.lif", series=3)
    image = read(tmp_path / "x.lif", series="#2")
    assert (image.axes, image.spacing) == ("YX", (2.0, None))
    assert "section along Z" in image.source.notes[0]


def test_czi(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    array = np.random.default_rng(5).integers(0, 900, (2, 3, 8, 10)).astype(np.uint16)
    with czi.create_czi(str(tmp_path / "x.czi")) as file:
        for c, z in np.ndindex(2, 3):
            file.write(data=array[c, z][..., None], plane={"C": c, "Z": z, "T": 0})
        names = {0: "DNA", 1: "actin"}
        file.write_metadata("x", channel_names=names, scale_x=2.5e-7, scale_y=5e-7, scale_z=1e-6)
    image = read(tmp_path / "x.czi")
    assert image.axes == "CZYX"
    assert image.source.channels == ("DNA", "actin")
    np.testing.assert_allclose([s for s in image.spacing if s], (1, 0.5, 0.25))
    np.testing.assert_array_equal(image.array, array)
    (tmp_path / "y.czi").write_bytes((tmp_path / "x.czi").read_bytes()[:700])
    with pytest.raises(ReadError, match="damaged"):
        read(tmp_path / "y.czi")
