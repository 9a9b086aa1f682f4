"""What every noise model can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

Normal = Callable[[tuple[int, ...]], "Array"]
"""Draws a field of the given shape whose values are standard normal, each by itself."""


class NoiseModel(Protocol):
    """How an observation scatters about the truth.

    Arrays have any shape and are in image units, where nothing else is said; `truth` is what a
    perfect detector would show: for photons the expected grey level, for a magnitude the
    modulus of the noise-free signal.
    """

    @property
    def name(self) -> str:
        """The model's name in a recipe."""
        ...

    def mean(self, truth: Array) -> Array:
        """Mean of the observation, given the noise-free values."""
        ...

    def variance(self, truth: Array) -> Array:
        """Variance of the observation, given the noise-free values (in image units squared)."""
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

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """Make two copies of an observation whose noise is independent given the truth.

        Parameters
        ----------
        observed
            One observation.
        strength
            t > 0. Of the noise's variance v the input gets ``(1 + t**2) v``, the target ``(1 + 1 / t**2) v``.
        rng
            Source of randomness.

        Returns
        -------
        input, target
            Arrays of the observation's shape, both with the observation's mean. A network that
            predicts the second from the first cannot learn the noise (recorrupted-to-recorrupted,
            Pang et al. 2021; coupled bootstrap, Oliveira et al. 2022).
        """
        ...

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """Mean per voxel of -log p(observed | truth), normalisation included, in nats."""
        ...


class Pointwise(NoiseModel, Protocol):
    """A noise model of single voxels, which can also take its randomness from elsewhere.

    `sample` and `split` draw every voxel by itself; these two are handed the normal fields,
    which may be correlated (see `Structured`).
    """

    def observe(self, truth: Array, normal: Normal) -> Array:
        """Turn normal fields into an observation, each value through its quantile function (a Gaussian copula)."""
        ...

    def couple(self, observed: Array, strength: float, normal: Normal) -> tuple[Array, Array]:
        """Split as `split`, adding and taking away a normal field scaled to the noise."""
        ...

    def likely_variance(self, truth: Array) -> Array:
        """Variance that a Gaussian likelihood goes by: `variance`, but never 0."""
        ...
