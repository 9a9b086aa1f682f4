"""Which noise an image holds, measured on that image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.noise import Gaussian, Pointwise, PoissonGaussian
from dip_sci.noise_structure import Structure, structure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from dip_sci.recipe import NoiseOptions

BLOCK = 8
"""Edge of the square blocks in which mean and variance are compared."""

# Orthonormal 2x2 Haar detail: sees pixel-independent noise at its true strength and smooth content hardly at all.
_HAAR = 0.5


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise model with the sentence that explains it.

    Attributes
    ----------
    model
        How a single voxel scatters, with its parameters in image units.
    sentence
        What was found and how, for the user.
    structure
        Correlation and local strength of the noise, stabilised by `model`; ``None`` where the image
        is too small to say: the noise then counts as independent and as strong everywhere.
    """

    model: Pointwise
    sentence: str
    structure: Structure | None = None

    @property
    def correlation(self) -> float:
        """Larger of the noise's lag-1 autocorrelations along X and Y; 0 where they are not known."""
        return max(self.structure.lags, key=abs) if self.structure else 0.0


def estimate(
    values: NDArray[Any], measured: NDArray[np.bool_], options: NoiseOptions, *, volume: bool = False
) -> NoiseEstimate:
    """Find the noise model of one image; what the user gave wins.

    Parameters
    ----------
    values
        One image, shape ``(*batch, Y, X)``, in its own units.
    measured
        Boolean, same shape: voxels that count.
    options
        The recipe's noise group.
    volume
        Whether the planes are neighbours in space.

    Returns
    -------
    NoiseEstimate

    Notes
    -----
    Gaussian: the median absolute deviation of diagonal Haar details (Donoho & Johnstone 1994).
    Poisson-Gaussian: the line variance = gain * mean + constant through the flattest blocks of
    each intensity (after Foi et al. 2008), where blocks with saturated pixels do not count.

    Such details see only part of correlated noise. Where the structure of the stabilised noise says
    that it is correlated, a model that was measured is scaled to all of it.
    """
    if not measured.any():
        raise ImageError("The image holds no finite, measured voxel: there is nothing to restore.")
    model, why = _pointwise(values, measured, options)
    stable = np.where(measured, model.stabilise(values), 0)
    found = structure(stable, measured, volume=volume)
    if found is not None and options.spatial != "auto":
        found = replace(found, correlated=options.spatial == "correlated")
    if found is not None and found.correlated and _from_user(options) is None:
        model = _scaled(model, found.level)
        found = replace(found, level=1.0)
    return NoiseEstimate(model, f"{_describe(model)}{why}{_spread_out(found)}.", found)


def _pointwise(values: NDArray[Any], measured: NDArray[np.bool_], options: NoiseOptions) -> tuple[Pointwise, str]:
    """Return the model of single voxels and where it comes from."""
    given = _from_user(options)
    if given is not None:
        return given, ", as given"
    # A camera's offset or read noise given without a gain still says that photons are counted.
    counted = options.model == "poisson_gaussian" or options.offset is not None or options.read_noise is not None
    if options.model != "gaussian":
        model = _mean_variance(_blocks(values, measured), options, counted=counted)
        if model is not None:
            return model, ", from the variance of flat blocks"
    why = ", from the finest details"
    if counted:
        why += "; it was to be Poisson-Gaussian, but the variance does not rise with the grey level"
    return Gaussian(_sigma(values, measured)), why


def _scaled(model: Pointwise, factor: float) -> Pointwise:
    """Scale the noise's standard deviation."""
    if isinstance(model, PoissonGaussian):
        return PoissonGaussian(model.gain * factor**2, model.offset, model.read_noise * factor)
    assert isinstance(model, Gaussian)
    return Gaussian(model.sigma * factor)


def _spread_out(found: Structure | None) -> str:
    """Put into words how the noise is spread."""
    if found is None:
        return ""
    words = ""
    if found.correlated:
        words = ", correlated between neighbours (lag-1 autocorrelation {:.2f} along X, {:.2f} along Y)".format(
            *found.lags
        )
    if found.sd_map is not None:
        low, high = np.quantile(found.sd_map, (0.05, 0.95))
        words += f", between {low:.1f} and {high:.1f} times as strong from place to place"
    return words


def _from_user(options: NoiseOptions) -> Pointwise | None:
    if options.sigma is not None:
        return Gaussian(options.sigma)
    if options.gain is not None:
        return PoissonGaussian(options.gain, options.offset or 0.0, options.read_noise or 0.0)
    return None


def _describe(model: Pointwise) -> str:
    if isinstance(model, PoissonGaussian):
        return (
            f"Poisson-Gaussian noise: {model.gain:.4g} grey levels per photon, "
            f"offset {model.offset:.4g}, read noise {model.read_noise:.4g}"
        )
    assert isinstance(model, Gaussian)
    return f"Gaussian noise of standard deviation {model.sigma:.4g}"


def _planes(values: NDArray[Any]) -> Iterable[tuple[int, ...]]:
    return np.ndindex(*values.shape[:-2])


