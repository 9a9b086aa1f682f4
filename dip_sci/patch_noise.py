"""The noise of a patch of an image: how its voxels' noise goes together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

LEAST, LEAST_WHITENED = 0.1, 0.5
"""Variance of a pattern of a patch's noise, over the mean of all patterns, that is gone by at least; the latter where noise is made
white, and what has hardly any would be made most of. An autocorrelation is an estimate, and of few lags.
"""


@dataclass(frozen=True)
class PatchNoise:
    """How the noise of a patch's voxels goes together, on the scale of the variance of one.

    Attributes
    ----------
    covariance
        ``(voxels, voxels)``.
    whitener
        What makes such noise white, nearly, ``(voxels, voxels)``.
    """

    covariance: Tensor
    whitener: Tensor

    @classmethod
    def of(cls, autocorrelation: Tensor | None, edges: Sequence[int]) -> PatchNoise | None:
        """Return the noise of a patch.

        Parameters
        ----------
        autocorrelation
            Of the noise, of odd sizes, along as many of the last axes as it has; along those before them, and
            where it ends, none is shared. ``None``: nowhere.
        edges
            Of the patch, along each axis.
        """
        if autocorrelation is None:
            return None
        places = torch.cartesian_prod(*(torch.arange(n) for n in edges)).reshape(-1, len(edges))
        lags = places[:, None] - places
        leading = len(edges) - autocorrelation.ndim
        middle = torch.tensor([n // 2 for n in autocorrelation.shape])
        at = lags[..., leading:] + middle
        known = ((at >= 0) & (at <= 2 * middle)).all(dim=-1) & (lags[..., :leading] == 0).all(dim=-1)
        within = at.clamp(min=0).minimum(2 * middle)
        values = autocorrelation.double().cpu()[tuple(within.unbind(dim=-1))]
        power, patterns = torch.linalg.eigh(torch.where(known, values, 0.0))
        covariance = (patterns * power.clamp_min(LEAST * float(power.mean()))) @ patterns.mT
        whitener = (patterns * power.clamp_min(LEAST_WHITENED * float(power.mean())).rsqrt()) @ patterns.mT
        device = autocorrelation.device
        return cls(covariance.float().to(device), whitener.float().to(device))
