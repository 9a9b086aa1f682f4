"""OME-Zarr: a folder of chunks with several levels of resolution; 0.1 to 0.5 in, 0.5 out.

The finest level is read, or the one that the path names (``cells.ome.zarr/2``); no chunk of another one is
opened. Coarser levels are made by local means, chunk after chunk, until a plane fits a screen. No more than a few
chunks are ever in memory, unless the whole image is asked for.
"""

from __future__ import annotations

import math
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io import ome_zarr_guard as guard
from dip_sci.io import ome_zarr_meta as meta
from dip_sci.io.axes import arranged, renamed
from dip_sci.lazy import Lazy, boxes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ORDER = "TCZYX"
CHUNK, DEEP = 512, 16
"""Voxels per chunk along Y and X, and along Z."""

SMALL = 512
"""A level whose planes are no longer than this along Y and X is the last one."""

NEAR = 1.5
"""Planes no further apart than this many in-plane spacings are averaged with each other, too."""

MOST = 2**26
"""Bytes that are copied at once."""

NESTED = 3
"""Folders between a level and its image."""


def read(path: Path, axes: str | None = None, *, lazy: bool = False) -> Image:
    """Read one level of an OME-Zarr image; see `dip_sci.io.read`."""
    folder, wanted, notes = _image_folder(path)
    ome = meta.attributes(folder)
    described = meta.multiscale(ome, path)
    names = [_name(d) for d in described["datasets"]]
    number = _number(names, wanted, folder, path)
    return renamed(_opened(path, folder, described, number, notes, lazy=lazy), axes, path)


def levels(path: Path) -> list[Image]:
    """Return all levels of an OME-Zarr image, finest first, with arrays that are read as they are sliced."""
    folder, wanted, notes = _image_folder(path)
    described = meta.multiscale(meta.attributes(folder), path)
    if wanted is not None:
        return []
    return [_opened(path, folder, described, i, notes, lazy=True) for i in range(len(described["datasets"]))]


def _opened(
    path: Path, folder: Path, described: dict[str, Any], number: int, notes: tuple[str, ...], *, lazy: bool
) -> Image:
    ome = meta.attributes(folder)
    level = guard.inside(folder, _name(described["datasets"][number]), path)
    guard.refuse_array(level, path, whole=not lazy)
    stored = _stored(level, path)
    array = cast("NDArray[Any]", stored) if lazy else stored[...]
    letters, units = meta.axes_of(described, array.ndim, path)
    found = meta.levels(described, array.ndim, path)[number]
    empty = guard.missing(level)
    if empty > 0 and not _is_sharded(level):
        notes += (f"{empty} of the image's chunks are not there; their voxels were read as the fill value.",)
    # Every axis has a scale; 1 without a unit stands for "not known".
    spacing = tuple(
        None if a == "C" or (s == 1 and u is None) else s for a, s, u in zip(letters, found.scale, units, strict=True)
    )
    grid = dict(zip(letters, zip(found.scale, found.translation, strict=True), strict=True))
    header = {
        **{name: ome[name] for name in ("omero",) if name in ome},
        **({"name": described["name"]} if "name" in described else {}),
        "grid": grid,
        "own": tuple(_own(ome, grid)),
        "lost": meta.lost(ome, described, folder),
    }
    channels = meta.channels_of(ome, array.shape[letters.index("C")] if "C" in letters else 1)
    source = Source("ome_zarr", str(path), MappingProxyType(header), notes, channels)
    return Image(array, letters, spacing, units, source=source)


def _name(dataset: Any) -> Any:
    return dataset.get("path") if isinstance(dataset, dict) else None


