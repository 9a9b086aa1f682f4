"""Classical results beside ours: scikit-image's denoisers, set by the noise alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

NLM_STRENGTHS = {False: (0.5, 0.8), True: (0.8, 1.3)}
"""Filter parameters h in standard deviations of the noise, by whether neighbouring voxels share noise.

Scikit-image's advice, and stronger ones: shared noise makes patches look alike that are not.
"""

WIDE_STRENGTHS: dict[bool, tuple[float, ...]] = {False: (), True: (1.3, 2.0)}
"""The same for larger patches from farther away, in which shared noise averages out."""

TV_STRENGTHS = {False: (0.7, 1.2, 2.0), True: (1.2, 2.0, 3.5, 6.0)}
"""Weights of the total variation in standard deviations of the noise, likewise."""


@dataclass(frozen=True)
class Classical:
    """A classical denoiser with its parameters set.

    Attributes
    ----------
    name
        What a report calls it.
    apply
        Maps an image ``(S, *spatial)`` and the standard deviation of its noise to the denoised image.
    """

    name: str
    apply: Callable[[Array, float], Array]


def classical_methods(*, correlated: bool) -> list[Classical]:
    """Return the denoisers that compete: non-local means and total variation, each at a few strengths.

    Parameters
    ----------
    correlated
        Whether neighbouring voxels share noise.

    Notes
    -----
    Non-local means: Buades, Coll & Morel 2005, with the noise taken off the patch distances (Darbon et al.
    2008). Total variation: Rudin, Osher & Fatemi 1992, by the algorithm of Chambolle 2004.
    """
    return [
        *(Classical(f"non-local means (h {h:g} sd)", _nlm(h, 5, 8)) for h in NLM_STRENGTHS[correlated]),
        *(Classical(f"non-local means (wide, h {h:g} sd)", _nlm(h, 7, 11)) for h in WIDE_STRENGTHS[correlated]),
        *(Classical(f"total variation (weight {w:g} sd)", _tv(w)) for w in TV_STRENGTHS[correlated]),
    ]


def _nlm(h: float, patch: int, distance: int) -> Callable[[Array, float], Array]:
    def apply(image: Array, sigma: float) -> Array:
        from skimage.restoration import denoise_nl_means

        size, reach = (patch, distance) if image.ndim == 3 else (3, 3)
        # A grey image must be given as one: with a channel axis of length 1 nothing is smoothed.
        grey, axis = (image[0], None) if len(image) == 1 else (image, 0)
        out = denoise_nl_means(grey, patch_size=size, patch_distance=reach, h=h * sigma, sigma=sigma, channel_axis=axis)
        return np.asarray(out, np.float32).reshape(image.shape)

    return apply


def _tv(weight: float) -> Callable[[Array, float], Array]:
    def apply(image: Array, sigma: float) -> Array:
        from skimage.restoration import denoise_tv_chambolle

        # The algorithm's own stopping threshold is meant for values of about one.
        out = denoise_tv_chambolle(image / np.float32(sigma), weight=weight, channel_axis=0)
        return np.asarray(out, np.float32) * np.float32(sigma)

    return apply
