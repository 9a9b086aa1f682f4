"""DICOM out: a derived series, made of the files that the image was read from.

Each file keeps its source's header but for what a derived image must say otherwise (`dicom_derived`) and, on a new
grid, where it lies (`dicom_grid`). Stored values keep their type, bits, slope and padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import DataElement, Dataset

from dip_sci.errors import ReadError, WriteError
from dip_sci.io.dicom_derived import Derivation, derive
from dip_sci.io.dicom_grid import counts, nearest, refuse_odd, regrid, same_grid
from dip_sci.io.dicom_pixels import coloured, decode, header_of, stored_limits
from dip_sci.io.dicom_planes import Plane, planes_of
from dip_sci.io.dicom_series import numbers_taken
from dip_sci.io.dicom_stored import same_as_before, stored_values
from dip_sci.io.registry import DICOM_SUFFIXES, full_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dip_sci.image import Image


MADE_UP = ("inpainted",)
"""What was done where pixels show what nobody has measured."""


@dataclass(frozen=True)
class _Part:
    """One file to write: its source, and which planes of the image are which of its frames."""

    file: Path
    planes: tuple[Plane, ...]
    places: tuple[int, ...]


def check(path: Path, image: Image) -> None:
    """Raise a `WriteError` where the image cannot become a derived series at `path`; nothing is decoded."""
    if image.source.format != "dicom":
        raise WriteError(
            f"{path} cannot be written: only what was read from DICOM is written to DICOM, and this image comes from "
            f"{image.source.format}; write .nii.gz or .tif."
        )
    origin = Path(image.source.path or "")
    if origin.is_dir() and origin.resolve() in path.resolve().parents:
        raise WriteError(
            f"{path} lies in the folder of the series it comes from, which would then hold both; choose another place."
        )
    if image.array.dtype.kind not in "iuf":
        raise WriteError(f"{path} cannot hold values of type {image.dtype}; convert them to numbers.")
    if not image.axes.removesuffix("S").endswith("YX") or len(image.axes.removesuffix("S")) > 3:
        raise WriteError(f"{path} cannot hold axes {image.axes!r}: a DICOM image is one row of planes, each of rows.")
    planes, datasets = _source(path, image)
    for file, dataset in datasets.items():
        _refuse_source(path, file, dataset)
    first = next(iter(datasets.values()))
    if not same_grid(image, planes, (int(first.Rows), int(first.Columns))):
        refuse_odd(path, image, planes)
        if len(datasets) < len(planes) and counts(image)[0] != len(planes):
            raise WriteError(f"{path} cannot hold another number of frames than its source; write .nii.gz instead.")
    frames = sum(int(d.get("NumberOfFrames") or 1) for d in datasets.values())
    if len(datasets) == 1 and frames != len(planes):
        raise WriteError(
            f"{path} cannot be written: the image is {len(planes)} of the {frames} frames of its file; write .nii.gz."
        )
    several = len(datasets) > 1 or (len(planes) == 1 and counts(image)[0] > 1)
    if several and full_suffix(path).lower() in DICOM_SUFFIXES:
        raise WriteError(
            f"{path} names one file, and the series has {counts(image)[0]}: give the name of a folder, without suffix."
        )
    if path.is_dir():
        _refuse_originals(path)


def write(path: Path, image: Image, description: str = "") -> None:
    """Write the derived series into a folder that is there, or its only file; see `dip_sci.io.write`."""
    planes, datasets = _source(path, image)
    first = next(iter(datasets.values()))
    kept = same_grid(image, planes, (int(first.Rows), int(first.Columns)))
    taken = numbers_taken(path, str(first.get("StudyInstanceUID", "")))
    derivation = Derivation.of(image.array, description, resampled=not kept, taken=taken)
    for number, part in enumerate(_parts(image, planes), 1):
        dataset = datasets[part.file] if len(datasets) == 1 and kept else header_of(part.file)
        pixels, clipped, changed = _pixels(path, image, part, dataset, kept=kept)
        remarks = ["Private elements were left out."]
        if clipped:
            remarks.append(f"{clipped} values were clipped to the stored range.")
        dataset = _turned(dataset)
        derive(dataset, derivation, part.places[0], part.file.stat().st_size, remarks)
        if changed and derivation.done in MADE_UP:
            dataset.SyntheticData = "YES"
        if not kept:
            regrid(dataset, image, list(part.places), len(planes))
        _set_pixels(dataset, pixels)
        target = path / f"{number:04d}.dcm" if path.is_dir() else path
        dataset.save_as(target, enforce_file_format=True, overwrite=False, implicit_vr=False, little_endian=True)


def _source(path: Path, image: Image) -> tuple[list[Plane], dict[Path, Dataset]]:
    """Return the planes that the image was read from, in its order, and the headers of their files."""
    known = image.source.header.get("planes", ())
    datasets: dict[Path, Dataset] = {}
    found: dict[tuple[str, int], Plane] = {}
    for name, uid in dict.fromkeys((p[0], p[2]) for p in known):
        file = Path(name)
        try:
            dataset = header_of(file)
        except (OSError, ReadError):
            raise WriteError(
                f"{path} cannot be written: {file}, which the image was read from, is gone or damaged. Put it back."
            ) from None
        if str(dataset.get("SOPInstanceUID", "")) != uid or not uid:
            raise WriteError(f"{path} cannot be written: {file} is not what it was when it was read (another UID).")
        datasets[file] = dataset
        found |= {(name, plane.frame): plane for plane in planes_of(dataset, file)}
    if not datasets:
        raise WriteError(f"{path} cannot be written: the image does not know which DICOM files it was read from.")
    return [found[p[0], p[1]] for p in known], datasets


def _refuse_source(path: Path, file: Path, dataset: Dataset) -> None:
    """Raise where the source stores its values in a way that nothing else can be stored in."""
    reasons = {
        "indexes into a table of colours": dataset.PhotometricInterpretation == "PALETTE COLOR",
        "single bits": int(dataset.BitsAllocated) == 1,
        "floating-point values": "PixelRepresentation" not in dataset,
        "neither grey values nor three colours": int(dataset.get("SamplesPerPixel") or 1) not in (1, 3),
    }
    for what, true in reasons.items():
        if true:
            raise WriteError(f"{path} cannot be written: {file} stores {what}; write .nii.gz, .tif or .png instead.")
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
        if not dataset.get(name):
            raise WriteError(f"{path} cannot be written: {file} has no {name}, and a derived series needs it.")


def _refuse_originals(folder: Path) -> None:
    """Raise where replacing a folder would delete anything but derived DICOM images."""
    for entry in folder.iterdir():
        try:
            original = not entry.is_file() or "DERIVED" not in header_of(entry).get("ImageType", ())
        except ReadError:
            original = True
        if original:
            raise WriteError(
                f"{folder} holds {entry.name}, which is not a derived DICOM image; only such are replaced. Choose "
                "another folder."
            )


def _turned(dataset: Dataset) -> Dataset:
    """Return a big-endian file's header as one that can be written in little-endian order."""
    if dataset.original_encoding[1] is not False:
        return dataset
    turned = Dataset({tag: _turned_element(dataset[tag]) for tag in dataset.keys()})  # noqa: SIM118
    if hasattr(dataset, "file_meta"):
        turned.file_meta = dataset.file_meta
    return turned


