"""Stop rules: when a fit has seen enough, and why."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
    """

    iterate: Tensor | None
    risk: Callable[[], float]


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


class Fixed:
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


class WindowedVariance:
    """ES-WMV (Wang et al. 2023, "Early Stopping for Deep Image Prior", algorithm 1).

    Over the last W iterates the variance ``mean ||x_i - mean x||^2 / N`` falls while the image forms,
    and rises again once noise is fitted.
    """

    def __init__(self, window: int, patience: int | None, min_start: int) -> None:
        self.window = window
        self.judge = _Patience(patience, max(min_start, window), StopReason.VARIANCE).judge
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
        return self.judge(step, float((self._squares / count - (self._sum / count) ** 2).mean()))


class MovingVariance:
    """ES-EMV (same paper, algorithm 2): the variance as an exponential average, without a buffer of iterates."""

    def __init__(self, alpha: float, patience: int | None, min_start: int) -> None:
        self.alpha = alpha
        self.judge = _Patience(patience, min_start, StopReason.VARIANCE).judge
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
        return self.judge(step, self._variance / self._gathered)


class HeldOut:
    """Stop when the risk at data the fit has not seen no longer falls; looks every few steps."""

    every = 10

    def __init__(self, patience: int | None, min_start: int) -> None:
        self.judge = _Patience(patience, min_start, StopReason.HELD_OUT).judge

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`."""
        if step % self.every:
            return Verdict(None, best=False, stop=None)
        return self.judge(step, view.risk())


def build(options: StopOptions) -> StopRule:
    """Make the rule that a recipe names, with its `rule` and `min_start` decided."""
    patience, min_start = options.patience, options.min_start or 0
    if options.rule == "windowed_variance":
        return WindowedVariance(options.window, patience, min_start)
    if options.rule == "moving_variance":
        return MovingVariance(options.alpha, patience, min_start)
    if options.rule == "held_out":
        return HeldOut(patience, min_start)
    return Fixed()
