"""Which part of a layer is restored: time points, channels, a crop to try on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari import Viewer
    from napari.layers import Layer

    Index = tuple[slice, ...]

ALL, CURRENT = "all", "current"

TRIED = {"Y": 192, "X": 192, "Z": 16}
"""Voxels of a crop to try on, at most."""


def shape_of(layer: Layer) -> tuple[int, ...]:
    """Return the shape of an image layer's finest data, colour samples included."""
    data = layer.data[0] if layer.multiscale else layer.data
    return tuple(int(n) for n in data.shape)


def here(viewer: Viewer, layer: Layer) -> list[int]:
    """Return the voxel of a layer at which the viewer's sliders stand, one number per dimension of the layer."""
    point = np.asarray(viewer.dims.point, float)[-layer.ndim :]
    point = np.concatenate([np.zeros(layer.ndim - len(point)), point])
    at = np.rint(np.asarray(layer.world_to_data(point)))
    return [int(min(max(a, 0), n - 1)) for a, n in zip(at, shape_of(layer), strict=False)]


def frames(words: str, at: int, n: int, what: str) -> slice:
    """Return the time points or channels that words name, counted from 0 as napari's sliders do.

    Parameters
    ----------
    words
        ``"all"``, ``"current"``, ``"3"`` or ``"3-7"``.
    at, n
        The current one, and how many there are.
    what
        What to call them in an error.

    Raises
    ------
    ImageError
        If there are no such ones.

    Examples
    --------
    >>> frames("2-4", 0, 9, "time points")
    slice(2, 5, None)
    """
    words = words.strip().lower()
    if words == ALL:
        return slice(0, n)
    if words == CURRENT:
        return slice(at, at + 1)
    found = re.fullmatch(r"(\d+)\s*(?:[-–:]\s*(\d+))?", words)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not 0 <= first <= last < n:
        raise ImageError(
            f"{words!r} names none of the {n} {what}: write all, current, or numbers from 0 to {n - 1}, such as 0-{n - 1}."
        )
    return slice(first, last + 1)


def index(axes: str, shape: Sequence[int], parts: Mapping[str, slice]) -> Index:
    """Return one slice per dimension; the whole of each axis that is not among `parts`."""
    return tuple(parts.get(a, slice(0, n)) for a, n in zip(axes, shape, strict=True))


def crop(
    viewer: Viewer, layer: Layer, axes: str, box: tuple[Sequence[float], Sequence[float]] | None = None
) -> dict[str, slice]:
    """Return a part to try a recipe on: small enough for seconds.

    Parameters
    ----------
    viewer, layer
        What is looked at.
    axes
        Of the layer.
    box
        First and last corner in the layer's voxels; by default what is seen of the layer.

    Returns
    -------
    dict of str to slice
        By axis: the middle of the box, and the current time point and channel.
    """
    shape, at = shape_of(layer), here(viewer, layer)
    low, high = _seen(viewer, layer) if box is None else (list(box[0]), list(box[1]))
    parts: dict[str, slice] = {}
    for i, axis in enumerate(axes[: layer.ndim]):
        n = shape[i]
        if axis in "TC":
            parts[axis] = slice(at[i], at[i] + 1)
            continue
        first, last = max(int(low[i]), 0), min(int(np.ceil(high[i])), n)
        if last <= first:
            first, last = 0, n
        middle = at[i] if axis == "Z" and box is None else (first + last) // 2
        length = min(last - first, TRIED.get(axis, n))
        # Not below what can be learned from, where there is more.
        length = min(max(length, 32 if axis in "YX" else 1), n)
        start = min(max(middle - length // 2, 0), n - length)
        parts[axis] = slice(start, start + length)
    return parts


def _seen(viewer: Viewer, layer: Layer) -> tuple[list[Any], list[Any]]:
    whole = [0] * layer.ndim, list(shape_of(layer)[: layer.ndim])
    if viewer.dims.ndisplay != 2:
        return whole
    factor = np.asarray(layer.downsample_factors[layer.data_level]) if layer.multiscale else np.ones(layer.ndim)
    corners = np.asarray(layer.corner_pixels) * factor[: layer.ndim]
    shown = list(viewer.dims.displayed)[-2:]
    own = [d - (viewer.dims.ndim - layer.ndim) for d in shown]
    low, high = whole
    for d in own:
        if d >= 0:
            low[d], high[d] = corners[0][d], corners[1][d] + 1
    return low, high