def _turned_element(element: DataElement) -> DataElement:
    if element.VR == "SQ":
        return DataElement(element.tag, "SQ", [_turned(item) for item in element.value])
    if element.VR == "OW" and isinstance(element.value, bytes):
        # pydicom hands words on as bytes, in the order they came in.
        element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
    return element


def _parts(image: Image, planes: list[Plane]) -> Iterator[_Part]:
    """Yield the files to write, in the image's order."""
    if len({p.file for p in planes}) == 1 and len(planes) > 1:
        by_frame = sorted(range(len(planes)), key=lambda k: planes[k].frame)
        yield _Part(planes[0].file, tuple(planes[k] for k in by_frame), tuple(by_frame))
        return
    for k, i in enumerate(nearest(counts(image)[0], len(planes))):
        yield _Part(planes[i].file, (planes[i],), (k,))


def _pixels(path: Path, image: Image, part: _Part, dataset: Dataset, *, kept: bool) -> tuple[NDArray[Any], int, bool]:
    """Return the stored values of one file, ``(frames, rows, columns[, samples])``.

    Also how many of them were clipped, and whether any is another than the source's.
    """
    before = decode(part.file)
    if (before.dtype.itemsize * 8, before.dtype.kind == "i") != (dataset.BitsAllocated, dataset.PixelRepresentation):
        raise WriteError(f"{path} cannot be written: {part.file} was decoded to {before.dtype}, not as it announces.")
    stacked = image.array.ndim == (4 if image.axes.endswith("S") else 3)
    out = np.empty((len(part.places), *image.shape[1 if stacked else 0 :]), before.dtype)
    total = 0
    limits = stored_limits(before, dataset)
    for i, (plane, k) in enumerate(zip(part.planes, part.places, strict=True)):
        # The image may still be in a file: each plane is read once.
        at = k if stacked else ...
        values = np.asarray(image.array[at])
        if not np.isfinite(values).all():
            raise WriteError(f"{path} cannot hold values that are not finite; write .nii.gz or .tif.")
        out[i], clipped = stored_values(values, plane, dataset, limits, before.dtype)
        if kept:
            measured = None if image.valid is None else image.valid[at]
            untouched = same_as_before(values, measured, before[plane.frame], plane, dataset)
            out[i] = np.where(untouched, before[plane.frame], out[i])
        else:
            padded = image.valid is not None and plane.padding is not None
            untouched = ~image.valid[at] if padded and image.valid is not None else np.zeros(values.shape, bool)
            out[i][untouched] = (plane.padding or (0, 0))[0]
        total += int((clipped & ~untouched).sum())
    return out, total, not kept or not np.array_equal(out, before[[plane.frame for plane in part.planes]])


def _set_pixels(dataset: Dataset, pixels: NDArray[Any]) -> None:
    """Store pixels uncompressed. Not by pydicom's `set_pixel_data`, which renews the UID and may turn the sign."""
    if coloured(dataset):
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    data = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset.add_new("PixelData", "OB" if pixels.dtype.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