def _image_folder(path: Path) -> tuple[Path, str | None, tuple[str, ...]]:
    """Return the folder of an image, the path of the level that was asked for, and notes."""
    if (path / ".zarray").is_file() or guard.metadata(path, "zarr.json").get("node_type") == "array":
        for parent in list(path.absolute().parents)[:NESTED]:
            if "multiscales" in meta.attributes(parent):
                return parent, path.absolute().relative_to(parent).as_posix(), ()
        raise ReadError(f"{path} is a Zarr array without OME's metadata; export it as OME-Zarr 0.4 or 0.5.")
    ome = meta.attributes(path)
    if "plate" in ome or "well" in ome:
        raise ReadError(f"{path} is a plate of many images; name one of them, as in plate.ome.zarr/A/1/0.")
    if "multiscales" not in ome and "multiscales" in meta.attributes(path / "0"):
        return path / "0", None, ("The folder may hold several images; the first one was read.",)
    return path, None, ()


def _number(datasets: list[Any], wanted: str | None, folder: Path, path: Path) -> int:
    """Return which of the levels was asked for: a place, since two names may mean one folder."""
    if wanted is None:
        return 0
    target = (folder / wanted).resolve()
    for number, name in enumerate(datasets):
        if isinstance(name, str) and (folder / name).resolve() == target:
            return number
    raise ReadError(f"{path} is none of the levels that {folder} describes: {datasets!r:.80}. Name one of these.")


def _stored(level: Path, path: Path) -> Lazy:
    """Return a level's values, which are still in its chunks; 1-bit ones as 8-bit numbers."""
    array = _checked(lambda: zarr.open_array(store=str(level), mode="r"), level, path)
    if array.dtype.kind not in "biuf":
        raise ReadError(f"{path} holds values of type {array.dtype}; save them as integers or float32.")
    dtype = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")

    def part(box: tuple[slice, ...]) -> NDArray[Any]:
        values: NDArray[Any] = _checked(lambda: np.asarray(array[box]), level, path)
        return values.astype(dtype, copy=False)

    return Lazy(array.shape, dtype, part, tuple(min(c, n) for c, n in zip(array.chunks, array.shape, strict=True)))


def _checked(get: Callable[[], Any], level: Path, path: Path) -> Any:
    """Return what zarr gives, or say that the chunks are damaged."""
    try:
        with warnings.catch_warnings():
            # Zarr warns of what is not in its standard, such as odd files beside the chunks.
            warnings.simplefilter("ignore")
            return get()
    except MemoryError:
        raise
    except Exception as error:
        raise ReadError(
            f"{path} is damaged: its level {level.name} could not be decoded ({type(error).__name__}). "
            "Copy or export it again."
        ) from error


def _is_sharded(level: Path) -> bool:
    codecs = guard.metadata(level, "zarr.json").get("codecs", ())
    return any(c.get("name") == "sharding_indexed" for c in codecs)


def _own(ome: dict[str, Any], grid: dict[str, tuple[float, float]]) -> Iterator[str]:
    if "omero" in ome:
        yield "how the channels are to be displayed"
    if any(at for _, at in grid.values()):
        yield "where the image begins (its translation)"