def _sigma(values: NDArray[Any], measured: NDArray[np.bool_]) -> float:
    details = []
    for index in _planes(values):
        y, seen = values[index].astype(np.float64), measured[index]
        h, w = (s - s % 2 for s in y.shape)
        corners = [np.s_[i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
        whole = np.logical_and.reduce([seen[c] for c in corners])
        a, b, c, d = (np.where(seen[corner], y[corner], 0.0) for corner in corners)
        details.append((_HAAR * (a - b - c + d))[whole])
    all_details = np.concatenate(details) if details else np.empty(0)
    if all_details.size == 0:
        return _spread(values[measured])
    sigma = float(np.median(np.abs(all_details))) / 0.6745
    # More than half of the details are exactly 0 in a frame that is mostly empty: ask the others.
    return sigma if sigma > 0 else _spread(all_details[all_details != 0])


def _spread(values: NDArray[Any]) -> float:
    sd = float(np.std(values)) if values.size else 0.0
    return sd if sd > 0 else 1.0


@dataclass(frozen=True)
class _Blocks:
    """Unsaturated blocks: their means, noise variances, and how much coarser content they hold."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    coarse: NDArray[np.float64]


def _blocks(values: NDArray[Any], measured: NDArray[np.bool_]) -> _Blocks:
    seen = values[measured]
    low, high = float(seen.min()), float(seen.max())
    taken: list[NDArray[np.float64]] = []
    for index in _planes(values):
        y = values[index].astype(np.float64)
        h, w = (s // BLOCK * BLOCK for s in y.shape)
        tiles = _tiles(y[:h, :w])
        whole = _tiles(measured[index][:h, :w]).all(axis=(1, 2))
        # Saturation at either end cuts the noise: a few such pixels already bias a block's variance.
        clipped = ((tiles <= low) | (tiles >= high)).mean(axis=(1, 2)) > 0.02
        taken.append(tiles[whole & ~clipped])
    tiles = np.concatenate(taken) if taken else np.empty((0, BLOCK, BLOCK))
    mean = tiles.mean(axis=(1, 2))
    details = _HAAR * (tiles[:, ::2, ::2] - tiles[:, 1::2, ::2] - tiles[:, ::2, 1::2] + tiles[:, 1::2, 1::2])
    variance = (details**2).mean(axis=(1, 2))
    flat = _without_plane(tiles)
    # Flatness is judged on the 2x2 means: orthogonal to the Haar details, so that choosing the flattest blocks
    # does not choose those where the noise happened to be weak.
    coarse = flat.reshape(-1, BLOCK // 2, 2, BLOCK // 2, 2).mean(axis=(2, 4))
    return _Blocks(mean, variance, coarse.var(axis=(1, 2)))


def _tiles(plane: NDArray[Any]) -> NDArray[Any]:
    h, w = plane.shape
    return plane.reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)


def _without_plane(tiles: NDArray[np.float64]) -> NDArray[np.float64]:
    ramp = np.linspace(-1, 1, BLOCK)
    ramp /= np.sqrt((ramp**2).sum() * BLOCK)
    flat: NDArray[np.float64] = tiles - tiles.mean(axis=(1, 2), keepdims=True)
    for direction in (ramp[:, None] * np.ones(BLOCK), ramp[None, :] * np.ones((BLOCK, 1))):
        flat = flat - (flat * direction).sum(axis=(1, 2), keepdims=True) * direction
    return flat


def _mean_variance(blocks: _Blocks, options: NoiseOptions, *, counted: bool) -> PoissonGaussian | None:
    """Fit variance = gain * mean + constant; ``None`` where the variance does not rise with the mean."""
    if len(blocks.mean) < 64:
        return None
    means, variances, weights = _flattest(blocks)
    if len(means) < 4:
        return None
    gain, constant = _line(means, variances, weights)
    low, high = float(means.min()), float(means.max())
    at_ends = gain * low + constant, gain * high + constant
    if gain <= 0 or (not counted and at_ends[1] < 2 * max(at_ends[0], 1e-12 * at_ends[1])):
        return None
    if options.offset is not None:
        offset, read = options.offset, options.read_noise
        floor = max(gain * offset + constant, 0.0)
        return PoissonGaussian(gain, offset, math.sqrt(floor) if read is None else read)
    # Offset and read noise enter the variance only as read_noise**2 - gain * offset: one of the two is free.
    if options.read_noise is not None:
        return PoissonGaussian(gain, (options.read_noise**2 - constant) / gain, options.read_noise)
    # Without photons the line crosses zero: the offset is there, or as far below as there are grey levels.
    offset = max(-constant / gain, min(low, 0.0))
    return PoissonGaussian(gain, offset, math.sqrt(max(constant + gain * offset, 0.0)))


def _flattest(blocks: _Blocks) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Mean, variance and number of the flattest blocks in each of up to 24 bins of equal count."""
    order = np.argsort(blocks.mean)
    means, variances, counts = [], [], []
    for part in np.array_split(order, min(24, len(order) // 16)):
        # Content only ever adds to a block's variance: the lowest third is the flattest.
        flat = part[blocks.coarse[part] <= np.quantile(blocks.coarse[part], 1 / 3)]
        means.append(blocks.mean[flat].mean())
        variances.append(blocks.variance[flat].mean())
        counts.append(len(flat))
    return np.array(means), np.array(variances), np.array(counts, float)


def _line(x: NDArray[Any], y: NDArray[Any], count: NDArray[Any]) -> tuple[float, float]:
    """Robust weighted line: a variance estimate scatters in proportion to itself; outliers are textured bins."""
    level = np.maximum(y, 1e-3 * y.max() if y.max() > 0 else 1.0)
    robust = np.ones_like(y)
    slope = constant = 0.0
    for _ in range(8):
        w = np.sqrt(count * robust) / level
        design = np.stack([x, np.ones_like(x)], axis=1) * w[:, None]
        slope, constant = (float(v) for v in np.linalg.lstsq(design, y * w, rcond=None)[0])
        fitted = np.maximum(slope * x + constant, 1e-3 * y.max())
        off = (y - fitted) / fitted * np.sqrt(count)
        scale = 1.4826 * np.median(np.abs(off)) + 1e-12
        robust = np.where(off > 2 * scale, (2 * scale / np.maximum(off, scale)) ** 2, 1.0)
        level = fitted
    return slope, constant
