"""The planes of a DICOM series or multi-frame image: where each lies, and whether they form a volume."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ReadError
from dip_sci.io.dicom_parts import WORDS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

ORIENTATION_TOLERANCE = 1e-3
"""How far direction cosines may differ within a series: scanners round them."""

TILT_TOLERANCE = math.radians(0.25)
"""How far the stack may lean from the normal of its slices."""

SPACING_TOLERANCE = 0.01
"""How far a step between slices may differ from the mean step."""

ROUNDING = 0.011
"""Millimetres that two positions written with two decimals may be off, unless it is 2 % of the step."""


@dataclass(frozen=True)
class Plane:
    """One slice or frame: where it is stored and where it lies.

    Attributes
    ----------
    file, frame
        The file, and the number of the frame in it.
    uid
        SOPInstanceUID of the file.
    number
        InstanceNumber, or the frame's number.
    position, orientation
        ImagePositionPatient and ImageOrientationPatient; `None` where the image does not know.
    spacing
        Millimetres between rows, and between columns.
    slope, intercept
        Of the modality's values.
    padding
        Smallest and largest stored value that mean "not measured".
    thickness
        Step to the next slice as the header claims, used for a single slice only.
    labels
        What tells it from others at the same place.
    """

    file: Path
    frame: int
    uid: str
    number: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    slope: float = 1.0
    intercept: float = 0.0
    padding: tuple[int, int] | None = None
    thickness: float | None = None
    labels: tuple[tuple[str, str], ...] = ()


def planes_of(dataset: Dataset, file: Path) -> list[Plane]:
    """Return the planes of one file, each with its own place and rescaling."""
    count = int(dataset.get("NumberOfFrames") or 1)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if each and len(each) != count:
        raise ReadError(f"{file} announces {count} frames and describes {len(each)}; it is damaged, export it again.")
    found = []
    for frame in range(count):
        groups = [g for g in (each[frame] if each else None, shared) if g is not None]
        measures = _group(groups, "PixelMeasuresSequence", dataset)
        values = _group(groups, "PixelValueTransformationSequence", dataset)
        found.append(
            Plane(
                file,
                frame,
                str(dataset.get("SOPInstanceUID", "")),
                frame if count > 1 else int(dataset.get("InstanceNumber") or 0),
                _numbers(_group(groups, "PlanePositionSequence", dataset), "ImagePositionPatient", 3),
                _numbers(_group(groups, "PlaneOrientationSequence", dataset), "ImageOrientationPatient", 6),
                _spacing(measures) or _spacing(dataset),
                _number(values, "RescaleSlope", 1.0) or 1.0,
                _number(values, "RescaleIntercept", 0.0) or 0.0,
                _padding(dataset),
                _number(measures, "SpacingBetweenSlices", None) or _number(measures, "SliceThickness", None),
                _labels(dataset, groups),
            )
        )
    return found


def _group(groups: list[Dataset], name: str, otherwise: Dataset) -> Dataset:
    """Return a functional group, the frame's own before the shared one; a plain image is its own group."""
    for group in groups:
        if group.get(name):
            inner: Dataset = group[name][0]
            return inner
    return otherwise


def _number(dataset: Dataset, name: str, default: float | None) -> float | None:
    value = dataset.get(name)
    if value is None or value == "":
        return default
    number = float(value)
    return number if math.isfinite(number) else default


