"""Ways: what methods make of all images of a problem, each by itself or several frames of a series together."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from dip_sci import patches
from dip_sci.baseline import classical_methods, through_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from torch import Tensor

    from dip_sci.baseline import Method
    from dip_sci.problem import Problem

LOW_RANK = "low rank of like patches"

THROUGH_TIME, AS_VOLUME = " through time", " as a volume"
"""What the names of filters end in that see the frames of a series as an image's channels, and as the planes of a volume."""

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
class Way:
    """A method, and which images it sees together.

    Attributes
    ----------
    name
        What a report calls it.
    apply
        Maps images ``(n, C, *spatial)`` and the standard deviation of their noise to denoised ones.
    portions
        How a problem's images are cut up for it.
    """

    name: str
    apply: Method
    portions: Callable[[Problem], list[Portion]]

    def on(self, problem: Problem, inflation: float = 1.0) -> Tensor:
        """Denoise all images of a problem, whose noise is by a factor stronger than it says: ``(N, C, *spatial)``."""
        problem = problem.guessed()
        return torch.cat([self.part(problem, portion, inflation) for portion in self.portions(problem)])

    def part(self, problem: Problem, portion: Portion, inflation: float = 1.0) -> Tensor:
        """Denoise some of the images of a problem without holes."""
        return portion.kept(self.apply(portion.of(problem.observation), portion.of(_sigma(problem)) * inflation))


@dataclass(frozen=True)
class Filters:
    """Filters of like patches that a first result leads, and which images they see together.

    Attributes
    ----------
    names
        What a report calls them.
    apply
        Maps images, their first result, the standard deviation of their noise, and which of the filters are wanted, to a
        denoised stack for each of these: ``(n, ways, C, *spatial)``.
    portions
        How a problem's images are cut up for them.
    """

    names: list[str]
    apply: Callable[[Tensor, Tensor, Tensor, Collection[str]], Tensor]
    portions: Callable[[Problem], list[Portion]]

    def wanted(self, of: Collection[str]) -> list[str]:
        """Return those of its names that are among others, in its order."""
        return [name for name in self.names if name in of]

    def on(self, problem: Problem, pilot: Tensor, inflation: float = 1.0) -> Tensor:
        """Filter all images of a problem without holes, as `Way.on`: ``(N, ways, C, *spatial)``."""
        parts = [self.part(problem, pilot, portion, self.names, inflation) for portion in self.portions(problem)]
        return torch.cat(parts)

    def part(
        self, problem: Problem, pilot: Tensor, portion: Portion, only: Collection[str], inflation: float = 1.0
    ) -> Tensor:
        """Filter some of the images in some ways."""
        y, first, sd = (portion.of(stack) for stack in (problem.observation, pilot, _sigma(problem) * inflation))
        return portion.kept(self.apply(y, first, sd, only))


def classical(problem: Problem, *, correlated: bool) -> list[Way]:
    """Return the classical methods that compete: on each image, and over the frames of a series.

    Parameters
    ----------
    problem
        What they are to be applied to.
    correlated
        Whether neighbouring voxels share noise.
    """
    found = [Way(m.name, partial(_each, m.apply), _singly) for m in classical_methods(correlated=correlated)]
    if problem.frames > 1 and problem.observation.ndim == 4:
        chunks = partial(_in_chunks, small=True)
        found += [Way(m.name, partial(_together, m.apply), chunks) for m in through_time(correlated=correlated)]
    return found


def low_rank(problem: Problem, *, coarse: bool = False) -> list[Way]:
    """Return the filters of like patches that need no first result."""
    apply = partial(patches.low_rank, coarse=coarse)
    if problem.frames == 1:
        return [Way(LOW_RANK, partial(_each, apply), _singly)]
    found = [Way(LOW_RANK, partial(_together, partial(apply, frames=problem.reach)), _in_chunks)]
    if problem.observation.ndim == 4:
        found.append(Way(LOW_RANK + AS_VOLUME, partial(_together, apply), _in_chunks))
    if problem.timed:
        found.append(Way(LOW_RANK + THROUGH_TIME, partial(_as_channels, apply), _windows))
    return found


def refining(problem: Problem, *, coarse: bool = False) -> list[Filters]:
    """Return the filters of like patches that a first result leads.

    Parameters
    ----------
    problem
        What they are to be applied to.
    coarse
        Gather fewer groups.
    """
    ndim = problem.observation.ndim - 2
    names = patches.refinements(ndim)
    apply = partial(patches.refined, coarse=coarse)
    if problem.frames == 1:
        return [Filters(names, partial(_led_each, apply), _singly)]
    found = [Filters(names, partial(_led_together, partial(apply, frames=problem.reach)), _in_chunks)]
    if ndim == 2:
        found.append(Filters(patches.refinements(3), partial(_led_together, apply), _in_chunks))
    if problem.timed:
        large = [name + THROUGH_TIME for name in names[: len(patches.RULES)]]
        found.append(Filters(large, partial(_led_as_channels, apply), _windows))
    return found


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


def _each(method: Method, y: Tensor, sd: Tensor) -> Tensor:
    return torch.stack([method(image, noise) for image, noise in zip(y, sd, strict=True)])


def _together(method: Method, y: Tensor, sd: Tensor) -> Tensor:
    """Apply a method to frames as a series ``(C, F, *spatial)``."""
    return method(y.transpose(0, 1), sd.transpose(0, 1)).transpose(0, 1)


def _as_channels(method: Method, y: Tensor, sd: Tensor) -> Tensor:
    """Apply a method to frames as an image's channels: what does not change is in one of their mixtures alone."""
    return method(y.flatten(0, 1), sd.flatten(0, 1)).view_as(y)


def _led_each(
    apply: Callable[..., list[Tensor]], y: Tensor, pilot: Tensor, sd: Tensor, only: Collection[str]
) -> Tensor:
    parts = zip(y, pilot, sd, strict=True)
    return torch.stack([torch.stack(apply(one, first, noise, only=only)) for one, first, noise in parts])


def _led_together(
    apply: Callable[..., list[Tensor]], y: Tensor, pilot: Tensor, sd: Tensor, only: Collection[str]
) -> Tensor:
    y, pilot, sd = (stack.transpose(0, 1) for stack in (y, pilot, sd))
    # (ways, C, F, *spatial) to frames first.
    return torch.stack(apply(y, pilot, sd, only=only)).movedim(2, 0)


def _led_as_channels(
    apply: Callable[..., list[Tensor]], y: Tensor, pilot: Tensor, sd: Tensor, only: Collection[str]
) -> Tensor:
    named = [name.removesuffix(THROUGH_TIME) for name in only]
    found = apply(y.flatten(0, 1), pilot.flatten(0, 1), sd.flatten(0, 1), only=named)
    return torch.stack([way.view_as(y) for way in found], dim=1)
