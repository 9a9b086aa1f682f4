"""Supervision by scale: the observation is the target, its own coarser copy the input (zero-shot super-resolution)."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from dip_sci import patches, tiling
from dip_sci.errors import ImageError
from dip_sci.operators import Downsample, Identity
from dip_sci.resampling import resample
from dip_sci.supervision import Example, Passes
from dip_sci.views import View, views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dip_sci.problem import Problem
    from dip_sci.supervision import Network

SCALES = (1.0, 0.85, 0.7, 0.6)
"""Sizes at which an observation is shown: what it holds at other sizes is as like it as what is to be found."""

AT_ONCE = 2**18
"""Voxels that go through a network at once."""

LARGE = 2**17
"""Voxels of an image whose like patches are gathered more coarsely."""

SHARES = (0.32, 0.27, 0.22, 0.18, 0.14, 0.1)
"""What like patches do not share is lost in rounds, as if it were noise of these parts of an image's own spread."""

COARSER = 1.4
"""How much stronger that is at a level that others follow, for each of them: there more is missing."""

BACK_PROJECTIONS = 6
"""Steps that make a result agree with its observation: ``x + U (y - A x)`` (Irani & Peleg 1991)."""


class _Scale:
    """What lessons of scale have in common: the data term's problem, agreement with the observation, no stop by risk."""

    averages_outputs = False

    def __init__(self, problem: Problem, seeds: int, spacing: Sequence[float], *, alike: bool) -> None:
        assert isinstance(problem.operator, Downsample)
        self.operator = problem.operator
        self.shares = SHARES if alike else ()
        self.observed, self.seeds = problem, seeds
        # A lesson's image is the observation itself.
        self.problem = replace(problem, operator=Identity(spacing))
        self.inside = problem.observation.shape[1]
        self.count = 1

    def on(self, problem: Problem, passes: int | None = None) -> Self:
        """See `Supervision`."""
        other = copy.copy(self)
        other.observed = problem
        return other

    def risk(self, network: Network) -> float:
        """See `Supervision`: no part of the observation is kept out."""
        raise NotImplementedError

    def sure(self, network: Network) -> float:
        """See `Supervision`: it is not the observation's noise that is to be removed."""
        raise NotImplementedError

    def _restored(self, network: Network, seen: Tensor) -> Tensor:
        """Add to images ``(K, N, C, *spatial)`` what each network makes of its own."""
        k, _, c, *spatial = seen.shape

        def restore(both: Tensor) -> Tensor:
            each = both.view(len(both), k, c, *both.shape[2:]).transpose(0, 1)
            return (each + network(each)).transpose(0, 1).flatten(1, 2)

        # Images of K * C channels, as tiles are blended channel by channel.
        images = torch.split(seen.transpose(0, 1).flatten(1, 2), _batch(seen))
        parts = [tiling.apply(restore, part) if len(part) == 1 else restore(part) for part in images]
        return torch.cat(parts).view(-1, k, c, *spatial).transpose(0, 1)

    def _agreeing(self, x: Tensor, operator: Downsample) -> Tensor:
        y, measured = self.observed.observation, self.observed.measured
        for _ in range(BACK_PROJECTIONS):
            x = x + operator.finer((y - operator.forward(x)) * measured)
        return x

    def _alike(self, x: Tensor, share: float, operator: Downsample) -> Tensor:
        """Leave of images what like patches share, and of the rest what the observation says."""
        large, spread = x[0, 0, 0].numel() > LARGE, share * self.observed.spread()
        found = [
            torch.stack([patches.self_led(image, sd, coarse=large) for image, sd in zip(one, spread, strict=True)])
            for one in x
        ]
        return self._agreeing(torch.stack(found), operator)


