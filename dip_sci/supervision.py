"""Supervision: what the network sees, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from dip_sci import inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dip_sci.problem import Problem
    from dip_sci.recipe import InputOptions

    Network = Callable[[Tensor], Tensor]
    """Maps ``(K, B, inside, *spatial)`` to ``(K, B, C, *spatial)``: K networks side by side."""


class Example(NamedTuple):
    """One step's lesson, for K networks.

    Attributes
    ----------
    inputs
        ``(K, B, inside, *spatial)``.
    base
        What the output is added to, ``(K, B, C, *spatial)``; zeros of one element for nothing.
    target
        ``(K, B, C, *spatial)``.
    weights
        ``(K, B, 1, *spatial)``.
    noise
        Mean square by which even the truth would miss the target, where the network has not seen that: what the noise is said
        to be in these voxels. ``None`` where it is not asked.
    """

    inputs: Tensor
    base: Tensor
    target: Tensor
    weights: Tensor
    noise: float | None = None


@dataclass
class Passes:
    """The passes that an estimate was made of so far.

    Attributes
    ----------
    count
        How many.
    total
        Their sum, ``(K, N, C, *spatial)``; ``None`` before the first.
    start
        What they began with, where that is the result of others before them; else ``None``.
    """

    count: int = 0
    total: Tensor | None = None
    start: Tensor | None = None

    def add(self, restored: Tensor) -> Tensor:
        """Take in a pass: the mean so far."""
        self.count += 1
        self.total = restored if self.total is None else self.total + restored
        return self.mean

    @property
    def mean(self) -> Tensor:
        """Their mean; there must be one."""
        assert self.total is not None
        return self.total / self.count


class Supervision(Protocol):
    """One way to learn from a single image."""

    @property
    def problem(self) -> Problem:
        """Whose data term a lesson is measured by."""
        ...

    @property
    def inside(self) -> int:
        """Channels of the network's input."""
        ...

    @property
    def averages_outputs(self) -> bool:
        """Whether the estimate is the average of the outputs (else: of the weights)."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape of what the network sees in a step."""
        ...

    @property
    def count(self) -> int:
        """How many passes the estimate averages."""
        ...

    def example(self, rng: torch.Generator) -> Example:
        """Draw the lesson of one step."""
        ...

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """Yield the restored stack ``(K, N, C, *spatial)``, the mean of more and more passes.

        `made` are passes made before: what they give comes first, and it takes in the others.
        """
        ...

    def risk(self, network: Network) -> float:
        """Mean square error of prediction at data the fit has not seen."""
        ...

    def sure(self, network: Network) -> float:
        """Mean square error of what the network makes of the observation, by Stein's unbiased estimate."""
        ...

    def on(self, problem: Problem, passes: int | None = None) -> Supervision | None:
        """Return the same supervision for another observation; ``None`` where the network never sees one.

        Its estimate averages so many passes; by default a few, which tell how good the network is.
        """
        ...


def stein(problem: Problem, found: Tensor, through: Tensor) -> float:
    """Stein's unbiased estimate of the mean square error of `found`, an estimate made from the observation.

    ``|A x - y|^2 - sigma^2 + 2 through``, where `through` is, voxel by voxel and on average, the covariance of the
    noise and what is left of it in ``A x``. It is measured with noise e drawn as the observation's, and so right for
    correlated noise, too.
    """
    risk = (problem.operator.forward(found) - problem.observation).square() - problem.sigma.square() + 2 * through
    weights = problem.weights.expand_as(risk)
    return float((risk * weights).sum() / weights.sum().clamp_min(1e-12))


class Full:
    """The classic prior: every observed voxel is fitted, from an input that carries no image (or that one).

    Parameters
    ----------
    problem
        One image (``N`` = 1).
    options
        The recipe's input group.
    seeds
        Number of networks, each with an input of its own.
    held_out
        Voxels kept out of the fit, ``(1, 1, *spatial)``, or ``None``.
    rng
        Source of inputs, of the jitter's pool and of the noise that splits.
    split
        t: fit ``y + t e`` and keep ``y - e / t`` out of the fit, with noise e as the observation's; ``None`` to fit y.
        Each network has an e of its own, every second one that of its neighbour with the other sign: what
        it adds is all but gone from their mean.
    grid
        Spatial shape of the networks' input, where it is not the image's.
    """

    averages_outputs = True
    count = 1

    def __init__(
        self,
        problem: Problem,
        options: InputOptions,
        seeds: int,
        held_out: Tensor | None,
        rng: torch.Generator,
        split: float | None = None,
        grid: Sequence[int] | None = None,
    ) -> None:
        assert len(problem.observation) == 1
        self.problem, self.held_out = problem, held_out
        self.weights = (problem if held_out is None else problem.without(held_out)).weights[None]
        self.split, self.target = split, problem.observation.expand(seeds, *problem.observation.shape)
        if split is not None:
            drawn = [problem.noise(rng) for _ in range((seeds + 1) // 2)]
            self.added = torch.stack([sign * e for e in drawn for sign in (1, -1)])[:seeds]
            self.target = self.target + split * self.added
        seen = problem.operator.finer(self.target.flatten(0, 1)).unsqueeze(1)
        self.shape = tuple(seen.shape[3:])
        made = [inputs.make(options, one, rng, grid or self.shape) for one in seen]
        # A guide is seen beside the input (Ulyanov et al. 2018, flash and no-flash).
        guides = problem.guides
        guided = guides is not None and guides.shape[2:] == made[0].shape[2:]
        self.z = torch.stack([torch.cat([z, guides], dim=1) if guides is not None and guided else z for z in made])
        self.jitter = inputs.Jitter(self.z, inputs.JITTER if options.jitter is None else options.jitter, rng)
        self.inside = self.z.shape[2]

    def example(self, rng: torch.Generator) -> Example:
        """See `Supervision`."""
        return Example(self.jitter.add(self.z, rng), self.z.new_zeros(1), self.target, self.weights)

    def passes(self, network: Network, rng: torch.Generator, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Supervision`: one pass, without jitter."""
        yield network(self.z)

    def on(self, problem: Problem, passes: int | None = None) -> None:
        """See `Supervision`: the input is noise."""

    def risk(self, network: Network) -> float:
        """See `Supervision`: at the held-out voxels, or by the copy kept out."""
        output = network(self.z)
        if self.split is not None:
            # The mean square distance to y - e / t, but for what all estimates share; of the mean of the networks.
            apart = self.problem.operator.forward(output) - self.problem.observation
            return stein(self.problem, output.mean(0), (self.added * apart).mean(0) / self.split)
        assert self.held_out is not None
        return float(self.problem.data_term(output.mean(0), self.problem.observation, self.held_out))

    def sure(self, network: Network) -> float:
        """See `Supervision`: the network's input is not the observation, its weights are what depends on it."""
        raise NotImplementedError
