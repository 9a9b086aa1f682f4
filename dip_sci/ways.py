"""Ways: what methods make of all images of a problem, each by itself or several frames of a series together."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from dip_sci import patches
from dip_sci.baseline import classical_methods, over_frames
from dip_sci.guided import RADII, guided

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from torch import Tensor

    from dip_sci.problem import Problem

LOW_RANK = "low rank of like patches"

THROUGH_TIME, AS_VOLUME = " through time", " as a volume"
"""What the names of filters end in that see the frames of a series as an image's channels; and that of low rank, as a volume's
planes (the others are told by their patches)."""

AGAIN = ", once more"
"""What the names of filters end in whose pilot filters have made."""

WINDOW = 16
"""Frames that are seen so at most."""

CHUNK, SMALL_CHUNK = 2**22, 2**20
"""Voxels that are filtered at once, about; the latter by what cannot be interrupted."""


class Portion(NamedTuple):
    """Images of a stack that are filtered at once, and those that are looked at for it."""

    wanted: slice
    seen: slice

    def of(self, stack: Tensor) -> Tensor:
        """Cut out what is looked at."""
        return stack[self.seen]

    def kept(self, result: Tensor) -> Tensor:
        """Cut what is wanted out of a result ``(n, ...)`` of what is looked at."""
        first = self.wanted.start - self.seen.start
        return result.narrow(0, first, self.wanted.stop - self.wanted.start)


@dataclass(frozen=True)
class Arrangement:
    """Which images of a problem a method sees together, and as what.

    Attributes
    ----------
    portions
        How a problem's images are cut up.
    shown
        Maps images that are looked at ``(n, C, *spatial)`` to what a method sees.
    images
        Maps what it has made of that, and those images, to images again.
    """

    portions: Callable[[Problem], list[Portion]]
    shown: Callable[[Tensor], Tensor]
    images: Callable[[Tensor, Tensor], Tensor]

    def apply(self, method: Callable[..., Sequence[Tensor]], portion: Portion, *stacks: Tensor) -> Tensor:
        """Apply a method that makes several results to images, first, and what belongs to them: ``(n, ways, C, *spatial)``."""
        parts = [portion.of(stack) for stack in stacks]
        found = method(*map(self.shown, parts))
        return portion.kept(torch.stack([self.images(way, parts[0]) for way in found], dim=1))


@dataclass(frozen=True)
class Way:
    """A method, and which images it sees together.

    Attributes
    ----------
    name
        What a report calls it.
    method
        Maps what it sees and the standard deviation of its noise, and the guides in between where it goes by them, to the
        denoised same.
    seen
        What it sees.
    guided
        Whether it goes by the problem's guides.
    """

    name: str
    method: Callable[..., Tensor]
    seen: Arrangement
    guided: bool = False

    def portions(self, problem: Problem) -> list[Portion]:
        """Cut up a problem's images."""
        return self.seen.portions(problem)

    def on(self, problem: Problem, inflation: float = 1.0) -> Tensor:
        """Denoise all images of a problem, whose noise is by a factor stronger than it says: ``(N, C, *spatial)``."""
        problem = problem.guessed()
        return torch.cat([self.part(problem, portion, inflation) for portion in self.portions(problem)])

    def part(self, problem: Problem, portion: Portion, inflation: float = 1.0) -> Tensor:
        """Denoise some of the images of a problem without holes."""

        def method(*parts: Tensor) -> list[Tensor]:
            return [self.method(*parts)]

        guides = [problem.guides] if self.guided and problem.guides is not None else []
        return self.seen.apply(method, portion, problem.observation, *guides, _sigma(problem) * inflation)[:, 0]


@dataclass(frozen=True)
class Filters:
    """Filters of like patches that a first result leads, and which images they see together.

    Attributes
    ----------
    names
        What a report calls them: those of `patches.refinements`, and what may follow.
    suffix
        What follows.
    method
        `patches.refined`, set up.
    seen
        What they see.
    """

    names: list[str]
    suffix: str
    method: Callable[..., list[Tensor]]
    seen: Arrangement

    def portions(self, problem: Problem) -> list[Portion]:
        """Cut up a problem's images."""
        return self.seen.portions(problem)

    def on(self, problem: Problem, pilot: Tensor, inflation: float = 1.0) -> Tensor:
        """Filter all images of a problem without holes, as `Way.on`: ``(N, ways, C, *spatial)``."""
        parts = [self.part(problem, pilot, portion, self.names, inflation) for portion in self.portions(problem)]
        return torch.cat(parts)

    def part(
        self, problem: Problem, pilot: Tensor, portion: Portion, only: Collection[str], inflation: float = 1.0
    ) -> Tensor:
        """Filter some of the images in some ways."""
        method = partial(self.method, only=[name.removesuffix(self.suffix) for name in only])
        return self.seen.apply(method, portion, problem.observation, pilot, _sigma(problem) * inflation)


