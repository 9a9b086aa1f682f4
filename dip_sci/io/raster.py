"""PNG (in and out), JPEG and BMP (in only): pictures without spacing, axes ``YX`` or ``YXS``."""

from __future__ import annotations

import struct
import warnings
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from PIL import Image as Pillow

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io.axes import arranged, renamed
from dip_sci.io.files import DEFLATE_RATIO, refuse_beyond_file, refuse_beyond_memory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PNG = b"\x89PNG\r\n\x1a\n"
PALETTE = 3
GREY_ALPHA = 2
KEEPS: frozenset[str] = frozenset()
"""PNG is written with values alone."""


def read(path: Path, axes: str | None = None) -> Image:
    """Read a PNG, JPEG or BMP picture; see `dip_sci.io.read`."""
    with path.open("rb") as file:
        is_png = file.read(8) == PNG
    array, notes = _read_png(path) if is_png else _read_other(path)
    if array.ndim == 3 and array.shape[2] == GREY_ALPHA:
        array = np.ascontiguousarray(array[..., 0])
        notes += ("The picture's transparency was left out.",)
    source = Source("raster", str(path), MappingProxyType({"png": is_png}), notes)
    return renamed(Image(array, "YXS"[: array.ndim], source=source), axes, path)


def _read_png(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    # Not by Pillow: it reads 16-bit colours as 8 bits.
    data = path.read_bytes()
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ReadError(f"{path} is a truncated PNG picture; copy or export it again.")
    columns, rows, bits, kind = struct.unpack(">IIBB", data[16:26])
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(kind, 4)
    refuse_beyond_file(rows * columns * samples * bits // 8, path, len(data) * DEFLATE_RATIO)
    refuse_beyond_memory(rows * columns * (4 if kind == PALETTE else samples) * max(1, bits // 8), path)
    _refuse_damaged_png(data, path)
    try:
        array = imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        raise ReadError(f"{path} is a damaged PNG picture ({error}); copy or export it again.") from error
    if kind == PALETTE:
        return array, ("The picture's colour table was turned into RGB.",)
    if bits < 8:
        return array, (f"The picture's {bits}-bit grey values were spread over 8 bits.",)
    return array, ()


def _refuse_damaged_png(data: bytes, path: Path) -> None:
    """Check every chunk's sum: libpng prints its complaints, and is content without the last rows'."""
    at, kind = len(PNG), b""
    while kind != b"IEND":
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 12 + size
        if at > len(data):
            raise ReadError(f"{path} is a truncated PNG picture; copy or export it again.")
        if zlib.crc32(data[at - 8 - size : at - 4]) != int.from_bytes(data[at - 4 : at], "big"):
            raise ReadError(f"{path} is a damaged PNG picture (wrong check sum); copy or export it again.")


def _read_other(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    with warnings.catch_warnings():
        # Pillow warns of odd camera data beside the pixels, and only warns of a size that no camera makes.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        try:
            with Pillow.open(path, formats=("JPEG", "BMP")) as picture:
                refuse_beyond_memory(picture.width * picture.height * 4, path)
                if picture.mode not in ("L", "RGB", "RGBA"):
                    notes = (f"The picture's colours were converted from {picture.mode} to RGB.",)
                    return np.asarray(picture.convert("RGB")), notes
                return np.asarray(picture), notes
        except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
            raise ReadError(f"{path} claims more pixels than is plausible; crop it, or save it as .tif.") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise ReadError(f"{path} is a damaged or truncated picture ({error}); copy it again.") from error


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where PNG cannot hold the image."""
    if image.dtype not in (np.uint8, np.uint16):
        raise WriteError(
            f"{path} cannot hold values of type {image.dtype}: PNG knows 8- and 16-bit unsigned integers. Write .tif."
        )
    if any(image.size_of(a) > 1 for a in image.axes if a in "TCZ"):
        raise WriteError(f"{path} cannot hold an image of axes {image.axes!r}: PNG holds one plane. Write .tif.")
    if "S" in image.axes and image.size_of("S") not in (1, 3, 4):
        raise WriteError(f"{path} cannot hold {image.size_of('S')} colour samples per pixel; write .tif.")


def write(path: Path, image: Image) -> None:
    """Write a PNG picture; see `dip_sci.io.write`."""
    check(path, image)
    array = arranged(image.array, image.axes, "TCZYXS")[0, 0, 0]
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array)))
