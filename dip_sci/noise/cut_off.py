"""Noise whose values are cut off at the ends of a range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

POWER = 0.6
"""Of the noise's standard deviation, by which the slope of the stabilisation goes.

With 1 its spread would come out too large beside an end, where most values lie on the end itself.
"""

OUTSIDE, INSIDE = 1.0, 8.0
"""How far from an end noise is tabulated, in its standard deviations: beyond it, and within the range."""

FAR = 1e7
"""As good as no end, likewise."""

POINTS = 600
"""Of a table, at each end."""


@dataclass(frozen=True)
class CutOff:
    """Gaussian noise of standard deviation 1, of which values beyond a range lie on its ends (Foi 2009).

    Attributes
    ----------
    low, high
        The ends, in standard deviations of the noise; infinite where there is none.
    """

    low: float
    high: float

    def mean(self, truth: Array) -> Array:
        """Mean of the observation, given the noise-free values."""
        return _moments(truth, self.low, self.high)[0]

    def variance(self, truth: Array) -> Array:
        """Variance of the observation, given the noise-free values."""
        return _moments(truth, self.low, self.high)[1]

    def stabilise(self, observed: Array) -> Array:
        """Map observations to a scale on which the noise is as strong beside an end as far from it, nearly.

        Its variance is .5 to 1.1 for noise-free values within the range, and 1 far from the ends. What lies outside the
        range all the same, as padding may, stays as far outside.
        """
        table = _table(self.low, self.high)
        inside = np.interp(observed, table.observed, table.value)
        return _as_given(inside + _beyond(observed, self.low, self.high), observed)

    def unstabilise(self, mean: Array) -> Array:
        """Map a denoised image on that scale back, without bias: within the range, as what lies beyond was not seen."""
        table = _table(self.low, self.high)
        inside = np.clip(np.interp(mean, table.mean, table.truth), self.low, self.high)
        return _as_given(inside + _beyond(mean, table.value[0], table.value[-1]), mean)

    def stable_variance(self, mean: Array) -> Array:
        """Variance of stabilised observations, given their mean."""
        table = _table(self.low, self.high)
        return _as_given(np.interp(mean, table.mean, table.variance), mean)


class _Table(NamedTuple):
    """The stabilisation of observed values; and for noise-free values, mean and variance of stabilised observations."""

    observed: Array
    value: Array
    truth: Array
    mean: Array
    variance: Array


@lru_cache(maxsize=64)
def _table(low: float, high: float) -> _Table:
    left, right = (low, high) if math.isfinite(low) else (high - 2 * INSIDE, high)
    right = right if math.isfinite(right) else left + 2 * INSIDE
    middle = (left + right) / 2
    below = np.linspace(low - OUTSIDE, min(low + INSIDE, middle), POINTS) if low == left else np.array([-FAR])
    above = np.linspace(max(high - INSIDE, middle), high + OUTSIDE, POINTS) if high == right else np.array([FAR])
    truth = np.unique(np.concatenate([below, above]))
    observed, variance = _moments(truth, low, high)
    # Beside an end, the slope is that of noise that lies beyond it.
    slope = np.maximum(variance, 1e-9) ** (-POWER / 2)
    observed = np.concatenate([[max(low, -FAR)], observed, [min(high, FAR)]])
    slope = np.concatenate([slope[:1], slope, slope[-1:]])
    value = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(observed))])
    # Far from the ends, or half way between them, values stay as they are.
    value += middle - np.interp(middle, observed, value)
    normal = np.linspace(-6, 6, 601)
    share = np.exp(-(normal**2) / 2)
    share /= share.sum()
    seen = np.interp(np.clip(truth[:, None] + normal, low, high), observed, value)
    mean = seen @ share
    spread = np.maximum((seen - mean[:, None]) ** 2 @ share, 0)
    return _Table(observed, value, truth, mean, spread)


def _beyond(values: Array, low: float, high: float) -> Array:
    """How far values are outside a range."""
    return np.minimum(values - low, 0) + np.maximum(values - high, 0)


def _moments(truth: Array, low: float, high: float) -> tuple[Array, Array]:
    """Mean and variance of ``clip(truth + n, low, high)`` with n standard normal."""
    x = np.asarray(truth, np.float64)
    # What lies 40 standard deviations away is never met.
    below, above = np.clip(low - x, -40, 40), np.clip(high - x, -40, 40)
    left, right = ndtr(below), ndtr(-above)
    at_left, at_right = (np.exp(-(end**2) / 2) / math.sqrt(2 * math.pi) for end in (below, above))
    first = below * left + above * right + at_left - at_right
    second = below**2 * left + above**2 * right + (1 - left - right) + below * at_left - above * at_right
    return x + first, np.maximum(second - first**2, 0)


def _as_given(values: Array, like: Array) -> Array:
    """Return single precision where that was given."""
    dtype = np.asarray(like).dtype
    return values.astype(dtype) if dtype.kind == "f" else values
