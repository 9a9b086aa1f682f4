"""OME-Zarr: a folder of chunks with several levels of resolution; 0.1 to 0.5 in, 0.5 out.

The finest level is read, or the one that the path names (``cells.ome.zarr/2``); no chunk of another one is
opened. Coarser levels are made by local means, chunk after chunk, until a plane fits a screen.
"""

from __future__ import annotations

import itertools
import warnings
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io import ome_zarr_guard as guard
from dip_sci.io import ome_zarr_meta as meta
from dip_sci.io.axes import arranged, renamed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ORDER = "TCZYX"
CHUNK, DEEP = 512, 16
"""Voxels per chunk along Y and X, and along Z."""

SMALL = 512
"""A level whose planes are no longer than this along Y and X is the last one."""

NEAR = 1.5
"""Planes no further apart than this many in-plane spacings are averaged with each other, too."""

NESTED = 3
"""Folders between a level and its image."""


def read(path: Path, axes: str | None = None) -> Image:
    """Read one level of an OME-Zarr image; see `dip_sci.io.read`."""
    folder, wanted, notes = _image_folder(path)
    ome = meta.attributes(folder)
    described = meta.multiscale(ome, path)
    number = _number([_name(d) for d in described["datasets"]], wanted, folder, path)
    image = _level(path, folder, described, number, notes, _values)
    return renamed(image, axes, path)


def levels(path: Path) -> list[Image]:
    """Return all levels of an OME-Zarr image, finest first, with arrays that are read as they are sliced."""
    folder, wanted, notes = _image_folder(path)
    described = meta.multiscale(meta.attributes(folder), path)
    if wanted is not None:
        return []
    return [_level(path, folder, described, i, notes, _opened) for i in range(len(described["datasets"]))]


def _level(
    path: Path,
    folder: Path,
    described: dict[str, Any],
    number: int,
    notes: tuple[str, ...],
    values: Callable[[Path, Path], NDArray[Any]],
) -> Image:
    ome = meta.attributes(folder)
    level = guard.inside(folder, _name(described["datasets"][number]), path)
    guard.refuse_array(level, path)
    array = values(level, path)
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


def _opened(level: Path, path: Path) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            # Zarr warns of what is not in its standard, such as odd files beside the chunks.
            warnings.simplefilter("ignore")
            array: Any = zarr.open_array(store=str(level), mode="r")
    except Exception as error:
        raise _undecodable(level, path, error) from error
    if array.dtype.kind not in "biuf":
        raise ReadError(f"{path} holds values of type {array.dtype}; save them as integers or float32.")
    return array  # type: ignore[no-any-return]


def _values(level: Path, path: Path) -> NDArray[Any]:
    array = _opened(level, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = np.asarray(array[...])
    except MemoryError:
        raise
    except Exception as error:
        raise _undecodable(level, path, error) from error
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _undecodable(level: Path, path: Path, error: Exception) -> ReadError:
    return ReadError(
        f"{path} is damaged: its level {level.name} could not be decoded ({type(error).__name__}). "
        "Copy or export it again."
    )


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
    """Write an OME-Zarr 0.5 image with its coarser levels; see `dip_sci.io.write`."""
    check(path, image)
    axes = "".join(sorted(image.axes, key=ORDER.index))
    array = arranged(image.array, image.axes, axes)
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    steps = list(_steps(image, axes))
    names = [str(i) for i in range(len(steps))]
    group = zarr.create_group(
        store=str(path), zarr_format=3, attributes=meta.written(image, axes, steps, names), overwrite=False
    )
    for i, name in enumerate(names):
        if i:
            array = _coarser(array, [round(a / b) for a, b in zip(steps[i], steps[i - 1], strict=True)])
        _write_level(group, name, array, axes)


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
    """Return local means; what is left over at the far end of an axis is not in them."""
    coarse = np.empty([n // f for n, f in zip(array.shape, factors, strict=True)], array.dtype)
    for i in range(coarse.shape[0]):
        part = array[i * factors[0] : (i + 1) * factors[0]]
        blocks: list[int] = []
        for n, f in zip((1, *coarse.shape[1:]), factors, strict=True):
            blocks += [n, f]
        inside = tuple(slice(n * f) for n, f in zip((1, *coarse.shape[1:]), factors, strict=True))
        mean = part[inside].reshape(blocks).mean(axis=tuple(range(1, 2 * array.ndim, 2)), dtype=np.float64)
        coarse[i] = (np.rint(mean) if array.dtype.kind in "iu" else mean)[0]
    return coarse


def _write_level(group: zarr.Group, name: str, array: NDArray[Any], axes: str) -> None:
    most = [1 if a in "TC" else DEEP if a == "Z" else CHUNK for a in axes]
    chunks = tuple(min(n, m) for n, m in zip(array.shape, most, strict=True))
    level = group.create_array(
        name,
        shape=array.shape,
        chunks=chunks,
        dtype=array.dtype,
        dimension_names=[a.lower() for a in axes],
        # Zarr leaves out chunks of zeros; then nobody can tell them from those lost in copying.
        config={"write_empty_chunks": True},
    )
    for start in itertools.product(*(range(0, n, c) for n, c in zip(array.shape, chunks, strict=True))):
        block = tuple(slice(s, s + c) for s, c in zip(start, chunks, strict=True))
        level[block] = array[block]
