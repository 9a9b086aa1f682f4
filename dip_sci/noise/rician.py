"""Magnitudes of complex signals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import chndtrix, i0e, i1e, ndtr

from dip_sci.noise.gaussian import pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise.protocol import Normal

    Array = NDArray[Any]

TAIL = 9.0
"""Magnitude in units of sigma from which on the stabilisation is its asymptotic series."""


@dataclass(frozen=True)
class Rician:
    """Magnitude of a complex signal with Gaussian noise in both channels, as in magnetic resonance images.

    Attributes
    ----------
    sigma
        Standard deviation of the noise in each channel, in image units.
    """

    sigma: float

    name = "rician"

    def mean(self, truth: Array) -> Array:
        """See `NoiseModel`: above the truth by half of ``sigma**2 / truth`` where there is signal.

        ``sigma sqrt(pi / 2) ((1 + 2 a) I0(a) + 2 a I1(a)) exp(-a)`` with ``a = truth**2 / (4 sigma**2)`` (Rice 1944).
        """
        return self.sigma * _mean(self._snr(truth))

    def signal(self, mean: Array) -> Array:
        """Return the truth whose magnitudes have a mean (Koay & Basser 2006); 0 below that of no signal."""
        m = np.asarray(mean, np.float64) / self.sigma
        snr = np.linspace(0, TAIL, 1000)
        # Far up, the mean of magnitudes is nu + 1 / (2 nu).
        beyond = 0.5 * (m + np.sqrt(np.maximum(m**2 - 2, 0)))
        return _as_given(self.sigma * np.where(m > _mean(snr[-1:]), beyond, np.interp(m, _mean(snr), snr)), mean)

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`: ``2 sigma**2 + truth**2 - mean**2``, from 0.429 to 1 times ``sigma**2``."""
        return self.sigma**2 * _variance(self._snr(truth))

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        real, imaginary = (self.sigma * rng.standard_normal(truth.shape) for _ in range(2))
        return np.hypot(truth + real, imaginary)

    def observe(self, truth: Array, normal: Normal) -> Array:
        """See `Pointwise`."""
        return self.sigma * _quantile(normal(truth.shape), self._snr(truth))

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: after Foi (ISBI 2011), the slope refined numerically.

        The standard deviation is within 2.5 % of 1 at every signal-to-noise ratio from 1 up, and
        within 3 % below; the skewness within 0.4. Zero maps to 0; far up the transform is
        ``m - 1 / (4 m)`` plus a constant, with m the magnitude over sigma. Values below 0,
        which no magnitude has, continue it as a straight line.
        """
        table = _table()
        m = np.asarray(observed / self.sigma, np.float64)
        high = np.maximum(m, TAIL)
        inside = np.interp(m, table.magnitude, table.value) + np.minimum(m, 0) * table.slope
        return _as_given(np.where(m > TAIL, high - 0.25 / high + table.shift, inside), observed)

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`: the signal of which stabilised magnitudes have this mean; 0 below that of no signal."""
        table = _table()
        d = np.asarray(mean, np.float64)
        # Interpolating the square keeps the root at zero signal sharp. Far up, E[f] = nu + 1 / (4 nu) + shift.
        inside = np.sqrt(np.interp(d, table.mean, table.power))
        x = np.maximum(d - table.shift, 1)
        beyond = 0.5 * (x + np.sqrt(x**2 - 1))
        return _as_given(self.sigma * np.where(d > table.mean[-1], beyond, inside), mean)

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `NoiseModel`; approximate: ``f + t e`` and ``f - e / t`` on the stabilised scale f.

        Both are mapped back point by point, so that stabilising them gives these sums again (the
        input may be negative). There the means are exact and the correlation of the noise is
        within a few per cent of 0; what is denoised there comes back by `unstabilise`.
        """
        return self.couple(observed, strength, rng.standard_normal)

    def couple(self, observed: Array, strength: float, normal: Normal) -> tuple[Array, Array]:
        """See `Pointwise`, and `split`."""
        one, other = pair(self.stabilise(observed), strength, normal(observed.shape))
        return self._magnitude(one), self._magnitude(other)

    def likely_variance(self, truth: Array) -> Array:
        """See `Pointwise`."""
        return self.variance(truth)

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`: exact; a magnitude of 0, which only rounding gives, counts as a thousandth of sigma."""
        m, nu = np.maximum(observed / self.sigma, 1e-3), self._snr(truth)
        log = np.log(m) - 0.5 * (m - nu) ** 2 + np.log(i0e(m * nu)) - math.log(self.sigma)
        return -float(np.mean(log, dtype=np.float64))

    def _snr(self, truth: Array) -> Array:
        return np.abs(np.asarray(truth, np.float64)) / self.sigma

    def _magnitude(self, stable: Array) -> Array:
        """Undo `stabilise` point by point."""
        table = _table()
        x = np.maximum(stable - table.shift, 0)
        inside = np.interp(stable, table.value, table.magnitude) + np.minimum(stable, 0) / table.slope
        return self.sigma * np.where(stable > table.value[-1], 0.5 * (x + np.sqrt(x**2 + 1)), inside)


