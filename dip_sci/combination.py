"""Combination: the network's result and others, weighted by an unbiased estimate of their risk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from dip_sci import ways

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from dip_sci.problem import Problem
    from dip_sci.ways import Portion

STRENGTH = 0.5
"""Noise added for the look at the risk, over that in the observation."""

INFLATION = math.hypot(1, STRENGTH)
"""Noise then, over that in the observation."""

NOISE = 1 + 1 / STRENGTH**2
"""Variance of the noise of the copy to judge by, over that in the observation."""

ENOUGH = 131_072
"""Values over which the risk is estimated; where a probe has fewer, more draws are made."""

MOST_DRAWS = 4

FIRST, SECOND, LOOK = 0.4, 0.55, 0.7
"""Share of the work after which the methods, the filters that their blend leads, and those that its result leads have been looked at."""

IMPOSSIBLE = -0.05
"""Risk so far below that of a perfect result that no chance explains it: the network gives back, of whatever it sees, noise it
was fitted to."""

BY_HEART = 0.01
"""Risk that a method other than the filters of like patches seems to save, in variances of the noise, where it saves nothing.

The network has seen the very noise it is judged by, and knows some of it by heart; then and otherwise, single results that seem
better by so little are not.
"""

NO_BETTER = 1e-4
"""The same of filters that are led once more: what seems to save nothing has lost up to a decibel in few bright voxels."""

UNSURE, UNSURE_OF_LEAST = 0.05, 0.5
"""Variance of the risks where neighbours share noise, in variances of the noise, and at most over the least of them.