def classical(problem: Problem, *, correlated: bool) -> list[Way]:
    """Return the classical methods that compete: on each image, and over the frames of a series.

    Parameters
    ----------
    problem
        What they are to be applied to.
    correlated
        Whether neighbouring voxels share noise.
    """
    found = [Way(m.name, m.apply, SINGLY) for m in classical_methods(correlated=correlated)]
    if problem.guides is not None:
        found += [Way(f"guided filter (radius {r})", partial(guided, radius=r), SINGLY, guided=True) for r in RADII]
    if problem.frames > 1 and problem.observation.ndim == 4:
        found += [Way(m.name, m.apply, A_FEW) for m in over_frames(correlated=correlated)]
    return found


def low_rank(problem: Problem, *, coarse: bool = False) -> list[Way]:
    """Return the filters of like patches that need no first result."""
    apply = partial(patches.low_rank, coarse=coarse, shared=problem.shared)
    if problem.frames == 1:
        return [Way(LOW_RANK, apply, SINGLY)]
    found = [Way(LOW_RANK, partial(apply, frames=problem.reach), TOGETHER)]
    if problem.observation.ndim == 4:
        found.append(Way(LOW_RANK + AS_VOLUME, apply, TOGETHER))
    if problem.timed:
        found.append(Way(LOW_RANK + THROUGH_TIME, apply, AS_CHANNELS))
    return found


def refining(problem: Problem, *, again: bool = False, coarse: bool = False) -> list[Filters]:
    """Return the filters of like patches that a first result leads.

    Parameters
    ----------
    problem
        What they are to be applied to.
    again
        The first result is what such filters have made.
    coarse
        Gather fewer groups.
    """
    ndim = problem.observation.ndim - 2
    apply = partial(patches.refined, again=again, coarse=coarse, shared=problem.shared)
    names = patches.refinements(ndim, again=again)
    found = [(names, "", apply, SINGLY)]
    if problem.frames > 1:
        found = [(names, "", partial(apply, frames=problem.reach), TOGETHER)]
        if ndim == 2:
            found.append((patches.refinements(3, again=again), "", apply, TOGETHER))
        if problem.timed:
            found.append((names[: len(patches.RULES)], THROUGH_TIME, apply, AS_CHANNELS))
    end = AGAIN if again else ""
    return [
        Filters([name + suffix + end for name in own], suffix + end, method, seen)
        for own, suffix, method, seen in found
    ]


def _sigma(problem: Problem) -> Tensor:
    """How strong the noise of each image is for methods that take it for independent."""
    return problem.sigma if problem.stronger is None else problem.sigma * problem.stronger


def _singly(problem: Problem) -> list[Portion]:
    return [Portion(slice(n, n + 1), slice(n, n + 1)) for n in range(len(problem.observation))]


def _in_chunks(problem: Problem, *, small: bool = False) -> list[Portion]:
    """Cut series into as many frames as are filtered at once, seen with those in reach, which are not the most of them."""
    around = 2 * problem.reach
    longest = max(_frames(problem, SMALL_CHUNK if small else CHUNK) - around, around)
    return [
        Portion(part, slice(max(part.start - problem.reach, first), min(part.stop + problem.reach, last)))
        for first, last in _series(problem)
        for part in _parts(first, last, longest)
    ]


def _windows(problem: Problem) -> list[Portion]:
    longest = min(WINDOW, _frames(problem, CHUNK))
    return [Portion(part, part) for first, last in _series(problem) for part in _parts(first, last, longest)]


def _series(problem: Problem) -> Iterator[tuple[int, int]]:
    for first in range(0, len(problem.observation), problem.frames):
        yield first, first + problem.frames


def _frames(problem: Problem, voxels: int) -> int:
    """How many frames hold about as many voxels."""
    return max(voxels // math.prod(problem.observation.shape[1:]), 1)


def _parts(first: int, last: int, longest: int) -> list[slice]:
    """Cut a row of frames into parts of about the same length."""
    count = -(-(last - first) // longest)
    ends = [first + (last - first) * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def _as_series(y: Tensor) -> Tensor:
    return y.transpose(0, 1)


SINGLY = Arrangement(_singly, lambda y: y[0], lambda made, _: made[None])
"""Each image by itself ``(C, *spatial)``."""

TOGETHER = Arrangement(_in_chunks, _as_series, lambda made, _: _as_series(made))
"""Frames as a series ``(C, F, *spatial)``."""

A_FEW = replace(TOGETHER, portions=partial(_in_chunks, small=True))
"""The same in small chunks."""

AS_CHANNELS = Arrangement(_windows, lambda y: y.flatten(0, 1), lambda made, y: made.view_as(y))
"""Frames as an image's channels: what does not change is in one of their mixtures alone."""
