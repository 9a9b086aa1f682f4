"""Completion: what a network has put into holes, completed by like patches as far as that foretells known voxels."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dip_sci import patches
from dip_sci.baseline import biharmonic
from dip_sci.combination import NETWORK, Combination, blend, least

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dip_sci.problem import Problem

LEVELS = (0.02, 0.08, 0.3, 0.8)
"""Noise of the known voxels that is tried, over their spread, where nothing is known of it."""

ROUNDS = (3.0, 2.0, 1.5, 1.0, 1.0)
"""Noise that each round reckons with, over the noise that there is: a pilot that is still poor is not to be believed."""

REFILLS = (1.0, 1.0)
"""The same where the pilot is a blend, which is to be believed from the start."""

LOOK_ROUNDS = 2
"""Rounds of a look at what they are worth."""

LOOK_EDGES = {2: (160, 160), 3: (24, 48, 48)}
"""Size of the part of an image that is looked at."""

KEPT, FEWEST, MOST = 0.03, 256, 0.1
"""Share of the known voxels that a fit does not learn from, the least number of them, and the largest share."""

COPIES, TRIES, WHOLE = 4, 64, 0.8
"""Most copies of deep holes that are kept, places that are tried for them, and share of a copy that must be known."""

EVIDENCE = 16
"""Voxels to judge by that are too few to weigh anything by."""

BIHARMONIC = "biharmonic"
COMPLETED = "completion by like patches"


def keep(problem: Problem, rng: torch.Generator, *, deep: bool = False) -> Tensor | None:
    """Draw known voxels that a fit does not learn from, to judge by: 1 there, ``(N, 1, *spatial)``.

    Parameters
    ----------
    problem
        What was observed; what is missing has no weight.
    rng
        Source of the draw.
    deep
        Whether holes are so deep that voxels with known neighbours say nothing of them: then copies of the holes,
        moved to where voxels are known, are kept.

    Returns
    -------
    Tensor or None
        ``None`` where there is no room for a copy, or too little is left to judge by.
    """
    known = problem.weights > 0
    kept = _copies(known, rng) if deep else _single(known, rng)
    return kept.float() if int(kept.sum()) >= EVIDENCE else None


def _single(known: Tensor, rng: torch.Generator) -> Tensor:
    share = min(max(KEPT, FEWEST / max(int(known.sum()), 1)), MOST)
    return known & (torch.rand(known.shape, generator=rng, device=rng.device).to(known.device) < share)


def _copies(known: Tensor, rng: torch.Generator) -> Tensor:
    missing, left = ~known, MOST * int(known.sum())
    axes = tuple(range(2, known.ndim))
    kept, copies = torch.zeros_like(known), 0
    for _ in range(TRIES):
        shifts = [int(torch.randint(known.shape[a], (1,), generator=rng, device=rng.device)) for a in axes]
        copy = missing.roll(shifts, axes) & known & ~kept
        count = int(copy.sum())
        if count <= left and count >= WHOLE * int(missing.sum()):
            kept, left, copies = kept | copy, left - count, copies + 1
        if copies == COPIES:
            break
    return kept


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
        Voxels that they did not learn from, as of `keep`; without enough of them where something is missing, the result
        is the networks' alone.
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
    box = None if kept is None else _busiest(problem, kept)
    if kept is None or box is None:
        yield Combination(estimate, classical, {NETWORK: 1.0}, {})
        return
    spread = problem.spread()
    levels = [problem.sigma] if known_noise else [spread * level for level in LEVELS]
    part = problem.within(box)
    judge = kept[box] * part.weights
    seen = part.weighted(1 - judge)
    results = [network[box], _biharmonic(seen, seen.weights > 0)]
    first = least(_products(results, part, judge))
    pilot = _mixed(first, results)
    fill = partial(_completed, everywhere=known_noise, known=not known_noise)
    looks = []
    for done, level in enumerate(levels, start=1):
        sigma = replace(problem, sigma=level).within(box).sigma
        looks.append(fill(seen, pilot, sigma, ROUNDS[-LOOK_ROUNDS:]))
        yield 0.3 * done / len(levels)
    errors = [float(_products([look], part, judge)[0, 0]) for look in looks]
    best = int(np.argmin(errors))
    results.append(looks[best])
    names = [NETWORK, BIHARMONIC, COMPLETED]
    products = _products(results, part, judge)
    scale = float(spread.square().mean())
    weights = dict(zip(names, least(products).tolist(), strict=True))
    risks = dict(zip(names, (np.diag(products) / scale).tolist(), strict=True))
    mixed = weights[NETWORK] * estimate + weights[BIHARMONIC] * classical
    piloting: tuple[dict[str, float], ...] = ()
    if weights[COMPLETED] > 0:
        piloting = (dict(zip(names, first.tolist(), strict=False)),)
        completed = _mixed(first, [network, classical])
        for done, factor in enumerate(ROUNDS, start=1):
            completed = fill(problem, completed, levels[best], (factor,))
            yield 0.3 + 0.7 * done / len(ROUNDS)
        mixed = mixed + weights[COMPLETED] * completed
    yield Combination(mixed, classical, weights, risks, piloting)


def refill(problem: Problem, found: Combination, fitted: Tensor, kept: Tensor) -> Iterator[Combination | float]:
    """Complete the holes of a blend that was made for the noise of the known voxels, and weigh both in them.

    Parameters
    ----------
    problem
        What was observed; what is missing has no weight.
    found
        The blend.
    fitted
        What the networks made of the observation without the voxels kept, ``(K, N, C, *spatial)``.
    kept
        Those, as of `keep`.

    Yields
    ------
    float
        Share of the work done, then once the
    Combination
        The blend, with other values in the holes.
    """
    box = _busiest(problem, kept)
    if box is None:
        yield found
        return
    part = problem.within(box)
    judge, seen = kept[box] * part.weights, part.hiding(kept[box])
    blind = blend(seen, fitted[(slice(None), *box)], found.weights, found.piloting).mean(dim=0)
    yield 0.3
    fill = partial(_completed, rounds=REFILLS, everywhere=False, known=False)
    looks = [blind, fill(seen, blind, seen.sigma)]
    share = float(least(_products(looks, part, judge))[1])
    yield 0.6
    if share > 0:
        mixed = found.estimate.mean(dim=0)
        change = fill(problem, mixed, problem.sigma) - mixed
        found = replace(found, estimate=found.estimate + share * change, refilled=share)
    yield found


def _completed(
    problem: Problem, pilot: Tensor, sigma: Tensor, rounds: tuple[float, ...], *, everywhere: bool, known: bool
) -> Tensor:
    """Complete each image in some rounds, each led by the one before.

    With `everywhere`, known voxels, too, are what their like say; with `known`, they lead as they are.
    """
    parts = []
    for values, weights, first, sd in zip(problem.observation, problem.weights, pilot, sigma, strict=True):
        there, found = weights[0] > 0, first
        for factor in rounds:
            leading = torch.where(there, values, found) if known else found
            found = patches.complete(
                values, there, leading, sd * factor, torch.ones_like(there) if everywhere else ~there
            )
        parts.append(found)
    return torch.stack(parts)


def _biharmonic(problem: Problem, known: Tensor) -> Tensor:
    guess = problem.operator.guess(problem.observation, known.to(problem.observation.dtype)).filled
    found = [biharmonic(y, at[0], first) for y, at, first in zip(problem.observation, known, guess, strict=True)]
    return torch.stack(found)


def _busiest(problem: Problem, kept: Tensor) -> tuple[slice, ...] | None:
    """Return the part of the images, of a size that is soon looked at, in which most is to be foretold.

    ``None`` where no part holds enough to judge by.
    """
    spatial = problem.weights.shape[2:]
    edges = [min(n, edge) for n, edge in zip(spatial, LOOK_EDGES[len(spatial)], strict=True)]
    pool = torch.nn.functional.avg_pool2d if len(spatial) == 2 else torch.nn.functional.avg_pool3d
    stride = [max(edge // 2, 1) for edge in edges]
    shares, judging = (
        pool(part.expand(-1, 1, *spatial), edges, stride)
        for part in (((problem.weights <= 0) | (kept > 0)).float(), kept)
    )
    enough = judging * math.prod(edges) >= EVIDENCE - 0.5
    if not bool(enough.any()):
        return None
    n, _, *at = (int(i) for i in np.unravel_index(int(torch.where(enough, shares, -1.0).argmax()), shares.shape))
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
