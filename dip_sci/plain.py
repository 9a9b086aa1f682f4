"""Plain areas: whole parts of an image that are all one value, such as padding, saturation and empty frames, without noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

EDGE, STRAY = 6, 0.06
"""Edge of a part of a plane that is all one value, and how many more voxels may have it elsewhere, as a share, for that value to be
one that no noise was added to: where noise was cut off, or photons are few, many are.
"""

TIPS = 0.25
"""Voxels of its thin tips, which hold no part of three by three, as a share, at most: round padding has them."""

OTHERS, WITHIN = 0.003, 0.7
"""Voxels of other values within such areas, as a share, at most: single photons are; and the part of those around them in the area.
"""

SEVERAL = 3
"""How many values are looked for."""

MOSTLY = 0.5
"""Share of the other voxels that are in such areas of further values, or have isolated ones, from which on an image is a drawing, and
plain throughout.
"""

FREQUENT, NEAR, RARE, SAMPLE = 0.02, (0.01, 2), 0.01, 100_000
"""Share of the voxels with an isolated value, at least; how near others are, as a share of the range or in steps; how frequent they
are, over it, at most; and how many voxels are looked at.
"""

TOLD = 0.005
"""Share of the voxels from which on they are told of."""


def find(values: Array, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the plain areas of planes.

    Parameters
    ----------
    values
        ``(..., Y, X)``.
    seen
        Which of them were measured; others do not count.

    Returns
    -------
    ndarray
        Boolean, of the same shape: all that was measured where the image is a drawing, or a mask.
    """
    from scipy.ndimage import binary_opening, binary_propagation, maximum_filter, minimum_filter, uniform_filter

    planes, measured = (part.reshape(-1, *part.shape[-2:]) for part in (values, seen))
    found = np.zeros(planes.shape, bool)
    if min(planes.shape[1:]) < EDGE or not measured.any():
        return found.reshape(values.shape)
    size, beside = (1, EDGE, EDGE), np.ones((1, 3, 3), bool)
    middle = measured & (minimum_filter(planes, size) == maximum_filter(planes, size))
    # The middle of an even window is on the right of its two halves.
    still = measured & maximum_filter(middle, size, origin=(0, -1, -1))
    for value in _frequent(planes[middle]):
        same = measured & (planes == value)
        area = binary_propagation(still & same, structure=beside, mask=(still & same) | binary_opening(same, beside))
        whole = binary_propagation(area, structure=beside, mask=same)
        within = uniform_filter(whole.astype(np.float32), beside.shape) > WITHIN
        large, tips, elsewhere, others = (
            np.count_nonzero(part) for part in (area, whole & ~area, same & ~whole, within & measured & ~same)
        )
        if tips <= TIPS * large and elsewhere <= STRAY * large and others <= OTHERS * large:
            found |= whole
        else:
            still &= ~same
    rest = measured & ~found
    alone = still | np.isin(planes, _isolated(planes[rest]))
    if np.count_nonzero(rest & alone) > MOSTLY * np.count_nonzero(rest):
        found = measured
    return found.reshape(values.shape)


def _frequent(values: Array) -> Array:
    """Return the values that occur most often, the most frequent first."""
    levels, counts = np.unique(values, return_counts=True)
    frequent: Array = levels[np.argsort(-counts, kind="stable")[:SEVERAL]]
    return frequent


def _isolated(values: Array) -> list[float]:
    """Find frequent values to which hardly any others are near, as in drawings; noise has all there are."""
    sample = values[:: max(1, values.size // SAMPLE)]
    levels, counts = np.unique(sample, return_counts=True)
    if len(levels) < 2:
        return []
    near = max(NEAR[0] * float(np.ptp(levels)), NEAR[1] * float(np.diff(levels).min()))
    before = np.concatenate([[0], np.cumsum(counts)])
    low, high = np.searchsorted(levels, levels - near, "left"), np.searchsorted(levels, levels + near, "right")
    others = before[high] - before[low] - counts
    isolated = levels[(counts >= FREQUENT * sample.size) & (others < RARE * counts)]
    # One alone may be what is seen without any photon.
    return list(isolated) if len(isolated) > 1 else []


def describe(share: float) -> str:
    """Put into words that a share of the voxels lies in such areas."""
    if share == 1:
        return "All values are those of a drawing or a mask, without noise: the image stays as it is."
    many = f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"
    return (
        f"{many} of the voxels lie in areas of one value, saturated or empty: they hold no noise, and stay as they are."
    )
