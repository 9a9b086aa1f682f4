"""How a recipe's fit begins: fresh networks, a fresh lesson, a fresh rule, fresh random numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from dip_sci import choices, generators, held_out, stopping, supervision
from dip_sci.fit import Fitted, Settings, iter_fit
from dip_sci.progress import Progress
from dip_sci.supervision_recorrupted import Hide, Split
from dip_sci.supervision_scale import Across, Resample
from dip_sci.tasks import Inpaint, Task

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Sequence
    from typing import Any

    from torch import Tensor

    from dip_sci.fit import Saving
    from dip_sci.preparation import Preparation
    from dip_sci.problem import Problem
    from dip_sci.recipe import Recipe
    from dip_sci.supervision import Supervision


def start(
    problem: Problem,
    prepared: Preparation,
    recipe: Recipe,
    started: float,
    cancel: threading.Event | None,
    saving: Saving | None,
    warm: Tensor | None = None,
) -> Generator[Progress[Tensor], None, Fitted]:
    """Begin one fit: fresh networks, or those with given weights, a fresh rule, fresh random numbers."""
    where = problem.observation.device
    rng = torch.Generator(where).manual_seed(recipe.seed)
    teacher = _supervise(problem, prepared.task, recipe, prepared.spacing, rng)
    samples = problem.observation.shape[1]
    limit = recipe.stop.max_seconds
    left = None if limit is None else max(limit - (time.monotonic() - started), 1e-3)
    settings = Settings.of(recipe, left)
    return iter_fit(
        lambda: generators.build(
            recipe.generator, inside=teacher.inside, outside=samples, shape=teacher.shape, spacing=prepared.spacing
        ),
        teacher.problem,
        teacher,
        stopping.build(recipe.stop),
        settings,
        cancel,
        saving,
        warm,
    )


def _supervise(
    problem: Problem, task: Task, recipe: Recipe, spacing: Sequence[float], rng: torch.Generator
) -> Supervision:
    options, seeds = recipe.supervision, recipe.fit.seeds
    kept = _held_out(problem, recipe, rng)
    if options.kind == "full":
        split = recipe.stop.split if recipe.stop.rule == "split" else None
        shape = problem.operator.finer(problem.observation).shape[2:]
        grid = generators.input_grid(recipe.generator, shape, spacing)
        return supervision.Full(problem, recipe.input, seeds, kept, rng, split, grid)
    assert options.patch is not None
    assert options.passes is not None
    if options.recorrupt == "resample":
        finer = task.finer("ZYX")
        scale = Across if finer[0] > 1 and max(finer[1:]) == 1 else Resample
        alike = recipe.output.classical == "blend"
        return scale(problem, patch=options.patch, seeds=seeds, passes=options.passes, spacing=spacing, alike=alike)
    shared: dict[str, Any] = {
        "patch": choices.patch_shape(recipe),
        "batch": 1,
        "seeds": seeds,
        "held_out": kept,
        "passes": options.passes,
        "flips": options.flips == "yes",
    }
    if options.recorrupt == "split":
        return Split(problem, strength=options.strength, **shared)
    return Hide(
        problem,
        hidden=options.hidden or choices.FEW_HIDDEN,
        alike=isinstance(task, Inpaint),
        in_turn=not isinstance(task, Inpaint) or recipe.output.known == "restore",
        **shared,
    )


def _held_out(problem: Problem, recipe: Recipe, rng: torch.Generator) -> Tensor | None:
    """Draw what a fit does not learn from, where its stop rule asks for it."""
    options, rule = recipe.supervision, recipe.stop.rule
    if rule == "held_out" and (options.kind == "full" or options.recorrupt == "hide"):
        return held_out.voxels(problem, recipe.stop.held_out, rng)
    # Added noise splits every voxel; only where none has been learned from does it tell what the noise does.
    judges = rule == "sure" or (rule == "held_out" and options.recorrupt == "split")
    return held_out.blocks(problem, rng) if judges else None