class Resample(_Scale):
    """Learn to undo the operator where its result is known: from the observation's coarser copy to itself.

    The network sees the coarser copy, interpolated, and predicts what that lacks (Shocher, Cohen & Irani 2018,
    "Zero-Shot Super-Resolution"). Factors of 4, 8, 9 and 16 are learned as 2 or 3, of which an observation has far
    more to show, and applied again and again. The observation is seen flipped, with axes swapped and at several
    sizes. Each time the result is the mean over flips, of which what like patches share is kept, brought to agreement
    with the observation.

    Parameters
    ----------
    problem
        Observations of one `Downsample` operator.
    patch
        Edge of the random patches of a step, in voxels of the observation.
    seeds
        Number of networks.
    passes
        Views averaged in the result, at most all of them.
    spacing
        Voxel spacing of the observation along each spatial axis.
    alike
        Whether like patches have a say.
    """

    def __init__(
        self, problem: Problem, *, patch: int, seeds: int, passes: int, spacing: Sequence[float], alike: bool = True
    ) -> None:
        super().__init__(problem, seeds, spacing, alike=alike)
        factors, kernel = self.operator.factors, self.operator.kernel
        once, times = _root(factors)
        self.lesson = Downsample(once, kernel, spacing)
        self.levels = [Downsample([f**k for f in once], kernel, spacing) for k in range(1, times + 1)]
        square = factors[-1] == factors[-2] and abs(spacing[-1] - spacing[-2]) < 1e-3 * spacing[-1]
        self.views = views(len(factors), swap=square)
        self.averaged = min(passes, len(self.views))
        self.rounds = [*self.views[: self.averaged], *self.shares]
        self.count = len(self.rounds) * times
        self.shape = _edges(problem.observation.shape[2:], once, patch)
        self._sizes = self._pyramid()

    def _pyramid(self) -> list[tuple[Tensor, Tensor]]:
        """Return the observations and their weights at all sizes that still hold a patch."""
        problem, factors = self.observed, self.operator.factors
        filled = self.operator.fill(problem.observation, problem.measured)
        found: list[tuple[Tensor, Tensor]] = []
        for scale in SCALES:
            # Along an axis that is not to become finer there is nothing to learn from other sizes.
            sizes = [round(n * scale) if f > 1 else n for n, f in zip(filled.shape[2:], factors, strict=True)]
            if found and any(n < edge for n, edge in zip(sizes, self.shape, strict=True)):
                break
            found.append((resample(filled, sizes, "lanczos2"), _weights(problem, sizes)))
        return found

    def example(self, rng: torch.Generator) -> Example:
        """See `Supervision`."""
        whole, weights = self._sizes[_pick(len(self._sizes), rng)]
        view = self.views[_pick(len(self.views), rng)]
        at = _place(whole, self.shape, rng)
        target, weight = view.see(whole[at]).contiguous(), view.see(weights[at])
        base = self.lesson.finer(self.lesson.forward(target))
        return _example(self.seeds, base, target, weight)

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Supervision`: first a quick result of the plain view, last what has come of all levels."""
        made, y = made or Passes(), self.operator.fill(self.observed.observation, self.observed.measured)
        y = y.expand(self.seeds, *y.shape)
        if made.count == self.count:
            assert made.start is not None
            yield made.start
            return
        quick = y
        for level in self.levels:
            quick = self._agreeing(self._finer(network, quick, self.views[0]), level)
        yield quick
        while made.count < self.count:
            self._go_on(made, network, y)
            yield quick if made.start is None or made.count < self.count else made.start

    def _go_on(self, made: Passes, network: Network, y: Tensor) -> None:
        """Take in one more view of a level, or leave what like patches share of the mean over views."""
        at, turn = divmod(made.count, len(self.rounds))
        way, level = self.rounds[turn], self.levels[at]
        made.count += 1
        if isinstance(way, View):
            one = self._finer(network, y if made.start is None else made.start, way)
            made.total = one if made.total is None else made.total + one
            if turn == self.averaged - 1:
                made.total = self._agreeing(made.total / self.averaged, level)
        else:
            assert made.total is not None
            made.total = self._alike(made.total, way * COARSER ** (len(self.levels) - 1 - at), level)
        if turn == len(self.rounds) - 1:
            made.start, made.total = made.total, None

    def _finer(self, network: Network, x: Tensor, view: View) -> Tensor:
        seen = view.see(self.lesson.finer(x)).contiguous()
        return view.back(self._restored(network, seen))


class Across(_Scale):
    """Learn across thick slices what can be learned in their planes (Zhao et al. 2021, "SMORE").

    Slices are thick along Z only: in their planes the image is fine. There, one axis is made coarse as Z is, and a
    network of planes learns to undo that; it is applied to the planes that hold Z, along X and along Y. Of the mean, what
    like patches share is kept, as by `Resample`.

    Parameters
    ----------
    problem, patch, seeds, passes, alike
        As for `Resample`, in three dimensions; only the first factor is not 1.
    spacing
        Voxel spacing of the observation along Z, Y and X.
    """

    def __init__(
        self, problem: Problem, *, patch: int, seeds: int, passes: int, spacing: Sequence[float], alike: bool = True
    ) -> None:
        super().__init__(problem, seeds, spacing, alike=alike)
        f = self.operator.factors[0]
        self.lesson = Downsample((f, 1), self.operator.kernel, (1.0, 1.0))
        self._planes = [self._coarse_along(axis, spacing[0] / f / spacing[axis]) for axis in (1, 2)]
        sizes = [min(planes.shape[k] for planes, _ in self._planes) for k in (2, 3)]
        self.shape = (min(patch, sizes[0]) // f * f, min(patch, sizes[1]))
        if not self.shape[0]:
            raise ImageError(
                f"The planes are too small to learn a factor of {f} from: shape {problem.observation.shape}."
            )
        self.views = [(along, flips) for along in (3, 4) for flips in ((), (2,))][:passes]
        self.count = len(self.views) + len(self.shares)

    def _coarse_along(self, axis: int, ratio: float) -> tuple[Tensor, Tensor]:
        """Cut planes ``(planes, C, axis, other)``, whose first axis has the voxels that Z is to have."""
        problem = self.observed
        filled = self.operator.fill(problem.observation, problem.measured)
        sizes = list(filled.shape[2:])
        sizes[axis] = max(round(sizes[axis] / max(ratio, 1.0)), 1)
        order = (0, 2, 1, 3, 4) if axis == 1 else (0, 2, 1, 4, 3)
        both = resample(filled, sizes, "lanczos2"), _weights(problem, sizes)
        planes, weights = (part.permute(order).flatten(0, 1) for part in both)
        return planes, weights

    def example(self, rng: torch.Generator) -> Example:
        """See `Supervision`."""
        planes, weights = self._planes[_pick(2, rng)]
        at = _place(planes, self.shape, rng)
        flips = [axis for axis in (2, 3) if _pick(2, rng)]
        target, weight = (part[at].flip(flips).contiguous() for part in (planes, weights))
        base = self.lesson.finer(self.lesson.forward(target))
        return _example(self.seeds, base, target, weight)

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Supervision`: planes along X and along Y, each as it is and upside down."""
        y = self.operator.guess(self.observed.observation, self.observed.measured).base
        made = made or Passes()
        n, c, z, *_ = y.shape
        if made.count:
            yield self._agreeing(made.mean, self.operator) if made.start is None else made.start
        for along, flips in self.views[made.count :]:
            other = 7 - along
            # (N, C, Z, Y, X) to planes (N * along, C, Z, other).
            order = (0, along, 1, 2, other)
            planes = y.flip(flips).permute(order).flatten(0, 1)
            out = self._restored(network, planes.expand(self.seeds, *planes.shape))
            out = out.view(self.seeds, n, y.shape[along], c, z, y.shape[other])
            back = (0, 1, 3, 4, 5, 2) if along == 4 else (0, 1, 3, 4, 2, 5)
            out = out.permute(back).flip([axis + 1 for axis in flips])
            yield self._agreeing(made.add(out), self.operator)
        for share in self.shares[made.count - len(self.views) :]:
            before = self._agreeing(made.mean, self.operator) if made.start is None else made.start
            made.start = self._alike(before, share, self.operator)
            made.count += 1
            yield made.start


def _root(factors: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return factors that, applied so many times, give others: the smallest for which that is so."""
    wanted = [f for f in factors if f > 1]
    for base in (2, 3):
        times = round(math.log(wanted[0], base))
        if all(f == base**times for f in wanted):
            return tuple(base if f > 1 else 1 for f in factors), times
    return tuple(factors), 1


