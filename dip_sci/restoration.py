"""Restoration: a result with its maps, and the report of how it came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dip_sci.stopping import StopReason

if TYPE_CHECKING:
    from dip_sci.image import Image
    from dip_sci.recipe import Recipe


@dataclass(frozen=True)
class Report:
    """How a restoration came about.

    Attributes
    ----------
    task
        Name of what was asked for (``"denoise"``).
    asked
        What it was given besides the image, as plain JSON values.
    recipe
        The recipe with every option decided.
    reasons
        Why, for each option that was decided here.
    noise
        One sentence per channel and colour sample (where these share noise, one that says so, and one per mixture of them), and one
        each on offsets of lines and electric interference where there are some.
    reason
        Why the fit stopped.
    steps, best_step
        Steps done and the step of the state returned, in the last of the fits.
    data_terms, stop_curve
        One value per step, and the stop rule's ``(step, value)`` points, of the last of the fits.
    weights
        Share of each part in the result, by name; empty where nothing was combined.
    risks
        Expected mean square error of each part alone, over the variance of the noise.
    clipped
        Voxels that had to be clipped to the stored type.
    seconds, memory
        Time from start to end, and the most bytes seen in use.
    device
        What it ran on.
    notes
        Sentences a user should see.
    advice
        What it would take to do better.
    """

    task: str
    asked: dict[str, Any]
    recipe: Recipe
    reasons: dict[str, str]
    noise: tuple[str, ...]
    reason: StopReason
    steps: int
    best_step: int
    data_terms: list[float]
    stop_curve: list[tuple[int, float]]
    weights: dict[str, float]
    risks: dict[str, float]
    clipped: int
    seconds: float
    memory: int
    device: str
    notes: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself, neither stopped by the user nor out of time."""
        return self.reason not in (StopReason.CANCELLED, StopReason.TIME)


@dataclass(frozen=True)
class Restoration:
    """A restored image with its maps and its report.

    Attributes
    ----------
    image
        The restored image: same grid, same type (or float32 if the recipe says so).
    spread
        Standard deviation over the networks, float32; ``None`` for a single network.
    baseline
        The classical result with the lowest expected error, of the result's type; ``None`` where
        there is none.
    report
        How it came about.
    """

    image: Image
    spread: Image | None
    baseline: Image | None
    report: Report
