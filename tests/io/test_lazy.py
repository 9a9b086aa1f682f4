"""Values that stay in their file: read part by part, copied chunk by chunk, never all at once."""

import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from dip_sci.errors import ReadError
from dip_sci.image import Image
from dip_sci.io import ome_zarr, read, write
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
