"""NRRD: header and pixels in one file (``.nrrd``), or a header that names one file beside it (reading only).

The header is pynrrd's to parse and to write; pixels are unpacked here, no further than the header announces.
Patient frames (LPS, RAS, LAS) give an affine, others spacing alone.
"""

from __future__ import annotations

import bz2
import math
import warnings
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import nrrd
import numpy as np

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io.axes import LENGTHS, arranged, convert, full_name, renamed
from dip_sci.io.files import refuse_beyond_file, refuse_beyond_memory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
DTYPES = {name: dtype for dtype, names in TYPES.items() for name in names}

FRAMES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
}
"""What turns a patient frame's coordinates into RAS."""

LETTERS = {"time": "T", "rgb-color": "S", "rgba-color": "S"}
KINDS = {"T": "time", "C": "list"}
PIXELS = frozenset(
    {"type", "dimension", "sizes", "endian", "encoding", "data file", "datafile", "byte skip", "line skip"}
)
PLACES = frozenset({"space", "space dimension", "space directions", "space origin", "space units", "spacings", "units"})
AXES = frozenset({"kinds", "labels", "centers", "centerings", "thicknesses", "axis mins", "axis maxs", "sample units"})
STANDARD = PIXELS | PLACES | AXES | {"measurement frame", "content", "number", "old min", "old max", "min", "max"}


def read(path: Path, axes: str | None = None) -> Image:
    """Read an NRRD file; see `dip_sci.io.read`."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dict(nrrd.read_header(file))
            packed = file.read() if "data file" not in header and "datafile" not in header else None
        sizes = tuple(int(n) for n in header["sizes"])
        dtype = np.dtype(DTYPES[str(header["type"]).lower()])
    except (nrrd.NRRDError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ReadError(f"{path} has a damaged NRRD header ({type(error).__name__}); export it again.") from error
    if not 2 <= len(sizes) <= 5 or min(sizes) < 1:
        raise ReadError(f"{path} has the shape {sizes}; images of 2 to 5 dimensions can be read.")
    array = _values(header, packed, sizes, dtype, path)
    letters, notes = _letters(header, sizes, path, axes)
    spacing, units = _grid(header, letters)
    affine = _affine(header, letters)
    own = sorted(set(header) - STANDARD)
    source = Source(
        "nrrd",
        str(path),
        MappingProxyType(
            {
                "space": str(header.get("space", "")) if affine is not None else "",
                "pairs": {k: header[k] for k in own} | {k: header[k] for k in ("content",) if k in header},
                "own": (f"{len(own)} entries of the NRRD header",) if own else (),
                "lost": tuple(f"the NRRD header's {k}" for k in ("measurement frame", "labels") if k in header),
            }
        ),
        notes,
    )
    letters = letters[::-1]
    image = Image(array.T, letters, spacing[::-1], units[::-1], affine, source=source)
    if "S" in letters and not letters.endswith("S"):
        wanted = f"{letters.replace('S', '')}S"
        order = [letters.index(a) for a in wanted]
        image = Image(
            arranged(image.array, letters, wanted),
            wanted,
            tuple(image.spacing[i] for i in order),
            tuple(image.units[i] for i in order),
            affine,
            source=source,
        )
    return renamed(image, axes, path)


def _values(header: dict[str, Any], packed: bytes | None, sizes: tuple[int, ...], dtype: Any, path: Path) -> Any:
    """Return the values in the file's order of dimensions, fastest first."""
    nbytes = math.prod(sizes) * dtype.itemsize
    refuse_beyond_memory(2 * nbytes, path)
    if packed is None:
        packed = _beside(header, path).read_bytes()
    skip, lines = int(header.get("byte skip", 0)), int(header.get("line skip", 0))
    encoding = str(header.get("encoding", "raw")).lower()
    if lines or skip < -1 or (skip and encoding != "raw"):
        raise ReadError(f"{path} skips lines or bytes before its pixels in a way that is not read; save it again.")
    if encoding in ("text", "txt", "ascii"):
        try:
            values = np.array(packed.split(), dtype)
        except (ValueError, OverflowError):
            raise ReadError(f"{path} holds words where its numbers should be; copy or export it again.") from None
        refuse_beyond_file(nbytes, path, values.nbytes)
        return values[: math.prod(sizes)].reshape(sizes, order="F")
    raw = packed[-nbytes:] if skip == -1 else _unpacked(packed[max(skip, 0) :], encoding, nbytes, path)
    refuse_beyond_file(nbytes, path, len(raw))
    big = str(header.get("endian", "little")).lower() == "big"
    values = np.frombuffer(raw[:nbytes], dtype.newbyteorder(">" if big else "<"))
    return values.astype(dtype).reshape(sizes, order="F")


