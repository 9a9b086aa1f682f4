"""The network's input z under full supervision, and its jitter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.recipe import InputOptions


CHANNELS, JITTER = 32, 1 / 30
"""What the recipe's input group leaves open (the paper's, for denoising)."""


def make(options: InputOptions, observation: Tensor, rng: torch.Generator, grid: Sequence[int]) -> Tensor:
    """Make the input of one network for one image.

    Parameters
    ----------
    options
        The recipe's input group.
    observation
        ``(1, C, *spatial)``.
    rng
        Source of the noise.
    grid
        Spatial shape that the network wants its input on: the image's, or a decoder's coarsest.

    Returns
    -------
    Tensor
        ``(1, channels, *grid)``: uniform noise in 0..scale, coordinates in 0..1 (one channel per
        axis, slowest axis first), or the observation.
    """
    device = observation.device
    if options.kind == "noise":
        channels = options.channels or CHANNELS
        return options.scale * torch.rand(1, channels, *grid, generator=rng, device=device)
    if options.kind == "meshgrid":
        axes = [torch.linspace(0, 1, n, device=device) for n in grid]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    return observation.clone()


class Jitter:
    """Normal noise for an input, cut at a random place out of one pool that is drawn once.

    Drawing a fresh normal number for each input value takes a quarter of a light network's step.
    """

    def __init__(self, like: Tensor, sd: float, rng: torch.Generator) -> None:
        self._count = like.numel()
        # Twice the size: places enough that no two steps of a run are likely to see the same slice.
        self._pool = sd * torch.randn(2 * self._count, generator=rng, device=like.device) if sd else None

    def add(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """Return `z` plus a slice of the pool."""
        if self._pool is None:
            return z
        start = int(torch.randint(self._count + 1, (), generator=rng, device=z.device))
        return z + self._pool[start : start + self._count].view_as(z)
