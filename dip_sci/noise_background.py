"""What tells a magnitude image: its empty background, and how noisy that is, or that it avoids zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

EDGE = 8
"""Edge of the tiles that are all background or not."""

FEWEST, SHARE = 30, 0.01
"""Tiles of background, and share of all tiles, from which they count."""

UNLIKE = 0.03
"""Largest difference between the distribution of the background and its law."""

SHAPE = 0.1
"""How far the squares' mean over their standard deviation may be from 1, which is that of one complex signal.

From several coils it is more.
"""

REACH = 2.0
"""How far from their mean tiles without signal are, in standard deviations: near, as those with faint signal are not much further.
"""

SIGNAL = 3.0
"""Power, over that of the background, from which on there is signal: twice the noise."""

CALMER = 0.78
"""Noise of the background over that of the signal, at most: without signal it is 0.66 of what it is with much."""


DARK = 40
"""Values below 0 that normal noise would have made, from which their absence says something."""

NEAR, RARE = 0.1, 0.15
"""What counts as near 0, in standard deviations, and how many of such values there are at most, over those below 0 that
normal noise would have made. Of two parts, real and imaginary, hardly ever both are: some .05. Values that were cut off at
0 lie there (.8 and more), and of a single part's magnitude there are .35 and more.
"""


@dataclass(frozen=True)
class Background:
    """Noise in the background of a magnitude image.

    Attributes
    ----------
    sigma
        Standard deviation of the real and of the imaginary part.
    error
        Its relative standard error.
    """

    sigma: float
    error: float


def background(planes: Array, seen: NDArray[np.bool_], step: float) -> Background | None:
    """Find the background of planes ``(N, Y, X)``.

    Parameters
    ----------
    planes, seen
        Values, and which were measured.
    step
        Distance between the values that can occur; 0 where they are continuous.

    Returns
    -------
    Background or None
        ``None`` where there is none: values below 0, no dark tiles with the law of a magnitude without
        signal, or as much noise in them as in the signal.

    Notes
    -----
    Where there is no signal, half of the squared magnitudes' mean is the likeliest sigma squared.
    """
    if float(planes[seen].min()) < 0:
        return None
    square = _tiles(planes.astype(np.float64) ** 2)
    whole = _tiles(seen).all(axis=-1)
    # What was set to 0 is no noise.
    whole &= (square == 0).mean(axis=-1) < 0.2 + 0.5 * (step > 0)
    square = square[whole]
    if len(square) == 0:
        return None
    power = square.mean(axis=-1)
    found = _empty(square, power, step)
    if found is None:
        return None
    level, empty = found
    signal = square[power > SIGNAL * level]
    if len(signal) >= FEWEST and _calm(square[empty]) > CALMER * _calm(signal):
        return None
    error = float(power[empty].std()) / level / math.sqrt(np.count_nonzero(empty)) / 2
    return Background(math.sqrt(level / 2), error)


def _empty(square: Array, power: Array, step: float) -> tuple[float, NDArray[np.bool_]] | None:
    """Find the tiles without signal among squared values and their means, as far from their mean as chance reaches."""
    dark = np.sort(power)[: max(FEWEST, len(power) // 50)]
    level, width = float(np.median(dark)), 1.0
    for _ in range(20):
        inside = np.abs(power - level) <= width * level
        if not inside.any():
            return None
        level = float(power[inside].mean())
        # Shared noise makes tiles differ by more. There is no signal in those that are darker than the mean.
        darker = power[power < level] / level
        independent = 1 / (_shape(square[inside]) * EDGE**2)
        width = REACH * math.sqrt(max(independent, float(np.mean((1 - darker) ** 2)) if darker.size else 0.0))
    empty: NDArray[np.bool_] = np.abs(power - level) <= width * level
    tiles = square[empty]
    if len(tiles) < max(FEWEST, SHARE * len(power)) or abs(_shape(tiles) - 1) > SHAPE:
        return None
    lawful = _unlike(np.sqrt(tiles.ravel()), math.sqrt(level / 2), step) <= UNLIKE
    return (level, empty) if lawful else None


def avoids_zero(planes: Array, seen: NDArray[np.bool_], sigma: float) -> bool:
    """Whether values are as rare near 0 as magnitudes of complex signals with noise are.

    Parameters
    ----------
    planes, seen
        Values ``(N, Y, X)``, and which were measured.
    sigma
        Standard deviation of the real and of the imaginary part.
    """
    from scipy.ndimage import uniform_filter
    from scipy.special import ndtr

    if float(planes[seen].min()) < 0:
        return False
    expected = 0.0
    for plane, measured in zip(planes, seen, strict=True):
        mean = uniform_filter(plane.astype(np.float64), 3)
        whole = uniform_filter(measured.astype(np.float64), 3) > 0.999
        expected += float(ndtr(-mean[whole] / sigma).sum())
    near = int(np.count_nonzero(planes[seen] < NEAR * sigma))
    return expected >= DARK and near <= RARE * expected


def _tiles(planes: Array) -> Array:
    n, h, w = (planes.shape[0], planes.shape[1] // EDGE, planes.shape[2] // EDGE)
    tiles = planes[:, : h * EDGE, : w * EDGE].reshape(n, h, EDGE, w, EDGE).swapaxes(2, 3)
    return tiles.reshape(-1, EDGE**2)


def _calm(square: Array) -> float:
    """Magnitude of the details in the calmest quarter of tiles, given squared.

    Over half a tile: shared noise is finer in magnitudes without signal than in others.
    """
    half = EDGE // 2
    quarters = np.sqrt(square).reshape(-1, 2, half, 2, half)
    detail = quarters[:, 0, :, 0] - quarters[:, 0, :, 1] - quarters[:, 1, :, 0] + quarters[:, 1, :, 1]
    return float(np.quantile(np.median(np.abs(detail).reshape(len(square), -1), axis=-1), 0.25))


def _shape(square: Array) -> float:
    """Squared mean of squared magnitudes over their variance."""
    return float(np.clip(square.mean() ** 2 / max(square.var(), 1e-30), 0.1, 100.0))


def _unlike(values: Array, sigma: float, step: float) -> float:
    """Kolmogorov's distance between values and Rayleigh's law."""
    levels, counts = np.unique(values, return_counts=True)
    up_to = np.cumsum(counts) / values.size
    law = 1 - np.exp(-((levels + step / 2) ** 2) / (2 * sigma**2))
    return float(np.abs(up_to - law).max())
