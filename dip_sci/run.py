"""Run: what the fits of one image have yielded so far, what is made of it, and how it is saved on the way."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from dip_sci import choices, combination, completion, device, fitting, held_out, interruption, sample, sharpening
from dip_sci.combination import NETWORK, Combination
from dip_sci.errors import WriteError
from dip_sci.finished import Finished, folder_of
from dip_sci.fit import Fitted
from dip_sci.large import Tiles
from dip_sci.progress import Progress
from dip_sci.restoration import Report, Restoration
from dip_sci.stopping import StopReason

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from dip_sci.checkpoint import Checkpoint
    from dip_sci.choices import Choices
    from dip_sci.image import Image
    from dip_sci.preparation import Preparation
    from dip_sci.problem import Problem

    Steps = Generator[Progress[NDArray[Any]], None, None]

LEAST_MISS = 0.9
"""Mean square miss of predictions of hidden voxels, in variances of the noise, from which on its model is believed.

They miss by the noise at least, except where it is cut off, and by all content that neighbours do not foretell.
"""

FAR = 2.0
"""The same, from which on the report tells of it."""


BLENDING = 0.8
"""Share of the time that a blend takes where holes are to be completed after it."""


@dataclass(frozen=True)
class LargeImage:
    """A large image, where to restore it, the parts that a run learns from, and whether its noise is uneven."""

    image: Image
    region: NDArray[np.bool_] | None
    places: list[tuple[slice, ...]]
    uneven: bool


class Run:
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
        self.large: LargeImage | None = None
        self.tiles: Tiles | None = None
        self.more: list[str] = []
        self.warm: Tensor | None = None

    @property
    def complete(self) -> bool:
        """Whether the last fit came to its end, so that the next may begin."""
        return not self.fits or self.fits[-1].reason not in (StopReason.CANCELLED, StopReason.TIME)

    def keep(self, problem: Problem) -> Tensor | None:
        """Choose what the fit does not learn from, where its risk is to be measured afterwards."""
        blend, task = self.recipe.output.classical == "blend", self.prepared.task
        rng = torch.Generator(self.where).manual_seed(self.recipe.seed)
        if blend and task.completes:
            return completion.keep(problem, rng, deep=task.deep)
        if not (blend and task.blends(self.recipe)):
            return None
        if self.recipe.supervision.kind == "full" or problem.texture.independent:
            return None
        return held_out.blocks(problem, rng)

    def without(self, problem: Problem, kept: Tensor) -> Problem:
        """Return what a fit sees where some voxels are kept to judge it by."""
        # Where holes are filled, a network may be shown all that is known: it must not be shown these.
        return problem.hiding(kept) if self.prepared.task.completes else problem.weighted(1 - kept)

    def fit(self, problem: Problem, cancel: threading.Event | None) -> Steps:
        """Fit fresh networks to a problem, step by step."""
        saving = None if self.checkpoint is None else _Saving(self.checkpoint, self)
        fit = fitting.start(problem, self.prepared, self.recipe, self.started, cancel, saving, self.warm)
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
        blends = task.blends(self.recipe)
        if self.recipe.output.classical == "none" or not (blends or task.completes or task.sharpens):
            return
        fitted = self.fits[-1]
        if blends:
            results = self._blended(problem, kept, fitted)
        elif task.sharpens:
            results = self._sharpened(problem, fitted)
        else:
            known_noise = task.minds_noise(self.recipe)
            results = completion.complete(problem, fitted.estimate, kept, known_noise=known_noise)
        began = time.monotonic()

        def is_unwanted() -> bool:
            late = limit is not None and time.monotonic() - self.started > limit
            return late or (cancel is not None and cancel.is_set())

        for found in interruption.wanted(results, is_unwanted):
            if isinstance(found, Combination):
                self.combinations.append(found)
                self.estimates[-1] = found.estimate
                return
            if self.checkpoint is not None and self.checkpoint.due():
                self.save()
            if self.last is not None:
                left = (time.monotonic() - began) * (1 - found) / found
                still = replace(self.last, eta=left, preview=lambda: fitted.estimate)
                yield self._progress(still, len(self.fits) - 1)
        if self.checkpoint is not None:
            self.save()
        if cancel is not None and cancel.is_set():
            self.fits[-1] = replace(fitted, reason=StopReason.CANCELLED)

    def _blended(self, problem: Problem, kept: Tensor | None, fitted: Fitted) -> Iterator[Combination | float]:
        """Blend, judged by what the fit has not learned from where that matters; then complete holes."""
        before = sum(len(e[0]) for e in self.estimates[:-1])
        said = problem.scatter()
        problem, known = self.prepared.judged(problem, fitted.estimate.mean(dim=0), before)
        # What the fit was told of the noise is not all that is known of it now.
        miss = None if fitted.miss is None else fitted.miss * said / problem.scatter()
        if kept is None:
            yield from self._weighed(problem, fitted, miss, known=known)
            return
        holes = self.prepared.task.completes
        everywhere = holes and not self.prepared.noise.correlated
        weighed = self._weighed(problem if everywhere else problem.weighted(kept), fitted, miss, known=known)
        if not holes:
            yield from weighed
            return
        for found in weighed:
            if isinstance(found, float):
                yield BLENDING * found
                continue
            for refilled in completion.refill(problem, found, fitted.estimate, kept):
                yield BLENDING + (1 - BLENDING) * refilled if isinstance(refilled, float) else refilled

    def _sharpened(self, problem: Problem, fitted: Fitted) -> Iterator[Combination | float]:
        """Lead the network's result on, or leave it beside the regularised inverse."""
        if self.recipe.output.classical != "blend":
            yield Combination(fitted.estimate, sharpening.regularised(problem), {NETWORK: 1.0}, {})
            return
        self.made_of = f"network, led on by {sharpening.LED}"
        noise = self.recipe.noise
        told = noise.sigma is not None or noise.gain is not None
        for found in sharpening.sharpen(problem, fitted.estimate, told=told):
            if isinstance(found, Combination) and found.noise < 1:
                self.more.append(
                    f"The noise was taken to be {found.noise:.2g} times as strong as was found: what was restored, blurred again, "
                    "leaves no more of it."
                )
            yield found

    def _weighed(
        self, problem: Problem, fitted: Fitted, miss: float | None, *, known: bool
    ) -> Iterator[Combination | float]:
        # The noise is said to be as strong as it may be, and that is not what is to be contradicted; but doubt is no excuse.
        said = max(1 / self.prepared.caution, LEAST_MISS)
        least = LEAST_MISS * said * (1 - self.prepared.noise.cut_off)
        believed = miss is None or miss > least
        again = fitted.again if self.recipe.output.classical == "blend" and believed and known else None
        if not known:
            self.made_of = (
                "network alone: photons are so few, and not counted one by one, that no error can be foretold"
            )
        elif not believed:
            self.made_of = (
                "network alone: the noise is not as strong as its model says, so that no error can be foretold"
            )
        # Beside holes, predictions also miss for want of neighbours.
        if miss is not None and miss > FAR and not self.prepared.task.completes:
            self.more.append(
                f"Voxels differ from what their neighbours foretell by {math.sqrt(miss):.1f} times the noise: the image has "
                "detail that fine, or more noise than was found. If noise is left in the result, set noise.sigma."
            )
        rng = torch.Generator(self.where).manual_seed(self.recipe.seed)
        return combination.combine(
            problem,
            fitted.estimate,
            again,
            rng,
            correlated=self.prepared.noise.correlated,
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
        weights = ({NETWORK: 1.0}, ()) if mixing is None else (mixing.weights, mixing.piloting)
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

    def restoration(self) -> Restoration:
        """Return the result and the report of all that has been done."""
        result, clipped, spread, baseline = self._result()
        last = self.fits[-1] if self.fits else None
        best = self.combinations[-1] if self.combinations else None
        report = Report(
            task=self.prepared.task.name,
            asked=self.prepared.task.asked,
            recipe=self.recipe,
            reasons=self.choice.reasons | ({"output.classical": self.made_of or best.sentence} if best else {}),
            noise=self.earlier.report.noise if self.earlier else self.prepared.found.sentences,
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
        return tuple(choices.advice(self.choice, correlated=prepared.noise.correlated, counts=prepared.noise.counts))

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
        if prepared.noise.correlated:
            notes.append(
                "The noise is correlated between neighbouring voxels: some of it looks like structure, and less of it "
                "can be taken out than of independent noise."
            )
        notes += prepared.doubts()
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

    def __init__(self, checkpoint: Checkpoint, run: Run) -> None:
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