def _beside(header: dict[str, Any], path: Path) -> Path:
    name = str(header.get("data file", header.get("datafile")))
    body = path.parent / name
    if not name or "\n" in name or name.upper().startswith("LIST") or "%" in name:
        raise ReadError(f"{path} spreads its pixels over several files; save it as one .nrrd file.")
    if body.resolve().parent != path.parent.resolve():
        raise ReadError(f"{path} says that its pixels lie in another folder ({name!r:.80}); they are not followed.")
    if not body.is_file():
        raise ReadError(f"{path} keeps its pixels in {body.name}, which is missing beside it.")
    return body


def _unpacked(packed: bytes, encoding: str, nbytes: int, path: Path) -> bytes:
    """Unpack as much as the header announces and one byte more."""
    try:
        if encoding == "raw":
            return packed
        if encoding in ("gzip", "gz"):
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            raw = inflate.decompress(packed, nbytes + 1)
            # The check sum comes after the last byte.
            raw += inflate.decompress(inflate.unconsumed_tail, 1)
            if len(raw) == nbytes and not inflate.eof:
                raise EOFError
            return raw
        if encoding in ("bzip2", "bz2"):
            return bz2.BZ2Decompressor().decompress(packed, nbytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path} is truncated or damaged: its pixels cannot be unpacked. Copy it again.") from error
    raise ReadError(f"{path} is encoded as {encoding!r:.20}, which is not read; save it as gzip or raw.")


def _letters(
    header: dict[str, Any], sizes: tuple[int, ...], path: Path, axes: str | None
) -> tuple[str, tuple[str, ...]]:
    """Return the names of the dimensions, fastest first, and what was assumed."""
    kinds = [str(k).lower() for k in header.get("kinds", ())]
    kinds = kinds if len(kinds) == len(sizes) else ["???"] * len(sizes)
    directions = header.get("space directions")
    letters, spatial = [], iter("XYZ")
    assumed = False
    for i, kind in enumerate(kinds):
        placed = directions is not None and _row(directions, i) is not None
        if placed or kind in ("domain", "space"):
            letters.append(next(spatial, "?"))
        elif kind in LETTERS:
            letters.append(LETTERS[kind])
        elif kind in ("???", "none") and directions is None:
            letters.append(next(spatial, "T"))
            assumed = letters[-1] == "T"
        else:
            letters.append("C")
    found = "".join(letters)
    if "?" in found or len(set(found)) != len(found) or not {"X", "Y"} <= set(found):
        if axes is not None and len(axes) == len(sizes):
            return axes[::-1], ()
        raise ReadError(
            f"{path} has the shape {sizes} and does not name its axes clearly: give them, as in axes='TZYX'."
        )
    note = "The file does not say what its fourth dimension is; it was taken for time. Give the axes if it is not."
    return found, (note,) if assumed else ()


def _row(directions: Any, i: int) -> NDArray[np.float64] | None:
    """Return the direction of a dimension, `None` for one that is not spatial."""
    if i >= len(directions) or directions[i] is None:
        return None
    row = np.asarray(directions[i], np.float64)
    return row if row.ndim == 1 and np.isfinite(row).all() and row.any() else None


def _grid(header: dict[str, Any], letters: str) -> tuple[tuple[float | None, ...], tuple[str | None, ...]]:
    """Return spacing and units, fastest first."""
    directions, spacings = header.get("space directions", ()), header.get("spacings", ())
    units, space_units = list(header.get("units", ())), list(header.get("space units", ()))
    patient = str(header.get("space", "")).lower() in FRAMES
    steps: list[float | None] = []
    names: list[str | None] = []
    for i, letter in enumerate(letters):
        row = _row(directions, i)
        step = float(np.linalg.norm(row)) if row is not None else float(spacings[i]) if i < len(spacings) else math.nan
        own = full_name(units[i]) if i < len(units) else None
        if letter in "XYZ" and own not in LENGTHS and row is not None:
            own = full_name(space_units[0]) if space_units else "millimeter" if patient else None
        usable = math.isfinite(step) and step > 0 and letter not in "CS"
        steps.append(step if usable else None)
        names.append(own if usable else None)
    return tuple(steps), tuple(names)


