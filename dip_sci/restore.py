"""The whole way, once: from an image and a recipe to a restoration."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dip_sci import choices, device, pieces, piecewise, preferences, sample
from dip_sci.checkpoint import Checkpoint, identity
from dip_sci.errors import FitError
from dip_sci.finished import first_of
from dip_sci.image import needed
from dip_sci.pieces import Pieces
from dip_sci.preparation import Preparation
from dip_sci.recipe import Recipe
from dip_sci.region import region_array
from dip_sci.run import LargeImage, Run
from dip_sci.tasks import Task

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Generator
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from dip_sci.image import Image
    from dip_sci.progress import Progress
    from dip_sci.restoration import Restoration


def denoise(
    image: Image,
    recipe: Recipe | None = None,
    *,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
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
        spatial axes. Voxels outside are returned bit-identical, unless ``output.outside`` is ``restore``: then the region
        only counts more.
    background
        Where to measure the noise: non-zero where nothing but noise varies; shaped as `region`.
    cancel
        When set (from another thread), the run ends after the current step with the best so far.
    checkpoint
        File (.npz) that the run's state is saved in twice a minute. If it is there and of the same image and recipe, the
        run goes on from it, and ends as it would have without a break. It is left there, and with it the folder
        (.npz.tiles) of the tiles of a large image: remove them when the result is safe.

    Returns
    -------
    Restoration

    Raises
    ------
    ImageError, RecipeError, FitError
        If the image or the recipe cannot be used, or the fit diverges
        even at an eighth of its rate.
    WriteError
        If `checkpoint` is a file of another kind.
    """
    return finish(
        iter_restore(image, recipe, region=region, background=background, cancel=cancel, checkpoint=checkpoint)
    )


