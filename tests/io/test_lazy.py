"""Values that stay in their file: read part by part, copied chunk by chunk, never all at once."""

import errno
import os

import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import axes as axes_module
from dip_sci.io import nifti, ome_zarr, read, unpacked, write
from dip_sci.io.axes import arranged
from dip_sci.lazy import Lazy, boxes

RNG = np.random.default_rng(3)
VALUES = RNG.integers(0, 60000, (2, 5, 40, 30)).astype(np.uint16)
IMAGE = Image(VALUES, "CZYX", (None, 2.0, 0.5, 0.25), (None, *["micrometer"] * 3))


def _nifti(path, slope=1.0, order="<"):
    stored = RNG.integers(-900, 900, (7, 6, 5, 3)).astype(f"{order}i2")
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(stored.dtype)
    image = nib.Nifti1Image(stored, np.diag([2, 2, 3, 1.0]), header)
    image.header.set_slope_inter(slope, 5 if slope != 1 else 0)
    nib.save(image, path)
    return path


def _files(folder):
    yield write(folder / "a.ome.zarr", IMAGE)
    yield write(folder / "a.ome.tif", IMAGE)
    yield write(folder / "a.tif", IMAGE)
    yield _nifti(folder / "a.nii")
    yield _nifti(folder / "scaled.nii", 0.5)
    yield _nifti(folder / "big.nii", order=">")
    tifffile.imwrite(folder / "big.tif", VALUES[0], byteorder=">", photometric="minisblack")
    yield folder / "big.tif"


def test_a_lazy_image_is_the_image(tmp_path):
    for path in _files(tmp_path):
        whole, lazy = read(path), read(path, lazy=True)
        assert lazy.is_lazy, path
        assert not whole.is_lazy
        assert (lazy.axes, lazy.shape, lazy.dtype, lazy.spacing, lazy.units) == (
            whole.axes,
            whole.shape,
            whole.dtype,
            whole.spacing,
            whole.units,
        )
        np.testing.assert_array_equal(lazy.loaded().array, whole.array, err_msg=str(path))
        part = (0, slice(1, 3)) if whole.array.ndim > 3 else (0,)
        np.testing.assert_array_equal(lazy.array[part], whole.array[part])
        assert lazy.array[part].flags.writeable


def test_other_files_are_read_at_once(tmp_path):
    tifffile.imwrite(tmp_path / "packed.tif", VALUES[0], compression="zlib")
    assert not read(tmp_path / "packed.tif", lazy=True).is_lazy
    assert not read(_nifti(tmp_path / "a.nii.gz"), lazy=True).is_lazy


def test_a_lazy_image_goes_into_every_format(tmp_path):
    lazy = read(write(tmp_path / "a.ome.zarr", IMAGE), lazy=True)
    for name in ("b.ome.zarr", "b.nii.gz", "b.tif", "b.ome.tif", "b.nrrd"):
        np.testing.assert_array_equal(np.squeeze(read(write(tmp_path / name, lazy)).array), VALUES)


def watched(values, sizes):
    """The values as a lazy array that notes how many bytes are asked for at once."""

    def part(box):
        sizes.append(values[box].nbytes)
        return values[box].copy()

    return Lazy(values.shape, values.dtype, part)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("axes", "kind"), [("CZYX", "i2"), ("XZYC", "f4"), ("TYX", "?"), ("ZYX", ">u2"), ("YX", "i8")])
def test_nifti_is_written_slab_by_slab(axes, kind, name, tmp_path, monkeypatch):
    sizes = {"C": 3, "T": 4, "Z": 5, "Y": 30, "X": 40}
    values = RNG.normal(100, 20, [sizes[a] for a in axes]).astype(kind)
    image = Image(values, axes)
    wanted = nifti.AXES[min(nifti.AXES.index(a) for a in axes) :]
    plain = values.astype({"?": "u1", "i8": "i4"}.get(kind, kind))
    judge = np.squeeze(arranged(plain, axes, wanted)).T
    monkeypatch.setattr(axes_module, "SLAB", 2**30)
    write(tmp_path / f"whole_{name}", image)
    for slab in (1, 100, 40 * 70, 40 * 30 * 16):
        monkeypatch.setattr(axes_module, "SLAB", slab)
        asked = []
        write(tmp_path / name, image.with_array(watched(values, asked)), overwrite=True)
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole_{name}").read_bytes()
        # A row along X, or the fastest axis of the source where it is none, is the least.
        assert kind == "i8" or max(asked) <= max(slab, 40 * values.itemsize)
    found = nib.load(tmp_path / name)
    np.testing.assert_array_equal(np.squeeze(found.dataobj), judge)


