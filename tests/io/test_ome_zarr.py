"""OME-Zarr: what is written is valid and comes back, levels keep their corners, and hostile claims are refused."""

import dataclasses
import json
import os

import numpy as np
import pytest
import yaozarrs
import zarr

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io import not_kept, ome_zarr, read, write

UM = "micrometer"
RNG = np.random.default_rng(2)


def _image(*, channels=("DNA", "actin"), dtype=np.uint16):
    array = RNG.integers(0, 900, (2, len(channels), 3, 70, 50)).astype(dtype)
    units = ("second", None, UM, UM, UM)
    return Image(array, "TCZYX", (1.5, None, 2.0, 0.5, 0.25), units, source=Source(channels=channels))


def _edit(folder, change, name="zarr.json"):
    found = json.loads((folder / name).read_text())
    change(found)
    (folder / name).write_text(json.dumps(found))


@pytest.fixture
def small(monkeypatch):
    """Levels down to a few voxels, in small chunks."""
    monkeypatch.setattr(ome_zarr, "SMALL", 20)
    monkeypatch.setattr(ome_zarr, "CHUNK", 16)


@pytest.fixture
def stored(tmp_path, small):
    return write(tmp_path / "x.ome.zarr", _image())


def test_it_comes_back_with_its_channels(stored):
    image = _image()
    again = read(stored)
    assert (again.axes, again.spacing, again.units) == (image.axes, image.spacing, image.units)
    assert (again.dtype, again.source.channels) == (image.dtype, ("DNA", "actin"))
    assert again.source.notes == ()


def test_foreign_judges_find_it_valid(stored):
    yaozarrs.validate_zarr_store(str(stored))
    group = zarr.open_group(str(stored), mode="r")
    described = group.attrs["ome"]["multiscales"][0]
    assert described["axes"][4] == {"name": "x", "type": "space", "unit": "micrometer"}
    np.testing.assert_array_equal(group["0"][...], read(stored).array)
    assert group["0"].metadata.dimension_names == ("t", "c", "z", "y", "x")


def test_each_level_has_the_same_corner_and_is_a_local_mean(stored):
    fine = read(stored / "0")
    for number in (1, 2):
        level = read(stored / str(number))
        factor = 2**number
        assert level.spacing == (1.5, None, 2.0, 0.5 * factor, 0.25 * factor)
        corners = []
        for image in (fine, level):
            grid = image.source.header["grid"]
            corners.append([grid[a][1] - grid[a][0] / 2 for a in "ZYX"])
        np.testing.assert_allclose(*corners)
    one = read(stored / "1").array
    mean = fine.array[..., :70, :50].reshape(2, 2, 3, 35, 2, 25, 2).mean(axis=(4, 6))
    np.testing.assert_array_equal(one, np.rint(mean))


def test_a_near_isotropic_volume_is_averaged_along_z_too(tmp_path, small):
    image = Image(np.ones((30, 40, 41), np.float32), "ZYX", (0.3, 0.25, 0.25), (UM,) * 3)
    assert read(write(tmp_path / "x.zarr", image) / "1").shape == (15, 20, 20)


def test_only_the_chosen_level_is_opened(stored):
    for chunk in (p for p in (stored / "0").rglob("*") if p.is_file()):
        chunk.write_bytes(b"damaged")
    assert read(stored / "1").size_of("X") == 25
    with pytest.raises(ReadError, match="damaged"):
        read(stored)


def test_a_restored_level_is_written_where_it_was(tmp_path, stored):
    level = read(stored / "2")
    again = read(write(tmp_path / "y.ome.zarr", level))
    assert again.source.header["grid"] == level.source.header["grid"]
    assert again.source.channels == ("DNA", "actin")


def test_a_finer_grid_keeps_the_corner(tmp_path, stored):
    level = read(stored / "1")
    array = level.array.repeat(2, axis=-1)
    finer = dataclasses.replace(level, array=array, spacing=(*level.spacing[:-1], level.spacing[-1] / 2))
    scale, at = read(write(tmp_path / "y.ome.zarr", finer)).source.header["grid"]["X"]
    assert at - scale / 2 == pytest.approx(level.source.header["grid"]["X"][1] - level.spacing[-1] / 2)


def _version_4(path, axes=("c", "y", "x"), **attributes):
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = RNG.integers(0, 900, (2, 20, 30)).astype(">i2")
    data = group.create_array("full/res", shape=array.shape, chunks=(1, 16, 16), dtype=array.dtype)
    data[...] = array
    kinds = {"c": "channel", "t": "time"}
    described = {
        "version": "0.4",
        "axes": [
            {"name": a, "type": kinds.get(a, "space")} | ({} if a in kinds else {"unit": "nanometer"}) for a in axes
        ],
        "datasets": [
            {"path": "full/res", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 100.0, 50.0]}]}
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1.0, 2.0, 2.0]}],
    }
    group.attrs.update({"multiscales": [described], **attributes})
    return array