The noise that methods are judged by is an estimate itself there, and what gives back some of the real noise seems better than it
is: a blend of several is better than what seems to be the best.
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
        Weights of the blend that leads the filters of like patches, and of the one that leads them once more; none where
        they have no weight.
    refilled
        Share, in the holes, of what like patches have completed since.
    noise
        Standard deviation of the noise that was gone by in the end, over that which was found.
    """

    estimate: Tensor
    baseline: Tensor
    weights: dict[str, float]
    risks: dict[str, float]
    piloting: tuple[dict[str, float], ...] = ()
    refilled: float = 0.0
    noise: float = 1.0

    @property
    def sentence(self) -> str:
        """What the result is made of, for the user."""
        parts = ", ".join(f"{share:.0%} {name}" for name, share in self.weights.items() if share > 0)
        holes = f"; holes, {self.refilled:.0%} completion by like patches" if self.refilled > 0 else ""
        return f"{parts}{holes}: the blend of the least expected error"


NETWORK = "network"


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
    blend is the pilot of filters of like patches, whose blend is the result: others have a share where they save clearly
    more risk, and neighbours share no noise. There, what these filters have made leads them once more.

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
    classical = ways.classical(problem, correlated=correlated)
    looks = _Looks(problem, rng, known)
    yield from looks.at_results(again, correlated=correlated)
    best = min(classical, key=lambda way: looks.risks[way.name])
    if again is None:
        nothing = estimate.new_empty(0)
        baseline = nothing if weights_only else best.on(problem.filled_by(estimate.mean(dim=0)))
        yield Combination(nothing if weights_only else estimate, baseline, {NETWORK: 1.0}, looks.risks)
        return
    leading, led = [looks.least()], list[list[str]]()
    # Where noise is shared it gains less than it costs: a fifth more time, and on scans hardly anything.
    for once_more in (False,) if correlated else (False, True):
        led.append((yield from looks.at_filters(leading[-1], again=once_more)))
        leading.append(looks.least_of_trusted([*chain(*led)], beside=best.name if correlated else None))
    weights = leading.pop()
    while leading and not any(weights[name] > 0 for name in led[len(leading) - 1]):
        leading.pop()
    piloting = tuple(leading)
    if weights_only:
        yield Combination(estimate.new_empty(0), estimate.new_empty(0), weights, looks.risks, piloting)
        return
    mixed, baseline = yield from _mixing(problem, estimate, weights, piloting, best.name, known=known)
    yield 1.0
    yield Combination(mixed, baseline, weights, looks.risks, piloting)


def _once(known: dict[str, Tensor] | None, name: str, make: Callable[..., Tensor], *given: Any) -> Tensor:
    """Return what is known under a name, or make it."""
    if known is None:
        return make(*given)
    if name not in known:
        known[name] = make(*given)
    return known[name]


def blend(
    problem: Problem,
    estimate: Tensor,
    weights: dict[str, float],
    piloting: Sequence[dict[str, float]],
    *,
    coarse: bool = False,
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
    piloting: Sequence[dict[str, float]],
    best: str = NETWORK,
    *,
    coarse: bool = False,
    known: dict[str, Tensor] | None = None,
) -> Generator[float, None, tuple[Tensor, Tensor]]:
    """Mix as `blend` does, yield the share of all work that is done, and return the result of the best method, too."""
    network = estimate.mean(dim=0)
    problem, baseline = problem.filled_by(network), network
    blends = [*piloting, weights]
    made = [shares.get(NETWORK, 0.0) * network for shares in piloting] + [weights.get(NETWORK, 0.0) * estimate]

    def used(name: str, first: int = 0) -> bool:
        return any(shares.get(name, 0.0) > 0 for shares in blends[first:])

    def add(name: str, result: Tensor) -> None:
        made[:] = [
            m + shares[name] * result if shares.get(name, 0.0) > 0 else m
            for m, shares in zip(made, blends, strict=True)
        ]

    every = [way for correlated in (False, True) for way in ways.classical(problem, correlated=correlated)]
    methods = {way.name: way for way in [*every, *ways.low_rank(problem, coarse=coarse)]}
    wanted = [name for name in methods if name == best or used(name)]
    groups = [
        (pilot, group, only)
        for pilot in range(len(piloting))
        for group in ways.refining(problem, again=pilot > 0, coarse=coarse)
        if (only := [name for name in group.names if used(name, pilot + 1)])
    ]
    steps, done = len(network) * max(len(wanted) + len(groups), 1), 0
    for name in wanted:
        whole: list[Tensor] = []
        for portion in methods[name].portions(problem):
            whole.append(_once(known, f"{name}, {_at(portion)}", methods[name].part, problem, portion))
            done += len(whole[-1])
            yield LOOK + (1 - LOOK) * done / steps
        result = torch.cat(whole)
        add(name, result)
        baseline = result if name == best else baseline
    for pilot, group, only in groups:
        better = []
        for portion in group.portions(problem):
            name = f"{only[0]} and others, {_at(portion)}"
            better.append(_once(known, name, group.part, problem, made[pilot], portion, only))
            done += len(better[-1])
            yield LOOK + (1 - LOOK) * done / steps
        for name, found in zip(only, torch.cat(better).unbind(dim=1), strict=True):
            add(name, found)
    return made[-1], baseline


def _at(portion: Portion) -> str:
    return f"image {portion.wanted.start}"


class _Look:
    """One look at the risk: a copy of the probe with more noise, another to judge by, and what methods made of it."""

    def __init__(self, probe: Problem, rng: torch.Generator) -> None:
        weights = probe.weights.expand_as(probe.observation)
        self._variance = (weights * probe.sigma.square()).sum()
        if probe.counted is None:
            e = probe.noise(rng)
            seen, self._judge = probe.observation + STRENGTH * e, probe.observation - e / STRENGTH
            self.noise = NOISE
        else:
            seen, self._judge, variance = probe.counted.dealt(probe.observation, 1 / INFLATION**2, rng)
            self.noise = float((weights * variance).sum() / self._variance)
        self.seen = probe.seeing(seen)
        self._results: list[Tensor] = []

    def add(self, result: Tensor) -> None:
        self._results.append(result)

    def blend(self, weights: Iterable[float]) -> Tensor:
        """Blend the first results."""
        return sum((w * r for w, r in zip(weights, self._results, strict=False)), torch.zeros_like(self._judge))

    def distances(self) -> NDArray[np.float64]:
        """Mean products of the methods' residuals, in variances of the noise."""
        weights = self.seen.weights.expand_as(self._judge)
        flat = (torch.stack(self._results) - self._judge).flatten(1).double()
        found: NDArray[np.float64] = ((flat * weights.flatten()) @ flat.T / self._variance).cpu().numpy()
        return found


