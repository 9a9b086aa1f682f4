"""How noise is spread over an image: its correlation from voxel to voxel, and where it is strong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise_blocks import EDGE, FEWEST, FINE, HALVES, SHARE, STEP, Blocks, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

REACH = 7
"""Lags that the correlation is kept for."""

COARSEST = 4
"""Frequencies, in half cycles per block, below which content cannot be told from noise."""

ISOTROPIC, ANISOTROPIC, DIFFERENCE = 0.2, 0.14, 0.1
"""Lag-1 autocorrelations that count: alike along both axes, or along one of them and so much less along the other.

Texture that leaks into the flattest blocks makes less.
"""

PATCHY = 1.25
"""Ratio of the strong to the weak parts' standard deviation (95th and 5th percentile) from which a map is kept."""

ROOM = 12
"""Edge, in steps, of the parts of an image in which the local strength is measured."""

STEEP = 1.4
"""Ratio of coarse to fine power, over that of the parts with least, from which on a part holds content."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Noise's correlation and where it is strong.

    Attributes
    ----------
    level
        Standard deviation of all of the noise, on the scale of the values that were given.
    error
        Its relative standard error.
    lags
        Lag-1 autocorrelation along X and along Y.
    correlated
        Whether it counts.
    kernel
        Autocorrelation over lags -7 to 7 along Y and X, 1 at the centre; with a leading axis for lags
        -1 to 1 along Z where planes are given as neighbours.
    sd_map
        Local standard deviation over `level`, ``(*batch, Y, X)``; ``None`` where it is about the
        same everywhere.
    """

    level: float
    error: float
    lags: tuple[float, float]
    correlated: bool
    kernel: NDArray[np.float32]
    sd_map: NDArray[np.float32] | None


