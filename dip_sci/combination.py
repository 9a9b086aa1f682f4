"""Combination: the network's result and others, weighted by an unbiased estimate of their risk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from dip_sci import patches
from dip_sci.baseline import Classical, classical_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator

    from numpy.typing import NDArray

    from dip_sci.baseline import Method
    from dip_sci.problem import Problem

STRENGTH = 0.5
"""Noise added for the look at the risk, over that in the observation."""

INFLATION = math.hypot(1, STRENGTH)
"""Noise then, over that in the observation."""

ENOUGH = 131_072
"""Values over which the risk is estimated; where a probe has fewer, more draws are made."""

MOST_DRAWS = 4

FIRST, LOOK = 0.5, 0.65
"""Share of the work after which the methods, and the filters that the blend leads, too, have been looked at."""

IMPOSSIBLE = -0.05
"""Risk so far below that of a perfect result that no chance explains it: the network gives back, of whatever it sees, noise it
was fitted to."""

CAUTION = 0.22
"""Share of the best classical method's risk that a blend must save where neighbours share noise.

How they do is an estimate itself, and what gives back some of the noise seems better than it is. On CT of low noise the
blend seems to save up to .14 and loses up to 2 dB; elsewhere it saves .3 to .5.
"""

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
    piloting
        Weights of the blend that is the pilot of the filters of like patches; empty where they have no weight.
    refilled
        Share, in the holes, of what like patches have completed since.
    """

    estimate: Tensor
    baseline: Tensor
    weights: dict[str, float]
    risks: dict[str, float]
    piloting: dict[str, float] = field(default_factory=dict)
    refilled: float = 0.0

    @property
    def sentence(self) -> str:
        """What the result is made of, for the user."""
        parts = ", ".join(f"{share:.0%} {name}" for name, share in self.weights.items() if share > 0)
        holes = f"; holes, {self.refilled:.0%} completion by like patches" if self.refilled > 0 else ""
        return f"{parts}{holes}: the blend of the least expected error"


NETWORK = "network"
LOW_RANK = "low rank of like patches"


def combine(
    problem: Problem,
    estimate: Tensor,
    again: Callable[[Problem], Tensor] | None,
    rng: torch.Generator,
    *,
    correlated: bool,
    known: dict[str, Tensor] | None = None,
    weights_only: bool = False,
) -> Iterator[Combination | float]:
    """Weigh the network's estimate against other methods' results.

    Noise e of the known strength makes two observations out of one, ``y + t e`` and ``y - e / t``, whose errors are
    independent (coupled bootstrap, Oliveira et al. 2022): what the methods make of the first is compared with the
    second. Its mean square distance is their risk plus a constant, so that the weights of least squares are those
    of least risk. The truth is not needed. Where nothing was measured, the others see what the network makes of it. The
    blend is the pilot of filters of like patches, which are then weighed in themselves.

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
    correlated
        Whether neighbours share so much noise that classical methods must be stronger.
    known
        What the methods have made in an earlier run that was cut off; more is added on the way.
    weights_only
        Leave out the blend itself: the estimates are empty.

    Yields
    ------
    float
        Share of the work done, then once the
    Combination
    """
    classical = classical_methods(correlated=correlated)
    methods = [*classical, *([] if again is None else [Classical(LOW_RANK, patches.low_rank)])]
    names = [m.name for m in methods] + ([] if again is None else [NETWORK])
    looks: list[_Look] = []
    probe = problem.probe(ENOUGH)
    draws = min(max(math.ceil(ENOUGH / probe.observation.numel()), 1), MOST_DRAWS)
    for draw in range(draws):
        look = _Look(probe, rng)
        looks.append(look)
        if again is not None:
            network = _once(known, f"{NETWORK}, look {draw}", lambda problem: again(problem).mean(dim=0), look.seen)
            look.seen = look.seen.filled_by(network)
        for done, method in enumerate(methods, start=1):
            look.add(_once(known, f"{method.name}, look {draw}", _apply, method.apply, look.seen, INFLATION))
            yield FIRST * (draw + done / len(methods)) / draws
        if again is not None:
            look.add(network)
    risks = dict(zip(names, _risks(looks), strict=True))
    best = min(classical, key=lambda method: risks[method.name])
    nothing = estimate.new_empty(0)
    if again is None:
        baseline = nothing if weights_only else _apply(best.apply, problem.filled_by(estimate.mean(dim=0)), 1.0)
        yield Combination(nothing if weights_only else estimate, baseline, {NETWORK: 1.0}, risks)
        return
    first = least(_distances(looks))
    for done, look in enumerate(looks, start=1):
        for result in _once(known, f"refined, look {done}", _refinements, look.seen, look.blend(first), INFLATION):
            look.add(result)
        yield FIRST + (LOOK - FIRST) * done / draws
    refined = patches.refinements(problem.observation.ndim - 2)
    names += refined
    risks = dict(zip(names, _risks(looks), strict=True))
    distances = _distances(looks)
    weights = _trusted(risks, distances, {NETWORK, *refined})
    if correlated and _risk(weights, distances) > (1 - CAUTION) * risks[best.name]:
        weights = {name: float(name == best.name) for name in names}
    piloting = dict(zip(names, first.tolist(), strict=False)) if any(weights[name] > 0 for name in refined) else {}
    if weights_only:
        yield Combination(nothing, nothing, weights, risks, piloting)
        return
    mixed, baseline = yield from _mixing(problem, estimate, weights, piloting, best.name, known=known)
    yield 1.0
    yield Combination(mixed, baseline, weights, risks, piloting)


