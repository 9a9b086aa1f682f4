"""Whether frames that follow each other in time share noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARED = 0.1
"""Share of the noise that frames may have in common with the next; where it is independent, .05 at most was measured."""

FAR = 4
"""Frames apart that are compared with those next to each other."""

CELL = 6
"""Edge of the cells that are judged, in diagonal details of two by two voxels."""

CALM, FEWEST = 0.2, 32
"""Share of the cells that count, those in which least changes over a longer time, but not fewer than a number."""

MOST = 2**24
"""Values that are looked at at most: of a long series, its beginning."""


def shared(series: NDArray[Any], seen: NDArray[np.bool_]) -> float:
    """Measure how much noise frames share with the next, beyond what they share with later ones.

    Parameters
    ----------
    series
        ``(..., F, Y, X)``, stabilised: frames of a series, of which there may be several.
    seen
        Which values were measured.

    Returns
    -------
    float
        Share of the noise's variance: 0 where noise is independent, as where there are fewer than three frames to tell by; 1
        where all frames are the same.

    Notes
    -----
    What is in all frames, as content that stays or a fixed pattern, is in no difference. Content that moves is in both
    differences; it is left out with the cells in which much changes. A cell is judged by one half of its values and measured
    at the other, like the fields of a chequerboard, so that it is not chosen for weak noise.
    """
    series = series.reshape(-1, *series.shape[-3:])
    seen = seen.reshape(series.shape)
    frames = min(series.shape[1], max(MOST // series[:, 0].size, FAR + 1))
    far = min(FAR, frames - 1)
    if frames > 1 and np.ptp(series) > 0 and np.array_equal(series[:, 1:], series[:, :-1]):
        return 1.0
    if far < 2 or min(series.shape[2:]) < 2 * CELL:
        return 0.0
    series, seen = series[:, :frames], seen[:, :frames]
    h, w = (n - n % 2 for n in series.shape[2:])
    corners = [np.s_[..., i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (series[corner] for corner in corners)
    fine, whole = a - b - c + d, np.logical_and.reduce([seen[corner] for corner in corners])
    first = frames - far
    next_to, apart = (np.square(fine[:, k : first + k] - fine[:, :first], dtype=np.float64) for k in (1, far))
    both = whole[:, :first] & whole[:, 1 : first + 1] & whole[:, far:]
    field = np.add.outer(np.arange(fine.shape[-2]), np.arange(fine.shape[-1])) % 2
    halves = [[_in_cells(np.where(both & (field == k), power, 0)) for power in (next_to, apart)] for k in (0, 1)]
    sound = _in_cells(both.astype(np.float64)) == CELL**2
    near = total = 0.0
    for (_, judged), measured in (halves, halves[::-1]):
        there = np.flatnonzero(sound & (judged > 0))
        if len(there) < FEWEST:
            return 0.0
        calm = there[np.argsort(judged[there])[: max(int(CALM * len(there)), FEWEST)]]
        near, total = near + measured[0][calm].sum(), total + measured[1][calm].sum()
    return max(1 - near / total, 0.0) if total > 0 else 0.0


def _in_cells(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum ``(..., Y, X)`` over cells, in one row."""
    rows, columns = (n // CELL for n in power.shape[-2:])
    cells = power[..., : rows * CELL, : columns * CELL].reshape(*power.shape[:-2], rows, CELL, columns, CELL)
    found: NDArray[np.float64] = cells.sum(axis=(-3, -1)).ravel()
    return found
