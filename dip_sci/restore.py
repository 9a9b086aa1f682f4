"""The whole way, once: from an image and a recipe to a restoration."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci import choices, device, generators, stopping, supervision
from dip_sci.fit import Fitted, Progress, Settings, iter_fit
from dip_sci.preparation import Preparation, region_array
from dip_sci.recipe import Recipe
from dip_sci.stopping import StopReason

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator

    from numpy.typing import NDArray
    from torch import Tensor

    from dip_sci.image import Image
    from dip_sci.problem import Problem
    from dip_sci.supervision import Supervision

CORRELATED = 0.15
"""Lag-1 autocorrelation from which the noise is called correlated."""


@dataclass(frozen=True)
class Report:
    """How a restoration came about.

    Attributes
    ----------
    recipe
        The recipe with every option decided.
    reasons
        Why, for each option that was decided here.
    noise
        One sentence per channel and colour sample.
    reason
        Why the fit stopped.
    steps, best_step
        Steps done and the step of the state returned, in the last of the fits.
    data_terms, stop_curve
        One value per step, and the stop rule's ``(step, value)`` points, of the last of the fits.
    clipped
        Voxels that had to be clipped to the stored type.
    seconds, memory
        Time from start to end, and the most bytes seen in use.
    device
        What it ran on.
    notes
        Sentences a user should see.
    """

    recipe: Recipe
    reasons: dict[str, str]
    noise: tuple[str, ...]
    reason: StopReason
    steps: int
    best_step: int
    data_terms: list[float]
    stop_curve: list[tuple[int, float]]
    clipped: int
    seconds: float
    memory: int
    device: str
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the run ended by itself, neither stopped by the user nor out of time."""
        return self.reason not in (StopReason.CANCELLED, StopReason.TIME)


@dataclass(frozen=True)
class Cost:
    """What a run is expected to take on this machine.

    Attributes
    ----------
    seconds
        From start to end, if no stop rule ends it earlier.
    memory
        Bytes in use, as far as a few steps show.
    """

    seconds: float
    memory: int


@dataclass(frozen=True)
class Restoration:
    """A restored image with its maps and its report.

    Attributes
    ----------
    image
        The restored image: same grid, same type (or float32 if the recipe says so).
    spread
        Standard deviation over the networks, float32; ``None`` for a single network.
    report
        How it came about.
    """

    image: Image
    spread: Image | None
    report: Report


def denoise(
    image: Image,
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
) -> Restoration:
    """Remove the noise of one image.

    Parameters
    ----------
    image
        What was measured.
    recipe
        Options of the run; by default all of them are decided for this image.
    region
        Region of interest: non-zero where to restore, of the image's shape or of that of its
        spatial axes. Voxels outside are returned bit-identical.
    cancel
        When set (from another thread), the run ends after the current step with the best so far.

    Returns
    -------
    Restoration

    Raises
    ------
    ImageError, RecipeError, FitError
        If the image or the recipe cannot be used, or the fit diverges twice.
    """
    run = iter_restore(image, recipe, region=region, cancel=cancel)
    while True:
        try:
            next(run)
        except StopIteration as end:
            result: Restoration = end.value
            return result


def iter_restore(
    image: Image,
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
) -> Generator[Progress[NDArray[Any]], None, Restoration]:
    """Remove the noise of one image, step by step.

    Parameters
    ----------
    image, recipe, region, cancel
        As for `denoise`.

    Yields
    ------
    Progress
        After each step, and after each pass that the estimate averages.

    Returns
    -------
    Restoration
        As the generator's return value.

    Raises
    ------
    ImageError, RecipeError, FitError
        As for `denoise`.
    """
    started = time.monotonic()
    recipe = recipe or Recipe()
    where = device.pick(recipe.device)
    choice = choices.decide(recipe, image, fast_bfloat16=device.fast_bfloat16(where))
    prepared = Preparation(image, choice.recipe, region_array(image, region))
    choice = choices.with_noise(choice, prepared.sigma)
    problems = [] if prepared.constant or choice.recipe.fit.steps == 0 else prepared.problems(where)
    memory = device.memory_in_use(where)
    fits: list[Fitted] = []
    with device.kept_memory():
        for problem in problems:
            fit = _start(problem, prepared, choice.recipe, started, cancel)
            while True:
                try:
                    progress = next(fit)
                except StopIteration as end:
                    fits.append(end.value)
                    break
                memory = max(memory, progress.memory)
                yield _progress(progress, prepared, tuple(fits), len(problems), started)
            if fits[-1].reason in (StopReason.CANCELLED, StopReason.TIME):
                break
    nothing = np.empty((1, 0, *prepared.image_shape), np.float32)
    stacks = torch.cat([f.estimate for f in fits], dim=1).cpu().numpy() if fits else nothing
    result, clipped = prepared.finish(*prepared.values(stacks.mean(axis=0)))
    last = fits[-1] if fits else None
    report = Report(
        recipe=choice.recipe,
        reasons=choice.reasons,
        noise=tuple(e.sentence for e in prepared.estimates),
        reason=last.reason if last else StopReason.NOTHING,
        steps=last.steps if last else 0,
        best_step=last.best_step if last else 0,
        data_terms=last.data_terms if last else [],
        stop_curve=last.stop_curve if last else [],
        clipped=clipped,
        seconds=time.monotonic() - started,
        memory=max(memory, device.memory_in_use(where)),
        device=device.describe(where),
        notes=tuple(_notes(prepared, fits, len(problems), clipped)),
    )
    return Restoration(result, _spread(prepared, stacks), report)


