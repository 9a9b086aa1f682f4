"""What is refused of a Zarr array before a byte of it is decoded: foreign paths, pickles, and claims it cannot keep."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from typing import TYPE_CHECKING, Any

from dip_sci.errors import ReadError
from dip_sci.io.files import human, refuse_beyond_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODECS = frozenset(
    {
        *("bytes", "blosc", "gzip", "zstd", "crc32c", "transpose", "sharding_indexed"),
        *("zlib", "lz4", "bz2", "lzma", "shuffle", "delta"),
    }
)
"""Codecs that only turn bytes into numbers. Zarr knows others; one of them runs code that the file brings (pickle)."""

MAX_TEXT = 2**24
"""Bytes of metadata; those of real images are a thousandth of it."""

ANY_SIZE = 2**28
"""An image up to this size may be all fill value or perfectly compressible."""

MAX_RATIO = 2**16
"""Beyond `ANY_SIZE`: more bytes per byte on disk than any image has."""

MANY_CHUNKS = 20_000
STEP = 2**20


def inside(root: Path, name: Any, path: Path) -> Path:
    """Return the folder `name` below `root`; raise a `ReadError` for one that leads elsewhere."""
    if not isinstance(name, str) or not name:
        raise ReadError(f"{path} has a level without a path in its metadata; it is damaged. Export it again.")
    place = root / name
    if not place.resolve().is_relative_to(root.resolve()):
        raise ReadError(f"{path} says that a level of it lies elsewhere ({name!r:.80}); such places are not followed.")
    return place


def metadata(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a folder, empty where it is not there."""
    file = folder / name
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_TEXT:
        raise ReadError(f"{file} is {human(file.stat().st_size)} of metadata; no image has so much. Export it again.")
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise ReadError(f"{file} is damaged: it is no JSON. Copy or export the image again.") from None
    return found if isinstance(found, dict) else {}


def refuse_array(level: Path, path: Path, *, whole: bool = True) -> None:
    """Raise a `ReadError` where an array uses other codecs than those known, or claims more than it can hold.

    Only where the `whole` array is to be read must it fit the memory; a chunk of it always must.
    """
    array = metadata(level, "zarr.json") or metadata(level, ".zarray")
    try:
        shape = tuple(int(n) for n in array["shape"])
        chunk = tuple(int(n) for n in _chunk(array))
        codecs = list(_codecs(array))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ReadError(f"{path} is damaged: its array {level.name} is not described. Export it again.") from None
    strange = [c for c in codecs if c.removeprefix("numcodecs.") not in CODECS]
    if strange:
        raise ReadError(f"{path} is compressed by {strange[0]!r:.40}, which is not read; save it with zstd or blosc.")
    if len(chunk) != len(shape) or min((*shape, *chunk), default=0) < 1:
        raise ReadError(f"{path} has the shape {shape} in chunks of {chunk}; it is empty or damaged.")
    itemsize = _itemsize(array, path)
    grid = math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
    if whole:
        refuse_beyond_memory(math.prod(shape) * itemsize, path)
    refuse_beyond_memory(math.prod(chunk) * itemsize, path)
    inside = list(level.rglob("*"))
    if any(f.is_symlink() for f in inside):
        raise ReadError(f"{path} holds links to other places, which are not followed; copy it with its pixels.")
    files = [f for f in inside if f.is_file() and not f.name.startswith((".", "zarr.json"))]
    _refuse_claims(path, grid, math.prod(shape) * itemsize, math.prod(chunk) * itemsize, files)
    for file in files:
        _refuse_bomb(file, math.prod(chunk) * itemsize, path)


