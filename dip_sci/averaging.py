"""Averaging: the running average of the iterates that becomes the estimate."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from dip_sci.supervision import Passes


class Average(Protocol):
    """The running average that becomes the estimate, in float32."""

    def update(self, output: Tensor) -> None:
        """Take in the state after a step."""
        ...

    def keep(self) -> None:
        """Remember the average as it is now: the best so far."""
        ...

    def estimate(self, *, best: bool, made: Passes | None = None) -> Iterator[Tensor]:
        """Yield ``(K, N, C, *spatial)``, better and better, from the current or the best average.

        `made` are passes made before, which are gone on from.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return what `load` needs to come back to this state; not a copy."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Come back to a state."""
        ...


class OutputAverage:
    """Exponential average of the outputs (full supervision)."""

    def __init__(self, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.mean: Tensor | None = None
        self.best: Tensor | None = None

    def update(self, output: Tensor) -> None:
        """See `Average`; over the first steps a plain mean, so that it does not start biased."""
        self.count += 1
        share = max(1 - self.decay, 1 / self.count)
        self.mean = output.clone() if self.mean is None else self.mean.lerp_(output, share)

    def keep(self) -> None:
        """See `Average`."""
        assert self.mean is not None
        self.best = self.mean.clone()

    def estimate(self, *, best: bool, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Average`."""
        value = self.best if best and self.best is not None else self.mean
        assert value is not None
        yield value.clone()

    def state(self) -> dict[str, Any]:
        """See `Average`."""
        return {"count": self.count, "mean": self.mean, "best": self.best}

    def load(self, state: dict[str, Any]) -> None:
        """See `Average`."""
        self.count, self.mean, self.best = state["count"], state["mean"], state["best"]


class WeightAverage:
    """Exponential average of the weights; the estimate is made by passes of the averaged network."""

    def __init__(
        self, decay: float, network: nn.Module, passes: Callable[[nn.Module, Passes | None], Iterator[Tensor]]
    ) -> None:
        self.decay, self.count, self.passes = decay, 0, passes
        self.live = network
        self.mean = copy.deepcopy(network).eval()
        self.best: list[Tensor] | None = None

    @torch.no_grad()
    def update(self, output: Tensor) -> None:
        """See `Average`."""
        self.count += 1
        # The first iterates are poor: let the average forget them as 1/count does.
        share = max(1 - self.decay, 1 / (1 + 0.1 * self.count))
        torch._foreach_lerp_(list(self.mean.parameters()), list(self.live.parameters()), share)

    def keep(self) -> None:
        """See `Average`. The weights alone: a copy of the module would cost as much as a light step."""
        self.best = [p.detach().clone() for p in self.mean.parameters()]

    def estimate(self, *, best: bool, made: Passes | None = None) -> Iterator[Tensor]:
        """See `Average`."""
        yield from self.passes(self.network(best=best), made)

    def network(self, *, best: bool) -> nn.Module:
        """Return the averaged network: at the best step, or as it stands."""
        if not best or self.best is None:
            return self.mean
        network = copy.deepcopy(self.mean)
        for mine, kept in zip(network.parameters(), self.best, strict=True):
            mine.data = kept
        return network

    def state(self) -> dict[str, Any]:
        """See `Average`."""
        return {"count": self.count, "mean": self.mean.state_dict(), "best": self.best}

    def load(self, state: dict[str, Any]) -> None:
        """See `Average`."""
        self.count, self.best = state["count"], state["best"]
        self.mean.load_state_dict(state["mean"])
