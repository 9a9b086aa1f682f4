"""Noise models, in detector units: variance, stabilisation, sampling, and two ways to degrade once more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


class NoiseModel(Protocol):
    """How an observation scatters about the truth."""

    @property
    def name(self) -> str:
        """The model's name in a recipe."""
        ...

    def variance(self, truth: Array) -> Array:
        """Variance of the observation, given the noise-free values (both in image units)."""
        ...

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """Draw an observation of noise-free values."""
        ...

    def stabilise(self, observed: Array) -> Array:
        """Map observations to a scale on which the noise is close to Gaussian with variance 1."""
        ...

    def unstabilise(self, mean: Array) -> Array:
        """Map a denoised image on the stabilised scale back, without bias."""
        ...


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

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`."""
        return np.full_like(truth, self.sigma**2)

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        return truth + self.sigma * rng.standard_normal(truth.shape)

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: division by sigma."""
        return observed / self.sigma

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`."""
        return mean * self.sigma


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

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`."""
        return self.gain * np.maximum(truth - self.offset, 0) + self.read_noise**2

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        photons = rng.poisson(np.maximum(truth - self.offset, 0) / self.gain)
        return self.gain * photons + self.offset + self.read_noise * rng.standard_normal(truth.shape)

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: the generalised Anscombe transform (Starck, Murtagh & Bijaoui 1998)."""
        g = self.gain
        inside = g * (observed - self.offset) + 0.375 * g**2 + self.read_noise**2
        return 2 / g * np.sqrt(np.maximum(inside, 0))

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`: the closed form of the exact unbiased inverse (Mäkitalo & Foi 2013, eq. 10)."""
        # Below the transform of zero photons the closed form turns round and goes to infinity.
        d = np.maximum(mean, 2 * math.sqrt(3 / 8))
        root = math.sqrt(1.5)
        photons = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
        counts = np.maximum(photons - (self.read_noise / self.gain) ** 2, 0)
        return self.gain * counts + self.offset