def _affine(header: dict[str, Any], letters: str) -> NDArray[np.float64] | None:
    """Return the affine to RAS millimetres, where the file is in a patient's frame."""
    signs = FRAMES.get(str(header.get("space", "")).lower())
    if signs is None or not set("XYZ") <= set(letters):
        return None
    rows = [_row(header.get("space directions", ()), letters.index(a)) for a in "XYZ"]
    origin = np.asarray(header.get("space origin", (0, 0, 0)), np.float64)
    if any(r is None or r.shape != (3,) for r in rows) or origin.shape != (3,) or not np.isfinite(origin).all():
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.stack([r for r in rows if r is not None], axis=1)
    affine[:3, 3] = origin
    if abs(np.linalg.det(affine[:3, :3])) == 0:
        return None
    unit = full_name(next(iter(header.get("space units", ())), "mm"))
    affine[:3] *= convert(1.0, unit, "millimeter") if unit in LENGTHS else 1.0
    affine[:3] = np.array(signs)[:, None] * affine[:3]
    return affine


def keeps(path: Path, image: Image) -> frozenset[str]:
    """Return the parts of an image that NRRD holds."""
    own = {"own"} if image.source.format == "nrrd" else set()
    return frozenset({"affine", "spacing", "unitless", "time"} | own)


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where NRRD cannot hold the image."""
    _storable(image.array, path)
    if "S" in image.axes and image.size_of("S") not in (3, 4):
        raise WriteError(f"{path} cannot hold {image.size_of('S')} colour samples per pixel; 3 or 4 are possible.")


def write(path: Path, image: Image) -> None:
    """Write an NRRD file, packed by gzip; see `dip_sci.io.write`."""
    axes = "".join(a for a in "TCZYXS" if a in image.axes)
    # Where there is a place in a patient there is a depth.
    axes = axes.replace("YX", "ZYX") if image.affine is not None and "Z" not in axes else axes
    array = arranged(_storable(image.array, path), image.axes, axes)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    own = image.source.header if image.source.format == "nrrd" else {}
    header = dict(own.get("pairs", {})) | _placed(image, axes[::-1], str(own.get("space", "")))
    nrrd.write(str(path), np.ascontiguousarray(array).T, header, index_order="F", compression_level=6)


def _placed(image: Image, letters: str, space: str) -> dict[str, Any]:
    """Return the header's words on axes; `letters` are fastest first."""
    colour = "RGBA-color" if image.size_of("S") == 4 else "RGB-color"
    known = {a: (s, u) for a, s, u in zip(image.axes, image.spacing, image.units, strict=True)}
    steps = [known.get(a, (None, None)) for a in letters]
    in_space = image.affine is not None
    spacings = [
        math.nan if s is None or (in_space and a in "XYZ") else s for a, (s, _) in zip(letters, steps, strict=True)
    ]
    header: dict[str, Any] = {
        "kinds": [colour if a == "S" else KINDS.get(a, "space" if in_space else "domain") for a in letters]
    }
    if image.affine is not None:
        space = space if space.lower() in FRAMES else "left-posterior-superior"
        affine = np.array(FRAMES[space.lower()])[:, None] * image.affine[:3]
        rows = {a: affine[:, i] for i, a in enumerate("XYZ")}
        header |= {
            "space": space,
            "space directions": np.stack([rows.get(a, np.full(3, np.nan)) for a in letters]),
            "space origin": affine[:, 3],
            "space units": ["millimeter"] * 3,
        }
    if any(map(math.isfinite, spacings)):
        header["spacings"] = spacings
    units = [(u or "") if not (in_space and a in "XYZ") else "" for a, (_, u) in zip(letters, steps, strict=True)]
    if any(units):
        header["units"] = units
    return header


def _storable(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise WriteError(f"{path} cannot hold values of type {array.dtype}; convert them to float32.")
    return array
