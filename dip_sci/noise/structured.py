"""Noise that neighbours share, or that is stronger in some places than in others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from dip_sci.noise.gaussian import gaussian_nll

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise.protocol import Normal, Pointwise

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Structured:
    """A pointwise model whose noise is correlated in space, or stronger in some places than in others.

    Both describe the noise on the stabilised scale, where it has the same law everywhere but for
    them. `stabilise` and `unstabilise` are those of the pointwise model and divide by nothing
    else: the correlation and the map belong to the data term.

    Attributes
    ----------
    model
        The law of a single voxel.
    correlation
        Autocorrelation of the noise: odd sizes, one axis per trailing axis of the image, 1 at its
        centre. Its symmetric part counts, and negative values of its spectrum count as 0.
        ``None``: independent from voxel to voxel.
    sd_map
        Factor on the noise's standard deviation, above 0, broadcast to the image. It is exact for Gaussian
        noise. For other models it scales the normal score of which the noise is the quantile,
        which scales the stabilised deviation and keeps the median. ``None``: 1 everywhere.
    """

    model: Pointwise
    correlation: Array | None = None
    sd_map: Array | None = None

    def __post_init__(self) -> None:
        if self.correlation is not None:
            _check_correlation(self.correlation)
        if self.sd_map is not None and not (np.greater(self.sd_map, 0) & np.isfinite(self.sd_map)).all():
            raise ValueError("sd_map must hold finite factors above 0.")

    @property
    def name(self) -> str:
        """See `NoiseModel`: that of the pointwise model."""
        return self.model.name

    def mean(self, truth: Array) -> Array:
        """See `NoiseModel`."""
        return self.model.mean(truth)

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`; with a map, to first order for models other than Gaussian."""
        variance = self.model.variance(truth)
        return variance if self.sd_map is None else variance * np.square(self.sd_map)

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`: a Gaussian copula, so that each voxel has exactly the pointwise model's law.

        The correlation is exact for Gaussian noise. For the others it is that of the normal
        scores, and that of the noise to the extent to which the law is continuous and not skewed.
        """
        return self.model.sample(truth, rng) if self._plain else self.model.observe(truth, self._normal(rng))

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: the pointwise transform; the noise's standard deviation after it is the map."""
        return self.model.stabilise(observed)

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`: the pointwise inverse, without bias where the map is 1."""
        return self.model.unstabilise(mean)

    def split(self, observed: Array, strength: float, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `NoiseModel`: as the pointwise model couples, with normal fields of the same correlation and map.

        As exact as that is; thinning of photons is left for this wherever there is a correlation or a map.
        """
        if self._plain:
            return self.model.split(observed, strength, rng)
        return self.model.couple(observed, strength, self._normal(rng))

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`; a composite likelihood: each voxel by itself, as if there were no correlation.

        With a map, of a Gaussian with this model's mean and variance, the latter never 0 (`Pointwise.likely_variance`).
        """
        if self.sd_map is None:
            return self.model.negative_log_likelihood(observed, truth)
        variance = self.model.likely_variance(truth) * np.square(self.sd_map)
        return gaussian_nll(observed, self.mean(truth), variance)

    @property
    def _plain(self) -> bool:
        return self.correlation is None and self.sd_map is None

    def _normal(self, rng: np.random.Generator) -> Normal:
        def draw(shape: tuple[int, ...]) -> Array:
            scores = correlated_normal(shape, self.correlation, rng)
            return scores if self.sd_map is None else scores * self.sd_map

        return draw


def correlated_normal(shape: tuple[int, ...], correlation: Array | None, rng: np.random.Generator) -> Array:
    """Draw a stationary standard normal field.

    Parameters
    ----------
    shape
        Of the field; leading axes that the kernel does not have are independent draws.
    correlation
        Autocorrelation at small lags: odd sizes, 1 at its centre; 0 at all other lags. ``None`` for white noise.
    rng
        Source of randomness.

    Returns
    -------
    Array
        float64, of that shape. Its covariance is the kernel, exactly, where the kernel is
        positive semidefinite; else the nearest one whose spectrum has no negative value.

    Notes
    -----
    White noise filtered by the root of the spectrum on a torus larger than the field by the
    kernel's reach, so that nothing wraps around (circulant embedding: Dietrich & Newsam 1997).
    """
    if correlation is None:
        return rng.standard_normal(shape)
    kernel = np.asarray(correlation, np.float64)
    _check_correlation(kernel)
    if kernel.ndim > len(shape):
        raise ValueError(f"A correlation of {kernel.ndim} axes does not fit a field of shape {shape}.")
    inner = shape[-kernel.ndim :]
    torus = tuple(fft.next_fast_len(max(n + k // 2, k), real=True) for n, k in zip(inner, kernel.shape, strict=True))
    axes = tuple(range(-kernel.ndim, 0))
    power = np.maximum(_spectrum(kernel, torus), 0)
    power /= fft.irfftn(power, torus).flat[0]
    white = rng.standard_normal((*shape[: -kernel.ndim], *torus))
    field: Array = fft.irfftn(fft.rfftn(white, axes=axes) * np.sqrt(power), torus, axes=axes)
    for axis, n in zip(axes, inner, strict=True):
        field = np.take(field, range(n), axis)
    return field


def _spectrum(kernel: Array, torus: tuple[int, ...]) -> Array:
    """Half spectrum of the kernel's symmetric part, its centre at the origin of a torus."""
    around = np.zeros(torus)
    around[tuple(slice(k) for k in kernel.shape)] = kernel
    around = np.roll(around, [-(k // 2) for k in kernel.shape], tuple(range(kernel.ndim)))
    power: Array = fft.rfftn(around).real
    return power


def _check_correlation(correlation: Array) -> None:
    kernel = np.asarray(correlation, np.float64)
    if kernel.ndim == 0 or any(k % 2 == 0 for k in kernel.shape) or not np.isfinite(kernel).all():
        raise ValueError(f"A correlation needs odd sizes and finite values; its shape is {kernel.shape}.")
    centre = kernel[tuple(k // 2 for k in kernel.shape)]
    if not math.isclose(centre, 1, rel_tol=1e-6):
        raise ValueError(f"A correlation is 1 at its centre, not {centre:.6g}.")
    power = _spectrum(kernel, tuple(4 * k for k in kernel.shape))
    # A kernel measured on noise dips below 0 a little. One that does so by much is no autocorrelation.
    if -np.minimum(power, 0).mean() > 0.1:
        raise ValueError("A correlation has no negative spectrum; this is no autocorrelation (a smoothing kernel?).")