def finish(run: Generator[Progress[NDArray[Any]], None, Restoration]) -> Restoration:
    """Run a restoration to its end and return what it returns."""
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
    task: Task | None = None,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
    cancel: threading.Event | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    scratch: Path | None = None,
) -> Generator[Progress[NDArray[Any]], None, Restoration]:
    """Restore one image, step by step.

    Parameters
    ----------
    image, recipe, region, background, cancel, checkpoint
        As for `denoise`.
    task
        What is asked for, bound to this image; by default to remove its noise.
    scratch
        Folder for what does not fit the memory; ``None`` for the system's own.

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
    image, recipe, task = needed(image), Recipe.needed(recipe), task or Task()
    cut_up = _pieces(image, recipe, task, region, scratch)
    if cut_up is not None:
        masks = region_array(cut_up.image, region), region_array(cut_up.image, background, "background region")
        return (yield from piecewise.restore(cut_up, recipe, masks, cancel, checkpoint, _learn))
    run = yield from _learn(image, recipe, task, region, background, cancel, checkpoint)
    if run.large is not None:
        yield from run.apply(scratch, cancel)
    return run.restoration()


def iter_tiles(
    image: Image,
    recipe: Recipe | None,
    tiles: slice,
    checkpoint: Path,
    *,
    region: NDArray[Any] | Image | None = None,
    background: NDArray[Any] | Image | None = None,
) -> Generator[Progress[NDArray[Any]], None, int]:
    """Do a part of the work on a large image, and leave it beside the checkpoint for whoever does the rest.

    Parameters
    ----------
    image, recipe, region, background
        As for `iter_restore`; the image must be large (`is_large`).
    tiles
        Which tiles to restore. ``slice(0, 0)`` is to learn from the image, which must come first.
    checkpoint
        File of the run's state, as for `denoise`. Only he who learns writes it.

    Yields
    ------
    Progress
        After each step, and after each tile.

    Returns
    -------
    int
        As the generator's return value: how many tiles there are in all.

    Raises
    ------
    ImageError, RecipeError, FitError
        As for `denoise`, and if tiles are wanted and nothing has been learned that holds on this machine.
    WriteError
        If there is no room for the tiles.
    """
    learning = tiles == slice(0, 0)
    run = yield from _learn(image, recipe, None, region, background, None, checkpoint, learned=not learning)
    return (yield from run.make(tiles))


def is_large(image: Image, recipe: Recipe, task: Task) -> bool:
    """Whether an image will be learned from parts of it, and restored tile by tile."""
    if task.name != Task.name:
        return False
    chosen = preferences.decided(task, recipe, image)
    longest = max(image.size_of(a) for a in "ZYX")
    wanted = recipe.output.tile is not None and longest > recipe.output.tile
    return (wanted or sample.is_large(image)) and chosen.supervision.kind == "recorrupted"


def _pieces(
    image: Image, recipe: Recipe, task: Task, region: NDArray[Any] | Image | None, folder: Path | None
) -> Pieces | None:
    """Cut up an image that is too large for one fit, if what is learned from a sample does not hold for the rest."""
    if is_large(image, recipe, task):
        return None
    where = device.pick(recipe.device)
    chosen = preferences.decided(task, recipe, image)
    if not pieces.needed(image, task, chosen, where):
        return None
    image = image.loaded()
    inside = region_array(image, region) if chosen.output.outside == "keep" else None
    found = Pieces(image, task, chosen, inside, where, folder)
    return found if found.count else None


def _learn(
    image: Image,
    recipe: Recipe | None,
    task: Task | None,
    region: NDArray[Any] | Image | None,
    background: NDArray[Any] | Image | None,
    cancel: threading.Event | None,
    checkpoint: str | os.PathLike[str] | None,
    *,
    learned: bool = False,
    warm: Tensor | None = None,
) -> Generator[Progress[NDArray[Any]], None, Run]:
    """Fit networks to an image or, where it is large, to parts of it.

    With `learned`, it must have been done before; with `warm`, the fits begin with these weights.
    """
    started = time.monotonic()
    image, recipe, task = needed(image), Recipe.needed(recipe), task or Task()
    image = image if task.name == Task.name else image.loaded()
    earlier: Restoration | None = None
    dtype = image.dtype
    if task.denoises_first(recipe):
        earlier = yield from _denoised_first(image, task, recipe, region, background, cancel, checkpoint)
        image, background = earlier.image, None
    where = device.pick(recipe.device)
    large = is_large(image, recipe, task)
    recipe, reasons = preferences.of(task, recipe, image)
    choice = choices.decide(recipe, image, fast_bfloat16=device.fast_bfloat16(where))
    noise_only, inside = region_array(image, background, "background region"), region_array(image, region)
    only = inside if choice.recipe.output.outside == "keep" else None
    whole, places = image, []
    if large:
        everywhere = None if only is inside else np.broadcast_to(np.True_, image.shape)
        places = _places(image, choice.recipe, inside, everywhere, noise_only)
        inside = None if only is inside else _cut_mask(whole, inside, places)
        image, noise_only = sample.cut(whole, places), _cut_mask(whole, noise_only, places)
    image = image.loaded()
    frames = _frames(whole, choice.recipe, places) if large else None
    prepared = Preparation(image, choice.recipe, inside, noise_only, task, dtype, frames)
    uneven = large and prepared.even()
    choice = choices.with_noise(
        choice, prepared.sigma, prepared.sizes, correlated=prepared.noise.correlated, in_time=prepared.found.in_time
    )
    choice.reasons.update(reasons)
    prepared.reach = choice.recipe.generator.neighbours or 0
    problems = [] if prepared.constant or choice.recipe.fit.steps == 0 else prepared.problems(where)
    run = Run(prepared, choice, where, len(problems), started, earlier)
    run.warm = warm
    run.large = LargeImage(whole, only, places, uneven) if large else None
    if checkpoint is not None and problems:
        given = (inside, noise_only, task.measured(image), *task.arrays)
        of = identity(image, choice.recipe, where, *given, asked=[task.name, task.asked])
        run.resume(Checkpoint(Path(checkpoint), of, read_only=learned))
        if learned and not run.resumed:
            raise FitError(f"{checkpoint} holds nothing that was learned from this image on a machine like this one.")
    with device.kept_memory():
        for problem in problems[len(run.fits) :]:
            kept = run.keep(problem)
            yield from run.fit(problem if kept is None else run.without(problem, kept), cancel)
            if not run.complete:
                break
            yield from run.combine(problem, kept, cancel)
    return run


def _denoised_first(
    image: Image,
    task: Task,
    recipe: Recipe,
    region: NDArray[Any] | Image | None,
    background: NDArray[Any] | Image | None,
    cancel: threading.Event | None,
    checkpoint: str | os.PathLike[str] | None,
) -> Generator[Progress[NDArray[Any]], None, Restoration]:
    """Remove an observation's noise before anything else; its previews are on the grid of the result."""
    limit = recipe.stop.max_seconds
    first = Recipe(preset=recipe.preset, seed=recipe.seed, device=recipe.device, noise=recipe.noise).merged(
        {
            "output": {"dtype": "float32", "outside": recipe.output.outside},
            "fit": {"outside": recipe.fit.outside},
            "stop": {"max_seconds": limit and limit / 2},
        }
    )
    saved = None if checkpoint is None else first_of(Path(checkpoint))
    run = iter_restore(image, first, region=region, background=background, cancel=cancel, checkpoint=saved)
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            denoised: Restoration = end.value
            return denoised
        yield replace(progress, preview=partial(_on_canvas, task, image, progress.preview))


def _on_canvas(task: Task, image: Image, preview: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    return task.canvas(image.with_array(preview())).array


def _places(image: Image, recipe: Recipe, *masks: NDArray[np.bool_] | None) -> list[tuple[slice, ...]]:
    """Choose the parts from which a large image is learned."""
    generator = recipe.generator
    wanted = [mask for mask in masks if mask is not None]
    series = generator.along, generator.neighbours or 0
    return sample.places(image, str(generator.ndim), recipe.seed, wanted, series=series)


def _frames(image: Image, recipe: Recipe, places: list[tuple[slice, ...]]) -> int | None:
    """How many frames or planes follow each other in each of the parts of a large image."""
    along = recipe.generator.along
    box = places[0][image.axes.index(along)] if along in image.axes else slice(0, 1)
    return int(box.stop - box.start)


def _cut_mask(image: Image, mask: NDArray[np.bool_] | None, places: list[tuple[slice, ...]]) -> NDArray[Any] | None:
    return None if mask is None else sample.cut(image.with_array(mask), places).array