def _as_given(values: Array, like: Array) -> Array:
    """Return float64 values in the precision of what they were made from."""
    return values.astype(np.result_type(like, np.float32), copy=False)


def _mean(snr: Array) -> Array:
    """Mean of a magnitude, both in units of sigma."""
    a = snr**2 / 4
    mean: Array = math.sqrt(math.pi / 2) * ((1 + 2 * a) * i0e(a) + 2 * a * i1e(a))
    return mean


def _variance(snr: Array) -> Array:
    """Variance of a magnitude in units of sigma."""
    # Far up the difference of squares loses its digits, and the series has gained them.
    near, far = np.minimum(snr, 40), np.maximum(snr, 40)
    exact = 2 + near**2 - _mean(near) ** 2
    return np.where(snr < 40, exact, 1 - 0.5 / far**2 - 0.5 / far**4)


def _quantile(score: Array, snr: Array) -> Array:
    """Magnitude, in units of sigma, whose probability is that of a standard normal score."""
    score, snr = np.broadcast_arrays(np.clip(score, -8, 8), snr)
    magnitude: Array = _mean(snr) + np.sqrt(_variance(snr)) * score
    # The squared magnitude is non-central chi-square; from an SNR of 20 on its root is normal within 4e-4.
    near = snr < 20
    magnitude[near] = np.sqrt(chndtrix(ndtr(score[near]), 2.0, snr[near] ** 2))
    return magnitude


class _Table(NamedTuple):
    """The stabilisation in units of sigma: f at magnitudes, and E[f] with the square of the signal it comes from."""

    magnitude: Array
    value: Array
    mean: Array
    power: Array
    slope: float
    shift: float


@cache
def _table() -> _Table:
    """Begin with ``f' = 1 / sd`` where the mean magnitude is; refine it until all standard deviations are close to 1.

    Gauss-Newton for the logarithm of the slope, piecewise linear between knots: the least sum of
    squares of what the standard deviations lack to 1 and, for a transform without bumps, of the
    second differences.
    """
    step, roughness = 0.02, 0.4
    grid = step * np.arange(1001)
    snr = 0.05 * np.arange(241)
    density = grid * np.exp(-0.5 * (grid - snr[:, None]) ** 2) * i0e(grid * snr[:, None]) * step
    knots = np.array([*np.arange(0, 6, 0.5), 6, 7, 8, TAIL])
    free = knots < 8
    log_slope = np.interp(knots, _mean(snr), -0.5 * np.log(_variance(snr)))
    log_slope[~free] = np.log1p(0.25 / knots[~free] ** 2)
    hats = np.array([np.interp(grid, knots, unit) for unit in np.eye(knots.size)])
    bends = roughness * np.diff(np.eye(knots.size), 2, axis=0)

    def integral(slope: Array) -> Array:
        return np.cumsum(slope, -1) * step - 0.5 * step * (slope + slope[..., :1])

    def transform() -> Array:
        high = np.maximum(grid, TAIL)
        return integral(np.where(grid <= TAIL, np.exp(log_slope @ hats), 1 + 0.25 / high**2))

    for _ in range(8):
        f = transform()
        mean = density @ f
        sd = np.sqrt(density @ f**2 - mean**2)
        by_knot = integral(np.exp(log_slope @ hats) * hats)
        jacobian = ((density * f) @ by_knot.T - mean[:, None] * (density @ by_knot.T)) / sd[:, None]
        design = np.concatenate([jacobian, bends])[:, free]
        log_slope[free] += np.linalg.lstsq(design, np.concatenate([1 - sd, -bends @ log_slope]), rcond=None)[0]
    f = transform()
    below = grid <= TAIL
    shift = f[below][-1] - TAIL + 0.25 / TAIL
    return _Table(grid[below], f[below], density @ f, snr**2, float(np.exp(log_slope[0])), float(shift))
