"""The pixels of a DICOM file: what may be decoded, stored values, and what they mean."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLETransferSyntaxes,
)

from dip_sci.errors import DipSciError, ReadError
from dip_sci.io.dicom_codestreams import lossless_jpeg, refuse_odd_streams
from dip_sci.io.files import refuse_beyond_memory

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from dip_sci.io.dicom_planes import Plane

DECODERS = (
    (JPEG2000TransferSyntaxes, "pylibjpeg"),
    (JPEGLSTransferSyntaxes, "pyjpegls"),
    (RLETransferSyntaxes, "pydicom"),
    ((JPEGBaseline8Bit,), "pillow"),
)
"""The only decoder to try: pydicom goes on to the next one it finds, and gdcm ends the process on a damaged stream."""

LOSSLESS_JPEG = (JPEGLossless, JPEGLosslessSV1)

SHORT = 1 << 16
"""Bytes that may be asked for without a look at how many there are."""

INFLATED_MAX = 1 << 30
"""Bytes that a deflated file may grow to."""

PACKAGES = {
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
}
"""What decodes a transfer syntax; others are pylibjpeg-openjpeg's."""


def header_of(path: Path) -> Dataset:
    """Return a file's dataset without its pixels."""
    try:
        return _dataset(path, stop_before_pixels=True)
    except (DipSciError, MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001
        raise damaged(path, error) from None


def meta_of(path: Path) -> Dataset:
    """Return the file meta information: which kind of file it is."""
    with _from_mark(path) as file:
        read_preamble(file, force=False)
        return _read_file_meta_info(file)


def damaged(path: Path, error: Exception) -> ReadError:
    """Return the error for a file that pydicom fails on: its own words may quote a patient's name."""
    if isinstance(error, UserWarning):
        return ReadError(f"{path} is truncated or damaged: its pixels end too early. Copy or export it again.")
    return ReadError(
        f"{path} is a damaged DICOM file, or not one that can be read ({type(error).__name__}); export it again."
    )


def _dataset(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        with _from_mark(path) as file:
            _refuse_inflating(file, path)
            dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
            # Where the pixels begin, for `decode`; an inflated file is another one.
            deflated = dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
            dataset.pixels_at = None if deflated or not stop_before_pixels else file.tell()
            if "TransferSyntaxUID" not in dataset.file_meta:
                explicit = not dataset.original_encoding[0]
                dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
            return dataset
    except InvalidDicomError as error:
        raise ReadError(f"{path} is not a DICOM file; name an image file.") from error
    except RecursionError as error:
        raise ReadError(f"{path} is a damaged DICOM file: its sequences are nested without end.") from error


class _Bounded(io.BufferedReader):
    """A file that ends where more is asked for than it holds.

    pydicom asks for as many bytes as an element says it has, and Python makes room for them before it looks.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(str(path)))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > SHORT and size > self._size - self.tell():
            # To pydicom, the end of the file.
            raise EOFError
        return super().read(size)


def _from_mark(path: Path) -> BinaryIO:
    """Open a file; one without preamble and mark gets them."""
    file = _Bounded(path)
    marked = file.read(132)[128:] == b"DICM"
    file.seek(0)
    if marked:
        return file
    with file:
        # Told apart from any other file by its first elements; see registry. Not force=True, which reads anything.
        return io.BytesIO(b"\0" * 128 + b"DICM" + file.read())


def _refuse_inflating(file: BinaryIO, path: Path) -> None:
    """Refuse a deflated file that grows out of proportion: pydicom inflates it whole, even for its header."""
    read_preamble(file, force=False)
    # pydicom's own way to the first inflated byte: the length that the header claims may be a lie.
    meta = _read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    grown = 0
    while not inflater.eof:
        data = inflater.unconsumed_tail or file.read(1 << 16)
        if not data:
            raise ReadError(f"{path} is a truncated deflated DICOM file; copy or export it again.")
        grown += len(inflater.decompress(data, 1 << 20))
        if grown > INFLATED_MAX:
            raise ReadError(f"{path} is a deflated DICOM file that grows beyond 1 GB; export it uncompressed.")
    file.seek(0)


def refuse_unfit(dataset: Dataset, planes: int, path: Path) -> None:
    """Raise a `ReadError` where the announced image is empty, too large, or of unknown depth."""
    rows, columns = int(dataset.Rows or 0), int(dataset.Columns or 0)
    if rows < 1 or columns < 1:
        raise ReadError(f"{path} announces an image of {rows} x {columns} pixels; it is damaged, export it again.")
    bits = int(dataset.get("BitsAllocated") or 0)
    if bits not in (1, 8, 16, 32, 64):
        raise ReadError(f"{path} announces {bits} bits per pixel, which is not a DICOM image; export it again.")
    # Decoded stored values, and float32 values beside them.
    nbytes = rows * columns * planes * int(dataset.get("SamplesPerPixel") or 1) * (max(1, bits // 8) + 4)
    refuse_beyond_memory(nbytes, path)
    size = path.stat().st_size if path.is_file() else planes
    if planes > size:
        raise ReadError(f"{path} announces {planes} frames in {size} bytes; it is damaged, export it again.")


def decode(path: Path, header: Dataset | None = None) -> NDArray[Any]:
    """Return a file's stored values, ``(frames, rows, columns[, samples])``; colours as RGB.

    Parameters
    ----------
    path
        The file.
    header
        From `header_of`, if at hand: then only what follows it is read.
    """
    try:
        dataset = _with_pixels(path, header)
    except (ValueError, EOFError, UserWarning) as error:
        raise damaged(path, error) from None
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ReadError(f"{path} ends before its pixels; it is truncated, copy or export it again.")
    refuse_odd_streams(dataset, path)
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = next((name for known, name in DECODERS if syntax in known), "")
    if syntax == JPEGExtended12Bit:
        plugin = "pillow" if int(dataset.get("BitsStored") or 0) <= 8 else "pylibjpeg"
    try:
        if syntax in LOSSLESS_JPEG:
            array = lossless_jpeg(dataset)
        else:
            array = np.asarray(pixel_array(dataset, decoding_plugin=plugin))
    except (RuntimeError, NotImplementedError, ImportError, AttributeError, ValueError, TypeError) as error:
        raise ReadError(_not_decoded(dataset, path)) from error
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
    samples = 1 if array.shape[-1] in (3, 4) and array.ndim > 2 and coloured(dataset) else 0
    return array if array.ndim - samples == 3 else array[None]


def _with_pixels(path: Path, header: Dataset | None) -> Dataset:
    """Return a file's dataset, pixels and all."""
    if header is None or header.pixels_at is None:
        return _dataset(path, stop_before_pixels=False)
    implicit, little = header.original_encoding
    with _from_mark(path) as file:
        file.seek(header.pixels_at)
        rest = read_dataset(file, bool(implicit), bool(little))
    dataset = Dataset({**header._dict, **rest._dict})
    dataset.file_meta = header.file_meta
    dataset.set_original_encoding(implicit, little, header.original_character_set)
    return dataset


def coloured(dataset: Dataset) -> bool:
    """Whether an image's pixels are colours."""
    return int(dataset.get("SamplesPerPixel", 1)) > 1 or dataset.PhotometricInterpretation == "PALETTE COLOR"


def _not_decoded(dataset: Dataset, path: Path) -> str:
    """Say why pixels were not decoded: a decoder that is missing, or damage."""
    syntax = dataset.file_meta.TransferSyntaxUID
    name = getattr(syntax, "name", str(syntax))
    if syntax == JPEGExtended12Bit and int(dataset.get("BitsStored") or 0) > 8:
        return f"{path} is compressed as 12-bit JPEG, which needs one more package: pip install dip-sci[jpeg12]"
    if not syntax.is_compressed:
        return f"{path} is truncated or damaged: its pixels do not fill the image it announces. Export it again."
    try:
        own = syntax.is_deflated or syntax in LOSSLESS_JPEG
        available = own or bool(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return f"{path} is compressed in a way that cannot be read ({name}); export it uncompressed."
    if not available:
        package = PACKAGES.get(str(syntax), "pylibjpeg-openjpeg")
        return f"{path} is compressed ({name}), and its decoder is not installed: pip install {package}"
    return (
        f"{path} could not be decoded ({name}): it is truncated or damaged. Export it again, uncompressed if you can."
    )


def padding(stored: NDArray[Any], planes: list[Plane]) -> NDArray[np.bool_] | None:
    """Return where something was measured, by stored values; `None` where everything was."""
    if stored.dtype.kind not in "iu" or all(p.padding is None for p in planes):
        return None
    valid: NDArray[np.bool_] | None = None
    for i, plane in enumerate(planes):
        if plane.padding is not None:
            lo, hi = plane.padding
            measured = (stored[i] < lo) | (stored[i] > hi)
            if valid is None and not measured.all():
                valid = np.ones(stored.shape, bool)
            if valid is not None:
                valid[i] = measured
    return valid


def modality_values(
    stored: NDArray[Any], planes: list[Plane], dataset: Dataset, dtype: np.dtype[Any] | None = None
) -> tuple[NDArray[Any], tuple[float, float] | None, tuple[str, ...]]:
    """Return the modality's values, the range that the stored type allows them, and notes.

    Integers stay integers where the slope is 1 and the intercept whole; anything else becomes float32.

    Parameters
    ----------
    stored
        Values of all planes; turned into the result in place where its type allows.
    planes
        With their slopes and intercepts.
    dataset
        Header of one of them.
    dtype
        The type that the files store, where `stored` has another one.
    """
    dtype = dtype or stored.dtype
    notes: tuple[str, ...] = ()
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        notes = ("Low values are bright in this image (MONOCHROME1); they were read as stored, not inverted.",)
    if stored.dtype.kind == "f":
        return stored, None, notes
    lo, hi = stored_limits(stored, dataset, dtype)
    if coloured(dataset):
        return stored, None, notes
    if dataset.get("ModalityLUTSequence"):
        notes += ("The table that gives the stored values their meaning (Modality LUT) was not applied.",)
        return stored, _narrower(lo, hi, stored.dtype), notes
    slopes, intercepts = [p.slope for p in planes], [p.intercept for p in planes]
    ends = [s * v + b for s, b in zip(slopes, intercepts, strict=True) for v in (lo, hi)]
    low, high = min(ends), max(ends)
    kind = _whole_type(planes, lo, hi, dtype)
    if kind is not None:
        array = stored.astype(kind, copy=False)
        for i, intercept in enumerate(intercepts):
            array[i] += kind.type(int(intercept))
        return array, _narrower(low, high, array.dtype), notes
    array = np.empty(stored.shape, np.float32 if _bits(dtype, dataset) <= 24 else np.float64)
    for i, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        array[i] = stored[i] * np.float64(slope) + intercept
    return array, (float(low), float(high)), notes


def room_for(dtype: np.dtype[Any], planes: list[Plane], dataset: Dataset) -> np.dtype[Any]:
    """Return the type to collect stored values in, so that the modality's need no second array where they are whole."""
    if dtype.kind not in "iu" or coloured(dataset) or dataset.get("ModalityLUTSequence"):
        return dtype
    kind = _whole_type(planes, *_announced(dtype, dataset), dtype)
    return kind if kind is not None and np.can_cast(dtype, kind) else dtype


def _whole_type(planes: list[Plane], lo: int, hi: int, dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the type of the modality's values for stored ones from `lo` to `hi`; `None` where they are not whole."""
    if not all(p.slope == 1 and p.intercept == int(p.intercept) for p in planes):
        return None
    if not any(p.intercept for p in planes):
        return dtype
    low, high = lo + min(p.intercept for p in planes), hi + max(p.intercept for p in planes)
    fit = (t for t in (np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return next((np.dtype(t) for t in fit), None)


def stored_limits(stored: NDArray[Any], dataset: Dataset, dtype: np.dtype[Any] | None = None) -> tuple[int, int]:
    """Return the smallest and the largest value that an integer image, of the type `dtype` in its file, may store."""
    dtype = dtype or stored.dtype
    lo, hi = _announced(dtype, dataset)
    if int(stored.min()) < lo or int(stored.max()) > hi:
        # Padding, or plain carelessness, beyond the bits that the header announces.
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return lo, hi


def _announced(dtype: np.dtype[Any], dataset: Dataset) -> tuple[int, int]:
    bits = _bits(dtype, dataset)
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)


def _bits(dtype: np.dtype[Any], dataset: Dataset) -> int:
    return int(dataset.get("BitsStored") or 0) or dtype.itemsize * 8


def _narrower(low: float, high: float, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Return the range, where the type alone does not say it."""
    limits = np.iinfo(dtype)
    return None if (low, high) == (limits.min, limits.max) else (float(low), float(high))
