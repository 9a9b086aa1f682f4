"""DICOM: a single image, a multi-frame image, or one series of a folder or DICOMDIR; out as a derived series.

Values are the modality's (Hounsfield units, SUV, ...): stored values times rescale slope plus intercept, each
slice with its own. Real-world value maps, windows and inversion for display are not applied. Slices are ordered
by their positions alone. Nothing that names a patient leaves this module.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import DipSciError, ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io import dicom_out
from dip_sci.io.axes import renamed
from dip_sci.io.dicom_pixels import damaged, decode, header_of, modality_values, padding, refuse_unfit, room_for
from dip_sci.io.dicom_planes import Plane, affine_of, ordered, planes_of
from dip_sci.io.dicom_series import Entry, chosen, is_directory_file, part_of
from dip_sci.io.dicom_series import contents as series_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

TILED = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""Whole slide microscopy."""


def read(path: Path, axes: str | None = None, series: str | None = None) -> Image:
    """Read a DICOM file, or a series of a folder or DICOMDIR; see `dip_sci.io.read`."""
    try:
        with _quiet():
            if path.is_dir() or is_directory_file(path):
                return _read_series(path, axes, series)
            return _read_file(path, axes, series)
    except (DipSciError, MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001
        raise damaged(path, error) from None


def contents(path: Path) -> list[Entry]:
    """Return what can be read of a DICOM file, folder or DICOMDIR: its series, and the parts of each.

    Raises
    ------
    ReadError
        If there is none, or a file is damaged.
    """
    try:
        with _quiet():
            return series_of(path)
    except (DipSciError, MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001
        raise damaged(path, error) from None


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where the image cannot become a derived DICOM series."""
    with _quiet(), _discreet(path):
        dicom_out.check(path, image)


def write(path: Path, image: Image, description: str = "") -> None:
    """Write a derived DICOM series; see `dip_sci.io.write`."""
    with _quiet(), _discreet(path):
        dicom_out.write(path, image, description)


@contextmanager
def _discreet(path: Path) -> Iterator[None]:
    """Keep what pydicom says of a value it cannot write to itself: it may be a patient's name."""
    try:
        yield
    except (DipSciError, MemoryError, OSError):
        raise
    except Exception as error:  # noqa: BLE001
        raise WriteError(
            f"{path} could not be written as DICOM ({type(error).__name__}): its source holds values that are not "
            "valid. Nothing was left behind; write .nii.gz instead."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's warnings of odd values to itself: half of all real files have some."""
    logger = logging.getLogger("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # These two mean pixels that are not there, or not where they should be.
        warnings.filterwarnings("error", message=".*(expected length|end of file|fewer|less than the expected).*")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def _read_file(path: Path, axes: str | None, wanted: str | None) -> Image:
    dataset = header_of(path)
    _refuse_kind(dataset, path)
    refuse_unfit(dataset, int(dataset.get("NumberOfFrames") or 1), path)
    planes = planes_of(dataset, path)
    return _image(path, {path: dataset}, planes if _by_number(axes) else part_of(path, planes, wanted), axes)


def _read_series(path: Path, axes: str | None, wanted: str | None) -> Image:
    """Read one series of a folder."""
    files, planes = chosen(path, wanted, split=not _by_number(axes))
    for file, dataset in files:
        _refuse_kind(dataset, file)
        refuse_unfit(dataset, int(dataset.get("NumberOfFrames") or 1), file)
    _refuse_mixed(files, path)
    if len(files) > 1 and any(int(d.get("NumberOfFrames") or 1) > 1 for _, d in files):
        raise ReadError(f"The folder {path} holds {len(files)} multi-frame images; name one of the files.")
    if planes is None:
        planes = [plane for file, dataset in files for plane in planes_of(dataset, file)]
    return _image(path, dict(files), planes, axes)


def _by_number(axes: str | None) -> bool:
    """Whether planes are stacked in the order of their numbers, wherever they lie."""
    return axes is not None and not axes.startswith("Z")


def _refuse_kind(dataset: Dataset, path: Path) -> None:
    if "Rows" not in dataset or "Columns" not in dataset:
        kind = dataset.get("Modality", "no image")
        raise ReadError(f"{path} is a DICOM file without an image ({kind}), or it is truncated; name an image file.")
    if dataset.get("SOPClassUID", "").startswith(TILED):
        raise ReadError(f"{path} is a tiled slide of microscopy; export the part of interest as OME-TIFF.")
    if dataset.get("Modality") in ("SEG", "RTDOSE"):
        raise ReadError(
            f"{path} holds {dataset.Modality}, which is computed and not measured; name the images instead."
        )
    if "MOSAIC" in dataset.get("ImageType", ()):
        raise ReadError(f"{path} is a Siemens mosaic, many slices in one picture; convert it to NIfTI with dcm2niix.")


def _refuse_mixed(files: list[tuple[Path, Dataset]], path: Path) -> None:
    """Refuse a series whose images do not fit together, naming what differs."""
    for name in ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "FrameOfReferenceUID"):
        values = {str(dataset.get(name, "")) for _, dataset in files}
        if len(values) > 1:
            shown = f" ({', '.join(sorted(values))})" if "UID" not in name else ""
            raise ReadError(
                f"The images in {path} do not form one volume: they differ in {name}{shown}. "
                "Put those that belong together into a folder of their own, or name a single file."
            )


def _image(path: Path, headers: dict[Path, Dataset], planes: list[Plane], axes: str | None) -> Image:
    """Put the planes together, by their positions or, as `axes` may ask, as they are numbered."""
    first = next(iter(headers.values()))
    refuse_unfit(first, len(planes), path)
    colour = int(first.get("SamplesPerPixel", 1)) > 1 or first.PhotometricInterpretation == "PALETTE COLOR"
    found = "YXS" if colour else "YX"
    notes: tuple[str, ...] = ()
    step: tuple[float | None, str | None] = (None, None)
    if len(planes) > 1:
        lead, planes, step, notes = ordered(planes, first, path, by_number=_by_number(axes))
        found = lead + found
    stored, dtype = _stacked(planes, headers, path)
    valid = padding(stored, planes)
    array, value_range, more = modality_values(stored, planes, first, dtype)
    if valid is not None and not valid.any():
        valid, more = None, (*more, "Every voxel has the padding value; none was taken for padding.")
    if len(planes) == 1:
        array, valid = array[0], valid if valid is None else valid[0]
    row, column = planes[0].spacing or (None, None)
    in_plane = [s for s, _ in zip((row, column, None), found[-3:] if colour else found[-2:], strict=False)]
    spacing = [*([step[0]] if len(planes) > 1 else []), *in_plane]
    units = [*([step[1]] if len(planes) > 1 else []), *("millimeter" if s else None for s in in_plane)]
    depth = step[0] if found[0] == "Z" else None
    image = Image(
        array,
        found,
        tuple(spacing),
        tuple(units),
        affine_of(planes, depth) if found[0] in "ZY" else None,
        valid,
        value_range,
        Source("dicom", str(path), MappingProxyType(_header(planes, first)), notes + more, (), first.get("Modality")),
    )
    return renamed(image, axes, path)


def _stacked(planes: list[Plane], headers: dict[Path, Dataset], path: Path) -> tuple[NDArray[Any], np.dtype[Any]]:
    """Return the stored values of all planes, ``(planes, rows, columns[, samples])``, and the type they had."""
    frames: dict[Path, NDArray[Any]] = {}
    stored: NDArray[Any] | None = None
    dtype = np.dtype(np.uint8)
    for i, plane in enumerate(planes):
        if plane.file not in frames:
            # One file's frames at a time: planes of one file follow each other, or there is one file.
            frames = {plane.file: decode(plane.file, headers[plane.file])}
        frame = frames[plane.file][plane.frame]
        if stored is None:
            dtype = frame.dtype.newbyteorder("=")
            stored = np.empty((len(planes), *frame.shape), room_for(dtype, planes, headers[plane.file]))
        if frame.shape != stored.shape[1:]:
            raise ReadError(f"{path} holds images of different shapes {stored.shape[1:]} and {frame.shape}.")
        if frame.dtype.newbyteorder("=") != dtype:
            dtype = np.promote_types(dtype, frame.dtype)
            stored = stored.astype(np.promote_types(stored.dtype, dtype), copy=False)
        stored[i] = frame
    if stored is None:
        raise ReadError(f"{path} holds no image.")
    return stored, dtype


def _header(planes: list[Plane], first: Dataset) -> dict[str, Any]:
    """Return what a writer of DICOM needs: which slice is which, and how values were stored."""
    return {
        "planes": tuple((str(p.file), p.frame, p.uid, p.slope, p.intercept) for p in planes),
        "photometric": str(first.PhotometricInterpretation),
        "bits_stored": int(first.get("BitsStored", 0) or 0),
        "signed": bool(first.get("PixelRepresentation", 0)),
    }
