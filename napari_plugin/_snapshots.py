"""Earlier states of a run, kept within bounds, to go back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 24
LARGEST = 2 * 2**30
"""Bytes that all snapshots of a run may take together; an eighth of the free memory where that is less."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The image as it was after a step, in the type of the result."""

    step: int
    array: NDArray[Any]


class Snapshots:
    """Keeps states evenly spread over the steps; where there are too many, every second one goes.

    Parameters
    ----------
    most
        How many to keep at most.
    budget
        Bytes they may take.
    """

    def __init__(self, most: int = MOST, budget: int | None = None) -> None:
        self.most = most
        self.budget = min(LARGEST, psutil.virtual_memory().available // 8) if budget is None else budget
        self.kept: list[Snapshot] = []
        self._apart = 1

    def __len__(self) -> int:
        return len(self.kept)

    def wants(self, step: int) -> bool:
        """Whether a state after this step would be kept."""
        return self.most > 0 and (not self.kept or step - self.kept[-1].step >= self._apart)

    def add(self, step: int, array: NDArray[Any]) -> None:
        """Keep a state, if there is room and the last one lies far enough back."""
        most = min(self.most, self.budget // max(array.nbytes, 1))
        if most < 1 or not self.wants(step):
            return
        self.kept.append(Snapshot(step, array))
        while len(self.kept) > most:
            self.kept = self.kept[1::2] if len(self.kept) > 2 else self.kept[1:]
            gaps = [b.step - a.step for a, b in zip(self.kept, self.kept[1:], strict=False)]
            self._apart = max([2 * self._apart, *gaps])
