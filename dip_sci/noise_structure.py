"""How noise is spread over an image: its correlation from voxel to voxel, and where it is strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BLOCK = 16
"""Edge of the blocks whose cosine transforms are compared."""

STEP = 4
"""Distance between neighbouring blocks, for one plane."""

MOST_BLOCKS = 6000

COARSEST = 4
"""Frequencies, in half cycles per block, below which content cannot be told from noise."""

REACH = 7
"""Lags that the correlation is kept for."""

ISOTROPIC, ANISOTROPIC, DIFFERENCE = 0.3, 0.14, 0.12
"""Lag-1 autocorrelations that count: alike along both axes, or along one of them and so much less along the other.

Texture that leaks into the flattest blocks makes up to 0.27 along both axes, never along one alone.
"""

PATCHY = 1.25
"""Ratio of the strong to the weak parts' standard deviation (95th and 5th percentile) from which a map is kept."""

CELL = 8
"""Edge of the cells in which the local strength is measured."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Noise's correlation and where it is strong, on a scale on which the pointwise model's SD is 1.

    Attributes
    ----------
    level
        Standard deviation of all of the noise.
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
    lags: tuple[float, float]
    correlated: bool
    kernel: NDArray[np.float32]
    sd_map: NDArray[np.float32] | None


def structure(values: NDArray[Any], measured: NDArray[np.bool_], *, volume: bool) -> Structure | None:
    """Measure how the noise of one image is spread.

    Parameters
    ----------
    values
        One image ``(*batch, Y, X)``, stabilised: the pointwise noise is about as strong everywhere.
    measured
        Which voxels count.
    volume
        Whether the planes are neighbours in space.

    Returns
    -------
    Structure or None
        ``None`` where the image is too small to say.

    Notes
    -----
    The variance of each frequency is the squared median magnitude, over blocks, of a local cosine transform:
    content is sparse there, noise is not (after Ponomarenko et al. 2007). Only the flattest blocks count, by their
    coarsest frequencies; below those, the spectrum is taken to be no higher than just above them.
    """
    planes = values.reshape(-1, *values.shape[-2:]).astype(np.float64)
    seen = measured.reshape(planes.shape)
    if min(planes.shape[1:]) < 2 * BLOCK:
        return None
    coarse_map = _local_strength(planes, seen)
    relative = _enlarged(coarse_map, planes.shape)
    blocks = _blocks(planes / relative, seen)
    if len(blocks) < 32:
        return None
    coefficients = _cosine(blocks)
    brightness = blocks.mean(axis=(1, 2))
    bright = brightness >= np.median(brightness)
    lags = _lags(_spectrum(coefficients, 0.3))
    # The background of a magnitude image is no sample of its noise: the brighter half is asked as well.
    lags_bright = _lags(_spectrum(coefficients[bright], 0.15))
    correlated = _counts(lags) or _counts(lags_bright)
    chosen = coefficients if _counts(lags) or not correlated else coefficients[bright]
    spectrum = _spectrum(chosen, 0.6 if correlated else 0.3)
    if not spectrum.any():
        return None
    kernel = _kernel(spectrum)
    patchy = np.quantile(coarse_map, 0.95) > PATCHY * np.quantile(coarse_map, 0.05)
    level = float(np.sqrt(_mean(spectrum)))
    if patchy:
        # The map says where, the level how much: over the whole image the map's mean square is 1.
        size = float(np.sqrt(np.mean(relative[seen] ** 2)))
        level *= size
        relative = relative / size
    if volume and len(planes) > 1:
        between = _between_planes(planes, seen)
        kernel = np.stack([between * kernel, kernel, between * kernel])
    return Structure(
        level=level,
        lags=lags if _counts(lags) or not correlated else lags_bright,
        correlated=correlated,
        kernel=kernel.astype(np.float32),
        sd_map=relative.reshape(values.shape).astype(np.float32) if patchy else None,
    )


def _counts(lags: tuple[float, float]) -> bool:
    low, high = sorted(map(abs, lags))
    return high > ISOTROPIC or (high > ANISOTROPIC and high - low > DIFFERENCE)


def _local_strength(planes: Array, seen: NDArray[np.bool_]) -> Array:
    """Median magnitude of the finest diagonal details in each cell, smoothed, 1 in the median: ``(planes, cells)``."""
    from scipy.ndimage import gaussian_filter

    detail = np.abs(planes[:, :-1, :-1] - planes[:, 1:, :-1] - planes[:, :-1, 1:] + planes[:, 1:, 1:])
    whole = seen[:, :-1, :-1] & seen[:, 1:, :-1] & seen[:, :-1, 1:] & seen[:, 1:, 1:]
    # The last row and column of details are missing; an edge cell takes one fewer.
    shape = [(n - 1) // CELL for n in planes.shape[1:]]
    cut = np.s_[:, : shape[0] * CELL, : shape[1] * CELL]

    def cells(array: NDArray[Any]) -> NDArray[Any]:
        blocks = array[cut].reshape(len(array), shape[0], CELL, shape[1], CELL)
        return blocks.swapaxes(2, 3).reshape(len(array), *shape, CELL * CELL)

    strength = np.median(cells(detail), axis=-1)
    # A cell that is saturated, empty or not measured says nothing.
    usable = (cells(whole).all(axis=-1) & (strength > 0)).astype(float)
    width = (1.0 if len(planes) > 1 else 0.0, 3.0, 3.0)
    weight = gaussian_filter(usable, width, mode="nearest")
    smooth = gaussian_filter(np.log(np.where(strength > 0, strength, 1.0)) * usable, width, mode="nearest")
    known = weight > 1e-3
    if not known.any():
        return np.ones_like(strength)
    logs = np.where(known, smooth / np.maximum(weight, 1e-3), 0.0)
    logs = np.where(known, logs, np.median(logs[known]))
    logs -= np.median(logs[known])
    return np.asarray(np.exp(logs))


def _enlarged(cells: Array, shape: tuple[int, ...]) -> Array:
    """Interpolate the cells' values at the pixels."""
    rows, columns = (
        np.clip((np.arange(n) + 0.5) / CELL - 0.5, 0, m - 1) for n, m in zip(shape[1:], cells.shape[1:], strict=True)
    )
    out = cells
    for axis, at in ((1, rows), (2, columns)):
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, out.shape[axis] - 1)
        share = (at - low).reshape([-1 if k == axis else 1 for k in range(3)])
        out = np.take(out, low, axis) * (1 - share) + np.take(out, high, axis) * share
    return out