def missing(level: Path) -> int:
    """Return how many chunks of an array are not there, and read as its fill value."""
    array = metadata(level, "zarr.json") or metadata(level, ".zarray")
    grid = math.prod(-(-int(n) // int(c)) for n, c in zip(array["shape"], _chunk(array), strict=True))
    return grid - sum(f.is_file() and not f.name.startswith((".", "zarr.json")) for f in level.rglob("*"))


def _chunk(array: dict[str, Any]) -> list[Any]:
    found = array["chunks"] if "chunks" in array else array["chunk_grid"]["configuration"]["chunk_shape"]
    return list(found)


def _codecs(array: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs, those inside shards too."""
    if array.get("zarr_format") == 2:
        for codec in (array.get("compressor"), *(array.get("filters") or ())):
            if codec is not None:
                yield str(codec["id"])
        return
    pending = list(array["codecs"])
    while pending:
        codec = pending.pop()
        yield str(codec["name"])
        inner = codec.get("configuration") or {}
        pending += [*inner.get("codecs", ()), *inner.get("index_codecs", ())]


def _itemsize(array: dict[str, Any], path: Path) -> int:
    dtype = array.get("dtype", array.get("data_type"))
    digits = "".join(c for c in dtype if c.isdigit()) if isinstance(dtype, str) else ""
    if not isinstance(dtype, str) or (not digits and dtype != "bool") or len(digits) > 3:
        raise ReadError(f"{path} holds values of a type that is no number; save them as integers or float32.")
    if dtype == "bool":
        return 1
    # "<u2" counts bytes, "uint16" bits.
    return int(digits) if "dtype" in array else max(1, int(digits) // 8)


def _refuse_claims(path: Path, grid: int, nbytes: int, chunk: int, files: list[Path]) -> None:
    found = sum(f.stat().st_size for f in files)
    if not files or (grid > MANY_CHUNKS and grid > 4 * len(files)):
        raise ReadError(f"{path} announces {grid} chunks of pixels, and {len(files)} are there; copy it again.")
    if max(nbytes, chunk) > ANY_SIZE and max(nbytes, chunk) > found * MAX_RATIO:
        raise ReadError(
            f"{path} announces {human(max(nbytes, chunk))} of pixels in {human(found)} of files: it is damaged or "
            "made to fill the memory."
        )


def _refuse_bomb(file: Path, expected: int, path: Path) -> None:
    """Refuse a chunk that says of itself, or shows, that it unpacks to far more than it should hold."""
    limit = max(4 * expected, STEP)
    with file.open("rb") as opened:
        head = opened.read(18)
    size = _said(head)
    if head[:2] == b"\x1f\x8b" or (head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0):
        size = _unpacked(file, limit) if file.stat().st_size * 1032 > limit else 0
    if size > limit:
        raise ReadError(f"{path} holds a chunk that unpacks to more than it should; it is damaged or made to harm.")


def _said(head: bytes) -> int:
    """Return the size that a chunk by zstd or blosc announces, 0 where it announces none."""
    if head[:4] == b"\x28\xb5\x2f\xfd" and len(head) >= 14:
        flags = head[4]
        size, single, dictionary = flags >> 6, flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
        at = 5 + (not single) + dictionary
        width = (1 if single else 0, 2, 4, 8)[size]
        return int.from_bytes(head[at : at + width], "little")
    if head[:1] == b"\x02" and len(head) >= 16:
        return int.from_bytes(head[4:8], "little")
    return 0


def _unpacked(file: Path, limit: int) -> int:
    """Return how much a deflated chunk unpacks to, counting no further than `limit`."""
    total = 0
    try:
        with file.open("rb") as raw:
            if raw.read(2) == b"\x1f\x8b":
                raw.seek(0)
                with gzip.GzipFile(fileobj=raw) as unzipped:
                    while total <= limit and (part := unzipped.read(STEP)):
                        total += len(part)
                return total
            raw.seek(0)
            inflate = zlib.decompressobj()
            rest = raw.read(STEP)
            while rest and total <= limit:
                total += len(inflate.decompress(rest, STEP))
                rest = inflate.unconsumed_tail or raw.read(STEP)
    except (OSError, EOFError, zlib.error):
        return total
    return total
