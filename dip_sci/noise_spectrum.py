"""The spectrum of an image's noise, from the power that its flattest blocks have at each frequency."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise_blocks import EDGE, FEWEST, FINE, HALVES, SHARE, Blocks, waves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

REACH = 7
"""Lags that the correlation is kept for."""

WHOLE = 3
"""Lags up to which it is kept whole; towards the last it is faded out, so that its spectrum stays smooth."""

COARSEST = 4
"""Frequencies, in half cycles per block, below which content cannot be told from noise."""

ROUNDS, STEEPEST = 10, 4.0
"""Corrections of a spectrum for what blocks blur, and the factor of one at most."""

_I, _J = np.indices((EDGE, EDGE))
TOLD = np.hypot(_I, _J) >= COARSEST
"""Frequencies of a block where it can."""


def measured_power(blocks: Blocks, share: float) -> Array:
    """Measure the variance of each coefficient of the cosine transform ``(16, 16)``: the median over the flattest blocks.

    Parameters
    ----------
    blocks
        Of the image.
    share
        Which share of them counts as flat.
    """
    power = np.empty((EDGE, EDGE))
    for judge, measure in HALVES:
        flat = blocks.power[blocks.flattest(judge, share, FEWEST)]
        power[measure] = np.median(flat[:, measure], axis=0) / 0.6745**2
    # Slopes and bends were taken out there.
    power[_I + _J < 3] = power[_I + _J == 3].mean()
    return np.minimum(power, np.where(TOLD, np.inf, _continued(power)))


def as_measured(power: Array) -> Array:
    """Take measured power for a spectrum: variance at 0, 1, ... 16 half cycles per block along Y and X, ``(17, 17)``."""
    spectrum: Array = np.pad(power, ((0, 1), (0, 1)), mode="edge")
    return spectrum


def resolved(power: Array) -> Array:
    """Find the spectrum ``(17, 17)`` of which blocks show such power.

    A block blurs a spectrum, and takes the coarsest out of it: smooth noise seems weaker than it is, by 12 % at a width of
    3 voxels (FWHM). What blocks show of a spectrum is known; it is changed until that agrees with what was measured
    (as Richardson 1972 and Lucy 1974 deconvolve). Below `COARSEST` it is a Gaussian through what is above.
    """
    spectrum = _with_coarsest(as_measured(power))
    for _ in range(ROUNDS):
        shown = (_response() @ spectrum.ravel()).reshape(EDGE, EDGE)
        factor = np.where(TOLD, power / np.maximum(shown, 1e-12 * shown.max() + 1e-300), 1.0)
        spectrum = _with_coarsest(spectrum * as_measured(np.clip(factor, 1 / STEEPEST, STEEPEST)))
    return spectrum


def capped(spectrum: Array, variance: float) -> Array:
    """Cap a spectrum, so that the noise has no more than its known variance: content adds to it where it is largest."""
    if mean(spectrum) <= variance:
        return spectrum
    low, high = 0.0, float(spectrum.max())
    for _ in range(40):
        cap = (low + high) / 2
        low, high = (low, cap) if mean(np.minimum(spectrum, cap)) > variance else (cap, high)
    found: Array = np.minimum(spectrum, high)
    return found


def mean(spectrum: Array) -> float:
    """Return the variance of noise with a spectrum."""
    return float((spectrum * _weights()).sum())


def autocorrelation(spectrum: Array) -> Array:
    """Return the autocorrelation ``(15, 15)`` of noise with a spectrum, 1 at its centre."""
    lag = np.abs(np.arange(-REACH, REACH + 1))
    cosines = np.cos(np.pi / EDGE * np.outer(np.arange(EDGE + 1), lag))
    kernel: Array = cosines.T @ (spectrum * _weights()) @ cosines
    fade = np.cos(np.pi / 2 * np.maximum(lag - WHOLE, 0) / (REACH + 1 - WHOLE))
    kernel *= np.outer(fade, fade) / kernel[REACH, REACH]
    return kernel


def lags(power: Array) -> tuple[float, float]:
    """Return the lag-1 autocorrelations along X and along Y of noise of which blocks show a power."""
    cosine = np.cos(np.pi / EDGE * np.arange(EDGE + 1))
    weighted = as_measured(power) * _weights()
    total = weighted.sum() + 1e-300
    return float((weighted * cosine).sum() / total), float((weighted * cosine[:, None]).sum() / total)


def measured_lags(blocks: Blocks, share: float = SHARE) -> tuple[float, float]:
    """Measure the lag-1 autocorrelations along X and along Y of the noise of the flattest blocks."""
    return lags(measured_power(blocks, share))


def beyond_finest(shared: tuple[float, float]) -> float:
    """Return the standard deviation of noise over that at its finest frequencies, by its lag-1 autocorrelations along X and Y."""
    finest = 1 + 2 * sum(shared) * float(np.cos(np.pi * _I / EDGE)[FINE].mean())
    return float(1 / np.sqrt(finest))


def _continued(power: Array) -> Array:
    """Continue a spectrum from the frequencies above the coarsest to these, as a Gaussian, which does not fall towards 0."""
    i, j = np.indices(power.shape)
    radius = np.hypot(i, j)
    ring = (radius >= COARSEST) & (radius < 2 * COARSEST)
    design = np.stack([np.ones_like(radius), i**2, j**2], axis=-1)
    logs = np.log(np.maximum(power, 1e-6 * power.max() + 1e-300))
    trend = np.linalg.lstsq(design[ring], logs[ring], rcond=None)[0]
    trend[1:] = np.minimum(trend[1:], 0)
    # Smooth noise has a spectrum like a Gaussian's: what goes beyond that towards the coarse end is content.
    found: Array = np.exp(design @ trend)
    return found


def _with_coarsest(spectrum: Array) -> Array:
    return np.where(np.pad(TOLD, ((0, 1), (0, 1)), constant_values=True), spectrum, _continued(spectrum))


@cache
def _weights() -> Array:
    """Weigh the frequencies of a spectrum: the first and the last stand for half a band."""
    edge = np.where(np.arange(EDGE + 1) % EDGE == 0, 0.5, 1.0)
    weights: Array = np.multiply.outer(edge, edge) / EDGE**2
    return weights


@cache
def _response() -> Array:
    """Return what a block shows: the variance of each coefficient for each frequency's power, ``(256, 289)``."""
    size = 2 * EDGE
    shown: NDArray[Any] = np.abs(np.fft.fft2(waves(), (size, size))) ** 2
    products = np.fft.fftshift(np.fft.ifft2(shown).real, axes=(1, 2))[:, 1:, 1:]
    cosines = np.cos(np.pi / EDGE * np.outer(np.arange(EDGE + 1), np.arange(1 - EDGE, EDGE)))
    response: Array = np.einsum("nyx,iy,jx->nij", products, cosines, cosines, optimize=True) * _weights()
    return response.reshape(EDGE**2, -1)
