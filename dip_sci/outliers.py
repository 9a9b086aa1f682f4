"""Outliers: single voxels that no noise explains, such as hot and dead pixels, or the traces of cosmic rays."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

STANDS_OUT, SHARP = 6.0, 4.0
"""Distance of an outlier from all around it, in standard deviations of the noise, at least; and over how far these are apart,
noise apart: optics spread a point over more than a voxel, 1.3 voxels at half its height.
"""

OFTEN, OFTEN_STANDS_OUT, OFTEN_SHARP = 3e-4, 4.0, 2.0
"""Share of the voxels from which on outliers are no exception, so that others are likely to be some, too; and the same then:
points are 2.2 voxels wide.
"""

SCATTER, DARKEST = 2.5, 0.15
"""Standard deviations of the noise by which those around a voxel are apart, about, from the second largest to this quantile:
another outlier among them is beyond it.
"""

ROUGH, AROUND = 5.0, 15
"""Distance of an outlier from all around it, over how far voxels are from the mean of those around them, on average within so many
voxels, at least: fine detail, under weak noise, is in all of a texture.
"""

MISSING = 1
"""Voxels around one that may not have been measured: beside padding, all are at an edge."""

_AROUND = [(y, x) for y, x in itertools.product((0, 1, 2), repeat=2) if (y, x) != (1, 1)]


def find(
    values: Array, seen: NDArray[np.bool_], strength: Callable[[Array], Array], *, often: bool = False
) -> NDArray[np.bool_]:
    """Find voxels that stand out from all those around them in their plane, alone or in pairs.

    Parameters
    ----------
    values
        ``(..., Y, X)``, in image units.
    seen
        Which of them were measured; others do not count.
    strength
        Maps noise-free values, of that shape, to the standard deviation of their noise.
    often
        Whether there are others already, more than `OFTEN`.

    Returns
    -------
    ndarray
        Boolean, of the same shape.
    """
    values = np.where(seen, values, 0)
    detail = ROUGH * _roughness(values, seen)
    bright = _above(values, seen, strength, detail, often=often)
    dark = _above(-values, seen, lambda truth: strength(-truth), detail, often=often)
    return bright | dark


def replaced(values: Array, seen: NDArray[np.bool_], there: NDArray[np.bool_]) -> Array:
    """Replace voxels by the one in the middle of those around them; steps and range of the values stay.

    Parameters
    ----------
    values, seen
        As for `find`.
    there
        What it has found.

    Returns
    -------
    ndarray
        A copy, of the same shape.
    """
    out: Array = values.copy()
    out[there] = _among(values, seen, there, 0.5)
    return out


def describe(share: float) -> str:
    """Put into words how many voxels were outliers."""
    return (
        f"1 in {1 / share:,.0f} voxels stands out from all around it by more than noise explains, as hot and dead pixels do: "
        "such voxels were filled in from what is around them (noise.outliers: keep leaves them)."
    )


def _above(
    values: Array, seen: NDArray[np.bool_], strength: Callable[[Array], Array], detail: Array, *, often: bool
) -> NDArray[np.bool_]:
    """Find those that are above all around them."""
    first, second, missing = _largest(values, seen)
    least, sharp = (OFTEN_STANDS_OUT, OFTEN_SHARP) if often else (STANDS_OUT, SHARP)
    known = seen & (missing <= MISSING)

    def apart(near: Array) -> NDArray[np.bool_]:
        near = np.where(known, near, values)
        sd = strength((values + near) / 2)
        found = known & (values - near > np.maximum(least * sd, detail))
        spread = near[found] - _among(values, seen, found, DARKEST) - SCATTER * sd[found]
        found[found] = (values - near)[found] > least * sd[found] + sharp * np.maximum(spread, 0)
        return found

    alone = apart(first)
    paired = apart(second) & ~alone
    # Each of a pair has the other beside it; the end of a line has one beside it that has two.
    beside: NDArray[np.bool_] = np.logical_or.reduce(_around(paired, beyond=False))
    return alone | (paired & beside)


def _largest(values: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Return the largest and second largest of the measured voxels around each, and how many were not measured."""
    first, second = np.full_like(values, -np.inf), np.full_like(values, -np.inf)
    missing = np.zeros(values.shape, np.uint8)
    known = np.where(seen, values, -np.inf)
    for near, lost in zip(_around(known, beyond=-np.inf), _around(~seen, beyond=False), strict=True):
        np.maximum(second, np.minimum(first, near), out=second)
        np.maximum(first, near, out=first)
        missing += lost
    return first, second, missing


def _roughness(values: Array, seen: NDArray[np.bool_]) -> Array:
    """Return how far measured voxels (others are 0) are from the mean of those around them, on average near each place."""
    from scipy.ndimage import uniform_filter

    def near(part: Array, edge: int) -> Array:
        whole: Array = uniform_filter(part, (*(1,) * (part.ndim - 2), edge, edge), mode="constant")
        return whole

    known = seen.astype(np.float64)
    level = values.astype(np.float64)
    others = np.maximum(9 * near(known, 3) - known, 1e-9)
    apart = known * np.abs(level - (9 * near(level, 3) - level) / others) * (others > 0.5)
    found: Array = near(apart, AROUND) / np.maximum(near(known, AROUND), 1e-9)
    return found


def _among(values: Array, seen: NDArray[np.bool_], at: NDArray[np.bool_], quantile: float) -> Array:
    """Return one of the values of the measured voxels around some."""
    around = np.stack([near[at] for near in _around(np.where(seen, values, np.nan), beyond=np.nan)])
    found: Array = np.nanquantile(around, quantile, axis=0, method="nearest")
    return found


def _around(values: Array, *, beyond: float) -> list[Array]:
    """Return views on the eight neighbours of each voxel in its plane; `beyond` the plane's edges."""
    y, x = values.shape[-2:]
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)], constant_values=beyond)
    return [padded[..., a : a + y, b : b + x] for a, b in _AROUND]
