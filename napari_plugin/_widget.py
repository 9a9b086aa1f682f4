"""The widget "Restore": one image, one button, and what happens meanwhile."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from magicgui.widgets import Container, Label, ProgressBar, PushButton, Widget
from napari.qt.threading import create_worker
from napari.utils import progress
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from dip_sci.errors import DipSciError
from napari_plugin import _scope, _settings
from napari_plugin._choice import Choice
from napari_plugin._curve import Curve
from napari_plugin._facts import FULL, SMALL, Facts, facts, predicted
from napari_plugin._layout import row, scrolling, words
from napari_plugin._live import DRAWN_AFTER, Live
from napari_plugin._options import Options
from napari_plugin._results import Results, in_thread
from napari_plugin._snapshots import Snapshot, Snapshots
from napari_plugin._worker import Job, Outcome, Run, Update

if TYPE_CHECKING:
    from napari import Viewer

PAUSE = 400
"""Milliseconds without a change after which the noise is measured anew."""

AFTER = 50
"""Milliseconds from a run's start until the window shows what can wait."""


class Restore(Container[Widget]):
    """Choose an image and press Run.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget lives in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(labels=False)
        self.margins = (0, 0, 0, 0)
        self.viewer = napari_viewer
        self.life = _Life()
        self.live: Live | None = None
        self._bar: Any = None
        self._tickets = 0
        self._over = threading.Event()
        self._is_trial = False
        self.facts = Facts()
        self._make()
        self._pause = QTimer(self.native)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE)
        self._pause.timeout.connect(self.measure)
        layers = napari_viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.connect(self._layers_changed)
        self.native.destroyed.connect(self.life.end)
        self.how.show_recipe(_settings.last_recipe())
        self._layers_changed()

    @property
    def running(self) -> Run | None:
        """The run that goes on, ``None`` where none does."""
        return self.life.run

    def _make(self) -> None:
        self.how = Options(self._changed)
        self.choice = Choice(self.viewer, self._changed)
        self.device = words(Label(value=""))
        self.try_button = PushButton(
            text="Try on a crop", tooltip="Seconds on what you see or on a box you drew, then what the whole will take"
        )
        self.run_button = PushButton(text="Run", tooltip="Restore the image")
        self.stop_button = PushButton(text="Stop and keep", tooltip="End now with the best result so far")
        self.cancel_button = PushButton(text="Cancel", tooltip="End now with nothing")
        self.bar = ProgressBar(value=0, max=1)
        self.status = words(Label(value=""))
        self.curve = Curve()
        self.results = Results(self.curve)
        self.as_python = PushButton(text="Copy as Python", tooltip="The same restoration as lines of Python")
        self.as_command = PushButton(text="Copy as command", tooltip="The same restoration on the command line")
        holder = Container[Widget](labels=False)
        holder.native.layout().addWidget(self.curve)
        self.live_box = Container[Widget](widgets=[self.bar, self.status, holder], labels=False)
        self.live_box.margins = (0, 0, 0, 0)
        buttons = [row(self.try_button, self.run_button), row(self.stop_button, self.cancel_button)]
        parts = [self.choice, self.how, self.device, *buttons, self.live_box, self.results]
        self.body = Container[Widget](widgets=[*parts, row(self.as_python, self.as_command)], labels=False)
        self.native.layout().addWidget(scrolling(self.body))
        self._running(on=False)
        self.live_box.visible = self.results.visible = False
        self.run_button.changed.connect(self.run)
        self.try_button.changed.connect(self.try_crop)
        self.stop_button.changed.connect(self.stop)
        self.cancel_button.changed.connect(self.cancel)
        self.as_python.changed.connect(lambda _: self._copy("python"))
        self.as_command.changed.connect(lambda _: self._copy("command"))

    def _layers_changed(self, _event: Any = None) -> None:
        if self.life.over:
            return
        self.choice.layers_changed()
        if self.life.run is None and self.live is not None and not self.live.is_shown:
            # Nothing is left to go back to, to compare or to save.
            self.results.leave()

    def _changed(self) -> None:
        if not hasattr(self, "_pause"):
            return
        self.how.planes.visible = "Z" in self.choice.letters
        error = self.how.form.error()
        if self.choice.layer is None:
            self.how.noise.value = self.choice.error()
        self._say(error)
        self._pause.start()

    def _say(self, words: str) -> None:
        self.status.value = words
        self.live_box.visible = bool(words) or self.live_box.visible

    # Noise, device, cost

    def measure(self) -> None:
        """Measure the noise of the chosen image and predict what a run takes, in a thread."""
        if self.life.run is not None or self.life.over or self.choice.layer is None or self.how.form.error():
            return
        try:
            layer, parts = self.choice.require(), self.choice.parts()
            size = math.prod(_scope.shape_of(layer))
            if size > FULL or not _in_memory(layer):
                parts = _scope.crop(self.viewer, layer, self.choice.letters)
            source, recipe = self.choice.source(parts), self.how.recipe()
        except DipSciError as error:
            self.how.noise.value = str(error)
            return
        asked = self.choice.asked(parts) if size <= SMALL and _in_memory(layer) else None
        self._tickets += 1
        ticket = self._tickets
        self.how.noise.value = "measuring ..."
        self._over.set()
        self._over = threading.Event()
        worker = create_worker(facts, source, recipe, asked, self._over)

        def heard(found: Facts) -> None:
            if self.life.over or ticket != self._tickets:
                worker.quit()
            else:
                self._show_facts(found)

        worker.yielded.connect(heard)
        worker.returned.connect(heard)
        worker.start()

    def _show_facts(self, found: Facts) -> None:
        self.facts = found
        self.how.show_facts(found)
        self.device.value = ", ".join(part for part in (found.device, found.cost) if part)

    # What is run

    def run(self, _pressed: Any = None) -> None:
        """Restore the chosen image, or say why not."""
        self._start(trial=False)

    def try_crop(self, _pressed: Any = None) -> None:
        """Restore a small part within seconds, then say what the whole will take."""
        self._start(trial=True)

    def _start(self, *, trial: bool) -> None:
        if self.life.run is not None:
            show_warning("A restoration is running: stop or cancel it before you start another one.")
            return
        try:
            layer, recipe = self.choice.require(), self.how.recipe()
            if trial:
                job, parts = self.choice.trial(recipe)
            else:
                parts = self.choice.parts()
                job = self.choice.job(recipe, parts)
                self._tell_of_grid()
            start = [s.start or 0 for s in self.choice.index_of(parts)][: layer.ndim]
            finer = self.choice.finer(parts)
        except DipSciError as error:
            show_error(str(error))
            return
        self.results.leave()
        self._is_trial = trial
        self.live = Live(self.viewer, layer, start, finer, "trial" if trial else self.choice.task.done)
        _settings.remember(self.how.form.given())
        self._launch(job, f"{self.choice.task.title}: {layer.name}")

    def _tell_of_grid(self) -> None:
        region = self.choice.painted()
        if region is not None and region.sentence:
            show_warning(region.sentence)

    def _launch(self, job: Job, title: str) -> None:
        # Nothing that is still being measured may take the processor from the run, or change the window.
        self._tickets += 1
        self._over.set()
        run = self.life.run = Run(job, Snapshots(_settings.snapshots()), previews=_settings.preview())
        self._running(on=True)
        # One thing after the other, so that the window answers in between: napari draws all of itself for its bar.
        QTimer.singleShot(AFTER, lambda: self._show_activity(run, title))
        worker = create_worker(run.steps)
        worker.yielded.connect(lambda update: self._heard(run, update))
        worker.returned.connect(lambda outcome: self._ended(run, outcome))
        worker.aborted.connect(lambda: self._ended(run, Outcome()))
        worker.start()

    def _show_activity(self, run: Run, title: str) -> None:
        if run is self.life.run and not self.life.over:
            self._bar = progress(total=1, desc=title)

    def stop(self, _pressed: Any = None) -> None:
        """End the run after its current step and keep the best so far."""
        if self.life.run is not None:
            self.life.run.stop.set()
            self._say("Stopping; the best so far is kept ...")
            self.stop_button.enabled = False

    def cancel(self, _pressed: Any = None) -> None:
        """End the run after its current step and keep nothing."""
        if self.life.run is not None:
            self.life.run.abandon.set()
            self.life.run.shown.set()
            self._say("Cancelling ...")
            self.stop_button.enabled = self.cancel_button.enabled = False

    def _running(self, *, on: bool) -> None:
        self.run_button.enabled = self.try_button.enabled = not on
        self.stop_button.enabled = self.cancel_button.enabled = on
        self.live_box.visible = True
        self.bar.visible = on

    # What a run tells

    def _heard(self, run: Run, update: Update) -> None:
        if self.life.over or run is not self.life.run or run.abandon.is_set():
            return
        if not run.stop.is_set():
            self._say(update.sentence)
        if update.preview is not None and self.live is not None:
            first = self.live.layer is None
            shown = self.live.preview(update.preview)
            # After the layer has been drawn.
            QTimer.singleShot(2 * DRAWN_AFTER, run.shown.set)
            if not shown and not run.told:
                run.told = True
                show_info("The preview was removed; the run goes on, and its result will be added at the end.")
            if first:
                # Making a layer takes as long as the window may keep a user waiting.
                return
        if update.steps:
            self.bar.max, self.bar.value = update.steps, update.step
            if self._bar is not None:
                self._bar.total = update.steps
                self._bar.update(update.step - self._bar.n)
        self.curve.show_run(run.data_terms, run.stop_curve, update.steps)

    def _ended(self, run: Run, outcome: Outcome) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if run is not self.life.run:
            return
        self.life.run = None
        if self.life.over or self.live is None:
            return
        self._running(on=False)
        if run.abandon.is_set() or (outcome.restoration is None and outcome.rescued is None):
            self.live.give_up()
            self._say(outcome.error or "Cancelled; nothing was kept.")
            if outcome.error:
                show_error(outcome.error)
            return
        self._keep(run, outcome)

    def _keep(self, run: Run, outcome: Outcome) -> None:
        assert self.live is not None
        assert outcome.image is not None
        steps = max((step for step, _ in run.data_terms), default=0)
        if outcome.restoration is not None:
            report = outcome.restoration.report
            image, record = outcome.restoration.image, {"record": outcome.record, "description": outcome.description}
            best = report.best_step or steps
            self._say(" ".join([report.reason.value, *report.notes]))
        else:
            assert outcome.rescued is not None
            image, record, best = outcome.rescued, None, steps
            self._say(outcome.error)
            show_error(outcome.error)
        states = [*(s for s in run.snapshots.kept if s.step < best), Snapshot(best, image.array)]
        self.live.finish(image, states, record)
        self.curve.show_run(run.data_terms, run.stop_curve, max(steps, 1), best)
        self.results.show_run(self.live, run, outcome)
        if self._is_trial:
            self._predict()

    def _predict(self) -> None:
        """Say what the whole will take, now that a part has been tried."""
        layer = self.choice.layer
        if layer is None or not _in_memory(layer):
            return
        try:
            job = self.choice.job(self.how.recipe(), self.choice.parts())
        except DipSciError:
            return

        def predict() -> str:
            image = job.image()
            return predicted(image, job.recipe, job.asked(image, job.region(image)))

        in_thread(predict, self._show_cost)

    def _show_cost(self, words: str) -> None:
        if not self.life.over:
            self._show_facts(dataclasses.replace(self.facts, cost=words))
            self._say(f"{self.status.value}\nThe whole image: {words}.")

    def _copy(self, what: str) -> None:
        try:
            script = self.choice.script(self.how.recipe())
        except DipSciError as error:
            show_error(str(error))
            return
        text = script.python() if what == "python" else script.command()
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(text)
        show_info(f"Copied. {script.missing}".strip())


def _in_memory(layer: Any) -> bool:
    return isinstance(layer.data, np.ndarray)


class _Life:
    """Ends a widget's run with the widget.

    It outlives the widget, which may be half taken apart by the time Qt says that it is gone, and knows nothing of it.
    """

    kept: ClassVar[set[_Life]] = set()

    def __init__(self) -> None:
        self.over = False
        self.run: Run | None = None
        self.kept.add(self)

    def end(self) -> None:
        """End whatever is running."""
        self.over = True
        if self.run is not None:
            self.run.abandon.set()
            self.run.shown.set()
            self.run.stop.set()
        self.kept.discard(self)