TRIAL = 4
"""Steps run to predict the time of all."""


def expected_cost(image: Image, recipe: Recipe | None = None) -> Cost:
    """Predict time and memory of a run by doing its first steps.

    Raises
    ------
    ImageError, RecipeError
        As for `denoise`.
    """
    began = time.monotonic()
    run = iter_restore(image, recipe)
    steps = [(time.monotonic(), progress) for progress in itertools.islice(run, TRIAL)]
    if not steps:
        return Cost(time.monotonic() - began, device.memory_in_use(device.pick("cpu")))
    times, progress = [t for t, _ in steps], steps[-1][1]
    # The first step also warms up the machine.
    step = (times[-1] - times[0]) / max(len(times) - 1, 1)
    began_pass = time.monotonic()
    progress.preview()
    one_pass = time.monotonic() - began_pass
    run.close()
    all_passes = one_pass * choices.passes(recipe or Recipe(), image)
    return Cost(times[0] - began + step * (progress.steps - 1) + all_passes, progress.memory)


def _start(
    problem: Problem, prepared: Preparation, recipe: Recipe, started: float, cancel: threading.Event | None
) -> Generator[Progress[Tensor], None, Fitted]:
    """Begin one fit: fresh networks, a fresh rule, fresh random numbers."""
    where, fit = problem.observation.device, recipe.fit
    rng = torch.Generator(where).manual_seed(recipe.seed)
    teacher = _supervise(problem, recipe, rng)
    samples = problem.observation.shape[1]
    limit = recipe.stop.max_seconds
    assert fit.steps is not None
    assert fit.rate is not None
    assert fit.averaging is not None
    assert fit.schedule != "auto"
    assert fit.precision != "auto"
    settings = Settings(
        steps=fit.steps,
        rate=fit.rate,
        schedule=fit.schedule,
        averaging=fit.averaging,
        seeds=fit.seeds,
        seed=recipe.seed,
        precision=fit.precision,
        max_seconds=None if limit is None else max(limit - (time.monotonic() - started), 1e-3),
    )
    return iter_fit(
        lambda: generators.build(
            recipe.generator, inside=teacher.inside, outside=samples, shape=teacher.shape, spacing=prepared.spacing
        ),
        problem,
        teacher,
        stopping.build(recipe.stop),
        settings,
        cancel,
    )


def _supervise(problem: Problem, recipe: Recipe, rng: torch.Generator) -> Supervision:
    options, seeds = recipe.supervision, recipe.fit.seeds
    watched = recipe.stop.rule == "held_out" and (options.kind == "full" or options.recorrupt == "hide")
    held_out = supervision.hold_out(problem, recipe.stop.held_out, rng) if watched else None
    if options.kind == "full":
        return supervision.Full(problem, recipe.input, seeds, held_out, rng)
    assert options.patch is not None
    hidden = options.hidden or choices.FEW_HIDDEN
    assert options.passes is not None
    spatial = problem.observation.ndim - 2
    # A volume's patch is flatter: planes are fewer than rows.
    patch = (options.patch,) * 2 if spatial == 2 else (max(options.patch // 2, 8), options.patch, options.patch)
    if options.recorrupt == "split":
        return supervision.Split(
            problem, patch=patch, batch=1, seeds=seeds, passes=options.passes, strength=options.strength
        )
    return supervision.Hide(
        problem, patch=patch, batch=1, seeds=seeds, held_out=held_out, passes=options.passes, hidden=hidden
    )


def _progress(
    progress: Progress[Tensor], prepared: Preparation, done: tuple[Fitted, ...], parts: int, started: float
) -> Progress[NDArray[Any]]:
    before = len(done) * progress.steps
    left = progress.eta + (parts - len(done) - 1) * (progress.eta + progress.seconds)

    def preview() -> NDArray[Any]:
        estimates = [*(f.estimate for f in done), progress.preview()]
        return prepared.values(torch.cat(estimates, dim=1).mean(dim=0).cpu().numpy())[0]

    return Progress(
        step=before + progress.step,
        steps=parts * progress.steps,
        data_term=progress.data_term,
        stop_value=progress.stop_value,
        best_step=before + progress.best_step,
        seconds=time.monotonic() - started,
        eta=left,
        memory=progress.memory,
        preview=preview,
    )


def _spread(prepared: Preparation, stacks: NDArray[np.float32]) -> Image | None:
    if len(stacks) < 2:
        return None
    spread = np.zeros(prepared.image.shape, np.float32)
    _, replaced = prepared.values(stacks[0])
    each = np.stack([prepared.values(stack)[0][replaced] for stack in stacks])
    spread[replaced] = each.std(axis=0, ddof=1)
    return prepared.image.with_array(spread)


def _notes(prepared: Preparation, fits: list[Fitted], parts: int, clipped: int) -> list[str]:
    notes = list(prepared.image.source.notes)
    if fits and len(fits) < parts:
        notes.append(
            f"Only the first {len(fits)} of {parts} images were restored before the end; the rest is as it was."
        )
    if any(f.restarts for f in fits):
        notes.append("The fit diverged once and was restarted at half the rate.")
    if clipped:
        notes.append(f"{clipped} voxels were clipped to what the stored type {prepared.image.dtype} can hold.")
    correlation = max(e.correlation for e in prepared.estimates)
    if correlation > CORRELATED:
        notes.append(
            f"The noise is correlated between neighbouring voxels (lag-1 autocorrelation {correlation:.2f}): "
            "part of it looks like structure and will stay."
        )
    coarse = prepared.rounding()
    if coarse:
        notes.append(coarse)
    return notes
