"""Piecewise: the whole way of an image that is too large for one fit, piece after piece."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from dip_sci import preferences
from dip_sci.errors import FitError, WriteError
from dip_sci.finished import Finished, folder_of
from dip_sci.large import is_short
from dip_sci.pieces import WARM_STEPS, Pieces
from dip_sci.restoration import Restoration

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Generator

    from numpy.typing import NDArray
    from torch import Tensor

    from dip_sci.image import Image
    from dip_sci.pieces import Box, Piece
    from dip_sci.progress import Progress
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Report
    from dip_sci.run import Run
    from dip_sci.tasks import Task

    Steps = Generator[Progress[NDArray[Any]], None, Run]
    Mask = NDArray[np.bool_] | None


class Learn(Protocol):
    """Fits networks to one image of its own."""

    def __call__(
        self,
        image: Image,
        recipe: Recipe,
        task: Task,
        region: Mask,
        background: Mask,
        cancel: threading.Event | None,
        checkpoint: str | os.PathLike[str] | None,
        *,
        warm: Tensor | None,
    ) -> Steps:
        """Fit, beginning with the weights of another fit, if there are any."""
        ...


def restore(
    pieces: Pieces,
    recipe: Recipe,
    masks: tuple[Mask, Mask],
    cancel: threading.Event | None,
    checkpoint: str | os.PathLike[str] | None,
    learn: Learn,
) -> Generator[Progress[NDArray[Any]], None, Restoration]:
    """Restore an image piece by piece.

    Parameters
    ----------
    pieces
        The image, cut up.
    recipe
        As the user wrote it.
    masks
        Region of interest and background, of the image's shape, or ``None``.
    cancel, checkpoint
        As for `dip_sci.denoise`. Pieces that are done are left in the checkpoint's folder.
    learn
        Fits networks to one piece.

    Yields
    ------
    Progress
        After each step.

    Returns
    -------
    Restoration
        As the generator's return value.

    Raises
    ------
    FitError
        If there is not enough memory for the smallest piece.
    """
    course = _Course(pieces, recipe, masks, None if checkpoint is None else Path(checkpoint))
    for piece in pieces:
        context = pieces.context(piece)
        if course.found(piece, context):
            continue
        part, task, own, inside, noise_only = course.job(context)
        run = learn(part, own, task, inside, noise_only, cancel, checkpoint, warm=course.warm)
        try:
            course.keep(piece, context, (yield from _followed(run, course, context)))
        except (MemoryError, RuntimeError) as error:
            if not is_short(error):
                raise
            # It still holds what was in memory.
            error.with_traceback(None)
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()
            pieces.split(piece)
        if cancel is not None and cancel.is_set():
            break
    return course.restoration()


def _followed(run: Steps, course: _Course, context: Box) -> Steps:
    """Fit a piece; yield its progress as that of the whole."""
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            learned: Run = end.value
            return learned
        yield course.progress(progress, context)


class _Course:
    """Which pieces are done, and what they have told."""

    def __init__(self, pieces: Pieces, recipe: Recipe, masks: tuple[Mask, Mask], checkpoint: Path | None) -> None:
        self.pieces, self.recipe, self.masks = pieces, recipe, masks
        self.started = time.monotonic()
        self.warm: Tensor | None = None
        self.done, self.reused = 0, 0
        self.made: list[Report] = []
        self.note: str | None = None
        self.store = None
        if checkpoint is not None:
            task = pieces.task
            of = f"{recipe.model_dump_json()} {task.name} {task.asked} {pieces.device.type} {torch.__version__}"
            self.store = Finished(folder_of(checkpoint), hashlib.sha256(of.encode()).hexdigest())

    def job(self, context: Box) -> tuple[Image, Task, Recipe, Mask, Mask]:
        """Return a part of the image, what is asked of it, how, and its masks."""
        pieces = self.pieces
        part, task = pieces.cut(context), pieces.task.within(pieces.image, context)
        chosen = pieces.recipe
        own = self.recipe.merged(
            {
                "supervision": {"kind": chosen.supervision.kind},
                "generator": {"ndim": chosen.generator.ndim},
                "output": {"dtype": "float32", "tile": None},
            }
        )
        if self.warm is not None:
            steps = preferences.decided(task, own, part).fit.steps
            own = own.merged({"fit": {"steps": max(round(WARM_STEPS[str(chosen.supervision.kind)] * (steps or 0)), 1)}})
        if limit := self.recipe.stop.max_seconds:
            left = max(limit - (time.monotonic() - self.started), 1e-3)
            own = own.merged({"stop": {"max_seconds": left / max(pieces.count - self.done, 1)}})
        inside, noise_only = (None if m is None or not m[context].any() else m[context] for m in self.masks)
        return part, task, own, inside, noise_only

    def found(self, piece: Piece, context: Box) -> bool:
        """Take a piece that an earlier run has done; not the last one, of which there would be nothing to tell."""
        if self.store is None or self.done == self.pieces.count - 1:
            return False
        name = self._name(piece, context)
        change, weights = self.store.find(name), self.store.find(f"{name}-weights")
        if change is None or weights is None:
            return False
        self.pieces.add(piece, change)
        self._go_on(torch.from_numpy(weights))
        self.reused += 1
        return True

    def keep(self, piece: Piece, context: Box, run: Run) -> None:
        """Add what was made of a piece."""
        restoration = run.restoration()
        change = self.pieces.change(piece, context, restoration.image.array)
        weights = run.fits[-1].weights if run.fits else None
        if self.store is not None and restoration.report.complete:
            name = self._name(piece, context)
            kept = np.empty(0, np.float32) if weights is None else weights.cpu().numpy()
            try:
                self.store.keep(name, change)
                self.store.keep(f"{name}-weights", kept)
            except WriteError as error:
                self.store, self.note = None, f"The run could not be saved on the way: {error}"
        self.pieces.add(piece, change)
        self.made.append(restoration.report)
        self._go_on(weights)

    def progress(self, progress: Progress[NDArray[Any]], context: Box) -> Progress[NDArray[Any]]:
        """Put a piece's progress into that of the whole."""
        count, share = self.pieces.count, progress.step / progress.steps
        seconds = time.monotonic() - self.started
        after = (progress.seconds + progress.eta) * (count - self.done - 1)
        return replace(
            progress,
            step=int((self.done + share) * progress.steps),
            steps=count * progress.steps,
            best_step=int((self.done + progress.best_step / progress.steps) * progress.steps),
            seconds=seconds,
            eta=progress.eta + after,
            preview=lambda: self.pieces.preview(context, progress.preview()),
        )

    def restoration(self) -> Restoration:
        """Return the whole, and what the pieces have told together."""
        pieces, reports = self.pieces, self.made
        if not reports:
            raise FitError("Nothing was restored: the run was stopped before its first piece.")
        image, clipped = pieces.result()
        first, last = reports[0], reports[-1]
        ended = next((r.reason for r in reports if not r.complete), last.reason)
        notes = [note for report in reports for note in report.notes]
        notes = [*pieces.image.source.notes, *(n for n in notes if n not in pieces.image.source.notes), *self._notes()]
        names = dict.fromkeys(name for report in reports for name in report.weights)
        report = replace(
            first,
            recipe=first.recipe.merged({"output": self.recipe.output.model_dump()}),
            reason=ended,
            steps=last.steps,
            best_step=last.best_step,
            data_terms=last.data_terms,
            stop_curve=last.stop_curve,
            weights={n: float(np.mean([r.weights.get(n, 0.0) for r in reports])) for n in names},
            risks={},
            clipped=clipped,
            seconds=time.monotonic() - self.started,
            memory=max(r.memory for r in reports),
            notes=tuple(dict.fromkeys(notes)),
        )
        return Restoration(image, None, None, report)

    def _notes(self) -> list[str]:
        count = self.pieces.count
        notes = [
            f"The image is large: it was restored in {count} pieces, each by a fit that began with the weights of the one "
            "before it."
        ]
        if self.done < count:
            notes.append(f"Only {self.done} of them were worked on before the end; the rest is as it was.")
        if self.reused:
            notes.append(f"The run went on from a checkpoint: {self.reused} pieces were done.")
        return [*notes, *([self.note] if self.note else [])]

    def _go_on(self, weights: Tensor | None) -> None:
        self.done += 1
        if weights is not None and weights.numel():
            self.warm = weights

    def _name(self, piece: Piece, context: Box) -> str:
        assert self.store is not None
        part, task, _, inside, noise_only = self.job(context)
        warm = None if self.warm is None else self.warm.cpu().numpy()
        parts = [part.array, part.valid, inside, noise_only, *task.arrays, task.measured(part), warm]
        return self.store.name(f"{piece.box} {context} {[ramp.tobytes().hex() for ramp in piece.ramps]}", parts)
