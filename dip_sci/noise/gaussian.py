"""Additive Gaussian noise, and what the other models have of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise.protocol import Normal

    Array = NDArray[Any]

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Additive white Gaussian noise of one strength.

    Attributes
    ----------
    sigma
        Standard deviation in image units.
    """

    sigma: float

    name = "gaussian"

    def mean(self, truth: Array) -> Array:
        """See `NoiseModel`: the truth itself."""
        return truth

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`."""
        return np.full_like(truth, self.sigma**2)

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        return self.observe(truth, rng.standard_normal)

    def observe(self, truth: Array, normal: Normal) -> Array:
        """See `Pointwise`."""
        return truth + self.sigma * normal(truth.shape)

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: division by sigma."""
        return observed / self.sigma

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`."""
        return mean * self.sigma

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `NoiseModel`: ``y + t e`` and ``y - e / t`` with e of the noise's law; exactly independent."""
        return self.couple(observed, strength, rng.standard_normal)

    def couple(self, observed: Array, strength: float, normal: Normal) -> tuple[Array, Array]:
        """See `Pointwise`."""
        return pair(observed, strength, self.sigma * normal(observed.shape))

    def likely_variance(self, truth: Array) -> Array:
        """See `Pointwise`."""
        return self.variance(truth)

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`."""
        return gaussian_nll(observed, truth, np.full((), self.sigma**2))


def pair(y: Array, strength: float, noise: Array) -> tuple[Array, Array]:
    """Add noise to one copy of an observation, and take it from the other."""
    return y + strength * noise, y - noise / strength


def gaussian_nll(y: Array, mean: Array, variance: Array) -> float:
    """Mean of -log of the normal density, in nats."""
    return float(np.mean(0.5 * (y - mean) ** 2 / variance + 0.5 * np.log(variance), dtype=np.float64)) + HALF_LOG_2PI
