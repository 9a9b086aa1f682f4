"""Photon counts, with and without read noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import gammaln, ndtr, pdtr, pdtrik, xlogy

from dip_sci.noise.gaussian import gaussian_nll, pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise.protocol import Normal

    Array = NDArray[Any]


MANY = 50
"""Photons from which on a stabilised count has variance 1."""


@dataclass(frozen=True)
class PoissonGaussian:
    """Photon counts times a gain, plus an offset and Gaussian read noise.

    The variance is ``gain * (mean - offset) + read_noise**2`` (Foi et al. 2008, eq. 3).

    Attributes
    ----------
    gain
        Grey levels per photon.
    offset
        Grey level without light.
    read_noise
        Standard deviation of the read noise, in grey levels.
    """

    gain: float
    offset: float
    read_noise: float

    name = "poisson_gaussian"

    def mean(self, truth: Array) -> Array:
        """See `NoiseModel`: the truth, where there is light."""
        return np.maximum(truth, self.offset)

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`."""
        return self.gain * np.maximum(truth - self.offset, 0) + self.read_noise**2

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        photons = rng.poisson(self._photons(truth))
        return self.gain * photons + self.offset + self.read_noise * rng.standard_normal(truth.shape)

    def observe(self, truth: Array, normal: Normal) -> Array:
        """See `Pointwise`: one field for the photons, a second one for the read noise."""
        photons = _quantile(normal(truth.shape), self._photons(truth))
        return self.gain * photons + self.offset + self.read_noise * normal(truth.shape)

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: the generalised Anscombe transform (Starck, Murtagh & Bijaoui 1998)."""
        g = self.gain
        inside = g * (observed - self.offset) + 0.375 * g**2 + self.read_noise**2
        return 2 / g * np.sqrt(np.maximum(inside, 0))

    def stable_variance(self, truth: Array) -> Array:
        """Variance of stabilised observations, given the noise-free values: 1, and less where photons are few."""
        photons = np.concatenate([[0], np.geomspace(1e-2, MANY, 200)])
        counts = np.arange(3 * MANY)
        nodes, shares = np.polynomial.hermite_e.hermegauss(15)
        stable = self.stabilise(self.gain * counts[:, None] + self.offset + self.read_noise * nodes)
        shares = shares / shares.sum()
        first, second = stable @ shares, stable**2 @ shares
        chance = np.exp(xlogy(counts, photons[:, None]) - photons[:, None] - gammaln(counts + 1))
        variance = np.maximum(chance @ second - (chance @ first) ** 2, 0)
        found: Array = np.interp(self._photons(truth), photons, variance, right=1.0)
        return found

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`: the closed form of the exact unbiased inverse (Mäkitalo & Foi 2013, eq. 10)."""
        # Below the transform of zero photons the closed form turns round and goes to infinity.
        d = np.maximum(mean, 2 * math.sqrt(3 / 8))
        root = math.sqrt(1.5)
        photons = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
        counts = np.maximum(photons - (self.read_noise / self.gain) ** 2, 0)
        return self.gain * counts + self.offset

    def stable_slope(self, mean: Array) -> Array:
        """How much stabilised means rise with each photon: one over the derivative of what `unstabilise` does."""
        d, root = np.maximum(mean, 2 * math.sqrt(3 / 8)), math.sqrt(1.5)
        slope: Array = 1 / (d / 2 - root / (4 * d**2) + 11 / (4 * d**3) - 15 * root / (8 * d**4))
        return slope

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `NoiseModel`; approximate: the means are exact, the noise is uncorrelated but not independent.

        ``y + t e`` and ``y - e / t``, where e is Gaussian with the variance at the observed grey
        level, ``gain * (y - offset) + read_noise**2``, cut off at 0. That is unbiased for the
        true variance, so the covariance of the copies vanishes (but for the cut-off, in the
        dark); at t = 1 their third moments vanish as well, which a smoothed level would not do.
        """
        return self.couple(observed, strength, rng.standard_normal)

    def couple(self, observed: Array, strength: float, normal: Normal) -> tuple[Array, Array]:
        """See `Pointwise`, and `split`."""
        variance = np.maximum(self.gain * (observed - self.offset) + self.read_noise**2, 0)
        return pair(observed, strength, np.sqrt(variance) * normal(observed.shape))

    def likely_variance(self, truth: Array) -> Array:
        """See `Pointwise`: without read noise the truth counts as a thousandth of a photon at least."""
        return np.maximum(self.variance(truth), 1e-3 * self.gain**2)

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`: ``(y - x)**2 / (2 v) + log(2 pi v) / 2`` with v the `likely_variance` at the truth x."""
        return gaussian_nll(observed, self.mean(truth), self.likely_variance(truth))

    def _photons(self, truth: Array) -> Array:
        return np.maximum(truth - self.offset, 0) / self.gain


@dataclass(frozen=True)
class Poisson(PoissonGaussian):
    """Photon counts times a gain, plus an offset: Poisson-Gaussian noise without read noise.

    Stabilised by the transform of Anscombe (1948), brought back by its exact unbiased inverse.

    Attributes
    ----------
    gain
        Grey levels per photon.
    offset
        Grey level without light.
    read_noise
        Always 0.
    """

    gain: float = 1.0
    offset: float = 0.0
    read_noise: float = field(default=0.0, init=False, repr=False)

    name = "poisson"

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `NoiseModel`: binomial thinning, exactly independent; where a value is no whole count, see `couple`.

        Each photon goes to the input with probability ``1 / (1 + t**2)``, else to the target;
        both are divided by their share.
        """
        photons = (observed - self.offset) / self.gain
        counts = np.rint(photons)
        # The tolerance is for counts that a gain has taken through single precision.
        whole = (counts >= 0) & (np.abs(photons - counts) <= 1e-3 + 1e-6 * counts)
        if not whole.all():
            return self.couple(observed, strength, rng.standard_normal)
        share = 1 / (1 + strength**2)
        kept = rng.binomial(counts.astype(np.int64), share)
        halves = kept / share, (counts - kept) / (1 - share)
        return self.gain * halves[0] + self.offset, self.gain * halves[1] + self.offset

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`: exact, of the counts; infinite where photons were seen and none could be.

        Values below the offset count as no photons.
        """
        photons = np.maximum((observed - self.offset) / self.gain, 0)
        expected = self._photons(truth)
        return float(np.mean(expected - xlogy(photons, expected) + gammaln(photons + 1), dtype=np.float64))


def _quantile(score: Array, mean: Array) -> Array:
    """Smallest count whose probability reaches that of a standard normal score."""
    p = ndtr(np.clip(score, -8, 8))
    above = np.ceil(pdtrik(p, mean))
    # The root of the continuous law may lie a rounding error above the count.
    below = np.maximum(above - 1, 0)
    count: Array = np.where(pdtr(below, mean) >= p, below, above)
    return count