class _Looks:
    """All looks at the risk of one problem.

    Attributes
    ----------
    names
        Of the methods that have been looked at.
    distances
        Mean products of their residuals.
    """

    def __init__(self, problem: Problem, rng: torch.Generator, known: dict[str, Tensor] | None) -> None:
        probe = problem.probe(ENOUGH)
        draws = min(max(math.ceil(ENOUGH / probe.observation.numel()), 1), MOST_DRAWS)
        self._known = known
        self._all = [_Look(probe, rng) for _ in range(draws)]
        self._noise = float(np.mean([look.noise for look in self._all]))
        self.names: list[str] = []
        self.distances = np.empty((0, 0))

    @property
    def risks(self) -> dict[str, float]:
        """Estimated mean square error of each method, in variances of the noise."""
        return dict(zip(self.names, (np.diag(self.distances) - self._noise).tolist(), strict=True))

    def at_results(self, again: Callable[[Problem], Tensor] | None, *, correlated: bool) -> Iterator[float]:
        """Look at what classical methods and, where it can be applied, the network make of the observation."""
        for draw, look in enumerate(self._all):
            if again is not None:
                network = _once(self._known, f"{NETWORK}, look {draw}", lambda seen: again(seen).mean(dim=0), look.seen)
                look.seen = look.seen.filled_by(network)
            methods = ways.classical(look.seen, correlated=correlated)
            methods += [] if again is None else ways.low_rank(look.seen)
            for done, way in enumerate(methods, start=1):
                look.add(_once(self._known, f"{way.name}, look {draw}", way.on, look.seen, INFLATION))
                yield FIRST * (draw + done / len(methods)) / len(self._all)
            if again is not None:
                look.add(network)
        self._named([way.name for way in methods] + ([] if again is None else [NETWORK]))

    def at_filters(self, leading: dict[str, float], *, again: bool) -> Generator[float, None, list[str]]:
        """Look at the filters of like patches that a blend of the results leads, and return their names."""
        groups = ways.refining(self._all[0].seen, again=again)
        first, last = (SECOND, LOOK) if again else (FIRST, SECOND)
        for draw, look in enumerate(self._all):
            pilot = look.blend(leading.values())
            for done, group in enumerate(groups, start=1):
                name = f"{group.names[0]} and others, look {draw}"
                for result in _once(self._known, name, group.on, look.seen, pilot, INFLATION).unbind(dim=1):
                    look.add(result)
                yield first + (last - first) * (draw + done / len(groups)) / len(self._all)
        names = [name for group in groups for name in group.names]
        self._named([*self.names, *names])
        return names

    def _named(self, names: list[str]) -> None:
        self.names = names
        self.distances = np.mean([look.distances() for look in self._all], axis=0)

    def least(self) -> dict[str, float]:
        """Weigh all methods."""
        return dict(zip(self.names, least(self.distances).tolist(), strict=True))

    def least_of_trusted(self, filters: Collection[str], *, beside: str | None = None) -> dict[str, float]:
        """Weigh the filters, and the other methods where they seem to be better by more than chance and noise known by heart.

        What has learned noise by heart, or goes by what has, is left out.

        Parameters
        ----------
        filters
            Their names.
        beside
            Where neighbours share noise, the one other method that may have a share.
        """
        risks = self.risks
        # Where even those that learn nothing seem better than perfect, the noise is weaker than it was thought to be.
        learned = {NETWORK, *filters}
        perfect = min([0.0, *(risk for name, risk in risks.items() if name not in learned)])
        good = [name for name in self.names if name not in learned or risks[name] > perfect + IMPOSSIBLE]
        # What a network is taught by is what it is judged by there: the noise as it was found, not as it is.
        if beside is not None:
            good = [name for name in good if name in filters or name == beside]
        chosen = [self.names.index(name) for name in good]
        distances = self.distances[np.ix_(chosen, chosen)]
        if beside is None:
            doubt = [BY_HEART if name not in filters else NO_BETTER * name.endswith(ways.AGAIN) for name in good]
            shares = least(distances, np.array(doubt))
        else:
            uncertain = min(UNSURE, UNSURE_OF_LEAST * max(min(risks[name] for name in good), 0.0))
            shares = least(distances + uncertain * np.eye(len(good)))
        found = dict.fromkeys(self.names, 0.0)
        found.update(zip(good, shares.tolist(), strict=True))
        return found


def least(distances: NDArray[np.float64], doubt: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Weights of the least ``w D w + 2 d w``, with each method's doubt d: none is negative, they sum to one.

    Negligible ones are zero.
    """
    root = np.linalg.cholesky(distances + 1e-9 * np.trace(distances) * np.eye(len(distances))).T
    # A doubt is a distance in a direction in which nothing else differs: R'g = d adds 2 d w to the square of R w + g.
    added = np.zeros(len(root)) if doubt is None else np.linalg.solve(root.T, doubt)
    heavy = 1e3 * np.abs(root).max()
    share, _ = nnls(np.vstack([root, np.full((1, len(root)), heavy)]), np.append(-added, heavy))
    share[share < NEGLIGIBLE * share.sum()] = 0
    weights: NDArray[np.float64] = share / share.sum()
    return weights
