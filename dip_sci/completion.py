"""Completion: what a network has put into holes, completed by like patches as far as that foretells known voxels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dip_sci import patches
from dip_sci.baseline import biharmonic
from dip_sci.combination import NETWORK, Combination, least

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dip_sci.problem import Problem

LEVELS = (0.02, 0.08, 0.3, 0.8)
"""Noise of the known voxels that is tried, over their spread, where nothing is known of it."""

ROUNDS = (3.0, 2.0, 1.5, 1.0, 1.0)
"""Noise that each round reckons with, over the noise that there is: a pilot that is still poor is not to be believed."""

LOOK_ROUNDS = 2
"""Rounds of a look at what they are worth."""

LOOK_EDGES = {2: (160, 160), 3: (24, 48, 48)}
"""Size of the part of an image that is looked at."""

KEPT, FEWEST, MOST = 0.03, 256, 0.1
"""Share of the known voxels that a fit does not learn from, the least number of them, and the largest share."""

BIHARMONIC = "biharmonic"
COMPLETED = "completion by like patches"


def keep(problem: Problem, rng: torch.Generator) -> Tensor:
    """Draw known voxels that a fit does not learn from, to judge by: 1 there, ``(N, 1, *spatial)``."""
    known = problem.weights > 0
    share = min(max(KEPT, FEWEST / max(int(known.sum()), 1)), MOST)
    drawn = torch.rand(known.shape, generator=rng, device=rng.device).to(known.device) < share
    return (drawn & known).float()


def complete(
    problem: Problem, estimate: Tensor, kept: Tensor | None, *, known_noise: bool
) -> Iterator[Combination | float]:
    """Complete the holes that a network has filled, and weigh both by how well they foretell known voxels.

    Parameters
    ----------
    problem
        What was observed; what is missing has no weight.
    estimate
        What the networks made of it, ``(K, N, C, *spatial)``.
    kept
        Voxels that they did not learn from, as of `keep`; without them, the result is the networks' alone.
    known_noise
        Whether the noise of the known voxels is known; otherwise they are taken to be noisy as far as that
        foretells others best.

    Yields
    ------
    float
        Share of the work done, then once the
    Combination
        Its risks are mean square errors at the voxels kept, over their variance.
    """
    network = estimate.mean(dim=0)
    classical = _biharmonic(problem, problem.weights > 0)
    if kept is None:
        yield Combination(estimate, classical, {NETWORK: 1.0}, {})
        return
    spread = _spread(problem)
    levels = [problem.sigma] if known_noise else [spread * level for level in LEVELS]
    box = _busiest(problem)
    part = problem.within(box)
    judge = kept[box] * part.weights
    seen = part.weighted(1 - judge)
    results = [network[box], _biharmonic(seen, seen.weights > 0)]
    first = least(_products(results, part, judge))
    pilot = _mixed(first, results)
    looks = []
    for done, level in enumerate(levels, start=1):
        sigma = replace(problem, sigma=level).within(box).sigma
        looks.append(_completed(seen, pilot, sigma, ROUNDS[-LOOK_ROUNDS:], everywhere=known_noise))
        yield 0.3 * done / len(levels)
    errors = [float(_products([look], part, judge)[0, 0]) for look in looks]
    best = int(np.argmin(errors))
    results.append(looks[best])
    names = [NETWORK, BIHARMONIC, COMPLETED]
    products = _products(results, part, judge)
    scale = float((spread.square().mean() if judge.any() else torch.ones(1)).clamp_min(1e-12))
    weights = dict(zip(names, least(products).tolist(), strict=True))
    risks = dict(zip(names, (np.diag(products) / scale).tolist(), strict=True))
    mixed = weights[NETWORK] * estimate + weights[BIHARMONIC] * classical
    piloting = {}
    if weights[COMPLETED] > 0:
        piloting = dict(zip(names, first.tolist(), strict=False))
        completed = _mixed(first, [network, classical])
        for done, factor in enumerate(ROUNDS, start=1):
            completed = _completed(problem, completed, levels[best], (factor,), everywhere=known_noise)
            yield 0.3 + 0.7 * done / len(ROUNDS)
        mixed = mixed + weights[COMPLETED] * completed
    yield Combination(mixed, classical, weights, risks, piloting)


def _completed(
    problem: Problem, pilot: Tensor, sigma: Tensor, rounds: tuple[float, ...], *, everywhere: bool
) -> Tensor:
    """Complete each image in some rounds, each led by the one before."""
    parts = []
    for values, weights, first, sd in zip(problem.observation, problem.weights, pilot, sigma, strict=True):
        known, found = weights[0] > 0, first
        for factor in rounds:
            leading = found if everywhere else torch.where(known, values, found)
            found = patches.complete(
                values, known, leading, sd * factor, torch.ones_like(known) if everywhere else ~known
            )
        parts.append(found)
    return torch.stack(parts)


def _biharmonic(problem: Problem, known: Tensor) -> Tensor:
    guess = problem.operator.guess(problem.observation, known.to(problem.observation.dtype)).filled
    found = [biharmonic(y, at[0], first) for y, at, first in zip(problem.observation, known, guess, strict=True)]
    return torch.stack(found)


def _spread(problem: Problem) -> Tensor:
    """Return the standard deviation of what is known of each image, ``(N, 1, 1, ...)``."""
    weights = (problem.weights > 0).to(problem.observation.dtype).expand_as(problem.observation)
    axes = tuple(range(1, weights.ndim))
    count = weights.sum(dim=axes, keepdim=True).clamp_min(1)
    mean = (problem.observation * weights).sum(dim=axes, keepdim=True) / count
    variance = ((problem.observation - mean).square() * weights).sum(dim=axes, keepdim=True) / count
    return variance.sqrt().clamp_min(1e-4)


def _busiest(problem: Problem) -> tuple[slice, ...]:
    """Return the part of the images in which most is missing, of a size that is soon looked at."""
    spatial = problem.weights.shape[2:]
    edges = [min(n, edge) for n, edge in zip(spatial, LOOK_EDGES[len(spatial)], strict=True)]
    missing = (problem.weights <= 0).float()
    pool = torch.nn.functional.avg_pool2d if len(spatial) == 2 else torch.nn.functional.avg_pool3d
    stride = [max(edge // 2, 1) for edge in edges]
    shares = pool(missing, edges, stride)
    # A part that is missing altogether tells nothing.
    shares = torch.where(shares < 0.95, shares, 0.0)
    n, _, *at = (int(i) for i in np.unravel_index(int(shares.argmax()), shares.shape))
    starts = [i * s for i, s in zip(at, stride, strict=True)]
    return (slice(n, n + 1), slice(None), *(slice(a, a + e) for a, e in zip(starts, edges, strict=True)))


def _products(
    results: list[Tensor], problem: Problem, judge: Tensor
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Mean products of what the results miss at the voxels to judge by."""
    flat = (torch.stack(results) - problem.observation).flatten(1).double()
    weights = judge.expand_as(problem.observation).flatten().double()
    found = (flat * weights) @ flat.T / weights.sum().clamp_min(1)
    return np.asarray(found.cpu().numpy())


def _mixed(shares: np.ndarray[tuple[int], np.dtype[np.float64]], results: list[Tensor]) -> Tensor:
    return sum((float(w) * r for w, r in zip(shares, results, strict=True)), torch.zeros_like(results[0]))
