"""Counted: photons one by one, which can be dealt out to two independent observations of the same light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

ANSCOMBE = 0.375
"""What the transform of Anscombe (1948) adds to a count."""


@dataclass(frozen=True)
class Counted:
    """The photons behind an observation, and what about they are on the network's range.

    Where photons are few, stabilised noise is neither normal nor known to be of any strength, but photons dealt out at random
    stay independent.

    Attributes
    ----------
    estimate
        What was made of them, on the network's range, ``(N, C, *spatial)``.
    photons
        Whole numbers, of the same shape.
    unit
        Standard deviation of much light's noise on the network's range, ``(N, C, *1)``.
    light
        Photons that the estimate expects, of its shape.
    slope
        How much it rises with a photon.
    """

    estimate: Tensor
    photons: Tensor
    unit: Tensor
    light: Tensor
    slope: Tensor

    def dealt(self, observation: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Deal the photons out.

        Parameters
        ----------
        observation
            All of them, on the network's range.
        share
            How many go to the first observation.
        rng
            Source of chance.

        Returns
        -------
        first
            As if all photons were those of the share, on the network's range: a noisier observation.
        second
            What the others say of the light: on the network's range along the tangent at the estimate, as stabilising so few
            would change their mean.
        variance
            Of the second's noise, voxel by voxel; right on average, not in a single voxel.
        """
        # Not every device can draw this.
        chance = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=rng, device=rng.device)))
        photons = self.photons.cpu()
        kept = torch.binomial(photons, torch.full_like(photons, share), generator=chance).to(self.photons.device)
        change = (kept / share + ANSCOMBE).sqrt() - (self.photons + ANSCOMBE).sqrt()
        rest = (self.photons - kept) / (1 - share)
        second = self.estimate + self.slope * (rest - self.light)
        return observation + 2 * self.unit * change, second, self.slope.square() * rest / (1 - share)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Counted:
        """Return the same of a part of the images, turned, or elsewhere."""
        return Counted(*(change(part) for part in (self.estimate, self.photons, self.unit, self.light, self.slope)))
