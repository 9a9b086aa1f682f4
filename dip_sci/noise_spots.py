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
"""Difference of the lag-1 autocorrelations from which on noise is correlated along one axis, as scanners make it, content hardly."""

AS_MUCH, AS_STEEP = (0.6, 1.6), 1.3
"""How one-sided the spots' spectrum may be, over that of the noise that was found, to confirm it, and how steep at most: scanners
make .6 to 1.1, textures 1.5 and more.
"""

ONE_SIDED = 0.1
"""Least logarithm of the ratio of the power along one axis to that along the other that can be told from none."""

LIKE, LIKE_AT_LEAST = 0.42, 0.36
"""How differently steep an image's parts may be (10 to 75 %), over the steepness of the noise or at all, and all hold the same noise:
scanners .2 to .4 times, waves and stripes from .5 on, and from .8 on at all.
"""

_I, _J = np.indices((EDGE, EDGE))
_ANY, _COARSE, _FINE = _I + _J > 2, (_I + _J >= 3) & (_I + _J <= 4), _I + _J >= 7
_ALONG_X, _ALONG_Y = (_J >= 3) & (_I <= 1), (_I >= 3) & (_J <= 1)


@dataclass(frozen=True)
class Spots:
    """What the flattest spots of an image hold: the median over its parts.

    Attributes
    ----------
    level
        Standard deviation of independent noise; where neighbours share noise, less than all of it.
    steepness
        Logarithm of the ratio of the power at coarse to that at fine frequencies.
    spread
        How differently steep the parts are: from their 10 to their 75 % quantile.
    sidedness
        Logarithm of the ratio of the power at frequencies along Y to that along X: larger than 0 where noise is shared along X.
    """

    level: float
    steepness: float
    spread: float
    sidedness: float


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
    level = math.sqrt(np.median(spectra[:, _ANY].mean(axis=1)))
    steep = _ratios(spectra, _COARSE, _FINE)
    low, high = np.quantile(steep, (0.1, 0.75))
    sided = float(np.median(_ratios(spectra, _ALONG_Y, _ALONG_X)))
    return Spots(level, float(np.median(steep)), float(high - low), sided)


def _ratios(spectra: Array, band: NDArray[np.bool_], other: NDArray[np.bool_]) -> Array:
    """Return the logarithms of the ratios of the power in one band to that in another."""
    over, under = (spectra[:, which].mean(axis=1) + 1e-300 for which in (band, other))
    found: Array = np.log(over) - np.log(under)
    return found


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


def everywhere(planes: Array, seen: NDArray[np.bool_], kernel: NDArray[np.float32]) -> bool:
    """Say whether the flattest spots in all parts of an image hold the noise of a `kernel`: content is another from place to place."""
    white, noise, found = drawn(None).steepness, drawn(kernel).steepness, spots(planes, seen)
    if found is None:
        return False
    steep = noise - white
    return found.spread < max(LIKE * steep, LIKE_AT_LEAST) and STEEP * steep < found.steepness - white


def confirmed(planes: Array, seen: NDArray[np.bool_], kernel: NDArray[np.float32]) -> bool:
    """Say whether the flattest spots hold noise that is shared along one axis as much as a `kernel` says, and nothing coarser."""
    sided, steep = sidedness(planes, seen, kernel), steepness(planes, seen, kernel)
    if sided is None or steep is None:
        return False
    return AS_MUCH[0] < sided < AS_MUCH[1] and steep[0] < AS_STEEP * steep[1]


def sidedness(planes: Array, seen: NDArray[np.bool_], kernel: NDArray[np.float32]) -> float | None:
    """Measure how one-sided the spectrum of the flattest spots is, over that of noise with a `kernel`.

    ``None`` where there are too few spots, or the noise is hardly one-sided.
    """
    # Both are of the same draw: by how one-sided that happens to be, they do not differ.
    noise, found = drawn(kernel).sidedness - drawn(None).sidedness, spots(planes, seen)
    return None if found is None or abs(noise) < ONE_SIDED else found.sidedness / noise
