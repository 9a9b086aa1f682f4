"""Progress: where a run stands after a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Progress(Generic[T]):
    """Where a run stands after a step.

    Attributes
    ----------
    step, steps
        Steps done, of how many at most, over all fits of the run.
    data_term
        Of this step.
    stop_value
        Latest point of the stop rule's curve, or ``None``.
    best_step
        Step of the state that would be returned now.
    seconds, eta
        Time spent, and time still expected at most.
    memory
        Bytes in use: of the GPU where one is used, else of the process.
    preview
        Computes the current estimate, which costs about one pass of the network: a stack
        ``(K, N, C, *spatial)`` from a fit, an array on the image's axes from a restoration.
    tiles
        Share of a large image's tiles that are done; ``None`` before the first, and where there are none.
    """

    step: int
    steps: int
    data_term: float
    stop_value: float | None
    best_step: int
    seconds: float
    eta: float
    memory: int
    preview: Callable[[], T]
    tiles: float | None = None

    def showing(self, preview: Callable[[], U]) -> Progress[U]:
        """Return the same progress with another preview."""
        return Progress(
            self.step,
            self.steps,
            self.data_term,
            self.stop_value,
            self.best_step,
            self.seconds,
            self.eta,
            self.memory,
            preview,
            self.tiles,
        )
