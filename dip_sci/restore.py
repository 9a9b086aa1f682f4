"""The whole way, once: from an image and a recipe to a restoration."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dip_sci import (
    choices,
    combination,
    completion,
    device,
    generators,
    preferences,
    sample,
    stopping,
    supervision,
)
from dip_sci.checkpoint import Checkpoint, identity
from dip_sci.combination import NETWORK, Combination
from dip_sci.errors import FitError, WriteError
from dip_sci.finished import Finished, first_of, folder_of
from dip_sci.fit import Fitted, Progress, Settings, iter_fit
from dip_sci.large import Tiles
from dip_sci.preparation import Preparation
from dip_sci.recipe import Recipe
from dip_sci.region import region_array
from dip_sci.restoration import Report, Restoration
from dip_sci.stopping import StopReason
from dip_sci.supervision_scale import Across, Resample
from dip_sci.tasks import Inpaint, Task

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from dip_sci.choices import Choices
    from dip_sci.image import Image
    from dip_sci.problem import Problem
    from dip_sci.supervision import Supervision

    Steps = Generator[Progress[NDArray[Any]], None, None]

LEAST_MISS, MOST_MISS = 0.9, 2.0
"""Mean square miss of predictions of hidden voxels, in variances of the noise, for which its model is believed.

They miss by at least the noise, and in the finest texture, where it is weak, by twice as much.
"""


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
    chosen = choices.decide(preferences.of(task, recipe, image)[0], image, fast_bfloat16=False).recipe
    longest = max(image.size_of(a) for a in "ZYX")
    wanted = recipe.output.tile is not None and longest > recipe.output.tile
    return (wanted or sample.is_large(image)) and chosen.supervision.kind == "recorrupted"


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
) -> Generator[Progress[NDArray[Any]], None, _Run]:
    """Fit networks to an image or, where it is large, to parts of it; `learned`: it must have been done before."""
    started = time.monotonic()
    recipe, task = recipe or Recipe(), task or Task()
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
    prepared = Preparation(image, choice.recipe, inside, noise_only, task, dtype)
    uneven = large and prepared.even()
    choice = choices.with_noise(choice, prepared.sigma, correlated=prepared.correlated)
    choice.reasons.update(reasons)
    problems = [] if prepared.constant or choice.recipe.fit.steps == 0 else prepared.problems(where)
    run = _Run(prepared, choice, where, len(problems), started, earlier)
    run.large = _Large(whole, only, places, uneven) if large else None
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
    return sample.places(image, str(generator.ndim), generator.neighbours or 0, recipe.seed, wanted)


def _cut_mask(image: Image, mask: NDArray[np.bool_] | None, places: list[tuple[slice, ...]]) -> NDArray[Any] | None:
    return None if mask is None else sample.cut(image.with_array(mask), places).array


@dataclass(frozen=True)
class _Large:
    """A large image, where to restore it, the parts that a run learns from, and whether its noise is uneven."""

    image: Image
    region: NDArray[np.bool_] | None
    places: list[tuple[slice, ...]]
    uneven: bool


class _Run:
    """What the fits of one image have yielded so far."""

    def __init__(
        self,
        prepared: Preparation,
        choice: Choices,
        where: torch.device,
        parts: int,
        started: float,
        earlier: Restoration | None = None,
    ) -> None:
        self.earlier = earlier
        self.prepared, self.choice, self.where, self.parts, self.started = prepared, choice, where, parts, started
        self.recipe = choice.recipe
        self.memory = device.memory_in_use(where)
        self.fits: list[Fitted] = []
        self.estimates: list[Tensor] = []
        self.combinations: list[Combination] = []
        self.last: Progress[Tensor] | None = None
        self.made_of = ""
        self.checkpoint: Checkpoint | None = None
        self.resumed = ""
        self.state: dict[str, Any] | None = None
        self.known: dict[str, Tensor] = {}
        self.plan: tuple[tuple[int, ...], int] | None = None
        self.large: _Large | None = None
        self.tiles: Tiles | None = None
        self.more: list[str] = []

    @property
    def complete(self) -> bool:
        return not self.fits or self.fits[-1].reason not in (StopReason.CANCELLED, StopReason.TIME)

    def keep(self, problem: Problem) -> Tensor | None:
        """Choose what the fit does not learn from, where its risk is to be measured afterwards."""
        blend, task = self.recipe.output.classical == "blend", self.prepared.task
        rng = torch.Generator(self.where).manual_seed(self.recipe.seed)
        if blend and task.completes:
            return completion.keep(problem, rng)
        if not (blend and task.blends) or self.recipe.supervision.kind == "full" or problem.texture.independent:
            return None
        return combination.keep(problem, rng)

    def without(self, problem: Problem, kept: Tensor) -> Problem:
        """Return what a fit sees where some voxels are kept to judge it by."""
        # Where holes are filled, a network may be shown all that is known: it must not be shown these.
        return problem.hiding(kept) if self.prepared.task.completes else problem.weighted(1 - kept)

    def fit(self, problem: Problem, cancel: threading.Event | None) -> Steps:
        saving = None if self.checkpoint is None else _Saving(self.checkpoint, self)
        fit = _start(problem, self.prepared, self.recipe, self.started, cancel, saving)
        while True:
            try:
                self.last = next(fit)
            except StopIteration as end:
                self.fits.append(end.value)
                self.estimates.append(end.value.estimate)
                return
            yield self._progress(self.last, len(self.fits))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where an earlier process was stopped, and save from now on."""
        self.checkpoint = checkpoint
        if checkpoint.state is None:
            return
        for fitted, found in checkpoint.state["done"]:
            self.fits.append(Fitted(**{**fitted, "reason": StopReason[fitted["reason"]], "again": None}))
            self.estimates.append(fitted["estimate"] if found is None else found["estimate"])
            self.combinations += [] if found is None else [Combination(**found)]
        self.made_of = checkpoint.state["made_of"]
        self.known, plan = checkpoint.state["blend"], checkpoint.state["plan"]
        self.plan = None if plan is None else (tuple(plan[0]), plan[1])
        step = checkpoint.state["fit"]["now"]["step"]
        self.resumed = f"The run went on from a checkpoint, at step {step} of {self.recipe.fit.steps}."

    def save(self, state: dict[str, Any] | None = None) -> None:
        """Save where the run stands: the fits that are complete, the state of the one at work or just done, and on."""
        assert self.checkpoint is not None
        # Without the network: what it is applied to once more, it has been applied to.
        complete = self.fits if state is not None else self.fits[:-1]
        fits = [{**vars(f), "reason": f.reason.name, "again": None, "network": None} for f in complete]
        combinations: Sequence[dict[str, Any] | None]
        combinations = [vars(c) for c in self.combinations[: len(fits)]] or [None] * len(fits)
        self.checkpoint.save(
            {
                "done": list(zip(fits, combinations, strict=True)),
                "made_of": self.made_of,
                "fit": self.state if state is None else state,
                "blend": self.known,
                "plan": self.plan,
            }
        )

    def combine(self, problem: Problem, kept: Tensor | None, cancel: threading.Event | None) -> Steps:
        """Weigh the last estimate against classical results, unless there is no time left for it."""
        task, limit = self.prepared.task, self.recipe.stop.max_seconds
        if self.recipe.output.classical == "none" or not (task.blends or task.completes):
            return
        fitted = self.fits[-1]
        if task.completes:
            known_noise = task.minds_noise(self.recipe)
            results = completion.complete(problem, fitted.estimate, kept, known_noise=known_noise)
        else:
            results = self._blended(problem if kept is None else problem.weighted(kept), fitted)
        began = time.monotonic()
        for found in results:
            if isinstance(found, Combination):
                self.combinations.append(found)
                self.estimates[-1] = found.estimate
                break
            if self.checkpoint is not None and (self.checkpoint.due() or (cancel is not None and cancel.is_set())):
                self.save()
            if self.last is not None:
                left = (time.monotonic() - began) * (1 - found) / found
                still = replace(self.last, eta=left, preview=lambda: fitted.estimate)
                yield self._progress(still, len(self.fits) - 1)
            if cancel is not None and cancel.is_set():
                self.fits[-1] = replace(fitted, reason=StopReason.CANCELLED)
                return
            if limit is not None and time.monotonic() - self.started > limit:
                return

    def _blended(self, problem: Problem, fitted: Fitted) -> Iterator[Combination | float]:
        before = sum(len(e[0]) for e in self.estimates[:-1])
        problem = self.prepared.judged(problem, fitted.estimate.mean(dim=0), before)
        believed = self._noise_fits(problem)
        again = fitted.again if self.recipe.output.classical == "blend" and believed else None
        if not believed:
            self.made_of = (
                "network alone: the noise is not as strong as its model says, so that no error can be foretold"
            )
        rng = torch.Generator(self.where).manual_seed(self.recipe.seed)
        return combination.combine(
            problem,
            fitted.estimate,
            again,
            rng,
            correlated=self.prepared.correlated,
            known=None if self.checkpoint is None else self.known,
            weights_only=self.large is not None,
        )

    def apply(self, scratch: Path | None, cancel: threading.Event | None) -> Steps:
        """Apply what was learned from parts of a large image to all of it, tile by tile."""
        assert self.large is not None
        tiles = self.tiles = self._tiles(scratch)
        if tiles is None:
            return
        share = min(self.prepared.image.array.size / self.large.image.array.size, 1.0)
        self.more.append(
            f"The image is large: it was learned from {len(self.large.places)} parts of it, {share:.0%} of its voxels."
        )
        if self.large.uneven:
            self.more.append("The noise was taken to be as strong everywhere, since the image is large.")
        finished = self._finished(tiles)
        for progress in self._applying(tiles.run(finished)):
            yield progress
            done = progress.tiles or 0.0
            if cancel is not None and cancel.is_set() and done < 1:
                self.fits[-1] = replace(self.fits[-1], reason=StopReason.CANCELLED)
                self.more.append(f"Only {done:.0%} of the image was restored before the end; the rest is as it was.")
                break
        self.more += [] if tiles.note is None else [tiles.note]

    def make(self, which: slice) -> Generator[Progress[NDArray[Any]], None, int]:
        """Make some of a large image's tiles, and return how many there are in all."""
        tiles = self._tiles(None)
        if tiles is None:
            return 0
        finished = self._finished(tiles)
        assert finished is not None
        assert self.checkpoint is not None
        if self.checkpoint.failed:
            raise WriteError(f"What was learned could not be kept in {self.checkpoint.path}: is the disk full?")
        yield from self._applying(tiles.make(finished, which))
        return len(tiles.planned)

    def _tiles(self, scratch: Path | None) -> Tiles | None:
        """Divide a large image into tiles; ``None`` where nothing was learned that they could be restored by."""
        assert self.large is not None
        fitted = self.fits[-1] if self.fits else None
        if fitted is None or fitted.again is None or fitted.reason is StopReason.CANCELLED:
            return None
        mixing = self.combinations[-1] if self.combinations else None
        weights = ({NETWORK: 1.0}, {}) if mixing is None else (mixing.weights, mixing.piloting)
        large = self.large
        tiles = Tiles(large.image, large.region, self.prepared, fitted.again, weights, self.where, scratch, self.plan)
        if self.checkpoint is not None and self.plan is None:
            self.plan = tiles.plan
            self.save()
        # The sample's own result is not needed any more.
        self.estimates = []
        return tiles

    def _finished(self, tiles: Tiles) -> Finished | None:
        """Return the tiles that are done already, by all that they depend on."""
        if self.checkpoint is None:
            return None
        network = self.fits[-1].network
        assert network is not None
        total = hashlib.sha256(f"{self.checkpoint.of} {tiles.plan} {tiles.weights}".encode())
        for value in network.state_dict().values():
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
        return Finished(folder_of(self.checkpoint.path), total.hexdigest())

    def _applying(self, shares: Iterator[float]) -> Steps:
        began = time.monotonic()
        for done in shares:
            left = (time.monotonic() - began) * (1 - done) / done
            if self.last is not None:
                memory = device.memory_in_use(self.where)
                yield self._progress(replace(self.last, eta=left, memory=memory, tiles=done), len(self.fits) - 1)

    def _noise_fits(self, problem: Problem) -> bool:
        """Whether the noise is as strong as its model says, going by how far predictions of hidden voxels miss."""
        options, terms = self.recipe.supervision, self.fits[-1].data_terms
        if options.kind == "full" or options.recorrupt != "hide":
            return True
        seen = float(np.mean(terms[-(len(terms) // 4 + 1) :]))
        return LEAST_MISS < seen / float(problem.sigma.square().mean()) < MOST_MISS

    def restoration(self) -> Restoration:
        result, clipped, spread, baseline = self._result()
        last = self.fits[-1] if self.fits else None
        best = self.combinations[-1] if self.combinations else None
        report = Report(
            task=self.prepared.task.name,
            asked=self.prepared.task.asked,
            recipe=self.recipe,
            reasons=self.choice.reasons | ({"output.classical": self.made_of or best.sentence} if best else {}),
            noise=self.earlier.report.noise if self.earlier else tuple(e.sentence for e in self.prepared.estimates),
            reason=last.reason if last else StopReason.NOTHING,
            steps=last.steps if last else 0,
            best_step=last.best_step if last else 0,
            data_terms=last.data_terms if last else [],
            stop_curve=last.stop_curve if last else [],
            weights=best.weights if best else {},
            risks=best.risks if best else {},
            clipped=clipped,
            seconds=time.monotonic() - self.started,
            memory=max(self.memory, device.memory_in_use(self.where)),
            device=device.describe(self.where),
            notes=tuple(self._notes(clipped)),
            advice=self._advice(),
        )
        return Restoration(result, spread, baseline, report)

    def _result(self) -> tuple[Image, int, Image | None, Image | None]:
        """Return the restored image, how many voxels were clipped, the spread and the baseline."""
        if self.tiles is not None:
            return *self.tiles.result(), self.tiles.spread(), None
        if self.large is not None:
            whole, promised = self.large.image, self.recipe.output.dtype == "float32"
            as_it_was = whole.with_array(whole.array.astype("float32")) if promised else whole
            return as_it_was, 0, None, None
        nothing = np.empty((1, 0, *self.prepared.image_shape), np.float32)
        stacks = torch.cat(self.estimates, dim=1).cpu().numpy() if self.estimates else nothing
        result, clipped = self.prepared.finish(*self.prepared.values(stacks.mean(axis=0)))
        return result, clipped, self._spread(stacks), self._baseline()

    def _advice(self) -> tuple[str, ...]:
        prepared = self.prepared
        if not prepared.task.minds_noise(self.recipe):
            return ()
        return tuple(choices.advice(self.choice, correlated=prepared.correlated, counts=prepared.counts))

    def _baseline(self) -> Image | None:
        if not self.combinations:
            return None
        stack = torch.cat([c.baseline for c in self.combinations]).cpu().numpy()
        return self.prepared.finish(*self.prepared.values(stack))[0]

    def _spread(self, stacks: NDArray[np.float32]) -> Image | None:
        if len(stacks) < 2:
            return None
        prepared = self.prepared
        spread = np.zeros(prepared.canvas.shape, np.float32)
        _, replaced = prepared.values(stacks[0])
        each = np.stack([prepared.values(stack)[0][replaced] for stack in stacks])
        spread[replaced] = each.std(axis=0, ddof=1)
        return prepared.canvas.with_array(spread)

    def _notes(self, clipped: int) -> list[str]:
        prepared, fits, parts = self.prepared, self.fits, self.parts
        notes = [*prepared.image.source.notes, *self.more]
        saved = None if self.checkpoint is None else self.checkpoint.note
        notes += [note for note in (self.resumed, saved) if note]
        if fits and len(fits) < parts:
            notes.append(
                f"Only the first {len(fits)} of {parts} images were restored before the end; the rest is as it was."
            )
        if restarts := max((f.restarts for f in fits), default=0):
            times = "once" if restarts == 1 else f"{restarts} times"
            notes.append(f"The fit diverged {times} and was restarted, each time at half the rate.")
        if clipped:
            notes.append(f"{clipped} voxels were clipped to what the stored type {prepared.image.dtype} can hold.")
        if prepared.correlated:
            notes.append(
                "The noise is correlated between neighbouring voxels: some of it looks like structure, and less of it "
                "can be taken out than of independent noise."
            )
        coarse = prepared.rounding()
        if coarse:
            notes.append(coarse)
        return notes

    def _progress(self, progress: Progress[Tensor], done: int) -> Progress[NDArray[Any]]:
        """Put a fit's progress into that of the run, in which `done` fits came before it."""
        self.memory = max(self.memory, progress.memory)
        before = done * progress.steps
        earlier = tuple(self.estimates[:done])

        def preview() -> NDArray[Any]:
            if self.tiles is not None:
                return np.asarray(self.tiles.result()[0].array)
            stack = torch.cat([*earlier, progress.preview()], dim=1).mean(dim=0)
            values = self.prepared.values(stack.cpu().numpy())[0]
            return values if self.large is None else sample.placed(self.large.image, self.large.places, values)

        return Progress(
            step=before + progress.step,
            steps=self.parts * progress.steps,
            data_term=progress.data_term,
            stop_value=progress.stop_value,
            best_step=before + progress.best_step,
            seconds=time.monotonic() - self.started,
            eta=progress.eta + (self.parts - done - 1) * (progress.eta + progress.seconds),
            memory=progress.memory,
            preview=preview,
            tiles=progress.tiles,
        )


class _Saving:
    """The checkpoint as the fit at work sees it: its own state, beside that of the fits before."""

    def __init__(self, checkpoint: Checkpoint, run: _Run) -> None:
        self._run, self.due = run, checkpoint.due
        saved = checkpoint.state
        # Of the first fit that is not complete; later ones begin.
        self.state: dict[str, Any] | None = None if saved is None else saved["fit"]
        checkpoint.state = None
        if self.state is None:
            run.known = {}

    def save(self, state: dict[str, Any]) -> None:
        self._run.save(state)

    def end(self, state: dict[str, Any]) -> None:
        self._run.state = state


def _start(
    problem: Problem,
    prepared: Preparation,
    recipe: Recipe,
    started: float,
    cancel: threading.Event | None,
    saving: _Saving | None,
) -> Generator[Progress[Tensor], None, Fitted]:
    """Begin one fit: fresh networks, a fresh rule, fresh random numbers."""
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
    )


def _supervise(
    problem: Problem, task: Task, recipe: Recipe, spacing: Sequence[float], rng: torch.Generator
) -> Supervision:
    options, seeds = recipe.supervision, recipe.fit.seeds
    watched = recipe.stop.rule == "held_out" and (options.kind == "full" or options.recorrupt == "hide")
    held_out = supervision.hold_out(problem, recipe.stop.held_out, rng) if watched else None
    if options.kind == "full":
        split = recipe.stop.split if recipe.stop.rule == "split" else None
        shape = problem.operator.finer(problem.observation).shape[2:]
        grid = generators.input_grid(recipe.generator, shape, spacing)
        return supervision.Full(problem, recipe.input, seeds, held_out, rng, split, grid)
    assert options.patch is not None
    hidden = options.hidden or choices.FEW_HIDDEN
    assert options.passes is not None
    spatial = problem.observation.ndim - 2
    if options.recorrupt == "resample":
        finer = task.finer("ZYX")
        scale = Across if finer[0] > 1 and max(finer[1:]) == 1 else Resample
        return scale(problem, patch=options.patch, seeds=seeds, passes=options.passes, spacing=spacing)
    # A volume's patch is flatter: planes are fewer than rows.
    patch = (options.patch,) * 2 if spatial == 2 else (max(options.patch // 2, 8), options.patch, options.patch)
    if options.recorrupt == "split":
        return supervision.Split(
            problem, patch=patch, batch=1, seeds=seeds, passes=options.passes, strength=options.strength
        )
    return supervision.Hide(
        problem,
        patch=patch,
        batch=1,
        seeds=seeds,
        held_out=held_out,
        passes=options.passes,
        hidden=hidden,
        alike=isinstance(task, Inpaint),
        in_turn=not isinstance(task, Inpaint) or recipe.output.known == "restore",
    )
