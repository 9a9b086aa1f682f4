"""Held out: voxels that a fit does not learn from, so that it can be judged there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from dip_sci.problem import Problem

SHARE, EDGE = 0.125, 16
"""Share of the voxels in blocks that are held out, and the edge of a block."""

FEWEST = 4096
"""Voxels that there must be in blocks."""


def voxels(problem: Problem, share: float, rng: torch.Generator) -> Tensor:
    """Draw single voxels: 1 where held out, ``(N, 1, *spatial)``."""
    drawn = torch.rand(problem.weights.shape, generator=rng, device=problem.weights.device) < share
    return drawn.float() * (problem.weights > 0)


def blocks(problem: Problem, rng: torch.Generator) -> Tensor | None:
    """Draw blocks of voxels, larger than what neighbours' noise has in common: 1 there, ``(N, 1, *spatial)``.

    A network that has learned from an observation knows some of its noise by heart, and would be taken for better than
    it is there.

    Returns
    -------
    Tensor or None
        ``None`` where too few voxels would be left to judge at.
    """
    count, _, *spatial = problem.weights.shape
    cells = [-(-n // EDGE) for n in spatial]
    drawn = (torch.rand((count, 1, *cells), generator=rng, device=rng.device) < SHARE).float()
    for axis, n in enumerate(spatial, start=2):
        drawn = drawn.repeat_interleave(EDGE, dim=axis).narrow(axis, 0, n)
    kept = drawn.to(problem.weights.device)
    return kept if int(((problem.weights > 0) & (kept > 0)).sum()) >= FEWEST else None
