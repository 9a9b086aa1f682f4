"""The loop: start, step, stop, estimate."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from dip_sci import device as machine
from dip_sci.averaging import Average, OutputAverage, WeightAverage
from dip_sci.ensemble import begin_with, fresh, weights_of
from dip_sci.errors import FitError
from dip_sci.generators.layers import reseed
from dip_sci.problem import total_variation
from dip_sci.progress import Progress
from dip_sci.stopping import StopReason, StopRule, Verdict, View
from dip_sci.supervision import Passes

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Iterator

    from dip_sci.problem import Problem
    from dip_sci.recipe import Recipe
    from dip_sci.supervision import Example, Supervision

WATCHED = 65_536
"""Voxels that the variance rules watch."""

CLIP = 8.0
"""Length of a gradient, over the average one so far, from which it is shortened."""

CHECK_EVERY = 25
"""Steps between two states to which a diverged fit goes back, unless it is on its way there."""

SOUND = 1.5
"""Average data term, over its lowest so far, up to which a state is good enough to go back to."""


ODD = 5.0
"""A step's data term counts as this many times the usual one at most."""

OFTEN = 0.25
"""Share of the latest steps that are twice as bad as their first guess alone, from which on a fit may have diverged."""

RESTARTS = 3
"""How often a fit that diverges goes on at half the rate."""

CARRIED = ("restarts", "slow", "of_nothing", "watched", "data_terms", "noise_terms", "stop_curve")
"""Attributes of a running fit that a saved state holds as they are."""


@dataclass(frozen=True)
class Settings:
    """The loop's own numbers, all decided."""

    steps: int
    rate: float
    schedule: Literal["constant", "one_cycle"]
    averaging: float
    seeds: int
    seed: int
    precision: Literal["float32", "bfloat16"]
    max_seconds: float | None = None
    tv: float = 0.0

    @classmethod
    def of(cls, recipe: Recipe, max_seconds: float | None) -> Settings:
        """Take them from a recipe of which everything is decided."""
        fit = recipe.fit
        assert fit.steps is not None
        assert fit.rate is not None
        assert fit.averaging is not None
        assert fit.schedule != "auto"
        assert fit.precision != "auto"
        return cls(
            steps=fit.steps,
            rate=fit.rate,
            schedule=fit.schedule,
            averaging=fit.averaging,
            seeds=fit.seeds,
            seed=recipe.seed,
            precision=fit.precision,
            max_seconds=max_seconds,
            tv=fit.tv,
        )


@dataclass(frozen=True)
class Fitted:
    """What a fit ends with.

    Attributes
    ----------
    estimate
        The averaged iterate, one per network: ``(K, N, C, *spatial)``, float32.
    reason
        Why it stopped.
    steps, best_step
        Steps done, and the step of the state returned.
    data_terms, stop_curve
        One value per step, and the rule's ``(step, value)`` points.
    miss
        The last data terms over what the noise alone would make them; ``None`` where the network has seen its targets.
    restarts
        How often the fit diverged and went on at half the rate.
    again
        Applies the fitted networks to another observation, in few passes or as many as are given; ``None`` where they
        never see one.
    network
        The averaged networks; ``None`` where the outputs were averaged instead.
    weights
        What another fit can begin with: the weights of the averaged networks, or of those at the end where the outputs
        were averaged, in one row.
    """

    estimate: Tensor
    reason: StopReason
    steps: int
    best_step: int
    data_terms: list[float]
    stop_curve: list[tuple[int, float]]
    miss: float | None
    restarts: int
    again: Again | None
    network: nn.Module | None = None
    weights: Tensor | None = None


class Again(Protocol):
    """The fitted networks, to be applied to another observation."""

    def __call__(self, problem: Problem, passes: int | None = None) -> Tensor:
        """Return what they make of it, ``(K, N, C, *spatial)``."""
        ...