def test_version_4_with_a_path_of_its_own_and_big_endian_values(tmp_path):
    window = {"min": 0, "max": 900, "start": 3, "end": 800}
    omero = {"channels": [{"label": n, "color": "FF0000", "window": window} for n in "ab"]}
    array = _version_4(tmp_path / "x.zarr", omero=omero, acquisition="x")
    yaozarrs.validate_zarr_store(str(tmp_path / "x.zarr"))
    image = read(tmp_path / "x.zarr")
    assert (image.axes, image.spacing, image.units) == ("CYX", (None, 200, 100), (None, "nanometer", "nanometer"))
    assert image.dtype == np.int16
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.array, array)
    assert image.source.channels == ("a", "b")
    assert "acquisition" in not_kept(tmp_path / "y.zarr", image)[0]
    again = write(tmp_path / "y.zarr", image)
    yaozarrs.validate_zarr_store(str(again))
    assert zarr.open_group(str(again)).attrs["ome"]["omero"] == omero


def test_axes_that_cannot_be_named_are_refused(tmp_path):
    _version_4(tmp_path / "x.zarr", axes=("w", "y", "x"))
    with pytest.raises(ReadError, match="names its 3 axes"):
        read(tmp_path / "x.zarr")


def test_several_images_and_plates(tmp_path, stored):
    (tmp_path / "many.zarr").mkdir()
    (tmp_path / "many.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    stored.rename(tmp_path / "many.zarr" / "0")
    assert "first one" in read(tmp_path / "many.zarr").source.notes[0]
    (tmp_path / "many.zarr" / ".zattrs").write_text('{"plate": {}}')
    with pytest.raises(ReadError, match="plate"):
        read(tmp_path / "many.zarr")


def test_a_missing_chunk_is_said(stored):
    next(p for p in (stored / "0" / "c").rglob("*") if p.is_file()).unlink()
    assert "1 of the image's chunks are not there" in read(stored).source.notes[0]


@pytest.mark.parametrize("place", ["../secret", "/etc", "0/../../secret", ""])
def test_levels_elsewhere_are_not_followed(tmp_path, stored, place):
    (tmp_path / "secret").mkdir()
    _edit(stored, lambda f: f["attributes"]["ome"]["multiscales"][0]["datasets"][0].update(path=place))
    with pytest.raises(ReadError, match=r"elsewhere|without a path"):
        read(stored)


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_linked_level_is_not_followed(tmp_path, stored):
    (stored / "0").rename(tmp_path / "elsewhere")
    (stored / "0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReadError, match="elsewhere"):
        read(stored)
    (stored / "0").unlink()
    (tmp_path / "elsewhere").rename(stored / "0")
    (stored / "0" / "c").rename(tmp_path / "chunks")
    (stored / "0" / "c").symlink_to(tmp_path / "chunks")
    with pytest.raises(ReadError, match="not followed"):
        read(stored)


def test_a_codec_that_runs_code_is_refused(tmp_path):
    _version_4(tmp_path / "x.zarr")
    _edit(tmp_path / "x.zarr" / "full" / "res", lambda f: f.update(filters=[{"id": "pickle"}]), ".zarray")
    with pytest.raises(ReadError, match="'pickle'"):
        read(tmp_path / "x.zarr")


@pytest.mark.parametrize("size", [10**5, 10**9, 10**18])
def test_a_small_folder_that_claims_much_is_refused(stored, size):
    _edit(stored / "0", lambda f: f.update(shape=[1, 1, 1, size, size]))
    with pytest.raises(ReadError, match=r"memory|chunks|damaged"):
        read(stored)


@pytest.mark.parametrize("codec", ["gzip", "zstd", "zlib"])
def test_a_chunk_that_unpacks_to_far_more_is_refused(tmp_path, codec):
    import numcodecs

    _version_4(tmp_path / "x.zarr")
    level = tmp_path / "x.zarr" / "full" / "res"
    packer = {"gzip": numcodecs.GZip(9), "zstd": numcodecs.Zstd(9), "zlib": numcodecs.Zlib(9)}[codec]
    chunk = next(p for p in level.iterdir() if p.name == "0.0.0")
    chunk.write_bytes(packer.encode(bytes(64 * 2**20)))
    _edit(level, lambda f: f.update(compressor=packer.get_config()), ".zarray")
    with pytest.raises(ReadError, match="unpacks to more"):
        read(tmp_path / "x.zarr")


def test_it_replaces_only_its_own_kind_and_only_when_told(tmp_path, stored):
    with pytest.raises(WriteError, match="--overwrite"):
        write(stored, _image())
    before = read(stored).array
    write(stored, _image(channels=("one",)), overwrite=True)
    assert read(stored).size_of("C") == 1
    assert before.shape[1] == 2
    for inner in (stored, stored / "0"):
        with pytest.raises(WriteError, match="never overwritten"):
            write(stored, read(inner), overwrite=True)
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "thesis.txt").touch()
    with pytest.raises(WriteError, match="something else"):
        write(tmp_path / "other.zarr", _image(), overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.zarr", "x.ome.zarr"]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "_level", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(WriteError, match="No space left"):
        write(tmp_path / "x.zarr", _image())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_held(tmp_path):
    with pytest.raises(WriteError, match="colour"):
        write(tmp_path / "x.zarr", Image(np.zeros((4, 5, 3), np.uint8), "YXS"))
    with pytest.raises(WriteError, match="complex"):
        write(tmp_path / "x.zarr", Image(np.zeros((4, 5), complex), "YX"))
    assert "orientation" in not_kept(tmp_path / "x.zarr", dataclasses.replace(_image(), affine=np.eye(4)))[0]
