"""The flattest spots of an image: blocks so small that in hardly any image none is flat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise_blocks import FEWEST, SHARE, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

EDGE, STEP = 6, 2
"""Edge of a block, and the distance between neighbouring ones."""

PARTS = (1, 4, 4)
"""Parts of an image that are looked at one by one: its noise may be weak in some."""

DRAWN = (4, 1, 128, 128)
"""Noise that is drawn to see what it has in its flattest spots."""

STEEP, STEEP_BETWEEN = 0.8, 0.6
"""Steepness of the spots' spectrum, from that of white noise (0) to that of the noise that was found (1), from which on neighbours
share noise; the same in second differences from plane to plane.

Noise that they share has .9 to 1.2 in textured pictures too, brick walls and swells .6 to .8. In second differences, anatomy has
.3 to .5, smooth noise that planes share, too, .7.
"""

ALONG_ONE = 0.15
"""Difference of the lag-1 autocorrelations from which on noise is correlated along one axis, as scanners make it, content not."""

_I, _J = np.indices((EDGE, EDGE))
_ANY, _COARSE, _FINE = _I + _J > 2, (_I + _J >= 3) & (_I + _J <= 4), _I + _J >= 7


@dataclass(frozen=True)
class Spots:
    """What the flattest spots of an image hold: the median over its parts.

    Attributes
    ----------
    level
        Standard deviation of independent noise; where neighbours share noise, less than all of it.
    steepness
        Logarithm of the ratio of the power at coarse to that at fine frequencies.
    """

    level: float
    steepness: float


def spots(planes: Array, seen: NDArray[np.bool_]) -> Spots | None:
    """Measure planes ``(N, Y, X)`` in the flattest spots of each of their parts; ``None`` where there are too few."""
    blocks = cut(planes, seen, EDGE, STEP)
    if len(blocks) == 0:
        return None
    steps = np.array([planes.shape[0], *((n - EDGE) // STEP + 1 for n in planes.shape[1:])])
    part = np.ravel_multi_index(tuple((blocks.place * PARTS // steps).T), PARTS)
    groups = [blocks[part == index] for index in range(math.prod(PARTS))]
    spectra = np.array([group.spectrum(SHARE, 1) for group in groups if len(group) >= FEWEST])
    if not spectra.size or not spectra.any():
        return None
    coarse, fine = (spectra[:, band].mean(axis=1) + 1e-300 for band in (_COARSE, _FINE))
    level = math.sqrt(np.median(spectra[:, _ANY].mean(axis=1)))
    return Spots(level, float(np.median(np.log(coarse / fine))))


def drawn(kernel: NDArray[np.float32] | None) -> Spots:
    """Measure noise of standard deviation 1 alone, with an autocorrelation ``(Y, X)`` or independent (``None``)."""
    return _white() if kernel is None else _drawn(kernel)


@cache
def _white() -> Spots:
    return _drawn(None)


def _drawn(kernel: NDArray[np.float32] | None) -> Spots:
    from torch import Generator

    from dip_sci.texture import Texture

    noise = Texture(kernel).draw(DRAWN, Generator().manual_seed(0))[:, 0].numpy()
    found = spots(noise, np.ones(noise.shape, bool))
    assert found is not None
    return found


def share(
    planes: Array, seen: NDArray[np.bool_], kernel: NDArray[np.float32], lags: tuple[float, float], *, volume: bool
) -> bool:
    """Say whether neighbours in planes ``(N, Y, X)`` share noise, or content was taken for that.

    Content is weak in some spots, and they look whiter than the rest. In a volume it goes on from plane to plane: in second
    differences there is hardly any; noise is left, with the correlation that it has in the planes.

    Parameters
    ----------
    planes, seen
        Stabilised values, and which of them count.
    kernel, lags
        Autocorrelation ``(Y, X)`` that was found, and its values at lag 1 along X and Y.
    volume
        Whether the planes are neighbours in space.
    """
    if volume and len(planes) > 2:
        planes, seen = planes[2:] - 2 * planes[1:-1] + planes[:-2], seen[2:] & seen[1:-1] & seen[:-2]
        least = STEEP_BETWEEN
    elif abs(lags[0] - lags[1]) < ALONG_ONE:
        least = STEEP
    else:
        return True
    found = steepness(planes, seen, kernel)
    return found is None or found[0] > least * found[1]


def steepness(planes: Array, seen: NDArray[np.bool_], kernel: NDArray[np.float32]) -> tuple[float, float] | None:
    """Measure how much steeper than that of white noise the spectrum of the flattest spots is, and that of noise with a `kernel`.

    ``None`` where there are too few spots.
    """
    white, noise, found = drawn(None).steepness, drawn(kernel).steepness, spots(planes, seen)
    return None if found is None else (found.steepness - white, noise - white)
