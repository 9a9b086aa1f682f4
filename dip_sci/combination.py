"""Combination: the network's result and classical ones, weighted by an unbiased estimate of their risk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from dip_sci.baseline import Classical, classical_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from dip_sci.problem import Problem

STRENGTH = 0.5
"""Noise added for the look at the risk, over that in the observation."""

ENOUGH = 131_072
"""Values over which the risk is estimated; where a probe has fewer, more draws are made."""

MOST_DRAWS = 4

LOOK = 0.7
"""Share of the work that the look at the risk is."""

NEGLIGIBLE = 0.02
"""Weight below which a classical result is not worth computing for the whole image."""


@dataclass(frozen=True)
class Combination:
    """The estimate, and what it was made of.

    Attributes
    ----------
    estimate
        ``(K, N, C, *spatial)``, on the network's range.
    baseline
        The classical result of the lowest risk, ``(N, C, *spatial)``.
    weights
        By name, the network's under `NETWORK`.
    risks
        By name: estimated mean square error over the noise's variance.
    """

    estimate: Tensor
    baseline: Tensor
    weights: dict[str, float]
    risks: dict[str, float]

    @property
    def sentence(self) -> str:
        """What the result is made of, for the user."""
        parts = ", ".join(f"{share:.0%} {name}" for name, share in self.weights.items() if share > 0)
        return f"{parts}: the blend of the least expected error"


NETWORK = "network"


def combine(
    problem: Problem, estimate: Tensor, again: Callable[[Problem], Tensor] | None, rng: torch.Generator
) -> Iterator[Combination | float]:
    """Weigh the network's estimate against classical results.

    Noise e of the known strength makes two observations out of one, ``y + t e`` and ``y - e / t``, whose errors are
    independent (coupled bootstrap, Oliveira et al. 2022): what the methods make of the first is compared with the
    second. Its mean square distance is their risk plus a constant, so that the weights of least squares are those
    of least risk. The truth is not needed.

    Parameters
    ----------
    problem
        What was fitted.
    estimate
        What the networks made of it, ``(K, N, C, *spatial)``.
    again
        Applies the fitted networks to another problem of the same kind; ``None`` where that cannot be done (full
        supervision): then all weight is the network's.
    rng
        Source of the noise.

    Yields
    ------
    float
        Share of the work done, then once the
    Combination
    """
    methods = classical_methods(correlated=not problem.texture.independent)
    names = [m.name for m in methods] + ([NETWORK] if again is not None else [])
    probe = problem.probe()
    draws = min(max(math.ceil(ENOUGH / probe.observation.numel()), 1), MOST_DRAWS)
    distances = np.zeros((len(names), len(names)))
    for draw in range(1, draws + 1):
        e = probe.noise(rng)
        seen = probe.seeing(probe.observation + STRENGTH * e)
        results = [_apply(method, seen, math.hypot(1, STRENGTH)) for method in methods]
        if again is not None:
            results.append(again(seen).mean(dim=0))
        distances += _distances(probe, torch.stack(results) - (probe.observation - e / STRENGTH)) / draws
        yield LOOK * draw / draws
    risks = dict(zip(names, (np.diag(distances) - (1 + 1 / STRENGTH**2)).tolist(), strict=True))
    weights = dict(zip(names, _least(distances).tolist(), strict=True)) if again is not None else {NETWORK: 1.0}
    best = min(methods, key=lambda method: risks[method.name])
    wanted = [method for method in methods if method is best or weights.get(method.name, 0) > 0]
    mixed, baseline = weights[NETWORK] * estimate, None
    for done, method in enumerate(wanted, start=1):
        result = _apply(method, problem, 1.0)
        mixed = mixed + weights.get(method.name, 0.0) * result
        baseline = result if method is best else baseline
        yield LOOK + (1 - LOOK) * done / len(wanted)
    assert baseline is not None
    yield Combination(mixed, baseline, weights, risks)


def blend(problem: Problem, estimate: Tensor, weights: dict[str, float]) -> Tensor:
    """Mix a network's estimate with classical results by weights that are known.

    Parameters
    ----------
    problem
        What was observed.
    estimate
        What the networks made of it, ``(K, N, C, *spatial)``.
    weights
        As of a `Combination`.
    """
    mixed = weights.get(NETWORK, 1.0) * estimate
    for method in classical_methods(correlated=not problem.texture.independent):
        if weights.get(method.name, 0.0) > 0:
            mixed = mixed + weights[method.name] * _apply(method, problem, 1.0)
    return mixed


def _distances(probe: Problem, residuals: Tensor) -> NDArray[np.float64]:
    """Mean products of the methods' residuals ``(methods, N, C, *spatial)``, in variances of the noise."""
    weights = probe.weights.expand_as(probe.observation)
    flat = residuals.flatten(1).double()
    variance = (weights * probe.sigma.square()).sum()
    found: NDArray[np.float64] = ((flat * weights.flatten()) @ flat.T / variance).cpu().numpy()
    return found


def _least(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the least distance ``w D w``: none is negative, they sum to one, negligible ones are zero."""
    root = np.linalg.cholesky(distances + 1e-9 * np.trace(distances) * np.eye(len(distances))).T
    heavy = 1e3 * np.abs(root).max()
    share, _ = nnls(np.vstack([root, np.full((1, len(root)), heavy)]), np.append(np.zeros(len(root)), heavy))
    share[share < NEGLIGIBLE * share.sum()] = 0
    weights: NDArray[np.float64] = share / share.sum()
    return weights


def _apply(method: Classical, problem: Problem, inflation: float) -> Tensor:
    y = problem.filled().cpu().numpy()
    sigma = problem.sigma.square().mean(dim=tuple(range(1, problem.sigma.ndim))).sqrt().cpu().numpy() * inflation
    out = np.stack([method.apply(image, float(s)) for image, s in zip(y, sigma, strict=True)])
    return torch.from_numpy(out).to(problem.observation.device)
