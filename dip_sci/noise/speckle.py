"""Speckle: noise in proportion to the signal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma, gammaincinv, ndtr, polygamma

from dip_sci.noise.gaussian import gaussian_nll, pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise.protocol import Normal

    Array = NDArray[Any]

FAR = 1e4
"""Signal, in units of where both kinds of noise are as strong, from which on there is only speckle."""

HIGHEST = 300.0
"""Logarithm up to which a signal is brought back: what a fit that diverges makes is no number."""

DRAWN = 400
"""Values by which the law of the speckle is known."""


@dataclass(frozen=True)
class Speckle:
    """Intensities of coherent light, sound or radio waves, each the mean of several looks, plus Gaussian noise.

    The looks follow Gamma's law (Goodman 1976); the variance is ``truth**2 / looks + read_noise**2``.

    Attributes
    ----------
    looks
        How many independent looks a voxel is the mean of: the noise is ``1 / sqrt(looks)`` of the signal.
    read_noise
        Standard deviation of what the detector adds, in image units; above 0.
    """

    looks: float
    read_noise: float

    name = "speckle"

    def mean(self, truth: Array) -> Array:
        """See `NoiseModel`: the truth, where there is any."""
        return np.maximum(truth, 0)

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`."""
        variance: Array = np.square(np.maximum(truth, 0)) / self.looks + self.read_noise**2
        return variance

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        seen = np.maximum(truth, 0) * rng.gamma(self.looks, 1 / self.looks, truth.shape)
        return seen + self.read_noise * rng.standard_normal(truth.shape)

    def observe(self, truth: Array, normal: Normal) -> Array:
        """See `Pointwise`: one field for the looks, a second one for what the detector adds."""
        p = ndtr(np.clip(normal(truth.shape), -8, 8))
        seen: Array = np.maximum(truth, 0) * gammaincinv(self.looks, p) / self.looks
        return seen + self.read_noise * normal(truth.shape)

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: the logarithm, through 0 in a straight line where the detector's noise is stronger.

        ``asinh(y / (sqrt(looks) read_noise))``, whose slope is one over the standard deviation, in units of the standard
        deviation of the speckle's logarithm, ``sqrt(trigamma(looks))`` (Xie, Pierce & Ulaby 2002). The variance is 1
        where speckle is stronger, and at most that elsewhere (`stable_variance`).
        """
        stable: Array = np.arcsinh(observed / self._equal) / _log_sd(self.looks)
        return stable

    def stable_variance(self, truth: Array) -> Array:
        """Variance of stabilised observations, given the noise-free values."""
        signal, _, variance = _moments(self.looks)
        found: Array = np.interp(np.maximum(truth, 0) / self._equal, signal, variance)
        return found / _log_sd(self.looks) ** 2

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`: the signal of which stabilised observations have this mean; 0 below that of none."""
        signal, means, _ = _moments(self.looks)
        d = np.minimum(np.asarray(mean, np.float64) * _log_sd(self.looks), HIGHEST)
        inside = np.sinh(np.interp(d, means, np.arcsinh(signal)))
        # Far up, the logarithm of a mean of looks is digamma(looks) - log(looks) below that of the signal.
        beyond = 0.5 * np.exp(np.maximum(d, means[-1]) - digamma(self.looks) + math.log(self.looks))
        found = self._equal * np.where(d > means[-1], beyond, inside)
        return found.astype(np.result_type(mean, np.float32), copy=False)

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `NoiseModel`; approximate: the means are exact, the noise is uncorrelated but not independent.

        ``y + t e`` and ``y - e / t``, where e is Gaussian and its variance, ``(y**2 + looks read_noise**2) / (looks + 1)``,
        has the true variance for its mean.
        """
        return self.couple(observed, strength, rng.standard_normal)

    def couple(self, observed: Array, strength: float, normal: Normal) -> tuple[Array, Array]:
        """See `Pointwise`, and `split`."""
        variance = (np.square(observed) + self.looks * self.read_noise**2) / (self.looks + 1)
        return pair(observed, strength, np.sqrt(variance) * normal(observed.shape))

    def likely_variance(self, truth: Array) -> Array:
        """See `Pointwise`."""
        return self.variance(truth)

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`: that of Gaussian noise of the variance at the truth."""
        return gaussian_nll(observed, self.mean(truth), self.variance(truth))

    @property
    def _equal(self) -> float:
        """Signal whose speckle is as strong as what the detector adds."""
        return math.sqrt(self.looks) * self.read_noise


def _log_sd(looks: float) -> float:
    """Return the standard deviation of the logarithm of a mean of looks."""
    return math.sqrt(polygamma(1, looks))


@lru_cache(maxsize=64)
def _moments(looks: float) -> tuple[Array, Array, Array]:
    """Signals, in units of where both kinds of noise are as strong, with mean and variance of the ``asinh`` of observations."""
    signal = np.concatenate([[0], np.geomspace(1e-2, FAR, 300)])
    seen = gammaincinv(looks, (np.arange(DRAWN) + 0.5) / DRAWN) / looks
    nodes, shares = np.polynomial.hermite_e.hermegauss(15)
    shares = shares / shares.sum()
    mean, variance = np.empty_like(signal), np.empty_like(signal)
    for i, level in enumerate(signal):
        stable = np.arcsinh(level * seen[:, None] + nodes / math.sqrt(looks))
        mean[i] = (stable @ shares).mean()
        variance[i] = (np.square(stable) @ shares).mean() - mean[i] ** 2
    # The ends of the law are between what is drawn and infinity.
    mean[-1] = math.log(2 * FAR) + digamma(looks) - math.log(looks)
    variance[-1] = polygamma(1, looks)
    return signal, mean, variance