def structure(
    values: NDArray[Any],
    measured: NDArray[np.bool_],
    *,
    volume: bool,
    correlated: bool | None = None,
    above: float = -math.inf,
) -> Structure | None:
    """Measure how the noise of one image is spread.

    Parameters
    ----------
    values
        One image ``(*batch, Y, X)``, stabilised: the pointwise noise is about as strong everywhere.
    measured
        Which voxels count.
    volume
        Whether the planes are neighbours in space.
    correlated
        Whether the noise is; ``None`` to find out.
    above
        Brightness below which blocks are left out, if there are others: the noise of the background of
        a magnitude image is weaker than that of its signal, and less correlated.

    Returns
    -------
    Structure or None
        ``None`` where the image is too small to say, or constant.

    Notes
    -----
    The variance of the cosine transform's frequencies over the flattest blocks (`Blocks`; after
    Ponomarenko et al. 2007) is linear in the autocorrelation at small lags, which is solved for.
    """
    planes = values.reshape(-1, *values.shape[-2:])
    seen = measured.reshape(planes.shape)
    if min(planes.shape[1:]) < 2 * EDGE:
        return None
    blocks = cut(planes, seen)
    if len(blocks) < FEWEST // 4:
        return None
    bright = blocks.mean > above
    if bright.sum() >= FEWEST:
        blocks = blocks[bright]
    strength = local_strength(blocks, planes.shape)
    sd_map, size = None, 1.0
    if np.quantile(strength, 0.95) > PATCHY * np.quantile(strength, 0.05):
        sd_map = _enlarged(strength, planes.shape)
        plane, row, column = blocks.place.T * np.array([[1], [STEP], [STEP]])
        blocks = blocks.over(sd_map[plane, row + EDGE // 2, column + EDGE // 2])
        size = float(np.sqrt(np.mean(sd_map[seen] ** 2)))
        sd_map /= size
    spectrum = _calm(blocks.spectrum())
    lags = _lags(spectrum)
    if correlated is None:
        correlated = _counts(lags)
    covariance = _covariance(spectrum)
    level, error = _level(blocks, correlated=correlated)
    kernel = covariance / covariance[REACH, REACH]
    if volume and len(planes) > 1:
        between = _between_planes(planes, seen)
        kernel = np.stack([between * kernel, kernel, between * kernel])
    return Structure(
        level=level * size,
        error=error,
        lags=lags,
        correlated=correlated,
        kernel=kernel.astype(np.float32),
        sd_map=None if sd_map is None else sd_map.reshape(values.shape).astype(np.float32),
    )


def _counts(lags: tuple[float, float]) -> bool:
    low, high = sorted(map(abs, lags))
    return high > ISOTROPIC or (high > ANISOTROPIC and high - low > DIFFERENCE)


def _level(blocks: Blocks, *, correlated: bool) -> tuple[float, float]:
    """Measure the standard deviation of the noise, and its relative standard error.

    The error is made of the scatter of that many independent coefficients and of what more content
    there is in blocks that are nearly as flat; the weights make it honest on natural content.
    """

    def at(share: float) -> float:
        spectrum = blocks.spectrum(share)
        return float(np.sqrt(_covariance(_calm(spectrum))[REACH, REACH] if correlated else spectrum[FINE].mean()))

    level = at(SHARE)
    spectrum = _calm(blocks.spectrum()) if correlated else np.where(FINE, 1.0, 0.0)
    independent = blocks.area(SHARE) / EDGE**2 * spectrum.sum() ** 2 / (spectrum**2).sum()
    scatter = (2.0 if correlated else 1.3) / np.sqrt(2 * independent)
    return level, float(np.linalg.norm([2 * (at(3 * SHARE) / level - 1), scatter, 0.01 if correlated else 0.005]))


def local_strength(blocks: Blocks, shape: tuple[int, ...]) -> Array:
    """Measure the noise in parts of the image ``(depth, rows, columns)``: its standard deviation, 1 in the median.

    In each part the flattest quarter of the blocks counts; parts without flat blocks are filled in
    from those around.
    """
    from scipy.ndimage import gaussian_filter

    steps = [(n - EDGE) // STEP + 1 for n in shape[1:]]
    # As many blocks to a part, of however many planes.
    depth = max(1, math.ceil(ROOM**2 * shape[0] / len(blocks)))
    edges = (depth, ROOM, ROOM)
    parts = tuple(max(1, round(n / edge)) for n, edge in zip((shape[0], *steps), edges, strict=True))
    place = [np.minimum(p * n // m, n - 1) for p, n, m in zip(blocks.place.T, parts, (shape[0], *steps), strict=True)]
    part = np.ravel_multi_index(place, parts)
    order = np.argsort(part, kind="stable")
    spectrum = _calm(blocks.spectrum())
    band = _finest(spectrum)
    fine, coarse = np.zeros(parts), np.zeros(parts)
    for index in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        group = blocks[index]
        if len(group) < ROOM:
            continue
        at = np.unravel_index(part[index[0]], parts)
        for judge, measure in HALVES:
            power = group.power[group.flattest(judge, 0.25, ROOM)].mean(axis=0) / spectrum
            fine[at] += power[measure & band].mean()
            coarse[at] += power[measure & ~band].mean()
    known = fine > 0
    if not known.any():
        return np.ones(parts)
    steep = coarse[known] / fine[known]
    known[known] = steep < STEEP * np.quantile(steep, 0.2)
    logs = np.where(known, np.log(np.where(known, fine, 1)) / 2, 0)
    total, weight = (gaussian_filter(a, 1.0, mode="nearest") for a in (logs, known.astype(float)))
    far = (logs.sum() / known.sum()) * 1e-2
    smooth: Array = (total + far) / (weight + 1e-2)
    return np.exp(smooth - np.median(smooth[known]))


def _finest(spectrum: Array) -> NDArray[np.bool_]:
    """As many of the finest frequencies as are `FINE`, of those at which there is noise."""
    i, j = np.indices(spectrum.shape)
    there = (spectrum > 0.03 * spectrum.max()) & (np.hypot(i, j) >= COARSEST)
    enough = [there & (i + j >= finest) for finest in range(EDGE + EDGE // 4, 0, -1)]
    return next((band for band in enough if band.sum() >= FINE.sum()), there)


def _enlarged(parts: Array, shape: tuple[int, ...]) -> Array:
    """Interpolate what is known of the parts of an image at its pixels."""
    from scipy.ndimage import map_coordinates

    inner = (shape[0], *(n - EDGE + STEP for n in shape[1:]))
    first = (0.0, (EDGE - STEP) / 2, (EDGE - STEP) / 2)
    where = [
        (np.arange(n) - low + 0.5) * m / size - 0.5
        for n, low, size, m in zip(shape, first, inner, parts.shape, strict=True)
    ]
    found: Array = map_coordinates(parts, np.meshgrid(*where, indexing="ij"), order=1, mode="nearest")
    return found


def _calm(spectrum: Array) -> Array:
    """Keep content out of the coarsest frequencies, and smooth.

    Below `COARSEST` the spectrum is no higher than what it tends to from just above: a Gaussian.
    """
    from scipy.ndimage import gaussian_filter

    i, j = np.indices(spectrum.shape)
    radius = np.hypot(i, j)
    ring, low = (radius >= COARSEST) & (radius < 2 * COARSEST), radius < COARSEST
    design = np.stack([np.ones_like(radius), i**2, j**2], axis=-1)
    least = 1e-6 * spectrum.max()
    logs = np.log(np.maximum(spectrum, least))
    trend, *_ = np.linalg.lstsq(design[ring], logs[ring], rcond=None)
    trend[1:] = np.minimum(trend[1:], 0)
    # The slope was taken out of the lowest frequencies: they say nothing.
    for k in ((0, 0), (0, 1), (1, 0)):
        logs[k] = np.log((spectrum[0, 2] + spectrum[2, 0] + spectrum[1, 1]) / 3 + least)
    logs[low] = np.minimum(logs[low], (design @ trend)[low])
    total = np.exp(logs).mean()
    smooth: Array = np.exp(gaussian_filter(logs, 1.0, mode="reflect"))
    return smooth * (total / smooth.mean())


@cache
def _solver() -> Array:
    """Turn variances of the cosine transform along one axis into covariances at lags 0 to `REACH`, by least squares."""
    n = np.arange(EDGE)
    waves = np.cos(np.pi / EDGE * np.outer(n, n + 0.5)) * np.sqrt(2 / EDGE)
    waves[0] /= np.sqrt(2)
    shifted = [
        (waves[:, : EDGE - lag] * waves[:, lag:]).sum(axis=1) * (1 if lag == 0 else 2) for lag in range(REACH + 1)
    ]
    inverse: Array = np.linalg.pinv(np.stack(shifted, axis=1))
    return inverse


def _covariance(spectrum: Array) -> Array:
    """Covariance at lags -7 to 7 along Y and X."""
    quarter = _solver() @ spectrum @ _solver().T
    return np.pad(quarter, ((REACH, 0), (REACH, 0)), mode="reflect")


def _lags(spectrum: Array) -> tuple[float, float]:
    at = _covariance(spectrum)[REACH:, REACH:]
    return float(at[0, 1] / at[0, 0]), float(at[1, 0] / at[0, 0])


def _between_planes(planes: NDArray[Any], seen: NDArray[np.bool_]) -> float:
    """Correlation of the finest diagonal details of neighbouring planes, where there is hardly any content."""
    detail = planes[:, :-1, :-1] - planes[:, 1:, :-1] - planes[:, :-1, 1:] + planes[:, 1:, 1:]
    both = (seen[1:] & seen[:-1])[:, 1:, 1:]
    a, b = detail[1:][both], detail[:-1][both]
    limit = 3 * 1.4826 * np.median(np.abs(a)) if len(a) else 0.0
    calm = (np.abs(a) < limit) & (np.abs(b) < limit)
    if calm.sum() < 64:
        return 0.0
    found = float((a[calm] * b[calm]).mean() / np.sqrt((a[calm] ** 2).mean() * (b[calm] ** 2).mean()))
    return found if found > 0.05 else 0.0
