"""Which noise an image holds, measured on that image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.noise import Gaussian, NoiseModel, PoissonGaussian

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
        The model, with its parameters in image units.
    sentence
        What was found and how, for the user.
    correlation
        Lag-1 autocorrelation of the noise in flat parts, about 0 where it is independent from
        voxel to voxel.
    """

    model: NoiseModel
    sentence: str
    correlation: float


def estimate(values: NDArray[Any], measured: NDArray[np.bool_], options: NoiseOptions) -> NoiseEstimate:
    """Find the noise model of one image; what the user gave wins.

    Parameters
    ----------
    values
        One image, shape ``(*batch, Y, X)``, in its own units.
    measured
        Boolean, same shape: voxels that count.
    options
        The recipe's noise group.

    Returns
    -------
    NoiseEstimate

    Notes
    -----
    Gaussian: the median absolute deviation of diagonal Haar details (Donoho & Johnstone 1994).
    Poisson-Gaussian: the line variance = gain * mean + constant through the flattest blocks of
    each intensity (after Foi et al. 2008), where blocks with saturated pixels do not count.
    """
    if not measured.any():
        raise ImageError("The image holds no finite, measured voxel: there is nothing to restore.")
    blocks = _blocks(values, measured)
    correlation = _lag_one(blocks)
    given = _from_user(options)
    if given is not None:
        return NoiseEstimate(given, f"{_describe(given)}, as given.", correlation)
    # A camera's offset or read noise given without a gain still says that photons are counted.
    counted = options.model == "poisson_gaussian" or options.offset is not None or options.read_noise is not None
    model = None if options.model == "gaussian" else _mean_variance(blocks, options, counted=counted)
    if model is not None:
        return NoiseEstimate(model, f"{_describe(model)}, from the variance of flat blocks.", correlation)
    found = Gaussian(_sigma(values, measured))
    why = ", from the finest details"
    if counted:
        why += "; it was to be Poisson-Gaussian, but the variance does not rise with the grey level"
    return NoiseEstimate(found, f"{_describe(found)}{why}.", correlation)


def _from_user(options: NoiseOptions) -> NoiseModel | None:
    if options.sigma is not None:
        return Gaussian(options.sigma)
    if options.gain is not None:
        return PoissonGaussian(options.gain, options.offset or 0.0, options.read_noise or 0.0)
    return None


def _describe(model: NoiseModel) -> str:
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
    """Unsaturated blocks: their pixels less a fitted plane, means, and noise variances."""

    detail: NDArray[np.float64]
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
    return _Blocks(flat, mean, variance, coarse.var(axis=(1, 2)))


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


def _lag_one(blocks: _Blocks) -> float:
    """Mean of the two in-plane lag-1 autocorrelations over the flattest third of the blocks."""
    if len(blocks.mean) < 4:
        return 0.0
    rough = blocks.detail.var(axis=(1, 2))
    flat = blocks.detail[rough <= np.quantile(rough, 1 / 3)]
    power = (flat**2).mean()
    if power == 0:
        return 0.0
    both = [(flat[:, 1:] * flat[:, :-1]).mean(), (flat[:, :, 1:] * flat[:, :, :-1]).mean()]
    # Taking out the plane takes 3 degrees of freedom from each block, which correlates neighbours negatively.
    return float(np.mean(both) / power) + 3 / BLOCK**2


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