def _pick(n: int, rng: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=rng, device=rng.device))


def _place(whole: Tensor, shape: Sequence[int], rng: torch.Generator) -> tuple[slice, ...]:
    """Draw where to cut a patch of a shape out of one image of a stack."""
    n = _pick(len(whole), rng)
    starts = [_pick(size - edge + 1, rng) for size, edge in zip(whole.shape[2:], shape, strict=True)]
    return slice(n, n + 1), slice(None), *(slice(a, a + e) for a, e in zip(starts, shape, strict=True))


def _example(seeds: int, base: Tensor, target: Tensor, weights: Tensor) -> Example:
    inputs, target, weights = (part.expand(seeds, *part.shape) for part in (base, target, weights))
    return Example(inputs, inputs, target, weights)


def _weights(problem: Problem, sizes: Sequence[int]) -> Tensor:
    """Bring weights to another size: 0 wherever a voxel has part in one of weight 0."""
    weights = resample(problem.weights, sizes, "cubic").clamp_min(0)
    return weights * (resample((problem.weights > 0).float(), sizes, "cubic") > 0.99)


def _batch(images: Tensor) -> int:
    """How many images go through a network at once."""
    return max(1, AT_ONCE // max(images[0, 0, 0].numel(), 1))


def _edges(spatial: Sequence[int], factors: Sequence[int], patch: int) -> tuple[int, ...]:
    """Return a patch's edges: whole coarser voxels, and equal where axes may be swapped."""
    # At the smallest size, too, there must be room for it.
    room = [n if f == 1 else max(int(n * SCALES[-1]), f) for n, f in zip(spatial, factors, strict=True)]
    edges = [min(patch, n) // f * f for n, f in zip(room, factors, strict=True)]
    edges[-2:] = [min(edges[-2:])] * 2 if factors[-1] == factors[-2] else edges[-2:]
    return tuple(edges)
