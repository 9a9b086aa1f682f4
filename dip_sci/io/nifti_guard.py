"""What is refused of a NIfTI file before its pixels are read: kinds of values, and sizes that it cannot hold."""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING, Any, Literal

from dip_sci.errors import ReadError
from dip_sci.io.files import refuse_beyond_file, refuse_beyond_memory

if TYPE_CHECKING:
    from pathlib import Path

MOST_AXES = 5
MAX_EXTENSIONS = 2**26
"""Bytes of extensions; those of real files are a hundredth of it."""


def refuse_unfit(loaded: Any, path: Path, size: int, *, whole: bool = True) -> None:
    """Raise a `ReadError` where an image is of a kind or a size that is not read.

    `size` is the most its file holds; only where the `whole` image is to be read must it fit the memory.
    """
    header = loaded.header
    shape = header.get_data_shape()
    if len(shape) < 2 or len(shape) > MOST_AXES or min(shape, default=0) < 1:
        raise ReadError(f"{path} has the shape {tuple(shape)}; images of 2 to 5 dimensions can be read.")
    dtype = header.get_data_dtype()
    if dtype.names:
        raise ReadError(f"{path} holds RGB colours, not a measured quantity; export it as PNG or TIFF instead.")
    if dtype.kind == "c":
        raise ReadError(f"{path} holds complex numbers; save their magnitude (or real part) as float32 and read that.")
    # Python's integers: numpy's would overflow on the very headers that this is about.
    count = 1
    for n in shape:
        count *= int(n)
    nbytes = count * dtype.itemsize
    refuse_beyond_file(nbytes + int(header.get_data_offset()), path, size)
    if not whole:
        return
    # Not by the header's own fields: nibabel moves them to the array when it loads.
    scaled = (loaded.dataobj.slope, loaded.dataobj.inter) != (1, 0)
    refuse_beyond_memory(nbytes * 3 if scaled else nbytes, path)


def refuse_extensions(file: IO[bytes], size: int, paired: bool, path: Path) -> None:
    """Refuse extensions whose lengths are wrong: nibabel would ask for as many bytes as they say, or for all."""
    head = file.read(size)
    order: Literal["little", "big"] = "little" if int.from_bytes(head[:4], "little") == size else "big"
    if size == 348:
        (offset,) = struct.unpack("<f" if order == "little" else ">f", head[108:112].ljust(4, b"\0"))
    else:
        offset = int.from_bytes(head[168:176], order, signed=True)
    # From an offset before their beginning nibabel concludes that they go on to the end.
    endless = paired or not size + 4 <= offset < MAX_EXTENSIONS
    left = MAX_EXTENSIONS if endless else int(offset) - size - 4
    present = file.read(4)[:1] not in (b"", b"\0")
    while present and left >= 16:
        said = file.read(8)
        length = int.from_bytes(said[:4], order, signed=True)
        if len(said) < 8 and endless:
            break
        if not 16 <= length <= left or len(file.read(length - 8)) < length - 8:
            raise ReadError(f"{path} has a NIfTI extension of a length that cannot be; copy or export it again.")
        left -= length
    file.seek(0)
