"""Compressed pixels: whether they are whole and as large as the header says; lossless JPEG, decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from dip_sci.errors import ReadError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

SIZE_RATIO = 2
"""How many times the announced pixels a stream may hold; some encoders fill up their last blocks."""

HEIGHT_MARKS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""JPEG's and JPEG-LS's markers of a frame's header."""


def refuse_odd_streams(dataset: Dataset, path: Path) -> None:
    """Raise a `ReadError` where compressed pixels are cut, or claim a far larger image than the header.

    Decoders return something for a cut JPEG 2000 stream, silently, and allocate what a stream claims.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEGTransferSyntaxes):
        return
    # Pillow says itself where the other kinds of JPEG end too early.
    whole = syntax in (
        *JPEG2000TransferSyntaxes,
        *(JPEGLSLossless, JPEGLSNearLossless, JPEGLossless, JPEGLosslessSV1),
    )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    for frame in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
        if whole and b"\xff\xd9" not in frame[-4:]:
            jpeg = "lossless JPEG" if syntax in JPEGTransferSyntaxes else "JPEG-LS"
            name = "JPEG 2000" if syntax in JPEG2000TransferSyntaxes else jpeg
            raise ReadError(f"{path} is truncated: its {name} pixels end too early. Copy or export it again.")
        height, width = _size(frame)
        if height * width > SIZE_RATIO * rows * columns:
            raise ReadError(
                f"{path} announces {rows} x {columns} pixels, and its compressed image {height} x {width}; it is "
                "damaged, export it again."
            )


def lossless_jpeg(dataset: Dataset) -> NDArray[Any]:
    """Decode lossless JPEG, ``(frames, rows, columns[, samples])``; colours as RGB.

    Not by gdcm, pydicom's only choice: it ends the process on a damaged stream.

    Raises
    ------
    ValueError
        If a frame is damaged or of another size or type than announced.
    """
    import imagecodecs

    count, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    shape = (int(dataset.Rows), int(dataset.Columns), *((samples,) if samples > 1 else ()))
    dtype = np.dtype(f"{'i' if dataset.PixelRepresentation else 'u'}{int(dataset.BitsAllocated) // 8}")
    frames = np.empty((count, *shape), dtype)
    found = 0
    for found, data in enumerate(generate_frames(dataset.PixelData, number_of_frames=count), 1):
        try:
            frame = imagecodecs.ljpeg_decode(data)
        except imagecodecs.LjpegError as error:
            raise ValueError("a damaged frame") from error
        if frame.shape != shape or frame.dtype.itemsize != dtype.itemsize or found > count:
            raise ValueError("a frame of another size or type")
        frames[found - 1] = _signed(frame.view(dtype), int(dataset.get("BitsStored") or 0))
    if found != count:
        raise ValueError("too few frames")
    if str(dataset.PhotometricInterpretation).startswith("YBR"):
        return np.asarray(convert_color_space(frames, dataset.PhotometricInterpretation, "RGB", per_frame=True))
    return frames


def _signed(frame: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return signed values of fewer bits than their type, which a stream holds without their sign's repetitions."""
    spare = frame.dtype.itemsize * 8 - bits
    if frame.dtype.kind == "u" or not 0 < spare < frame.dtype.itemsize * 8:
        return frame
    return np.asarray((frame << spare) >> spare)


def _size(frame: bytes) -> tuple[int, int]:
    """Return the rows and columns that a stream claims; zeros where it does not begin as such streams do."""

    def number(start: int, length: int) -> int:
        return int.from_bytes(frame[start : start + length], "big")

    if frame[:4] == b"\xff\x4f\xff\x51":
        return number(12, 4) - number(20, 4), number(8, 4) - number(16, 4)
    place = 2
    while frame[:2] == b"\xff\xd8" and frame[place : place + 1] == b"\xff":
        mark = frame[place + 1]
        if mark in HEIGHT_MARKS:
            return number(place + 5, 2), number(place + 7, 2)
        # Fill bytes have no length.
        place += 1 if mark == 0xFF else 2 + number(place + 2, 2)
    return 0, 0
