"""Colours: noise that the samples of a colour image share, and mixtures of them in which it is independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise_blocks import FEWEST, FINE, SHARE, halves, together
from dip_sci.noise_spectrum import TOLD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SHARED = 0.12
"""Correlation of the noise of two samples from which on they share some; of independent noise, textured pictures have up to .08."""

WIDE, COARSE = 32, (2, 6)
"""Edge of the blocks in which coarse noise is measured, and its frequencies there in half cycles per block."""

SMOOTH = 0.7
"""Strength of a mixture's noise at the finest frequencies, over that at all that are told, below which there may be more at coarse ones.

JPEG's colours have .5 at most, independent noise .8 and more.
"""

SILENT = 1e-3
"""Strength of a mixture's noise, over that of the strongest, up to which it has none: of a grey picture with something coloured in it.
"""


@dataclass(frozen=True, eq=False)
class Colours:
    """Mixtures of an image's samples that share no noise.

    Attributes
    ----------
    to, back
        Matrices from samples to mixtures ``(K, S)``, and back ``(S, K)``. A rotation, which leaves distances as they are, or,
        of samples that are copies of one, that one.
    correlation
        Smallest and largest of the correlations of two samples' noise.
    sd
        Standard deviation of each mixture's noise, roughly, ``(K,)``; 0 where there is none, or where it is not known.
    coarse
        Strength of each mixture's noise at coarse frequencies: the standard deviation of independent noise that has as much
        there, ``(K,)``; 0 where content hides it, and where it is as strong at fine ones.
    """

    to: Array
    back: Array
    correlation: tuple[float, float]
    sd: Array
    coarse: Array

    @property
    def rotated(self) -> bool:
        """Whether the mixtures are of several samples each."""
        return len(self.to) > 1

    def mix(self, stack: Array) -> Array:
        """Mix samples ``(G, S, ...)`` into ``(G, K, ...)``."""
        return _along_samples(self.to, stack)

    def separate(self, stack: Array) -> Array:
        """Undo `mix`."""
        return _along_samples(self.back, stack)

    def variance(self, stack: Array) -> Array:
        """Return the variance of the samples' noise ``(G, S, ...)``, given that of the mixtures' ``(G, K, ...)``."""
        return _along_samples(np.square(self.back), stack)


def copies(stack: Array) -> Colours | None:
    """Find out whether all samples of an image ``(G, S, ...)`` are one and the same, as of a grey image saved in colour."""
    samples = stack.shape[1]
    if samples < 2 or not all(np.array_equal(stack[:, 0], stack[:, s]) for s in range(1, samples)):
        return None
    return Colours(np.eye(samples)[:1], np.ones((samples, 1)), (1.0, 1.0), np.zeros(1), np.zeros(1))


def shared(stack: Array, seen: NDArray[np.bool_]) -> Colours | None:
    """Find out whether the samples of an image share noise.

    Parameters
    ----------
    stack
        ``(G, S, M, *spatial)``.
    seen
        Which of its values were measured, same shape.

    Returns
    -------
    Colours or None
        ``None`` where they do not, or where nothing tells.

    Notes
    -----
    The covariance of two samples' noise is a quarter of the difference between the powers of their sum and of their difference;
    both are measured as a grey image's are, in the flattest blocks. The mixtures are its eigenvectors.
    """
    samples = stack.shape[1]
    if samples < 2:
        return None
    planes = np.moveaxis(stack, 1, 0).reshape(samples, -1, *stack.shape[-2:])
    whole = np.all(seen, axis=1).reshape(planes.shape[1:])
    blocks = together(planes, whole)
    if blocks.shape[1] < FEWEST // 4:
        return None
    covariance = _covariance(blocks, TOLD)
    variance = np.diag(covariance)
    if not (variance > 0).all():
        return None
    correlation = (covariance / np.sqrt(np.outer(variance, variance)))[np.triu_indices(samples, 1)]
    variances, vectors = np.linalg.eigh(covariance)
    if np.abs(correlation).max() < SHARED:
        return None
    smooth = np.diag(vectors.T @ _covariance(blocks, FINE) @ vectors) < SMOOTH**2 * variances
    coarse = np.where(smooth, _coarse(planes, whole, vectors.T), 0)
    sd = np.sqrt(np.where(variances > SILENT**2 * variances[-1], variances, 0))
    return Colours(vectors.T, vectors, (float(correlation.min()), float(correlation.max())), sd, coarse)


def _coarse(planes: Array, seen: NDArray[np.bool_], mixtures: Array) -> Array:
    """Measure mixtures' noise at frequencies too coarse for the blocks that noise is found in otherwise."""
    blocks = together(planes, seen, WIDE, WIDE // 4)
    if blocks.shape[1] < FEWEST // 4:
        return np.zeros(len(mixtures))
    radius = np.hypot(*np.indices((WIDE, WIDE)))
    mixed = np.tensordot(mixtures.astype(np.float32), blocks, axes=1)
    found: Array = np.sqrt(np.maximum(np.diag(_covariance(mixed, (radius >= COARSE[0]) & (radius < COARSE[1]))), 0))
    # The content of a picture is in its brightness, nearly all of it: there it hides the noise.
    found[np.argmax(np.abs(mixtures.sum(axis=1)))] = 0
    return found


def _covariance(blocks: Array, band: NDArray[np.bool_]) -> Array:
    """Measure the covariance of samples' noise in a band of frequencies: medians over the blocks that are flattest in all."""
    samples, count, edge, _ = blocks.shape
    flat = max(int(SHARE * count), min(FEWEST, count // 4), 1)
    found = np.zeros((samples, samples))
    for judge, measure in halves(edge):
        power = np.square(blocks[:, :, judge]).sum(axis=2)
        total = (power / (np.median(power, axis=1, keepdims=True) + 1e-300)).sum(axis=0)
        chosen = blocks[:, np.argpartition(total, flat - 1)[:flat]][:, :, measure & band]
        for a in range(samples):
            for b in range(samples):
                both, apart = (np.median(np.square(chosen[a] + sign * chosen[b]), axis=0).mean() for sign in (1, -1))
                found[a, b] += (both - apart) / 4 / 0.6745**2 / 2
    return found


def _along_samples(matrix: Array, stack: Array) -> Array:
    found: Array = np.moveaxis(np.tensordot(matrix.astype(stack.dtype), stack, axes=(1, 1)), 0, 1)
    return np.ascontiguousarray(found)
