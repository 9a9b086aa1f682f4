"""The noise of frames that follow each other in time: whether they share it, and what is left of it in their differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise_blocks import cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise_blocks import Blocks

    Array = NDArray[Any]

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


@dataclass(frozen=True, eq=False)
class Shots:
    """What noise is measured on: images as they are, or differences of frames that follow each other.

    Attributes
    ----------
    values, measured
        ``(*batch, Y, X)``: differences have the noise of one frame.
    pair
        The frames of each difference, as planes ``(N, Y, X)``; ``None`` where they are images.
    """

    values: Array
    measured: NDArray[np.bool_]
    pair: tuple[Array, Array] | None = None

    @classmethod
    def of(cls, values: Array, measured: NDArray[np.bool_], frames: int) -> Shots:
        """Return what noise is to be measured on, of images ``(*batch, Y, X)`` of which so many follow each other."""
        if frames < 2:
            return cls(values, measured)
        first = _firsts(frames)
        series, seen = (part.reshape(-1, frames, *part.shape[1:]) for part in (values, measured))
        one, next_one, both = series[:, first], series[:, first + 1], seen[:, first] & seen[:, first + 1]
        # A frame in which nothing varies has no noise to be in a difference.
        inner = tuple(range(2, one.ndim))
        vary = np.logical_and.reduce([frame.max(axis=inner) > frame.min(axis=inner) for frame in (one, next_one)])
        both &= vary.reshape(*vary.shape, *(1,) * len(inner))
        if not both.any():
            return cls(values, measured)
        apart = np.where(both, (next_one - one) / math.sqrt(2), 0).reshape(-1, *values.shape[1:])
        planes = (-1, *values.shape[-2:])
        return cls(apart, both.reshape(apart.shape), (one.reshape(planes), next_one.reshape(planes)))

    @property
    def flat(self) -> tuple[Array, NDArray[np.bool_]]:
        """As planes ``(N, Y, X)``."""
        shape = (-1, *self.values.shape[-2:])
        return self.values.reshape(shape), self.measured.reshape(shape)

    def blocks(self) -> Blocks:
        """Cut them into blocks."""
        return cut(*self.flat, pair=self.pair)

    @property
    def where(self) -> str:
        """What a report calls their flat parts."""
        return "flat parts" if self.pair is None else "flat parts of the differences of frames"


def _firsts(frames: int) -> NDArray[np.intp]:
    """Return the first frame of each pair: no frame is in two, but where their number is odd."""
    return np.unique([*range(0, frames - 1, 2), frames - 2])


def of_each(maps: Array, shape: tuple[int, ...], frames: int) -> Array:
    """Give each frame, of images of a shape, the map of its pair."""
    if maps.shape == shape:
        return maps
    pairs = len(_firsts(frames))
    at = np.minimum(np.arange(frames) // 2, pairs - 1)
    return maps.reshape(-1, pairs, *shape[1:])[:, at].reshape(shape)
