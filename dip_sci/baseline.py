"""Classical results beside ours: scikit-image's denoisers, set by the noise alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from dip_sci.patches import FAINT

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Method = Callable[[Tensor, Tensor], Tensor]

NLM_STRENGTHS = {False: (0.5, 0.8), True: (0.8, 1.3)}
"""Filter parameters h in standard deviations of the noise, by whether neighbouring voxels share noise.

Scikit-image's advice, and stronger ones: shared noise makes patches look alike that are not.
"""

WIDE_STRENGTHS: dict[bool, tuple[float, ...]] = {False: (), True: (1.3, 2.0)}
"""The same for larger patches from farther away, in which shared noise averages out."""

TV_STRENGTHS = {False: (0.7, 1.2, 2.0), True: (1.2, 2.0, 3.5, 6.0)}
"""Weights of the total variation in standard deviations of the noise, likewise."""


MOST_BIHARMONIC = 2**18
"""Missing voxels up to which biharmonic inpainting takes seconds."""


@dataclass(frozen=True)
class Classical:
    """A classical denoiser with its parameters set.

    Attributes
    ----------
    name
        What a report calls it.
    apply
        Maps an image ``(S, *spatial)`` and the standard deviation of its noise, which broadcasts, to the denoised image.
    """

    name: str
    apply: Method


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


def over_frames(*, correlated: bool) -> list[Classical]:
    """Return the denoisers that see the frames of a series ``(C, F, Y, X)`` as a volume: non-local means.

    Parameters
    ----------
    correlated
        As for `classical_methods`.
    """
    return [
        Classical(f"non-local means over frames (h {h:g} sd)", _nlm(h, 5, 8)) for h in NLM_STRENGTHS[correlated][1:]
    ]


def biharmonic(image: Tensor, known: Tensor, guess: Tensor) -> Tensor:
    """Fill the holes of an image as smoothly as can be (scikit-image's biharmonic inpainting).

    Parameters
    ----------
    image
        ``(S, *spatial)``.
    known
        Which of its voxels are known, boolean, ``(*spatial)``.
    guess
        A simpler filling, which stands in where there is too much to fill, or three dimensions: there this takes hours.
    """
    missing = ~known
    if known.ndim > 2 or not bool(missing.any()) or int(missing.sum()) > MOST_BIHARMONIC:
        return guess
    from skimage.restoration import inpaint_biharmonic

    found = inpaint_biharmonic(image.cpu().numpy(), missing.cpu().numpy(), channel_axis=0)
    return torch.from_numpy(np.asarray(found, np.float32)).to(image.device)


def _nlm(h: float, patch: int, distance: int) -> Method:
    def apply(image: Tensor, sigma: Tensor) -> Tensor:
        from skimage.restoration import denoise_nl_means

        size, reach = (patch, distance) if image.ndim == 3 else (3, 3)
        # A grey image must be given as one: with a channel axis of length 1 nothing is smoothed.
        sd = _levels(sigma, image)
        values = (image / sd).cpu().numpy()
        grey, axis = (values[0], None) if len(image) == 1 else (values, 0)
        out = denoise_nl_means(grey, patch_size=size, patch_distance=reach, h=h, sigma=1.0, channel_axis=axis)
        return torch.from_numpy(np.asarray(out, np.float32)).reshape(image.shape).to(image.device) * sd

    return apply


def _tv(weight: float) -> Method:
    def apply(image: Tensor, sigma: Tensor) -> Tensor:
        from skimage.restoration import denoise_tv_chambolle

        # The algorithm's own stopping threshold is meant for values of about one.
        sd = _levels(sigma, image)
        out = denoise_tv_chambolle((image / sd).cpu().numpy(), weight=weight, channel_axis=0)
        return torch.from_numpy(np.asarray(out, np.float32)).to(image.device) * sd

    return apply


def _levels(sigma: Tensor, image: Tensor) -> Tensor:
    """Return the one standard deviation that stands for all of a channel ``(C, *1)``."""
    power = sigma.square().expand_as(image).flatten(1).mean(dim=1)
    return power.clamp_min(FAINT**2 * float(power.max())).sqrt().reshape(-1, *(1 for _ in image.shape[1:]))
