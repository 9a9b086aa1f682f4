"""The ends of an image's range, where values pile up and noise is cut off."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise import CutOff, PoissonGaussian, Rician, Speckle
from dip_sci.noise_blocks import skewness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise import Pointwise

    Array = NDArray[Any]

PILED = 0.005
"""Share of the voxels at one end of the range from which they are told of."""

SKEWED = 0.5
"""Skewness of stabilised noise from which on it is not Gaussian noise that was cut off. That of speckle is 1.1 (its logarithm)."""


def piled(seen: Array) -> dict[float, float]:
    """Find values that pile up at an end of the range, where the noise is cut off: their share of all, by that end."""
    found = {}
    for end, inwards in ((float(seen.min()), 1), (float(seen.max()), -1)):
        at_end = int(np.count_nonzero(seen == end))
        others = seen[seen != end]
        if at_end < PILED * seen.size or not others.size:
            continue
        following = others.min() if inwards > 0 else others.max()
        # The tail of a distribution thins out towards its end; one that was cut off does not.
        if at_end > 2 * np.count_nonzero(others == following):
            found[end] = at_end / seen.size
    return found


def cut_off(model: Pointwise, piles: dict[float, float], planes: Array, seen: NDArray[np.bool_]) -> CutOff | None:
    """Say where stabilised noise is cut off, given where values pile up; ``None`` where it is not known to be."""
    low, high = float(planes[seen].min()), float(planes[seen].max())
    # A magnitude or an intensity has none below 0, and where photons are few and little is added, most pixels have none.
    natural = isinstance(model, Rician | Speckle) or (
        isinstance(model, PoissonGaussian) and model.read_noise < model.gain
    )
    bottom = float(model.stabilise(np.array(low))) if low in piles and not natural else -math.inf
    top = float(model.stabilise(np.array(high))) if high in piles else math.inf
    if math.isinf(bottom) and math.isinf(top):
        return None
    symmetric = abs(skewness(model.stabilise(planes), seen)) < SKEWED
    return CutOff(bottom, top) if symmetric else None


def words(piles: dict[float, float], *, allowed: bool) -> str:
    """Tell of values that were cut off."""
    so = "which is allowed for" if allowed else "and do not count"
    return "".join(f"; {share:.0%} of the values are cut off at {end + 0.0:.6g}, {so}" for end, share in piles.items())
