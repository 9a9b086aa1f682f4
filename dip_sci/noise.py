"""Noise models, in detector units: sampling, stabilisation, splitting in two, likelihood.

A pointwise model says how one voxel scatters; `Structured` adds what neighbours share (a spatial
correlation) and what differs from place to place (a map of standard deviations).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from scipy import fft
from scipy.special import chndtrix, gammaln, i0e, i1e, ndtr, pdtr, pdtrik, xlogy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Normal = Callable[[tuple[int, ...]], "Array"]
"""Draws a field of the given shape whose values are standard normal, each by itself."""

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


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
        return _pair(observed, strength, self.sigma * normal(observed.shape))

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`."""
        return _gaussian_nll(observed, truth, np.full((), self.sigma**2))


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
        photons = _poisson_quantile(normal(truth.shape), self._photons(truth))
        return self.gain * photons + self.offset + self.read_noise * normal(truth.shape)

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
        return _pair(observed, strength, np.sqrt(variance) * normal(observed.shape))

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`: ``(y - x)**2 / (2 v) + log(2 pi v) / 2`` with v the variance at the truth x.

        Without read noise the truth counts as a thousandth of a photon at least.
        """
        variance = np.maximum(self.variance(truth), 1e-3 * self.gain**2)
        return _gaussian_nll(observed, self.mean(truth), variance)

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
        return self.sigma * _rician_mean(self._snr(truth))

    def variance(self, truth: Array) -> Array:
        """See `NoiseModel`: ``2 sigma**2 + truth**2 - mean**2``, from 0.429 to 1 times ``sigma**2``."""
        return self.sigma**2 * _rician_variance(self._snr(truth))

    def sample(self, truth: Array, rng: np.random.Generator) -> Array:
        """See `NoiseModel`."""
        real, imaginary = (self.sigma * rng.standard_normal(truth.shape) for _ in range(2))
        return np.hypot(truth + real, imaginary)

    def observe(self, truth: Array, normal: Normal) -> Array:
        """See `Pointwise`."""
        return self.sigma * _rician_quantile(normal(truth.shape), self._snr(truth))

    def stabilise(self, observed: Array) -> Array:
        """See `NoiseModel`: after Foi (ISBI 2011), the slope refined numerically.

        The standard deviation is within 2.5 % of 1 at every signal-to-noise ratio from 1 up, and
        within 3 % below; the skewness within 0.4. Zero maps to 0; far up the transform is
        ``m - 1 / (4 m)`` plus a constant, with m the magnitude over sigma. Values below 0,
        which no magnitude has, continue it as a straight line.
        """
        table = _rician_table()
        m = np.asarray(observed / self.sigma, np.float64)
        high = np.maximum(m, TAIL)
        inside = np.interp(m, table.magnitude, table.value) + np.minimum(m, 0) * table.slope
        return _as_given(np.where(m > TAIL, high - 0.25 / high + table.shift, inside), observed)

    def unstabilise(self, mean: Array) -> Array:
        """See `NoiseModel`: the signal of which stabilised magnitudes have this mean; 0 below that of no signal."""
        table = _rician_table()
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
        one, other = _pair(self.stabilise(observed), strength, normal(observed.shape))
        return self._magnitude(one), self._magnitude(other)

    def negative_log_likelihood(self, observed: Array, truth: Array) -> float:
        """See `NoiseModel`: exact; a magnitude of 0, which only rounding gives, counts as a thousandth of sigma."""
        m, nu = np.maximum(observed / self.sigma, 1e-3), self._snr(truth)
        log = np.log(m) - 0.5 * (m - nu) ** 2 + np.log(i0e(m * nu)) - math.log(self.sigma)
        return -float(np.mean(log, dtype=np.float64))

    def _snr(self, truth: Array) -> Array:
        return np.abs(np.asarray(truth, np.float64)) / self.sigma

    def _magnitude(self, stable: Array) -> Array:
        """Undo `stabilise` point by point."""
        table = _rician_table()
        x = np.maximum(stable - table.shift, 0)
        inside = np.interp(stable, table.value, table.magnitude) + np.minimum(stable, 0) / table.slope
        return self.sigma * np.where(stable > table.value[-1], 0.5 * (x + np.sqrt(x**2 + 1)), inside)


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
        Factor on the noise's standard deviation, broadcast to the image. It is exact for Gaussian
        noise. For other models it scales the normal score of which the noise is the quantile,
        which scales the stabilised deviation and keeps the median. ``None``: 1 everywhere.
    """

    model: Pointwise
    correlation: Array | None = None
    sd_map: Array | None = None

    def __post_init__(self) -> None:
        if self.correlation is not None:
            _check_correlation(self.correlation)
        if self.sd_map is not None and not ((self.sd_map >= 0) & np.isfinite(self.sd_map)).all():
            raise ValueError("sd_map must hold finite factors of 0 or more.")

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

        With a map, of a Gaussian with this model's mean and variance.
        """
        if self.sd_map is None:
            return self.model.negative_log_likelihood(observed, truth)
        return _gaussian_nll(observed, self.mean(truth), self.variance(truth))

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


def _pair(y: Array, strength: float, noise: Array) -> tuple[Array, Array]:
    return y + strength * noise, y - noise / strength


def _gaussian_nll(y: Array, mean: Array, variance: Array) -> float:
    return float(np.mean(0.5 * (y - mean) ** 2 / variance + 0.5 * np.log(variance), dtype=np.float64)) + HALF_LOG_2PI


def _as_given(values: Array, like: Array) -> Array:
    """Return float64 values in the precision of what they were made from."""
    return values.astype(np.result_type(like, np.float32), copy=False)


def _poisson_quantile(score: Array, mean: Array) -> Array:
    """Smallest count whose probability reaches that of a standard normal score."""
    p = ndtr(np.clip(score, -8, 8))
    above = np.ceil(pdtrik(p, mean))
    # The root of the continuous law may lie a rounding error above the count.
    below = np.maximum(above - 1, 0)
    count: Array = np.where(pdtr(below, mean) >= p, below, above)
    return count


def _rician_mean(snr: Array) -> Array:
    """Mean of a magnitude, both in units of sigma."""
    a = snr**2 / 4
    mean: Array = math.sqrt(math.pi / 2) * ((1 + 2 * a) * i0e(a) + 2 * a * i1e(a))
    return mean


def _rician_variance(snr: Array) -> Array:
    """Variance of a magnitude in units of sigma."""
    # Far up the difference of squares loses its digits, and the series has gained them.
    near, far = np.minimum(snr, 40), np.maximum(snr, 40)
    exact = 2 + near**2 - _rician_mean(near) ** 2
    return np.where(snr < 40, exact, 1 - 0.5 / far**2 - 0.5 / far**4)


def _rician_quantile(score: Array, snr: Array) -> Array:
    """Magnitude, in units of sigma, whose probability is that of a standard normal score."""
    score, snr = np.broadcast_arrays(np.clip(score, -8, 8), snr)
    magnitude: Array = _rician_mean(snr) + np.sqrt(_rician_variance(snr)) * score
    # The squared magnitude is non-central chi-square; from an SNR of 20 on its root is normal within 4e-4.
    near = snr < 20
    magnitude[near] = np.sqrt(chndtrix(ndtr(score[near]), 2.0, snr[near] ** 2))
    return magnitude


TAIL = 9.0
"""Magnitude in units of sigma from which on the stabilisation is its asymptotic series."""


class _RicianTable(NamedTuple):
    """The stabilisation in units of sigma: f at magnitudes, and E[f] with the square of the signal it comes from."""

    magnitude: Array
    value: Array
    mean: Array
    power: Array
    slope: float
    shift: float


@cache
def _rician_table() -> _RicianTable:
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
    log_slope = np.interp(knots, _rician_mean(snr), -0.5 * np.log(_rician_variance(snr)))
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
    return _RicianTable(grid[below], f[below], density @ f, snr**2, float(np.exp(log_slope[0])), float(shift))
