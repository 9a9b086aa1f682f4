"""Stop rules: when a fit has seen enough, and why."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from dip_sci.recipe import StopOptions


SHORTEST = 100
"""Steps without improvement before any rule stops by itself."""


class StopReason(enum.Enum):
    """Why a fit ended; the value is the sentence shown to the user."""

    STEPS = "All steps were done."
    VARIANCE = "The iterates' variance had passed its minimum: more steps would have fitted noise."
    HELD_OUT = "Voxels kept out of the fit were no longer predicted better."
    SPLIT = "The copy of the observation kept out of the fit was no longer predicted better."
    RISK = "The unbiased estimate of the error no longer fell."
    DISCREPANCY = "What is left of the observation is no stronger than its noise: more steps would have fitted noise."
    TIME = "The time allowed was used up; the best result until then was kept."
    CANCELLED = "Stopped by the user; the best result until then was kept."
    NOTHING = "There was nothing to restore: the image is constant, or no steps were asked for."


class View(NamedTuple):
    """What a rule may look at after a step.

    Attributes
    ----------
    iterate
        Averaged output at up to 65,536 fixed random voxels, flattened; ``None`` under recorrupted
        supervision, whose outputs are of a different degradation at each step.
    risk
        Computes the mean square error of prediction at data the fit has not seen.
    residual
        Computes the averaged iterate's mean square residual, in variances of the noise.
    sure
        Computes an unbiased estimate of the mean square error of the averaged network's result.
    """

    iterate: Tensor | None
    risk: Callable[[], float]
    residual: Callable[[], float]
    sure: Callable[[], float]


class Verdict(NamedTuple):
    """What a rule says of a step: a point of its curve (or none), whether it is the best, whether to stop."""

    value: float | None
    best: bool
    stop: StopReason | None


class StopRule(Protocol):
    """Watches a fit."""

    def observe(self, step: int, view: View) -> Verdict:
        """Judge the state after step number `step` (the first is 1)."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what it has seen, as `load` takes it; not a copy."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Come back to a state."""
        ...


class _Rule:
    """What rules have in common: a state, in the attributes named here, and perhaps patience."""

    seen: tuple[str, ...] = ()
    patience: _Patience | None = None

    def state(self) -> dict[str, Any]:
        """See `StopRule`."""
        patience = {} if self.patience is None else {"patience": [self.patience.lowest, self.patience.at]}
        return {name: getattr(self, name) for name in self.seen} | patience

    def load(self, state: dict[str, Any]) -> None:
        """See `StopRule`."""
        for name in self.seen:
            setattr(self, name, state[name])
        if self.patience is not None:
            self.patience.lowest, self.patience.at = state["patience"]


class Fixed(_Rule):
    """No rule: the last state is the best."""

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`."""
        return Verdict(None, best=True, stop=None)


