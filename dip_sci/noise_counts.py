"""Photons that are counted one by one: the one noise whose variance is its mean, in steps of the values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise import Poisson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

CLASSES, EACH, LEAST = 32, 1000, 4
"""Brightnesses that are told apart at most, squares of four voxels in each at least, and brightnesses that it takes."""

WINDOW, MOST = 4, 4_000_000
"""Edge of a square with those around it, and voxels that are looked at; of a volume not all planes."""

LESS, MORE, TYPICAL = 0.05, 0.1, 0.03
"""How far below its mean a class's variance may be but for chance; how far above it to be near; and the middle one of those
that are. Content adds to a variance.
"""

SHARE, RISE = 0.25, 1.5
"""Share of the classes that are near, and how many times brighter the brightest of them is than the darkest, at least: one
brightness alone says nothing.
"""

NONE_SEEN = 6.0
"""Photons a voxel in the darkest class, at most: then none is what some of its voxels show."""

FULL = 0.02
"""Share of squares with the highest value from which on a class is taken to be cut off there."""


def counts(planes: Array, seen: NDArray[np.bool_], step: float) -> Poisson | None:
    """Say whether every step above the lowest value is one photon: then the variance is the mean at all brightnesses.

    Where values are cut off at the lowest one, the variance does not go on to rise with the mean; read noise would go below it;
    and a gain that is no step shows in the ratio.

    Parameters
    ----------
    planes, seen
        Values ``(N, Y, X)``, and which were measured.
    step
        Distance between the values that occur; 0 where they are continuous.

    Returns
    -------
    Poisson or None

    Notes
    -----
    Squares of four voxels are told apart by the twelve around them, so that which class one is in does not depend on its own
    noise: choosing flat ones would choose weak noise, as few photons make spikes.
    """
    if step == 0 or min(planes.shape[1:]) < WINDOW:
        return None
    lowest = float(planes[seen].min())
    some = slice(None, None, -(-planes.size // MOST))
    found = _classes((planes[some] - lowest) / step, seen[some])
    if len(found) < LEAST:
        return None
    mean, variance, squares = found.T
    # Squares overlap, and the fourth moment of few photons is large.
    chance = np.sqrt((2 + 0.25 / mean) / (squares / 2))
    off = variance / mean - 1
    near = off < MORE + 3 * chance
    if mean[0] > NONE_SEEN or not near[:LEAST].all() or (off < -LESS - 3 * chance).any():
        return None
    several = near.mean() >= SHARE and mean[near].max() >= RISE * mean[near].min()
    typical = abs(np.median(off[near])) < TYPICAL + 2 * np.median(chance[near])
    return Poisson(step, lowest) if bool(several and typical) else None


def _classes(values: Array, seen: NDArray[np.bool_]) -> Array:
    """Return mean and variance of squares, and how many there are, class by class from dark to bright ``(classes, 3)``."""
    square, corner = _sums(values, 2), values[:, 1:, 1:] + values[:, :-1, :-1]
    inner = np.s_[:, 1:-1, 1:-1]
    around = _sums(values, WINDOW) - square[inner]
    whole = _sums(seen, WINDOW) == WINDOW**2
    total, detail = square[inner][whole], (2 * corner - square)[inner][whole]
    full = _sums(values == values[seen].max(initial=0.0), 2)[inner][whole] > 0
    order = np.argsort(around[whole], kind="stable")
    found = [
        (total[part].mean() / 4, np.square(detail[part]).mean() / 4, len(part))
        for part in np.array_split(order, max(min(len(order) // EACH, CLASSES), 1))
        if len(part) and total[part].any() and full[part].mean() < FULL
    ]
    return np.array(found).reshape(-1, 3)


def _sums(values: Array, edge: int) -> Array:
    """Sum over squares of an edge, at all places."""
    windows = np.lib.stride_tricks.sliding_window_view(values, (edge, edge), axis=(1, 2))
    found: Array = windows.sum(axis=(3, 4))
    return found