@dataclass
class _Health:
    """Compares the data terms with those of the first guess alone, and knows the usual length of each gradient."""

    ours: float = 1.0
    base: float = 1.0
    lowest: float = math.inf
    gradients: dict[int, float] = field(default_factory=dict)
    worse: float = 0.0

    def diverged(self, data_term: float, of_base: float) -> bool:
        if not math.isfinite(data_term):
            return True
        # The ratio of averages, not the average of ratios: a patch of empty background has almost no base term.
        # And one odd patch is none: what has diverged stays so for the next ones.
        self.ours += 0.1 * (min(data_term, ODD * max(self.ours, of_base)) - self.ours)
        self.base += 0.1 * (of_base - self.base)
        ratio = self.ours / max(self.base, 1e-12)
        self.lowest = min(self.lowest, ratio)
        # Rare patches, such as bone in a corner, may take long to be learned; what has diverged is bad everywhere.
        self.worse += 0.1 * (float(data_term > 2 * max(of_base, 0.1 * self.base)) - self.worse)
        return ratio > 2 * max(self.lowest, 1.0) and self.worse > OFTEN

    @property
    def sound(self) -> bool:
        return self.ours <= SOUND * self.lowest * self.base


class Saving(Protocol):
    """Where a fit's state is saved."""

    @property
    def state(self) -> dict[str, Any] | None:
        """What was saved last."""
        ...

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Save a state, which may change afterwards."""
        ...

    def end(self, state: dict[str, Any]) -> None:
        """Take in the last state, which does not change any more."""
        ...


def iter_fit(
    make_network: Callable[[], nn.Module],
    problem: Problem,
    supervision: Supervision,
    rule: StopRule,
    settings: Settings,
    cancel: threading.Event | None = None,
    checkpoint: Saving | None = None,
    warm: Tensor | None = None,
) -> Generator[Progress[Tensor], None, Fitted]:
    """Fit fresh networks to one problem, a step at a time.

    Parameters
    ----------
    make_network
        Builds one network with fresh weights from torch's random state.
    problem, supervision, rule, settings
        What to fit, how it is taught, when to stop, and the loop's numbers.
    cancel
        When set, the fit ends after the current step with the best so far.
    checkpoint
        Where the state is saved now and then, and gone on from.
    warm
        The weights of another fit of networks as these, to begin with.

    Yields
    ------
    Progress
        After each step, and after each pass that the estimate averages but the last.

    Returns
    -------
    Fitted

    Raises
    ------
    FitError
        If the fit diverges again after `RESTARTS` restarts, each at half the rate.
    """
    run = _Run(make_network, problem, supervision, rule, settings, warm)
    step, reason = run.resume(checkpoint.state if checkpoint is not None else None)
    while step < settings.steps and reason is StopReason.STEPS:
        step += 1
        diverged, data_term = run.step(step)
        if diverged:
            step = run.restart(step)
            continue
        verdict = run.judge(step)
        yield run.progress(step, data_term, verdict.value)
        if verdict.stop is not None:
            reason = verdict.stop
        elif cancel is not None and cancel.is_set():
            reason = StopReason.CANCELLED
        elif run.out_of_time():
            reason = StopReason.TIME
        if checkpoint is not None and (checkpoint.due() or reason is StopReason.CANCELLED):
            checkpoint.save(run.state(step, reason))
    estimate: Tensor | None = None
    for done, better in run.estimates():
        estimate = better
        if checkpoint is not None and checkpoint.due():
            checkpoint.save(run.state(step, reason))
        if done >= supervision.count:
            break
        if cancel is not None and cancel.is_set():
            reason = StopReason.CANCELLED
            break
        yield run.averaging(step, done, better)
    assert estimate is not None
    if checkpoint is not None:
        checkpoint.end(run.state(step, reason))
    return Fitted(
        estimate.float(),
        reason,
        step,
        run.best_step or step,
        run.data_terms,
        run.stop_curve,
        run.miss(),
        run.restarts,
        run.again(),
        network := run.average.network(best=True) if isinstance(run.average, WeightAverage) else None,
        weights_of(run.ensemble if network is None else network),
    )


class _Run:
    """The state of one fit."""

    def __init__(
        self,
        make_network: Callable[[], nn.Module],
        problem: Problem,
        supervision: Supervision,
        rule: StopRule,
        settings: Settings,
        warm: Tensor | None,
    ) -> None:
        self.problem, self.supervision, self.rule, self.settings = problem, supervision, rule, settings
        self.device = problem.observation.device
        self.ensemble = fresh(make_network, settings.seeds, settings.seed, self.device)
        if warm is not None:
            begin_with(self.ensemble, warm)
        # Fused: parameter by parameter, Adam takes as long as a tenth of a light step.
        self.optimiser = torch.optim.Adam(self.ensemble.parameters(), lr=settings.rate, betas=(0.9, 0.99), fused=True)
        self.average: Average = (
            OutputAverage(settings.averaging)
            if supervision.averages_outputs
            else WeightAverage(settings.averaging, self.ensemble, self._passes)
        )
        self.health = _Health()
        self.good: dict[str, Any] = {}
        self.made = Passes()
        self.watched: Tensor | None = None
        self.slow = 1.0
        self.of_nothing: float | None = None
        self.restarts, self.best_step = 0, 0
        self.data_terms: list[float] = []
        self.noise_terms: list[float] = []
        self.stop_curve: list[tuple[int, float]] = []
        self.started = self.averaging_since = time.monotonic()
        self.made_before = 0
        self._remember(0)

    def step(self, step: int) -> tuple[bool, float]:
        settings = self.settings
        example = self.supervision.example(self._rng(step))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate * self.slow * self._rate_factor(step)
        reseed(self.ensemble, settings.seed, step)
        with machine.arithmetic(self.device, settings.precision):
            output = example.base + self.ensemble(example.inputs)
        # Each network's own mean: their sum leaves every one with the gradient it would have alone.
        terms = [self.problem.data_term(*one) for one in _each(output, example, settings.seeds)]
        total = torch.stack(terms).sum()
        data_term = float(total.detach()) / settings.seeds
        if self.health.diverged(data_term, self._of_base(example, output.shape)):
            return True, data_term
        if settings.tv:
            total = total + settings.tv * torch.stack([total_variation(one) for one in output]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self._clip()
        self.optimiser.step()
        self.average.update(output.detach())
        self.data_terms.append(data_term)
        if example.noise is not None:
            self.noise_terms.append(example.noise)
        if step % CHECK_EVERY == 0 and self.health.sound:
            self._remember(step)
        return False, data_term

    @torch.no_grad()
    def _of_base(self, example: Example, shape: torch.Size) -> float:
        """Return the data term of the base alone; measured once where there is none, as that never changes."""
        nothing = example.base.numel() == 1
        if self.of_nothing is not None and nothing:
            return self.of_nothing
        seeds, base = self.settings.seeds, example.base.expand(shape)
        found = sum(float(self.problem.data_term(*one)) for one in _each(base, example, seeds)) / seeds
        if nothing:
            self.of_nothing = found
        return found

    def _clip(self) -> None:
        """Shorten a gradient far longer than those before it: one odd patch must not throw a fit off its way."""
        for k, network in enumerate(self.ensemble.networks):
            weights = list(network.parameters())
            norm = torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
            usual = self.health.gradients.get(k, float(norm))
            limit = CLIP * usual
            torch.nn.utils.clip_grads_with_norm_(weights, limit, norm)
            self.health.gradients[k] = usual + 0.1 * (min(float(norm), limit) - usual)

    def judge(self, step: int) -> Verdict:
        # The average is watched, not the output: the optimiser's own jitter would drown the drift towards the noise.
        watched = self.average.mean if isinstance(self.average, OutputAverage) else None
        if self.watched is None and watched is not None:
            self.watched = self._watched(watched)
        iterate = None if watched is None or self.watched is None else watched.flatten()[self.watched]
        verdict = self.rule.observe(step, View(iterate, self._risk, self._residual, self._sure))
        if verdict.value is not None:
            self.stop_curve.append((step, verdict.value))
        if verdict.best:
            self.best_step = step
            self.average.keep()
        return verdict

    def restart(self, step: int) -> int:
        """Go back to the last good state at half the rate; when that has been done often enough, give up."""
        if self.restarts == RESTARTS:
            raise FitError(
                f"The fit diverged at step {step}, again after {RESTARTS} restarts at half the rate each "
                f"({self.settings.rate * self.slow:g}). Set fit.rate to {self.settings.rate * self.slow / 4:.2g} or less."
            )
        self.restarts += 1
        self.slow = 0.5**self.restarts
        good = copy.deepcopy(self.good)
        self._come_to(good)
        back: int = good["step"]
        del self.data_terms[back:], self.noise_terms[back:]
        self.stop_curve = [point for point in self.stop_curve if point[0] <= back]
        return back

    def progress(self, step: int, data_term: float, stop_value: float | None) -> Progress[Tensor]:
        seconds = time.monotonic() - self.started
        left = (self.settings.steps - step) * seconds / step
        if self.settings.max_seconds is not None:
            left = min(left, max(self.settings.max_seconds - seconds, 0.0))
        return Progress(
            step,
            self.settings.steps,
            data_term,
            stop_value,
            self.best_step or step,
            seconds,
            left,
            machine.memory_in_use(self.device),
            self._preview,
        )

    def miss(self) -> float | None:
        """Compare the last quarter's data terms with the noise in what they were taken at: patches may have more or less of it."""
        last = len(self.noise_terms) // 4 + 1
        expected = sum(self.noise_terms[-last:])
        return sum(self.data_terms[-last:]) / expected if expected > 0 else None

    def out_of_time(self) -> bool:
        limit = self.settings.max_seconds
        return limit is not None and time.monotonic() - self.started >= limit

    def estimates(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of passes and the estimate from the best average, of more and more of them."""
        self.averaging_since, self.made_before = time.monotonic(), self.made.count
        passes = self.average.estimate(best=True, made=self.made)
        while True:
            # Not around the yield: gradients would be off for whoever consumes it.
            with torch.no_grad():
                value = next(passes, None)
            if value is None:
                return
            yield max(self.made.count, 1), value

    def averaging(self, step: int, done: int, estimate: Tensor) -> Progress[Tensor]:
        """Report on the passes after the last step."""
        seconds = time.monotonic() - self.averaging_since
        left = seconds / max(done - self.made_before, 1) * (self.supervision.count - done)
        last = self.data_terms[-1] if self.data_terms else math.nan
        return replace(self.progress(step, last, None), eta=left, preview=lambda: estimate.float())

    @torch.no_grad()
    def _preview(self) -> Tensor:
        return next(iter(self.average.estimate(best=False))).float()

    def _rate_factor(self, step: int) -> float:
        if self.settings.schedule == "constant":
            return 1.0
        done = (step - 1) / max(self.settings.steps - 1, 1)
        if self.settings.max_seconds is not None:
            # With little time the cycle must still end at its low rates.
            done = max(done, min((time.monotonic() - self.started) / self.settings.max_seconds, 1.0))
        warm = 0.1
        if done < warm:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * done / warm))
        return 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm))) + 1e-4

    def _rng(self, step: int) -> torch.Generator:
        # A function of seed and step alone: nothing to save, and the same after a restart.
        return torch.Generator(self.device).manual_seed(self.settings.seed * 1_000_003 + step)

    def again(self) -> Again | None:
        """Freeze the best averaged networks, to apply them to other observations."""
        if not isinstance(self.average, WeightAverage):
            return None
        network = self._network(self.average.network(best=True))

        @torch.no_grad()
        def restore(problem: Problem, passes: int | None = None) -> Tensor:
            other = self.supervision.on(problem, passes)
            assert other is not None
            *_, estimate = other.passes(network, self._rng(-2))
            return estimate.float()

        return restore

    def _network(self, ensemble: nn.Module, *, exact: bool = False) -> Callable[[Tensor], Tensor]:
        precision = "float32" if exact else self.settings.precision

        def network(x: Tensor) -> Tensor:
            with machine.arithmetic(self.device, precision):
                out: Tensor = ensemble(x)
            return out

        return network

    def _passes(self, ensemble: nn.Module, made: Passes | None = None) -> Iterator[Tensor]:
        return self.supervision.passes(self._network(ensemble), self._rng(-1), made)

    @torch.no_grad()
    def _risk(self) -> float:
        if isinstance(self.average, WeightAverage):
            return self.supervision.risk(self._network(self.average.mean))
        return self.supervision.risk(lambda _: self._preview())

    @torch.no_grad()
    def _residual(self) -> float:
        problem = self.problem
        apart = (problem.operator.forward(self._preview().mean(0)) - problem.observation) / problem.sigma
        weights = problem.weights.expand_as(apart)
        return float((apart.square() * weights).sum() / weights.sum().clamp_min(1e-12))

    @torch.no_grad()
    def _sure(self) -> float:
        assert isinstance(self.average, WeightAverage)
        # In float32: the difference of two passes that are almost the same is looked at.
        return self.supervision.sure(self._network(self.average.mean, exact=True))

    def _watched(self, output: Tensor) -> Tensor:
        """Draw the voxels of the outputs that a rule looks at, of those that count where that is known."""
        weights, spatial = self.problem.weights, output.shape[3:]
        inside = torch.ones_like(output, dtype=torch.bool)
        if weights.shape[2:] == spatial:
            inside = (weights > 0)[None].expand_as(output)
        where = inside.flatten().nonzero().squeeze(1)
        rng = torch.Generator(self.device).manual_seed(self.settings.seed)
        return where[torch.randperm(len(where), generator=rng, device=self.device)[:WATCHED]]

    def _remember(self, step: int) -> None:
        # Deep copies: a state that shares its tensors with the live weights would restore nothing.
        self.good = copy.deepcopy(self._now(step))

    def _now(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "ensemble": self.ensemble.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
            "health": vars(self.health),
            "rule": self.rule.state(),
            "best_step": self.best_step,
        }

    def _come_to(self, state: dict[str, Any]) -> None:
        self.ensemble.load_state_dict(state["ensemble"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])
        self.health = _Health(**state["health"])
        self.rule.load(state["rule"])
        self.best_step = state["best_step"]

    def state(self, step: int, reason: StopReason) -> dict[str, Any]:
        """Return all that `resume` needs to go on from here; not a copy."""
        return {
            "now": self._now(step),
            # Where a fit that diverges goes back to: it must be the same whenever the state was saved.
            "good": None if self.good["step"] == step else self.good,
            # A user who stops it may go on; what ended by itself is at its end.
            "reason": (StopReason.STEPS if reason is StopReason.CANCELLED else reason).name,
            "seconds": time.monotonic() - self.started,
            "made": vars(self.made),
            **{name: getattr(self, name) for name in CARRIED},
        }

    def resume(self, state: dict[str, Any] | None) -> tuple[int, StopReason]:
        """Go on from a saved state, or begin: the steps done, and why no more are to be done."""
        if state is None:
            return 0, StopReason.STEPS
        self._come_to(state["now"])
        step: int = state["now"]["step"]
        self.good = state["good"] or copy.deepcopy(state["now"])
        self.started = time.monotonic() - state["seconds"]
        self.made = Passes(**state["made"])
        for name in CARRIED:
            setattr(self, name, state[name])
        return step, StopReason[state["reason"]]


def _each(output: Tensor, example: Example, seeds: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    shape = (seeds, *example.target.shape[1:])
    return zip(
        output, example.target.expand(shape), example.weights.expand(seeds, *example.weights.shape[1:]), strict=False
    )
