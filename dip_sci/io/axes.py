"""Axes by name: reorder, insert, rename; and units of length and time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ReadError
from dip_sci.image import AXES
from dip_sci.lazy import boxes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dip_sci.image import Image

SLAB = 2**25
"""Bytes that are written at once."""

LENGTHS = {
    "angstrom": 1e-10,
    "picometer": 1e-12,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "inch": 0.0254,
    "meter": 1.0,
}
"""Units of length by their full name, in metres."""

TIMES = {
    "nanosecond": 1e-9,
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
}
"""Units of time by their full name, in seconds."""


UNITS = {
    "µm": "micrometer",
    "μm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00b5m": "micrometer",
    "nm": "nanometer",
    "pm": "picometer",
    "å": "angstrom",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
    "inch": "inch",
    "s": "second",
    "sec": "second",
    "ms": "millisecond",
    "msec": "millisecond",
    "µs": "microsecond",
    "us": "microsecond",
    "ns": "nanosecond",
    "min": "minute",
    "h": "hour",
    "d": "day",
}
"""How files abbreviate units, in lower case, and their full names."""


def full_name(unit: Any) -> str | None:
    """Return a unit's full name; `None` for one that is not known, such as ``pixel``.

    Examples
    --------
    >>> full_name("um"), full_name("Millimeter"), full_name("pixel")
    ('micrometer', 'millimeter', None)
    """
    if not isinstance(unit, str):
        return None
    name = unit.strip().lower()
    return name if name in LENGTHS or name in TIMES else UNITS.get(name)


def convert(value: float, unit: str, to: str) -> float:
    """Return `value` in another unit of length or time; exact where the unit stays the same."""
    if unit == to:
        return value
    table = LENGTHS if unit in LENGTHS else TIMES
    # A quotient of whole numbers where one unit is the finer: 0.25 micrometer is 250.0 nanometer, not 249.99...
    up, down = table[unit], table[to]
    return value * round(up / down) if up > down else value / round(down / up)


def arranged(array: NDArray[Any], axes: str, wanted: str) -> NDArray[Any]:
    """Return a view with the axes in the order `wanted`; those missing are inserted with length 1.

    Parameters
    ----------
    array
        Values, dimensions named by `axes`.
    axes
        One letter per dimension.
    wanted
        The order to bring them to; holds every letter of `axes`.
    """
    array = array.transpose([axes.index(a) for a in wanted if a in axes])
    for i, letter in enumerate(wanted):
        if letter not in axes:
            array = array[(slice(None),) * i + (None,)]
    return array


def slabs(array: NDArray[Any], axes: str, wanted: str, nbytes: int | None = None) -> Iterator[NDArray[Any]]:
    """Yield an array part by part in the order in which a file of other axes holds its values, first to last.

    Parameters
    ----------
    array
        Values, dimensions named by `axes`; they may still be in a file.
    axes, wanted
        As for `arranged`.
    nbytes
        About how much is yielded at once.

    Yields
    ------
    ndarray
        Dimensions named by `wanted`.
    """
    length = dict(zip(axes, array.shape, strict=True))
    # What follows a dimension that is cut is whole, and what comes before it is one.
    part, room = [1] * len(wanted), max((nbytes or SLAB) // array.dtype.itemsize, 1)
    shape = tuple(length.get(a, 1) for a in wanted)
    for axis in reversed(range(len(wanted))):
        part[axis] = min(shape[axis], max(room, 1))
        room //= shape[axis]
    for box in boxes(shape, tuple(part)):
        place = dict(zip(wanted, box, strict=True))
        yield arranged(np.asarray(array[tuple(place[a] for a in axes)]), axes, wanted)


def renamed(image: Image, axes: str | None, path: Path) -> Image:
    """Return the image under the names that the user gave to its dimensions.

    Spacing stays with a dimension whose kind (space, time, other) stays; the affine goes where a spatial
    dimension became something else.
    """
    if axes is None or axes == image.axes:
        return image
    refuse_axes(axes, image.shape, image.axes, path)
    kept = [_kind(a) == _kind(b) for a, b in zip(axes, image.axes, strict=True)]
    in_place = [a == b for a, b in zip(axes, image.axes, strict=True) if {a, b} & set("ZYX")]
    return dataclasses.replace(
        image,
        axes=axes,
        spacing=tuple(s if k else None for s, k in zip(image.spacing, kept, strict=True)),
        units=tuple(u if k else None for u, k in zip(image.units, kept, strict=True)),
        affine=image.affine if all(in_place) else None,
    )


def refuse_axes(axes: str, shape: tuple[int, ...], found: str, path: Path) -> None:
    """Raise a `ReadError` where names that a user gave do not fit an array."""
    usable = len(set(axes)) == len(axes) and set(axes) <= set(AXES) and {"Y", "X"} <= set(axes)
    if len(axes) != len(shape) or not usable:
        raise ReadError(
            f"axes={axes!r} does not fit {path}, whose shape is {shape} (read as {found!r}): give one letter out of "
            f"{AXES} for each dimension, each once, with Y and X among them."
        )


def _kind(axis: str) -> str:
    return "space" if axis in "ZYX" else axis