def _numbers(dataset: Dataset, name: str, length: int) -> tuple[float, ...] | None:
    values = dataset.get(name)
    if values is None or isinstance(values, str) or len(values) != length:
        return None
    numbers = tuple(float(v) for v in values)
    return numbers if all(map(math.isfinite, numbers)) else None


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = _numbers(dataset, name, 2)
        if values and min(values) > 0:
            return values[0], values[1]
    return None


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the range of stored values that are padding, with the signedness of the pixels."""
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    bits = int(dataset.BitsAllocated)
    signed = bool(dataset.PixelRepresentation)

    def as_stored(number: Any) -> int:
        # The VR of these two is a guess in implicit VR files: 63536 may stand for -2000.
        wrapped = int(number) % (1 << bits)
        return wrapped - (1 << bits) if signed and wrapped >= 1 << (bits - 1) else wrapped

    ends = sorted((as_stored(value), as_stored(value if limit in (None, "") else limit)))
    return ends[0], ends[1]


def _labels(dataset: Dataset, groups: list[Dataset]) -> tuple[tuple[str, str], ...]:
    """Return what may tell an image from others at its place: its own attributes, or those of its frame."""
    found = {name: dataset.get(name) for name in WORDS}
    if groups:
        diffusion = _group(groups, "MRDiffusionSequence", dataset)
        direction = (diffusion.get("DiffusionGradientDirectionSequence") or [diffusion])[0]
        more = {
            "EchoTime": _group(groups, "MREchoSequence", dataset).get("EffectiveEchoTime"),
            "DiffusionBValue": diffusion.get("DiffusionBValue"),
            "DiffusionGradientOrientation": direction.get("DiffusionGradientOrientation"),
            "TemporalPositionIdentifier": _group(groups, "FrameContentSequence", dataset).get("TemporalPositionIndex"),
            "ImageType": _group(groups, "MRImageFrameTypeSequence", dataset).get("FrameType"),
        }
        found |= {name: value for name, value in more.items() if value is not None}
    return tuple((name, str(value)) for name, value in found.items() if value is not None)


def ordered(
    planes: list[Plane], first: Dataset, path: Path, *, by_number: bool
) -> tuple[str, list[Plane], tuple[float | None, str | None], tuple[str, ...]]:
    """Return the planes in their order along their axis.

    Parameters
    ----------
    planes
        Two or more.
    first
        The header of one of them.
    path
        For messages.
    by_number
        Take the order of their numbers, whatever their positions.

    Returns
    -------
    axis
        ``"Z"`` or ``"T"``.
    planes
        In order.
    step
        Distance between neighbours and its unit.
    notes
        What was assumed.

    Raises
    ------
    ReadError
        If they do not form a volume of evenly spaced parallel slices.
    """
    if by_number:
        return "T", sorted(planes, key=lambda p: (p.number, str(p.file))), _frame_time(first), ()
    if all(p.position and p.orientation for p in planes):
        planes, distance = _volume(planes, path)
        return "Z", planes, (distance, "millimeter"), ()
    if len({p.file for p in planes}) > 1:
        raise ReadError(
            f"The {len(planes)} images in {path} do not say where they lie, so they are not a volume: "
            "name a single file, or give axes='TYX' to take them in the order of their numbers."
        )
    if "FrameTime" in first or "CineRate" in first or "FrameTimeVector" in first:
        return "T", planes, _frame_time(first), ()
    note = (
        f"The file does not say where its {len(planes)} frames lie; they were taken for slices along Z. "
        "Give axes='TYX' if they are not."
    )
    depth = _number(first, "SpacingBetweenSlices", None)
    known = depth is not None and depth > 0
    return "Z", planes, (depth if known else None, "millimeter" if known else None), (note,)


def _frame_time(first: Dataset) -> tuple[float | None, str | None]:
    milliseconds = _number(first, "FrameTime", None)
    return (milliseconds / 1000, "second") if milliseconds and milliseconds > 0 else (None, None)


def _volume(planes: list[Plane], path: Path) -> tuple[list[Plane], float]:
    """Return the planes ordered along their normal, and the step; raise where they are no regular volume."""
    orientation = Counter(p.orientation for p in planes).most_common(1)[0][0]
    directions = np.array([p.orientation for p in planes])
    if np.abs(directions - np.array(orientation)).max() > ORIENTATION_TOLERANCE:
        raise _no_volume(path, "its slices are not parallel to each other")
    if len({p.spacing and (round(p.spacing[0], 4), round(p.spacing[1], 4)) for p in planes}) > 1:
        raise _no_volume(path, "its slices differ in pixel spacing")
    normal = _normal(orientation or ())
    positions = np.array([p.position for p in planes])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    planes, positions, along = [planes[i] for i in order], positions[order], along[order]
    steps = np.diff(along)
    step = float(along[-1] - along[0]) / len(steps)
    if (steps < max(1e-3, 0.05 * step)).any():
        raise _no_volume(path, _repeats(planes, steps, step))
    reasons = [r for r in (_uneven(steps, step), _tilted(positions, along, normal)) if r]
    if not reasons:
        reasons = _shifted(positions, along, 0.1 * min(planes[0].spacing or (1.0,)))
    if reasons:
        raise _no_volume(path, "; ".join(reasons))
    return planes, step


def _uneven(steps: NDArray[np.float64], step: float) -> str:
    tolerance = max(SPACING_TOLERANCE * step, min(ROUNDING, 2 * SPACING_TOLERANCE * step))
    if np.abs(steps - step).max() <= tolerance:
        return ""
    usual, widest = float(np.median(steps)), float(steps.max())
    if widest > 1.5 * usual:
        return f"a slice is missing, there is a gap of {widest:.3g} mm between slices {usual:.3g} mm apart"
    return f"its slices are unevenly spaced, from {steps.min():.4g} to {widest:.4g} mm"


def _tilted(positions: NDArray[np.float64], along: NDArray[np.float64], normal: NDArray[np.float64]) -> str:
    sideways = np.linalg.norm(np.cross(positions[-1] - positions[0], normal))
    tilt = math.atan2(float(sideways), float(along[-1] - along[0]))
    if tilt <= TILT_TOLERANCE:
        return ""
    return f"the stack leans by {math.degrees(tilt):.1f} degrees from its slices (gantry tilt)"


def _shifted(positions: NDArray[np.float64], along: NDArray[np.float64], tolerance: float) -> list[str]:
    """Say whether slices leave the line from the first to the last, by more than a tenth of a pixel."""
    share = (along - along[0]) / (along[-1] - along[0])
    off = positions - positions[0] - np.outer(share, positions[-1] - positions[0])
    return ["its slices are shifted sideways against each other"] if np.abs(off).max() > tolerance else []


def _normal(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def _repeats(planes: list[Plane], steps: NDArray[np.float64], step: float) -> str:
    """Say that slices lie at the same place, and what tells them apart."""
    twice = len(planes) - len({(p.uid, p.frame) for p in planes})
    if twice:
        return f"{twice} of its {len(planes)} slices are copies of others"
    places = 1 + int((steps >= max(1e-3, 0.05 * step)).sum())
    labels = [dict(p.labels) for p in planes]
    differing = [n for n in WORDS if 1 < len({label.get(n) for label in labels}) < len(planes)]
    why = f"; they differ in {', '.join(differing)}" if differing else ""
    return f"its {len(planes)} slices lie at only {places} place{'s' * (places > 1)}{why}"


def _no_volume(path: Path, reason: str) -> ReadError:
    single = "name a single file of it" if path.is_dir() else "read it with axes='TYX'"
    return ReadError(
        f"{path} is not a regular volume: {reason}. Restore it slice by slice: {single}"
        + (", or give axes='TYX' for a stack of separate slices." if path.is_dir() else " as a stack of slices.")
    )


def affine_of(planes: list[Plane], depth: float | None) -> NDArray[np.float64] | None:
    """Return the affine from voxel ``(x, y, z)`` to RAS+ millimetres; `None` where the position is not known.

    Parameters
    ----------
    planes
        In the order of the array.
    depth
        Step between them; a single slice has that which its header claims.
    """
    first = planes[0]
    if not (first.position and first.orientation and first.spacing):
        return None
    rows, columns = first.spacing
    affine = np.eye(4)
    # DICOM names the direction along a row first: that is x, whose step is the distance between columns.
    affine[:3, 0] = np.array(first.orientation[:3]) * columns
    affine[:3, 1] = np.array(first.orientation[3:]) * rows
    affine[:3, 2] = _normal(first.orientation) * (depth or first.thickness or 1.0)
    affine[:3, 3] = first.position
    if len(planes) > 1 and depth is not None and planes[-1].position:
        affine[:3, 2] = (np.array(planes[-1].position) - np.array(first.position)) / (len(planes) - 1)
    # DICOM points to the patient's left and back, NIfTI to the right and front.
    affine[:2] *= -1
    return affine