def test_nibabel_writes_the_same_bytes(tmp_path):
    image = read(_nifti(tmp_path / "a.nii", order=">"))
    write(tmp_path / "ours.nii.gz", image)
    header = nib.load(tmp_path / "a.nii").header
    header.set_slope_inter(1, 0)
    nib.Nifti1Image(image.array.T, None, header).to_filename(tmp_path / "theirs.nii.gz")
    assert (tmp_path / "ours.nii.gz").read_bytes() == (tmp_path / "theirs.nii.gz").read_bytes()


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_a_large_zipped_file_is_unpacked_beside(slope, tmp_path, monkeypatch):
    path = _nifti(tmp_path / "a.nii.gz", slope)
    assert not read(path, lazy=True).is_lazy
    monkeypatch.setattr(unpacked, "LARGE", 100)
    lazy, whole = read(path, lazy=True), read(path)
    assert lazy.is_lazy
    assert lazy.dtype == whole.dtype
    np.testing.assert_array_equal(lazy.array[1], whole.array[1])
    np.testing.assert_array_equal(lazy.loaded().array, whole.array)
    packed = path.read_bytes()
    for damaged in (packed[: len(packed) * 4 // 5], packed[:-3], packed[:-8] + bytes(8)):
        path.write_bytes(damaged)
        with pytest.raises(ReadError, match="truncated or damaged"):
            read(path, lazy=True)


def test_no_room_to_unpack_is_said(tmp_path, monkeypatch):
    def full(handle, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = _nifti(tmp_path / "a.nii.gz")
    monkeypatch.setattr(unpacked, "LARGE", 100)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ReadError, match="cannot take while they are worked on"):
        read(path, lazy=True)


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(axes_module, "SLAB", 1000)

    def part(box):
        if box[0].start > 2:
            raise OSError(28, "No space left on device")
        return np.zeros([b.stop - b.start for b in box], np.int16)

    broken = Image(np.zeros((8, 20, 30), np.int16), "ZYX").with_array(Lazy((8, 20, 30), np.int16, part))
    with pytest.raises(WriteError, match="No space left on device"):
        write(tmp_path / "a.nii.gz", broken)
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_a_few_chunks_are_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", 16)
    monkeypatch.setattr(ome_zarr, "SMALL", 16)
    monkeypatch.setattr(ome_zarr, "MOST", 2000)
    values = RNG.integers(0, 900, (40, 70, 90)).astype(np.uint16)
    largest = []

    def part(box):
        largest.append(values[box].nbytes)
        return values[box]

    image = Image(Lazy(values.shape, values.dtype, part), "ZYX")
    write(tmp_path / "a.ome.zarr", image)
    # A chunk of 16 x 16 x 16 is the least.
    assert max(largest) <= 16**3 * 2
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][...], values)
    coarse = values[:40, :70, :90].reshape(20, 2, 35, 2, 45, 2).mean(axis=(1, 3, 5))
    np.testing.assert_array_equal(group["1"][...], np.rint(coarse))


def test_each_chunk_of_the_source_is_read_once(tmp_path):
    values = RNG.integers(0, 900, (8, 1100, 30)).astype(np.uint16)
    seen = np.zeros(values.shape, int)

    def part(box):
        seen[box] += 1
        return values[box]

    write(tmp_path / "a.ome.zarr", Image(Lazy(values.shape, values.dtype, part, (3, 550, 30)), "ZYX"))
    assert (seen == 1).all()


def test_a_damaged_chunk_is_found_when_it_is_read_and_nothing_stays(tmp_path):
    source = write(tmp_path / "a.ome.zarr", IMAGE)
    chunk = next((source / "0" / "c").rglob("0"))
    chunk = chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])
    lazy = read(source, lazy=True)
    with pytest.raises(ReadError, match="damaged"):
        write(tmp_path / "b.ome.zarr", lazy)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr"]


def test_parts_cover_an_array_once():
    hit = np.zeros((7, 10, 9), int)
    for box in boxes(hit.shape, (3, 10, 4)):
        hit[box] += 1
    assert (hit == 1).all()
    lazy = Lazy(hit.shape, "f8", lambda box: hit[box].astype("f8"), (2, 5, 9))
    parts = list(lazy.boxes(8 * 200))
    assert all(np.prod([b.stop - b.start for b in box]) <= 200 for box in parts)
    assert (lazy.min(), lazy.max(), lazy.astype(np.int8)[0, 1:3].dtype) == (1.0, 1.0, np.int8)


def test_a_lazy_array_is_indexed_like_another():
    values = np.arange(60).reshape(3, 4, 5)
    lazy = Lazy(values.shape, values.dtype, lambda box: values[box])
    for index in (0, -1, np.s_[1:], np.s_[..., 2], np.s_[0, 1:3, -1], np.s_[:, ::1], np.s_[2:1]):
        np.testing.assert_array_equal(lazy[index], values[index])
    for wrong in (3, np.s_[::2], np.s_[0, 0, 0, 0]):
        with pytest.raises(IndexError):
            lazy[wrong]
