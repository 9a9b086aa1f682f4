"""Lessons of an observation that is degraded once more: hidden voxels, split noise."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NotRequired, Self, TypedDict, Unpack

import torch
from torch import Tensor

from dip_sci import tiling
from dip_sci.operators import Evened
from dip_sci.supervision import Example, Passes, stein
from dip_sci.views import View, views

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dip_sci.problem import Problem
    from dip_sci.supervision import Network

STIR = 0.05
"""Noise added to see how much of it a network lets through, over that in the observation: a derivative."""

PROBES = 4
"""Patches on which the risk of a recorrupted fit is watched."""

PLAIN = View((), ())

ALIKE = 0.7
"""Share of the steps that hide voxels in the pattern of those that are missing, where these are to be filled."""

TRIES = 32
"""Places that are looked at for a patch at most."""

FEW_PASSES = 4
"""Passes that give away how good a network is."""


class _Patches:
    """Random patches of a stack, the same for all networks.

    Where some voxels count more than others, patches are taken in proportion to the weight in them: a step's data term
    is a mean over its patch, whatever the patch weighs.
    """

    def __init__(self, problem: Problem, patch: Sequence[int], count: int) -> None:
        spatial = problem.observation.shape[2:]
        self.shape = tuple(min(p, n) for p, n in zip(patch, spatial, strict=True))
        self.count = count
        self._room = [n - p + 1 for n, p in zip(spatial, self.shape, strict=True)]
        self._images = len(problem.observation)
        weights, self._most = problem.weights, float(problem.weights.max())
        self._weights = weights if bool(((weights > 0) & (weights < self._most)).any()) else None

    def draw(self, rng: torch.Generator) -> list[tuple[slice, ...]]:
        return [self._place(rng) for _ in range(self.count)]

    def _place(self, rng: torch.Generator) -> tuple[slice, ...]:
        device = rng.device
        for _ in range(TRIES):
            first, *at = [int(torch.randint(n, (), generator=rng, device=device)) for n in (self._images, *self._room)]
            place = (
                slice(first, first + 1),
                slice(None),
                *(slice(a, a + n) for a, n in zip(at, self.shape, strict=True)),
            )
            if self._weights is None:
                break
            if float(self._weights[place].mean()) > self._most * float(torch.rand((), generator=rng, device=device)):
                break
        return place


class _Shared(TypedDict):
    """What hiding and splitting are given."""

    patch: Sequence[int]
    batch: int
    seeds: int
    passes: int
    held_out: NotRequired[Tensor | None]
    flips: NotRequired[bool]


class _Recorrupted:
    """What hiding and splitting have in common: patches, the first guess, views, tiles."""

    averages_outputs = False

    def __init__(
        self,
        problem: Problem,
        *,
        patch: Sequence[int],
        batch: int,
        seeds: int,
        passes: int,
        held_out: Tensor | None = None,
        flips: bool = False,
    ) -> None:
        self.observed, self.held_out, self.seeds, self.count = problem, held_out, seeds, passes
        self.inside = problem.operator.features(problem.observation.shape[1]) + problem.besides
        reach = problem.operator.reach or (0,) * len(patch)
        # Near its border, what a patch's voxels see lies outside of it: a patch is much larger than that, or all.
        sizes = problem.observation.shape[2:]
        patch = [p if p > 4 * r else n for p, r, n in zip(patch, reach, sizes, strict=True)]
        self.patches = _Patches(problem, patch, batch)
        self.shape = self.patches.shape
        self.views = views(len(self.shape), swap=False) if flips else [PLAIN]
        self.inner = problem.weights.new_zeros(self.shape)
        self.inner[
            tuple(slice(r, p - r) if p < n else slice(None) for p, r, n in zip(self.shape, reach, sizes, strict=True))
        ] = 1
        self.weights = (problem if held_out is None else problem.without(held_out)).weights
        # The risk is watched on a few patches, always the same: a pass over a whole volume would take minutes.
        fixed = torch.Generator(problem.observation.device).manual_seed(0)
        self.probe = [place for _ in range(PROBES) for place in self.patches.draw(fixed)]

    @property
    def problem(self) -> Problem:
        """See `Supervision`."""
        return self.observed

    def on(self, problem: Problem, passes: int | None = None) -> Self:
        """See `Supervision`: to apply the fitted network, not to fit."""
        other = copy.copy(self)
        other.observed, other.count = problem, passes or min(self.count, FEW_PASSES)
        return other

    def sure(self, network: Network) -> float:
        """See `Supervision`: of one pass over the problem's probe, which hides or adds the same each time.

        How much noise goes through is seen by adding a little (Ramani, Blu & Unser 2008), the same at each look.
        """
        # Whoever has learned from an observation knows some of its noise by heart, which no derivative shows.
        judged = self.observed if self.held_out is None else self.observed.weighted(self.held_out)
        probe = judged.probe()
        e = probe.judged().noise(torch.Generator(probe.observation.device).manual_seed(0))

        def restored(problem: Problem) -> Tensor:
            # Another seed: what the pass adds must have nothing to do with e.
            fixed = torch.Generator(probe.observation.device).manual_seed(1)
            other = copy.copy(self)
            other.observed = problem
            return next(other.passes(network, fixed)).mean(0)

        before, after = restored(probe), restored(probe.seeing(probe.observation + STIR * e))
        return stein(probe, before, e * probe.operator.forward(after - before) / STIR)

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Supervision`."""
        raise NotImplementedError

    def _cut(self, places: list[tuple[slice, ...]], *stacks: Tensor) -> list[Tensor]:
        """Cut the same patches out of what is known of the images besides themselves and of stacks: ``(K, B, C, *shape)``."""
        cut = [torch.cat([self.observed.beside(place) for place in places])]
        cut += [torch.cat([stack[place] for place in places]) for stack in stacks]
        return [c.expand(self.seeds, *c.shape) for c in cut]

    def _turned(self, rng: torch.Generator, *parts: Tensor) -> tuple[Tensor, ...]:
        """Look at parts of a lesson in one of the views."""
        if len(self.views) == 1:
            return parts
        view = self.views[int(torch.randint(len(self.views), (), generator=rng, device=rng.device))]
        return tuple(view.see(part) for part in parts)

    def _see(self, y: Tensor, visible: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """First guesses for K batches at once, and what is known besides: inputs and base, ``(K, B, ...)``."""
        base, features, _ = self.observed.operator.guess(y.flatten(0, 1), visible.flatten(0, 1))
        features = features.view(*y.shape[:2], *features.shape[1:])
        return torch.cat([features, context], dim=2), base.view(*y.shape[:2], *base.shape[1:])

    def _in_view(self, index: int, network: Network, y: Tensor, visible: Tensor) -> Tensor:
        """Restore whole images as `_apply`, in the view whose turn it is."""
        view = self.views[index % len(self.views)]
        if not view.flips:
            return self._apply(network, y, visible)
        turned = copy.copy(self)
        turned.observed = self.observed.seen(view)
        return view.back(turned._apply(network, view.see(y), view.see(visible)))

    def _apply(self, network: Network, y: Tensor, visible: Tensor) -> Tensor:
        """Restore whole images ``(N, C, *spatial)`` from what is visible of them, image by image, tile by tile."""

        def restore(both: Tensor) -> Tensor:
            c = y.shape[1]
            seen, base = self._see(both[None, :, :c], both[None, :, c : c + 1], both[None, :, c + 1 :])
            k = self.seeds
            out = base + network(seen.expand(k, *seen.shape[1:]))
            # One image of K * C channels, as the tiles are blended channel by channel.
            return out.transpose(0, 1).flatten(1, 2)

        everywhere = (slice(None),) * (y.ndim - 1)
        restored = torch.cat(
            [
                tiling.apply(restore, torch.cat([y[at], visible[at], self.observed.beside((at, *everywhere))], dim=1))
                for at in (slice(n, n + 1) for n in range(len(y)))
            ]
        )
        return restored.view(len(y), self.seeds, *y.shape[1:]).transpose(0, 1)


class Hide(_Recorrupted):
    """Hide random voxels from the input and take the data term there (Noise2Self, Self2Self).

    Right when the noise is independent from voxel to voxel. At each step the hidden share is drawn
    anew; in the result, the voxels are dealt into parts that are hidden in turn.

    Parameters
    ----------
    problem
        A stack of images that one network serves.
    patch, batch
        Shape and number of the random patches of a step.
    seeds
        Number of networks.
    held_out
        Voxels kept out of the fit, or ``None``.
    passes
        Passes averaged in the result.
    flips
        See patches flipped, too: knowing noise by heart is harder then. So are the passes of the result.
    hidden
        Smallest and largest hidden share.
    alike
        Hide voxels in the pattern in which others are missing, too: to fill those is what is asked for.
    in_turn
        In the result, hide each voxel from the network in turn, so that none comes with its noise; else show it
        all there is.
    """

    parts = 4

    def __init__(
        self,
        problem: Problem,
        *,
        hidden: tuple[float, float],
        alike: bool = False,
        in_turn: bool = True,
        **shared: Unpack[_Shared],
    ) -> None:
        super().__init__(problem, **shared)
        self.hidden, self.alike, self.in_turn = hidden, alike, in_turn
        # Nothing scatters in padding, in an empty frame or in a channel without light.
        self.scatters = problem.varies * problem.sigma.square()

    def example(self, rng: torch.Generator) -> Example:
        """See `Supervision`."""
        problem = self.observed
        context, y, measured, weights, variance = self._cut(
            self.patches.draw(rng), problem.observation, problem.measured, self.weights, self.scatters
        )
        y, measured, context, weights, variance = self._turned(rng, y, measured, context, weights, variance)
        low, high = self.hidden
        share = low + (high - low) * torch.rand((), generator=rng, device=y.device)
        if self.alike and bool(torch.rand((), generator=rng, device=y.device) < ALIKE):
            # Some single voxels besides: where few are missing, their pattern alone would teach little.
            share = share * torch.rand((), generator=rng, device=y.device)
            pattern = self._pattern(measured.shape, rng)
        else:
            pattern = torch.zeros_like(measured)
        hidden = ((torch.rand(measured.shape, generator=rng, device=y.device) < share) | (pattern > 0)).float()
        seen, base = self._see(y, measured * (1 - hidden), context)
        judged = weights * hidden * self.inner
        return Example(seen, base, y, judged, float(problem.mean(variance[0], judged[0])))

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Supervision`."""
        y, measured, made = self.observed.observation, self.observed.measured, made or Passes()
        if made.count:
            yield made.mean
        for index in range(self.count):
            turn = index % self.parts
            if turn == 0:
                part = torch.randint(self.parts, measured.shape, generator=rng, device=y.device)
            if index >= made.count:
                visible = measured * (part != turn) if self.in_turn else measured
                yield made.add(self._in_view(index, network, y, visible))

    def _pattern(self, shape: torch.Size, rng: torch.Generator) -> Tensor:
        """Cut the pattern of what is missing out of another place: beyond a border it goes on at the other."""
        n = int(torch.randint(len(self.observed.measured), (), generator=rng, device=rng.device))
        missing = 1 - self.observed.measured[n : n + 1]
        for axis in range(2, len(shape) - 1):
            size = missing.shape[axis]
            start = int(torch.randint(size, (), generator=rng, device=rng.device))
            at = (start + torch.arange(shape[axis + 1], device=rng.device)) % size
            missing = missing.index_select(axis, at)
        return missing.expand(shape[1:])[None].expand(shape)

    def risk(self, network: Network) -> float:
        """See `Supervision`: the held-out voxels are hidden, and predicted from the others."""
        assert self.held_out is not None
        problem = self.observed
        context, y, measured, held_out = self._cut(self.probe, problem.observation, problem.measured, self.held_out)
        seen, base = self._see(y, measured * (1 - held_out), context)
        return float(self.observed.data_term(base + network(seen), y, held_out))


class Split(_Recorrupted):
    """Split the noise in two: see ``y + t e``, aim at ``y - e / t``, with e drawn from the noise model.

    The two are independent given the truth (recorrupted-to-recorrupted, Pang et al. 2021; coupled
    bootstrap, Oliveira et al. 2022), on the stabilised scale on which the noise is Gaussian.

    Parameters
    ----------
    problem, patch, batch, seeds, passes, flips
        As for `Hide`.
    held_out
        Voxels kept out of the fit, or ``None``. The aim of a fresh draw is data the fit has not seen, but for what it
        has learned of the observation by heart.
    strength
        Smallest and largest t, the noise added to the input over that in the observation: drawn
        anew at each step. The network is applied at the smallest.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        strength: tuple[float, float],
        **shared: Unpack[_Shared],
    ) -> None:
        super().__init__(problem, **shared)
        self.strength, self.applied = strength, strength[0]
        # Where something is missing, it must not be spread.
        whole = bool((problem.measured > 0).all())
        self._evened = Evened(problem.operator) if whole else None
        self._lesson = problem if self._evened is None else replace(problem, operator=self._evened)

    @property
    def problem(self) -> Problem:
        """See `Supervision`: what a blur leaves faint counts as much as the rest."""
        return self._lesson

    def example(self, rng: torch.Generator) -> Example:
        """See `Supervision`."""
        context, y, measured, weights, sd = self._cut(self.patches.draw(rng), *self._stacks(self.weights))
        e = sd * self.observed.texture.draw(y.shape, rng)
        # Noise is turned with the image: neighbours may share it along one axis.
        y, e, measured, context, weights = self._turned(rng, y, e, measured, context, weights)
        low, high = self.strength
        t = low + (high - low) * torch.rand((), generator=rng, device=y.device)
        seen, base = self._see(y + t * e, measured, context)
        return Example(seen, base, self._aim(y - e / t), weights * self.inner)

    def _aim(self, y: Tensor) -> Tensor:
        return y if self._evened is None else self._evened.operator.evened(y)

    def _stacks(self, weights: Tensor) -> list[Tensor]:
        problem = self.observed
        sigma = problem.sigma.expand_as(problem.observation)
        return [problem.observation, problem.measured, weights, sigma]

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Supervision`: the mean over draws of the added noise."""
        y, made = self.observed.observation, made or Passes()
        if made.count:
            yield made.mean
        for index in range(self.count):
            added = self.observed.noise(rng)
            if index >= made.count:
                yield made.add(self._in_view(index, network, y + self.applied * added, self.observed.measured))

    def risk(self, network: Network) -> float:
        """See `Supervision`: against the aim that belongs to one fixed draw."""
        judged = self.weights if self.held_out is None else self.observed.weights * self.held_out
        context, y, measured, weights, sd = self._cut(self.probe, *self._stacks(judged))
        e = sd * self.observed.texture.draw(y.shape, torch.Generator(y.device).manual_seed(0))
        t = self.applied
        seen, base = self._see(y + t * e, measured, context)
        return float(self._lesson.data_term(base + network(seen), self._aim(y - e / t), weights))