def _blocks(planes: Array, seen: NDArray[np.bool_]) -> Array:
    """Overlapping blocks that are measured throughout, ``(blocks, 16, 16)``; from a volume not all of them."""

    def views(stack: NDArray[Any]) -> NDArray[Any]:
        return np.lib.stride_tricks.sliding_window_view(stack, (BLOCK, BLOCK), axis=(1, 2))[:, ::STEP, ::STEP]

    y, ok = views(planes), views(seen)
    places = np.argwhere(ok.all(axis=(-1, -2)))
    places = places[:: max(1, len(places) // MOST_BLOCKS)]
    taken: Array = y[tuple(places.T)]
    return taken


def _cosine(blocks: Array) -> Array:
    from scipy.fft import dctn

    # A slope goes on at all frequencies, down to the finest; noise has a hundredth of its power in it.
    ramp = np.linspace(-1, 1, BLOCK)
    across, down = (blocks.mean(axis=axis) @ ramp / (ramp @ ramp) for axis in (1, 2))
    plane = across[:, None, None] * ramp + down[:, None, None] * ramp[:, None]
    found: Array = dctn(blocks - plane, axes=(1, 2), norm="ortho")
    return found


def _spectrum(coefficients: Array, share: float) -> Array:
    """Variance at each frequency, over the given share of the flattest blocks."""
    coarse = (coefficients[:, :COARSEST, :COARSEST] ** 2).sum(axis=(1, 2)) - coefficients[:, 0, 0] ** 2
    flat = coefficients[coarse <= np.quantile(coarse, share)]
    spectrum: Array = (np.median(np.abs(flat), axis=0) / 0.6745) ** 2
    radius = np.hypot(*np.indices(spectrum.shape))
    ring = spectrum[(radius >= COARSEST) & (radius < COARSEST + 2)]
    low = radius < COARSEST
    spectrum[0, 0] = (spectrum[0, 1] + spectrum[1, 0]) / 2
    spectrum[low] = np.minimum(spectrum[low], np.median(ring))
    return spectrum


def _weights() -> Array:
    # The zero frequency stands for half a band.
    edge = np.where(np.arange(BLOCK) == 0, 0.5, 1.0)
    weights: Array = np.multiply.outer(edge, edge) / (BLOCK - 0.5) ** 2
    return weights


def _mean(spectrum: Array) -> float:
    return float((spectrum * _weights()).sum())


def _kernel(spectrum: Array) -> Array:
    """Autocorrelation ``(15, 15)`` of a spectrum at the frequencies of the cosine transform."""
    waves = np.cos(np.pi / BLOCK * np.outer(np.arange(BLOCK), np.arange(-REACH, REACH + 1)))
    kernel: Array = waves.T @ (spectrum * _weights()) @ waves
    # Faded out towards the last lags, so that its spectrum stays smooth.
    fade = np.cos(np.pi / 2 * np.arange(-REACH, REACH + 1) / (REACH + 1)) ** 0.5
    kernel *= np.outer(fade, fade) / kernel[REACH, REACH]
    return kernel


def _lags(spectrum: Array) -> tuple[float, float]:
    cosine = np.cos(np.pi / BLOCK * np.arange(BLOCK))
    weighted = spectrum * _weights()
    total = weighted.sum() + 1e-300
    return float((weighted * cosine).sum() / total), float((weighted * cosine[:, None]).sum() / total)


def _between_planes(planes: Array, seen: NDArray[np.bool_]) -> float:
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
