"""Offsets of columns and of rows, as the amplifiers of a camera and detectors that read line by line leave them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci import planewise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

SMALLEST = 128
"""Edge of the planes from which on offsets can be told from content."""

BANDS = 8
"""Parts along the lines whose offsets are compared."""

CLEAR = 6.0
"""What the bands' offsets have in common, over its standard error, from which on it is no chance."""

STEP, CHANCE = -0.5, (0.05, 2.8)
"""Correlation of one step from line to line with the next where each line has an offset of its own (with the next but one: 0), and
how far from both it may be: at most so much, and so much over the root of the number of lines.
"""

EVERYWHERE = 0.75
"""What the two halves of the lines have in common, over what alternate bands have, at least: content is local."""

HIGH = 4.0
"""Steps beyond so many standard deviations are borders of content, which are rare and high; offsets are nearly normal."""

FAINTEST, LOUDEST = 0.1, 1.5
"""Offsets over the standard deviation of the noise: weaker ones do not matter, stronger ones count as content."""

SMOOTH = 32.0
"""Lines in a period of what is taken for content's own shades and left."""

AROUND, MORE = 17, 1.5
"""Frequencies whose power is averaged, and what it is over that of offsets where content begins."""


@dataclass(frozen=True)
class Offsets:
    """Offsets of a plane's lines.

    Attributes
    ----------
    along
        Axis that the lines run along.
    strength
        Standard deviation of the offsets over that of the noise.
    """

    along: str
    strength: float


def take_out(planes: Array, seen: NDArray[np.bool_]) -> tuple[Array, list[Offsets]]:
    """Remove the offsets of columns and of rows from planes.

    They count as such where they are the same all along the lines, independent from line to line and weaker than the noise:
    what content has in common along a whole line is smooth, or rare and high.

    Parameters
    ----------
    planes
        ``(*batch, Y, X)``, floating point.
    seen
        Which voxels were measured, of the same shape; planes with holes are left alone.

    Returns
    -------
    planes, offsets
        The very array that was given where there are none; what was found in all planes.
    """
    return planewise.take_out(planes, seen, SMALLEST, _without)


def describe(found: Sequence[Offsets]) -> str:
    """Put what was taken out into words."""
    words = {"Y": "columns", "X": "rows"}
    which = " and ".join(words[along] for along in "YX" if any(one.along == along for one in found))
    strongest = max(one.strength for one in found)
    return (
        f"Whole {which} are brighter or darker than those beside them, as detectors leave them, by {strongest:.2g} times the "
        "noise's standard deviation; that is taken out first, unless noise.interference is keep."
    )


def _without(plane: Array) -> tuple[list[Offsets], Array]:
    found = []
    for along, lines in (("Y", plane.T), ("X", plane)):
        offsets = _offsets(np.ascontiguousarray(lines))
        if offsets is not None:
            strength, each = offsets
            lines -= each[:, None]
            found.append(Offsets(along, strength))
    return found, plane


def _offsets(lines: Array) -> tuple[float, Array] | None:
    """Find the offsets of lines along the second axis: their strength over the noise, and one for each line."""
    steps = np.diff(lines, axis=0)
    bands = np.stack([_middle(part) for part in np.array_split(steps, BANDS, axis=1)])
    whole = bands.mean(axis=0)
    noise, highest = _sd(steps - whole[:, None]) / math.sqrt(2), HIGH * _sd(whole)
    if min(noise, highest) == 0:
        return None
    known = np.abs(whole) <= highest
    within = np.where(known, np.clip(bands, -highest, highest), 0)
    even, odd = within[::2].mean(axis=0), within[1::2].mean(axis=0)
    common, following, beyond = (_in_common(even, odd, known, apart) for apart in range(3))
    in_halves = _in_common(within[: BANDS // 2].mean(axis=0), within[BANDS // 2 :].mean(axis=0), known)
    chance = float(np.var(even - odd)) / 2 / math.sqrt(whole.size)
    if common < CLEAR * chance or in_halves < EVERYWHERE * common:
        return None
    if max(abs(following - STEP * common), abs(beyond)) > (CHANCE[0] + CHANCE[1] / math.sqrt(whole.size)) * common:
        return None
    variance = common / 2
    if not FAINTEST * noise < math.sqrt(variance) <= LOUDEST * noise:
        return None
    # Of a border, high or another from band to band, it is not known what step is in it.
    error = bands.var(axis=0, ddof=1) / BANDS
    weights = known * variance / np.maximum(error, max(float(np.median(error)), 1e-6 * variance))
    return math.sqrt(variance) / noise, _summed(whole, weights, variance)


def _in_common(one: Array, other: Array, known: NDArray[np.bool_], apart: int = 0) -> float:
    """Covariance of two rows of steps, 0 where they are not known, so many lines apart."""
    n = len(one) - apart
    both = int(np.count_nonzero(known[:n] & known[apart:]))
    return float(np.sum(one[:n] * other[apart:] + other[:n] * one[apart:])) / (2 * both if both else 1)


def _summed(steps: Array, weights: Array, variance: float) -> Array:
    """Return the likeliest offsets of a variance, of steps each known to its weight over that, without what content adds to them."""
    from scipy import fft
    from scipy.linalg import solveh_banded
    from scipy.ndimage import uniform_filter1d

    # (D' W D + 1) d = D' W steps, with D the differences.
    flow = weights * steps
    banded = np.stack([np.append(0, -weights), 1 + np.append(0, weights) + np.append(weights, 0)])
    found = fft.dct(solveh_banded(banded, np.append(0, flow) - np.append(flow, 0)), norm="ortho")
    # Independent offsets are as strong at all frequencies. What is stronger there is content.
    power = uniform_filter1d(found**2, AROUND)
    keep = np.minimum(1, MORE * variance / np.maximum(power, 1e-300)) ** 2
    keep[: math.ceil(2 * found.size / SMOOTH)] = 0
    offsets: Array = fft.idct(keep * found, norm="ortho")
    return offsets


def _middle(values: Array) -> Array:
    """Return the mean of the middle half of each row: borders of content hardly move it."""
    low, high = values.shape[1] // 4, values.shape[1] - values.shape[1] // 4
    middle: Array = np.partition(values, (low, high - 1), axis=1)[:, low:high].mean(axis=1)
    return middle


def _sd(values: Array) -> float:
    return float(np.median(np.abs(values))) / 0.6745
