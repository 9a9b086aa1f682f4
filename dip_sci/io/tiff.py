"""TIFF: plain, OME-TIFF and ImageJ hyperstacks, in and out.

OME-TIFF and ImageJ always store all of T, C and Z; those of length 1 are dropped on reading. A plain TIFF
written here keeps its axes, spacing and units in its description.
"""

from __future__ import annotations

import logging
import math
import re
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import AXES, Image, Source
from dip_sci.io import tiff_grid
from dip_sci.io.axes import arranged, refuse_axes
from dip_sci.io.files import human, refuse_beyond_file, refuse_beyond_memory
from dip_sci.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
UNUSABLE = {
    tifffile.PHOTOMETRIC.SEPARATED: "CMYK",
    tifffile.PHOTOMETRIC.CIELAB: "CIELAB",
    tifffile.PHOTOMETRIC.ICCLAB: "CIELAB",
    tifffile.PHOTOMETRIC.ITULAB: "CIELAB",
    tifffile.PHOTOMETRIC.LOGLUV: "LogLuv",
}
LOSSLESS = {1: None, 5: "lzw", 8: "zlib", 32946: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
"""How a file that was compressed in some way (tag 259) is compressed again; lossy ones become ``zlib``."""
LARGE_TILE = 2**26
IMAGEJ_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
IMAGEJ_KEPT = ("Info", "Labels", "Ranges", "LUTs", "ROI", "Overlays", "Properties", "min", "max")


def read(path: Path, axes: str | None = None, *, lazy: bool = False) -> Image:
    """Read the first image of a TIFF file; see `dip_sci.io.read`."""
    with _complaints() as complaints:
        try:
            with tifffile.TiffFile(path) as tif:
                _refuse_outside(tif, path)
                series, notes = _first(tif, path, complaints, whole=not lazy)
                # Only values that lie in the file as they are, one after the other, can stay there.
                lazy = lazy and series.dataoffset is not None and series.keyframe.dtype != bool
                if not lazy:
                    refuse_beyond_memory(series.nbytes, path)
                found, array, renaming = _mapped(series, axes, path) if lazy else _values(series, axes, path)
                grid = tiff_grid.read(tif, found)
                header = _header(tif, series, found)
        except (tifffile.TiffFileError, ValueError, RuntimeError, EOFError) as error:
            raise ReadError(
                f"{path} is a damaged or truncated TIFF file ({error}); copy or export it again."
            ) from error
    if array.dtype == bool:
        array = array.astype(np.uint8)
        notes += ("The file's values are 0 or 1 in one bit; they were read as 8-bit numbers.",)
    array = array if lazy else array.astype(array.dtype.newbyteorder("="), copy=False)
    channels = header.pop("channels", ())
    return Image(
        array,
        found,
        grid.spacing,
        grid.units,
        source=Source("tiff", str(path), MappingProxyType(header), notes + renaming, channels),
    )


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs: it reports a truncated file there, and reads what is left of it."""
    found: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        said = record.getMessage()
        # A tag of somebody's own that cannot be read, or one too few, hurts no pixel.
        if record.levelno >= logging.ERROR and not re.search("TiffTag|ByteCounts|StripOffsets", said):
            found.append(said.rpartition("> ")[2])
        return False

    logger = tifffile.logger()
    logger.addFilter(note)
    try:
        yield found
    finally:
        logger.removeFilter(note)


def _refuse_outside(tif: tifffile.TiffFile, path: Path) -> None:
    """Refuse OME-XML that names files elsewhere: tifffile would open whatever a stranger wrote there."""
    if not tif.is_ome or not tif.ome_metadata:
        return
    # A parser, and not a search for text: "..&#47;" is a way out, too.
    for name in tiff_grid.ome_files(tif.ome_metadata, path):
        place = path.parent / name
        if re.search(r"[/\\:]|^\.\.$", name) or place.resolve().parent not in {
            path.parent.resolve(),
            path.resolve().parent,
        }:
            raise ReadError(
                f"{path} says that parts of it lie in another folder ({name!r:.80}); such files are not followed. "
                "Put all files of the set into one folder and save them again."
            )


def _first(
    tif: tifffile.TiffFile, path: Path, complaints: list[str], *, whole: bool
) -> tuple[tifffile.TiffPageSeries, tuple[str, ...]]:
    """Return the first series, once its pixels are known to be there and to fit, and what to tell the user."""
    number = len(tif.pages)
    if not number or not tif.series:
        raise ReadError(f"{path} is a TIFF file without an image in it; it may be truncated.")
    series = tif.series[0]
    if complaints:
        raise ReadError(
            f"{path} is a damaged or truncated TIFF file: not all of its pages can be found ({complaints[0]:.80}). Copy it again."
        )
    if whole:
        refuse_beyond_memory(series.nbytes, path)
    _refuse_large_tiles(series, path)
    _refuse_missing(tif, series, path)
    photometric = tifffile.PHOTOMETRIC(series.keyframe.photometric)
    if photometric in UNUSABLE:
        raise ReadError(f"{path} holds {UNUSABLE[photometric]} colours; save it as grey values or RGB.")
    if series.dtype is None or series.dtype.kind not in "biuf":
        raise ReadError(f"{path} holds values of type {series.dtype}; save them as integers or float32.")
    notes = []
    if len(tif.series) > 1:
        notes.append(f"The file holds {len(tif.series)} images; the first one was read.")
    if photometric == tifffile.PHOTOMETRIC.PALETTE:
        notes.append("The file has a colour table; the stored values were read and the table was left out.")
    if tif.is_ome and "<BinaryOnly" in (tif.ome_metadata or ""):
        notes.append("The file is one part of a set that another file describes; this part alone was read.")
    return series, tuple(notes)


def _refuse_large_tiles(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse tiles far larger than the image: a decoder makes room for a whole tile."""
    key = series.keyframe
    claimed = math.prod(key.chunks) * (key.dtype.itemsize if key.dtype is not None else 1)
    if claimed > max(4 * series.nbytes, LARGE_TILE):
        raise ReadError(
            f"{path} claims tiles of {human(claimed)}, larger than its image; it is damaged. Export it again."
        )


def _refuse_missing(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse a file that does not hold all of its pixels: tifffile gives zeros for those not there."""
    size = tif.filehandle.size
    if series.dataoffset is not None:
        refuse_beyond_file(series.dataoffset + series.nbytes, path, size)
        return
    key = series.keyframe
    expected = key.size * key.bitspersample // 8 if key.compression == 1 else 1
    # Packed parts have no length to compare with the image; there must be as many as it is cut into.
    needed = 1 if key.compression == 1 else math.prod(key.chunked)
    for page in series.pages:
        if page is None:
            raise ReadError(f"{path} is one of several files of an image, and some of the others are missing.")
        limit = page.parent.filehandle.size
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        inside = all(offset > 0 and count > 0 and offset + count <= limit for offset, count in segments)
        if not (len(segments) >= needed and inside and sum(page.databytecounts) >= expected):
            raise ReadError(f"{path} is truncated: parts of its pixels are missing. Copy or export it again.")


def _mapped(series: tifffile.TiffPageSeries, axes: str | None, path: Path) -> tuple[str, NDArray[Any], tuple[str, ...]]:
    """Return what `_values` does, with values that stay in the file."""
    stored, offset = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder), int(series.dataoffset or 0)
    shape = series.get_shape(series.kind in ("ome", "imagej"))
    arranged_as = _named(np.broadcast_to(np.zeros(1, stored), shape), series, axes, path)
    dtype = stored.newbyteorder("=")

    def part(box: tuple[slice, ...]) -> NDArray[Any]:
        # Opened for each part: the system counts the pages of an open map as memory in use.
        return _named(np.memmap(path, stored, "r", offset, shape), series, axes, path)[1][box].astype(dtype)

    lazy = Lazy(arranged_as[1].shape, dtype, part)
    return arranged_as[0], cast("NDArray[Any]", lazy), arranged_as[2]


def _values(series: tifffile.TiffPageSeries, axes: str | None, path: Path) -> tuple[str, NDArray[Any], tuple[str, ...]]:
    """Return the names of the dimensions, the values with samples last, and what was assumed about names."""
    return _named(series.asarray(squeeze=series.kind in ("ome", "imagej")), series, axes, path)


def _named(
    array: NDArray[Any], series: tifffile.TiffPageSeries, axes: str | None, path: Path
) -> tuple[str, NDArray[Any], tuple[str, ...]]:
    """Name the dimensions of a series' values and bring samples last; no value is copied."""
    # These two name all of T, C and Z whether the image has them or not; others name what is there.
    squeezed = series.kind in ("ome", "imagej")
    found, shape = series.get_axes(squeezed), series.get_shape(squeezed)
    drop = [i for i, (a, n) in enumerate(zip(found, shape, strict=True)) if n == 1 and (a not in AXES or a == "S")]
    array = np.squeeze(array, tuple(drop))
    found = "".join(a for i, a in enumerate(found) if i not in drop)
    if "S" in found and series.keyframe.photometric not in COLOURS and "C" not in found:
        # Several measurements per pixel: channels, which come before the rows.
        wanted = found.replace("S", "").replace("Y", "SY")
        array = array.transpose([found.index(a) for a in wanted])
        found = wanted.replace("S", "C")
    if "S" in found:
        array = np.moveaxis(array, found.index("S"), -1)
        found = found.replace("S", "") + "S"
    if axes is not None:
        refuse_axes(axes, array.shape, found, path)
        return axes, array, ()
    unknown = [a for a in found if a not in AXES]
    if not unknown:
        return found, array, ()
    if len(unknown) == 1 and "Z" not in found:
        number = array.shape[found.index(unknown[0])]
        return (
            found.replace(unknown[0], "Z"),
            array,
            (
                f"The file does not say what its {number} pages are; they were taken for slices along Z. "
                "Give the axes (for instance TYX) if they are not.",
            ),
        )
    raise ReadError(f"{path} has the shape {array.shape} and does not name all its axes: give them, as in axes='TZYX'.")


def _header(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, axes: str) -> dict[str, Any]:
    """Return what the writer gives back."""
    page = series.keyframe
    header: dict[str, Any] = {
        "kind": series.kind if series.kind in ("ome", "imagej") else "plain",
        "compression": LOSSLESS.get(int(page.compression), "zlib"),
        "predictor": int(page.predictor) in (2, 3),
        "miniswhite": page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
    }
    if series.kind == "ome" and tif.ome_metadata:
        header["channels"] = tiff_grid.ome_channels(tif.ome_metadata)
        header["lost"] = tiff_grid.ome_beyond(tif.ome_metadata)
    if series.kind == "imagej":
        header["imagej"] = {k: v for k, v in (tif.imagej_metadata or {}).items() if k in IMAGEJ_KEPT}
        header["shape"] = dict(zip(series.axes, series.shape, strict=True))
        header["own"] = tuple(f"ImageJ's {name}" for name in header["imagej"])
    return header


def keeps(path: Path, image: Image) -> frozenset[str]:
    """Return the parts of an image that the kind of TIFF written to `path` holds."""
    kind = _kind(path, image)
    same = image.source.format == "tiff" and image.source.header.get("kind") == kind
    unit = {"unitless"} if kind == "plain" else set()
    names = {"channels"} if kind == "ome" else set()
    return frozenset({"spacing", "time"} | unit | names | ({"own"} if same else set()))


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where TIFF cannot hold the image."""
    if "S" in image.axes and image.size_of("S") not in (3, 4):
        raise WriteError(f"{path} cannot hold {image.size_of('S')} colour samples per pixel; 3 or 4 are possible.")
    _storable(image.array, _kind(path, image), path)


def write(path: Path, image: Image) -> None:
    """Write a TIFF file of the kind that the suffix or the source asks for; see `dip_sci.io.write`."""
    kind = _kind(path, image)
    array = _storable(image.array, kind, path)
    axes = "".join(sorted(image.axes, key="TZCYXS".index)) if kind == "imagej" else _rows_last(image.axes)
    array = np.ascontiguousarray(arranged(array, image.axes, axes))
    header = image.source.header if image.source.format == "tiff" else {}
    compression = header.get("compression")
    options: dict[str, Any] = {
        # tifffile would guess colours from a length of 3 or 4.
        "photometric": "rgb" if "S" in axes else "miniswhite" if header.get("miniswhite") else "minisblack",
        "compression": compression,
        # Differences of 64-bit integers are beyond TIFF.
        "predictor": bool(header.get("predictor"))
        and compression in ("lzw", "zlib", "zstd", "lzma")
        and (array.dtype.kind == "f" or array.dtype.itemsize < 8),
        "software": "dip_sci",
        **tiff_grid.written(image, axes, kind, header),
    }
    if kind == "imagej":
        options["imagej"] = True
    else:
        options |= {"ome": kind == "ome", "bigtiff": array.nbytes > 2**32 - 2**25}
    with _complaints():
        tifffile.imwrite(path, array, **options)


def _rows_last(axes: str) -> str:
    return "".join(a for a in axes if a not in "YXS") + "YX" + ("S" if "S" in axes else "")


def _kind(path: Path, image: Image) -> str:
    """Return which of the three kinds of TIFF is to be written."""
    source = image.source.header.get("kind") if image.source.format == "tiff" else None
    if path.name.lower().endswith((".ome.tif", ".ome.tiff")) or source == "ome":
        return "ome"
    colour = "S" in image.axes and (image.dtype != np.uint8 or image.size_of("S") != 3)
    # ImageJ reads nothing beyond 4 GB of the usual kind.
    fits = image.dtype in IMAGEJ_TYPES and not colour and image.array.nbytes < 2**32 - 2**25
    return "imagej" if source == "imagej" and fits else "plain"


def _storable(array: NDArray[Any], kind: str, path: Path) -> NDArray[Any]:
    """Return the array in a type that the kind of TIFF knows and that holds every value."""
    dtype = array.dtype
    if dtype.kind == "b":
        return array.astype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise WriteError(f"{path} cannot hold values of type {dtype}; convert them to float32.")
    if kind != "ome":
        return array
    if dtype == np.float16:
        return array.astype(np.float32)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        lo, hi = int(array.min()), int(array.max())
        for smaller in (np.int32, np.uint32):
            if np.iinfo(smaller).min <= lo and hi <= np.iinfo(smaller).max:
                return array.astype(smaller)
        raise WriteError(f"{path}: OME-TIFF cannot hold 64-bit integers from {lo} to {hi}; write .tif or float64.")
    return array