def keeps(path: Path, image: Image) -> frozenset[str]:
    """Return the parts of an image that OME-Zarr holds."""
    return frozenset(
        {"spacing", "unitless", "time", "channels"} | ({"own"} if image.source.format == "ome_zarr" else set())
    )


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where OME-Zarr cannot hold the image."""
    if "S" in image.axes:
        raise WriteError(f"{path} cannot hold a colour image of axes {image.axes!r}; write .ome.tif or .png.")
    if image.dtype.kind not in "biuf" or image.dtype.itemsize > 8:
        raise WriteError(f"{path} cannot hold values of type {image.dtype}; convert them to float32.")


def write(path: Path, image: Image) -> None:
    """Write an OME-Zarr 0.5 image with its coarser levels, a few chunks at a time; see `dip_sci.io.write`."""
    check(path, image)
    axes = "".join(sorted(image.axes, key=ORDER.index))
    shape = tuple(image.size_of(a) for a in axes)
    dtype = np.dtype(np.uint8) if image.dtype.kind == "b" else image.dtype.newbyteorder("=")
    steps = list(_steps(image, axes))
    names = [str(i) for i in range(len(steps))]
    group = zarr.create_group(store=str(path), zarr_format=3, overwrite=False)
    level = _level(group, names[0], shape, dtype, axes)
    ranges = _fill(level, image, axes)
    for i, name in enumerate(names[1:], 1):
        factors = [round(a / b) for a, b in zip(steps[i], steps[i - 1], strict=True)]
        finer, shape = level, tuple(n // f for n, f in zip(shape, factors, strict=True))
        level = _level(group, name, shape, dtype, axes)
        for box in boxes(shape, level.chunks):
            below = tuple(slice(b.start * f, b.stop * f) for b, f in zip(box, factors, strict=True))
            level[box] = _coarser(np.asarray(finer[below]), factors)
    group.update_attributes(meta.written(image, axes, steps, names, ranges))


def _fill(level: zarr.Array[Any], image: Image, axes: str) -> list[tuple[float, float]]:
    """Copy an image to the finest level, and return the range of each channel's values."""
    low, high = [math.inf] * image.size_of("C"), [-math.inf] * image.size_of("C")
    # Along the rows as much as the source keeps together, too: each of its chunks is read but once.
    source = getattr(image.array, "chunks", None) or (1,) * len(axes)
    own = [source[image.axes.index(a)] for a in axes]
    for box in boxes(level.shape, _common(level.chunks, own, level.dtype.itemsize)):
        place = dict(zip(axes, box, strict=True))
        part = arranged(np.asarray(image.array[tuple(place[a] for a in image.axes)]), image.axes, axes)
        level[box] = part
        first = place["C"].start if "C" in place else 0
        for k in range(part.shape[axes.index("C")] if "C" in axes else 1):
            seen = part if "C" not in axes else part.take(k, axis=axes.index("C"))
            seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
            if seen.size:
                low[first + k] = min(low[first + k], float(seen.min()))
                high[first + k] = max(high[first + k], float(seen.max()))
    return [(a, b) if a <= b else (0.0, 1.0) for a, b in zip(low, high, strict=True)]


def _common(ours: tuple[int, ...], theirs: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Return a shape of whole chunks of ours that holds whole ones of theirs, as far as `MOST` goes."""
    part = list(ours)
    for axis in reversed(range(len(part))):
        wanted = -(-theirs[axis] // ours[axis]) * ours[axis]
        if math.prod(part) // part[axis] * wanted * itemsize <= MOST:
            part[axis] = wanted
    return tuple(part)


def _steps(image: Image, axes: str) -> Iterator[tuple[float, ...]]:
    """Yield by how much each level is coarser than the first, until its planes are small."""
    size = {a: image.size_of(a) for a in axes}
    factor = dict.fromkeys(axes, 1.0)
    yield tuple(factor.values())
    while max(size["Y"], size["X"]) > SMALL:
        steps = {a: (image.spacing_of(a) or 1.0) * factor[a] for a in axes}
        halved = [a for a in "YX" if size[a] > 1]
        if "Z" in axes and size["Z"] > 1 and steps["Z"] <= NEAR * min(steps["Y"], steps["X"]):
            halved.append("Z")
        for a in halved:
            size[a] //= 2
            factor[a] *= 2
        yield tuple(factor.values())


def _coarser(array: NDArray[Any], factors: list[int]) -> NDArray[Any]:
    """Return local means over blocks of the shape `factors`, which divides the array's."""
    blocks: list[int] = []
    for n, f in zip(array.shape, factors, strict=True):
        blocks += [n // f, f]
    mean = array.reshape(blocks).mean(axis=tuple(range(1, 2 * array.ndim, 2)), dtype=np.float64)
    found: NDArray[Any] = (np.rint(mean) if array.dtype.kind in "iu" else mean).astype(array.dtype)
    return found


def _level(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], axes: str) -> zarr.Array[Any]:
    most = [1 if a in "TC" else DEEP if a == "Z" else CHUNK for a in axes]
    return group.create_array(
        name,
        shape=shape,
        chunks=tuple(min(n, m) for n, m in zip(shape, most, strict=True)),
        dtype=dtype,
        dimension_names=[a.lower() for a in axes],
        # Zarr leaves out chunks of zeros; then nobody can tell them from those lost in copying.
        config={"write_empty_chunks": True},
    )