def _once(known: dict[str, Tensor] | None, name: str, make: Callable[..., Tensor], *given: Any) -> Tensor:
    """Return what is known under a name, or make it."""
    if known is None:
        return make(*given)
    if name not in known:
        known[name] = make(*given)
    return known[name]


def _images(problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images of a stack and the standard deviations of their noise."""
    yield from zip(problem.filled(), problem.sigma, strict=True)


def blend(
    problem: Problem, estimate: Tensor, weights: dict[str, float], piloting: dict[str, float], *, coarse: bool = False
) -> Tensor:
    """Mix a network's estimate with other methods' results by weights that are known.

    Parameters
    ----------
    problem
        What was observed.
    estimate
        What the networks made of it, ``(K, N, C, *spatial)``.
    weights, piloting
        As of a `Combination`.
    coarse
        Gather fewer groups of like patches.
    """
    mixing = _mixing(problem, estimate, weights, piloting, coarse=coarse)
    while True:
        try:
            next(mixing)
        except StopIteration as end:
            mixed: Tensor = end.value[0]
            return mixed


def _mixing(
    problem: Problem,
    estimate: Tensor,
    weights: dict[str, float],
    piloting: dict[str, float],
    best: str = NETWORK,
    *,
    coarse: bool = False,
    known: dict[str, Tensor] | None = None,
) -> Generator[float, None, tuple[Tensor, Tensor]]:
    """Mix as `blend` does, yield the share of all work that is done, and return the result of the best method, too."""
    ndim = problem.observation.ndim - 2
    network = estimate.mean(dim=0)
    problem = problem.filled_by(network)
    pilot, mixed, baseline = piloting.get(NETWORK, 0.0) * network, weights.get(NETWORK, 1.0) * estimate, network
    classical = [m for correlated in (False, True) for m in classical_methods(correlated=correlated)]
    methods = {m.name: m for m in [*classical, Classical(LOW_RANK, partial(patches.low_rank, coarse=coarse))]}
    named = [name for name in dict.fromkeys([best, *weights, *piloting]) if name in methods]
    wanted = [n for n in named if n == best or weights.get(n, 0.0) > 0 or piloting.get(n, 0.0) > 0]
    shares = {name: weights[name] for name in patches.refinements(ndim) if weights.get(name, 0.0) > 0}
    steps, done = len(network) * max(len(wanted) + bool(shares), 1), 0
    for name in wanted:
        whole: list[Tensor] = []
        for n, (image, sd) in enumerate(_images(problem)):
            whole.append(_once(known, f"{name}, image {n}", methods[name].apply, image, sd))
            done += 1
            yield LOOK + (1 - LOOK) * done / steps
        result = torch.stack(whole)
        pilot, mixed = pilot + piloting.get(name, 0.0) * result, mixed + weights.get(name, 0.0) * result
        baseline = result if name == best else baseline
    better: list[Tensor] = []
    for n, ((image, sd), leading) in enumerate(zip(_images(problem), pilot, strict=True) if shares else ()):
        better.append(_once(known, f"refined, image {n}", _refined_image, image, leading, sd, tuple(shares), coarse))
        done += 1
        yield LOOK + (1 - LOOK) * done / steps
    for share, found in zip(shares.values(), torch.stack(better, dim=1) if shares else (), strict=True):
        mixed = mixed + share * found
    return mixed, baseline


class _Look:
    """One look at the risk: a copy of the probe with more noise, another to judge by, and what methods made of it."""

    def __init__(self, probe: Problem, rng: torch.Generator) -> None:
        e = probe.noise(rng)
        self.seen = probe.seeing(probe.observation + STRENGTH * e)
        self._judge = probe.observation - e / STRENGTH
        self._results: list[Tensor] = []

    def add(self, result: Tensor) -> None:
        self._results.append(result)

    def blend(self, weights: NDArray[np.float64]) -> Tensor:
        """Blend the results so far."""
        return sum((float(w) * r for w, r in zip(weights, self._results, strict=True)), torch.zeros_like(self._judge))

    def distances(self) -> NDArray[np.float64]:
        """Mean products of the methods' residuals, in variances of the noise."""
        weights = self.seen.weights.expand_as(self._judge)
        flat = (torch.stack(self._results) - self._judge).flatten(1).double()
        variance = (weights * self.seen.sigma.square()).sum()
        found: NDArray[np.float64] = ((flat * weights.flatten()) @ flat.T / variance).cpu().numpy()
        return found


def _distances(looks: list[_Look]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.mean([look.distances() for look in looks], axis=0)
    return found


def _trusted(risks: dict[str, float], distances: NDArray[np.float64], learned: Collection[str]) -> dict[str, float]:
    """Weigh the methods that have not learned noise by heart; some have `learned`, or go by what has."""
    names = list(risks)
    # Where even those that learn nothing seem better than perfect, the noise is weaker than it was thought to be.
    perfect = min([0.0, *(risk for name, risk in risks.items() if name not in learned)])
    good = [n for n, name in enumerate(names) if name not in learned or risks[name] > perfect + IMPOSSIBLE]
    found = dict.fromkeys(names, 0.0)
    found.update(zip([names[n] for n in good], least(distances[np.ix_(good, good)]).tolist(), strict=True))
    return found


def _risk(weights: dict[str, float], distances: NDArray[np.float64]) -> float:
    """Estimated risk of a blend."""
    shares = np.array(list(weights.values()))
    return float(shares @ distances @ shares) - (1 + 1 / STRENGTH**2)


def _risks(looks: list[_Look]) -> list[float]:
    risks: list[float] = (np.diag(_distances(looks)) - (1 + 1 / STRENGTH**2)).tolist()
    return risks


def least(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the least distance ``w D w``: none is negative, they sum to one, negligible ones are zero."""
    root = np.linalg.cholesky(distances + 1e-9 * np.trace(distances) * np.eye(len(distances))).T
    heavy = 1e3 * np.abs(root).max()
    share, _ = nnls(np.vstack([root, np.full((1, len(root)), heavy)]), np.append(np.zeros(len(root)), heavy))
    share[share < NEGLIGIBLE * share.sum()] = 0
    weights: NDArray[np.float64] = share / share.sum()
    return weights


def _apply(method: Method, problem: Problem, inflation: float) -> Tensor:
    return torch.stack([method(y, sd * inflation) for y, sd in _images(problem)])


def _refinements(problem: Problem, pilot: Tensor, inflation: float) -> Tensor:
    """Filter with a pilot in all ways, ``(ways, N, C, *spatial)``."""
    parts = zip(_images(problem), pilot, strict=True)
    return torch.stack([_refined_image(y, first, sd * inflation) for (y, sd), first in parts], dim=1)


def _refined_image(
    image: Tensor, pilot: Tensor, sigma: Tensor, only: tuple[str, ...] | None = None, coarse: bool = False
) -> Tensor:
    return torch.stack(patches.refined(image, pilot, sigma, only=only, coarse=coarse))