class _Patience:
    """Stop when a value has not reached a new minimum for a while; remember where the minimum was."""

    def __init__(self, patience: int | None, min_start: int, reason: StopReason) -> None:
        self.patience, self.min_start, self.reason = patience, min_start, reason
        self.lowest, self.at = math.inf, 0

    def judge(self, step: int, value: float) -> Verdict:
        if step < self.min_start:
            # A false minimum of the warm-up must not count, yet a cancelled run wants its latest state.
            return Verdict(value, best=True, stop=None)
        best = value < self.lowest
        if best:
            self.lowest, self.at = value, step
        # Left to itself, it waits half as long as the minimum took to come: fits of 500 and of 5000 steps look alike.
        patience = max(self.at // 2, SHORTEST) if self.patience is None else self.patience
        tired = step - max(self.at, self.min_start) >= patience
        return Verdict(value, best, self.reason if tired and not best else None)


class WindowedVariance(_Rule):
    """ES-WMV (Wang et al. 2023, "Early Stopping for Deep Image Prior", algorithm 1).

    Over the last W iterates the variance ``mean ||x_i - mean x||^2 / N`` falls while the image forms,
    and rises again once noise is fitted.
    """

    patience: _Patience
    seen = ("_last", "_sum", "_squares")

    def __init__(self, window: int, patience: int | None, min_start: int) -> None:
        self.window = window
        self.patience = _Patience(patience, max(min_start, window), StopReason.VARIANCE)
        self._last: list[Tensor] = []
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`."""
        assert view.iterate is not None
        x = view.iterate.double()
        if self._sum is None or self._squares is None:
            self._sum, self._squares = torch.zeros_like(x), torch.zeros_like(x)
        self._last.append(view.iterate.clone())
        self._sum += x
        self._squares += x * x
        if len(self._last) > self.window:
            gone = self._last.pop(0).double()
            self._sum -= gone
            self._squares -= gone * gone
        count = len(self._last)
        if count < self.window:
            return Verdict(None, best=True, stop=None)
        return self.patience.judge(step, float((self._squares / count - (self._sum / count) ** 2).mean()))


class MovingVariance(_Rule):
    """ES-EMV (same paper, algorithm 2): the variance as an exponential average, without a buffer of iterates."""

    patience: _Patience
    seen = ("_mean", "_variance", "_gathered")

    def __init__(self, alpha: float, patience: int | None, min_start: int) -> None:
        self.alpha = alpha
        self.patience = _Patience(patience, min_start, StopReason.VARIANCE)
        self._mean: Tensor | None = None
        self._variance = 0.0
        self._gathered = 0.0

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`."""
        assert view.iterate is not None
        if self._mean is None:
            self._mean = view.iterate.clone()
            return Verdict(None, best=True, stop=None)
        away = view.iterate - self._mean
        self._mean += self.alpha * away
        self._variance = (1 - self.alpha) * (self._variance + self.alpha * float(away.square().mean()))
        # An average that starts at zero is too small at first, by the weight it has not gathered yet.
        self._gathered += self.alpha * (1 - self._gathered)
        return self.patience.judge(step, self._variance / self._gathered)


class Discrepancy(_Rule):
    """Morozov's discrepancy principle: stop when the residual is as strong as the noise."""

    def __init__(self, factor: float, min_start: int) -> None:
        self.factor, self.min_start = factor, min_start

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`; nothing is waited for, as a residual that is averaged falls once."""
        residual = view.residual()
        reached = step >= self.min_start and residual <= self.factor
        return Verdict(residual, best=True, stop=StopReason.DISCREPANCY if reached else None)


class _Risk(_Rule):
    """Stop when a risk no longer falls; looks every few steps."""

    every: int
    patience: _Patience

    def __init__(self, patience: int | None, min_start: int, reason: StopReason) -> None:
        self.patience = _Patience(patience, min_start, reason)

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`."""
        if step % self.every:
            return Verdict(None, best=False, stop=None)
        return self.patience.judge(step, self.look(view))

    def look(self, view: View) -> float:
        raise NotImplementedError


class HeldOut(_Risk):
    """The risk at data the fit has not seen: voxels, or a copy of the observation with noise of its own."""

    every = 10

    def __init__(self, patience: int | None, min_start: int, reason: StopReason = StopReason.HELD_OUT) -> None:
        super().__init__(patience, min_start, reason)

    def look(self, view: View) -> float:
        """Predict what was kept out."""
        return view.risk()


class Sure(_Risk):
    """The risk by Stein's unbiased estimate, which needs no data of its own but two passes of the network."""

    # At most four parts of an image are passed, twice: a twelfth of the work of as many steps.
    every = 30

    def __init__(self, patience: int | None, min_start: int) -> None:
        super().__init__(patience, min_start, StopReason.RISK)

    def look(self, view: View) -> float:
        """Estimate the error."""
        return view.sure()


def build(options: StopOptions) -> StopRule:
    """Make the rule that a recipe names, with its `rule` and `min_start` decided."""
    patience, min_start = options.patience, options.min_start or 0
    if options.rule == "windowed_variance":
        return WindowedVariance(options.window, patience, min_start)
    if options.rule == "moving_variance":
        return MovingVariance(options.alpha, patience, min_start)
    if options.rule == "discrepancy":
        return Discrepancy(options.discrepancy, min_start)
    if options.rule == "held_out":
        return HeldOut(patience, min_start)
    if options.rule == "split":
        return HeldOut(patience, min_start, StopReason.SPLIT)
    if options.rule == "sure":
        return Sure(patience, min_start)
    return Fixed()
