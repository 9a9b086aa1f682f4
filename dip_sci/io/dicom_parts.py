"""The parts of a DICOM series whose images lie at the same places: echoes, b-values, points in time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dip_sci.io.dicom_planes import Plane

    Place = tuple[float, ...]

WORDS = {
    "EchoTime": "echo time {} ms",
    "TemporalPositionIdentifier": "time point {}",
    "TriggerTime": "trigger time {} ms",
    "DiffusionBValue": "b-value {} s/mm2",
    "DiffusionGradientOrientation": "gradient {}",
    "InversionTime": "inversion time {} ms",
    "FlipAngle": "flip angle {} degrees",
    "AcquisitionNumber": "acquisition {}",
    "ImageType": "image type {}",
}
"""What tells images apart that lie at the same place, in the order in which it is asked."""

COVERED = 0.5
"""Share of a series' places that each of its parts has at least; what differs from slice to slice makes no parts."""


def parts(planes: list[Plane]) -> list[tuple[str, list[Plane]]]:
    """Split planes that lie at the same places by what tells them apart.

    Parameters
    ----------
    planes
        Of one series or multi-frame file.

    Returns
    -------
    list
        Name and planes of each part; one part without a name where nothing lies at the same place or nothing tells
        apart what does.
    """
    if any(p.position is None or p.orientation is None for p in planes):
        return [("", planes)]
    return _split(planes, list(WORDS))


def _split(planes: list[Plane], names: list[str]) -> list[tuple[str, list[Plane]]]:
    places = {_place(p) for p in planes}
    if len(places) == len(planes):
        return [("", planes)]
    for name in names:
        groups: dict[str, list[Plane]] = defaultdict(list)
        for plane in planes:
            groups[dict(plane.labels).get(name, "")].append(plane)
        apart = [len({_place(p) for p in group}) >= COVERED * len(places) for group in groups.values()]
        if len(groups) < 2 or not all(apart):
            continue
        found = []
        for value in sorted(groups, key=_in_order):
            words = WORDS[name].format(_shown(value))
            for more, inner in _split(groups[value], [n for n in names if n != name]):
                found.append((f"{words}, {more}" if more else words, inner))
        return found
    return [("", planes)]


def _place(plane: Plane) -> Place:
    """Return where a plane lies, in hundredths of a millimetre and of a direction."""
    return tuple(round(v, 2) + 0.0 for v in (*(plane.position or ()), *(plane.orientation or ())))


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def _shown(value: str) -> str:
    try:
        return f"{float(value):.6g}"
    except ValueError:
        return value.replace("'", "")[:60] or "not given"
