"""What can be done with a result: go back, compare, see its maps, save it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, Container, Label, PushButton, Slider, Widget
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from dip_sci.errors import DipSciError
from napari_plugin import _writer
from napari_plugin._layers import attributes_of, source_path
from napari_plugin._layout import row, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_plugin._curve import Curve
    from napari_plugin._live import Live
    from napari_plugin._worker import Outcome, Run

BLINK = 700
"""Milliseconds for which before and after are shown in turn."""

FILES = (
    "By the name's suffix (*);;OME-TIFF (*.ome.tif);;NIfTI (*.nii.gz *.nii);;OME-Zarr (*.ome.zarr);;"
    "NRRD (*.nrrd);;TIFF (*.tif);;DICOM, one file (*.dcm);;PNG (*.png)"
)


class Results(Container[Widget]):
    """Shown once there is a result.

    Parameters
    ----------
    curve
        Marks the step that is shown.
    """

    def __init__(self, curve: Curve) -> None:
        super().__init__(labels=False, visible=False)
        self.margins = (0, 0, 0, 0)
        self.curve = curve
        self.live: Live | None = None
        self.run: Run | None = None
        self.outcome: Outcome | None = None
        self.caption = words(Label(value=""))
        self.state = Slider(
            min=0, max=1, value=1, readout=False, tooltip="Go back through earlier states; the last one is the result"
        )
        self.before = CheckBox(text="Before", tooltip="Show what was restored instead of the result")
        self.blink = CheckBox(text="Blink", tooltip="Show before and after in turn")
        self.residual = PushButton(text="Residual", tooltip="What was taken out: before - after")
        self.spread = PushButton(text="Spread", tooltip="How far several networks disagree (fit.seeds of 2 or more)")
        self.noise = PushButton(text="Noise", tooltip="The noise's standard deviation at each voxel")
        self.save = PushButton(text="Save ...", tooltip="Save what is shown, with the source's metadata")
        self.extend([self.caption, self.state, row(self.before, self.blink)])
        self.extend([row(self.residual, self.spread, self.noise), self.save])
        self._timer = QTimer(self.native)
        self._timer.setInterval(BLINK)
        self._timer.timeout.connect(lambda: setattr(self.before, "value", not self.before.value))
        self.state.changed.connect(self.go_to)
        self.before.changed.connect(self._before)
        self.blink.changed.connect(self._blink)
        self.residual.changed.connect(self.show_residual)
        self.spread.changed.connect(self.show_spread)
        self.noise.changed.connect(self.show_noise)
        self.save.changed.connect(self.ask_and_save)

    def show_run(self, live: Live, run: Run, outcome: Outcome) -> None:
        """Offer what can be done with a result."""
        self.live, self.run, self.outcome = live, run, outcome
        self.visible = True
        with self.state.changed.blocked():
            self.state.max = max(len(live.states) - 1, 1)
            self.state.value = self.state.max
        self.state.enabled = len(live.states) > 1
        whole = outcome.restoration is not None
        self.spread.enabled = whole and outcome.restoration.spread is not None  # type: ignore[union-attr]
        self.noise.enabled = whole
        self.caption.value = self._words(len(live.states) - 1)

    def leave(self) -> None:
        """Forget the result: its layer stays, as it is shown."""
        self.blink.value = False
        self.before.value = False
        self.live = self.run = self.outcome = None
        self.visible = False

    def go_to(self, number: int) -> None:
        """Show an earlier state."""
        if self.live is None or self.run is None or not self.live.states:
            return
        number = min(number, len(self.live.states) - 1)
        state = self.live.go_to(number)
        self.caption.value = self._words(number)
        self.curve.show_run(self.run.data_terms, self.run.stop_curve, self.curve.steps, state.step)

    def _words(self, number: int) -> str:
        assert self.live is not None
        last = len(self.live.states) - 1
        if number == last:
            return "Shown: the result" + (f" (earlier states kept: {last})" if last else "")
        return f"Shown: the state after step {self.live.states[number].step}"

    def _before(self, on: bool) -> None:
        if self.live is not None:
            self.live.before(shown=on)

    def _blink(self, on: bool) -> None:
        self._timer.start() if on else self._timer.stop()
        if not on:
            self.before.value = False

    # Maps

    def show_residual(self, _pressed: Any = None) -> None:
        """Show what was taken out."""
        if self.live is None or self.outcome is None or self.outcome.image is None:
            return
        image, asked = self.outcome.image, self.outcome.asked
        after = self.live.states[min(self.state.value, len(self.live.states) - 1)].array

        def measure() -> NDArray[np.float32]:
            # On a finer grid, what was interpolated is what there was before.
            before = image.array if image.shape == after.shape or asked is None else asked.canvas(image).array
            return before.astype(np.float32) - after.astype(np.float32)

        in_thread(measure, self._show_residual)

    def _show_residual(self, residual: NDArray[np.float32]) -> None:
        if self.live is not None:
            width = 3 * float(np.nanstd(residual)) or 1.0
            self.live.add_map(residual, "residual", colormap="gray", contrast_limits=(-width, width))

    def show_spread(self, _pressed: Any = None) -> None:
        """Show how far the networks disagree."""
        restoration = self.outcome.restoration if self.outcome else None
        if self.live is not None and restoration is not None and restoration.spread is not None:
            self._show_sd(restoration.spread.array, "spread")

    def show_noise(self, _pressed: Any = None) -> None:
        """Show how strong the noise is at each voxel."""
        outcome = self.outcome
        if self.live is None or outcome is None or outcome.image is None or outcome.restoration is None:
            return
        image, recipe, result = outcome.image, outcome.restoration.report.recipe, outcome.restoration.image.array
        finer = result.shape != image.shape

        def measure() -> NDArray[np.float32]:
            from dip_sci.preparation import Preparation

            # Noise is in what was measured, on the grid on which it was measured.
            return Preparation(image, recipe, None).noise_map(image.array if finer else result)

        in_thread(measure, lambda found: self._show_sd(found, "noise", of_source=finer))

    def _show_sd(self, values: NDArray[Any], what: str, *, of_source: bool = False) -> None:
        if self.live is not None:
            high = float(np.nanmax(values)) or 1.0
            self.live.add_map(values, what, of_source=of_source, colormap="magma", contrast_limits=(0, high))

    # Files

    def ask_and_save(self, _pressed: Any = None) -> None:
        """Ask for a name and save what is shown."""
        if self.live is None or not self.live.is_shown:
            show_error("The result's layer is gone: there is nothing to save. Run again.")
            return
        path, _ = QFileDialog.getSaveFileName(self.native, "Save the result", str(self.suggestion()), FILES)
        if path:
            self.save_to(Path(path))

    def suggestion(self) -> Path:
        """Return a name beside the source, without a suffix: it is then saved in the source's format."""
        assert self.live is not None
        source = source_path(attributes_of(self.live.layer))
        folder = Path(source).parent if source else Path.home()
        return folder / self.live.name.replace(" ", "_").replace("*", "")

    def save_to(self, path: Path) -> None:
        """Save what is shown, in a thread; say where it went."""
        assert self.live is not None
        assert self.live.layer is not None
        data, attributes = self.live.layer.data, attributes_of(self.live.layer)
        in_thread(
            lambda: _writer.save(path, data, attributes),
            lambda written: show_info(f"Saved {' and '.join(p.name for p in written)}."),
        )


def in_thread(work: Callable[[], Any], then: Callable[[Any], Any]) -> None:
    """Do some work in a thread, then something with what it returns; an error becomes a notification."""

    def safe() -> tuple[Any, str]:
        try:
            return work(), ""
        except DipSciError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001
            return None, f"{type(error).__name__}: {error}"

    def done(found: tuple[Any, str]) -> None:
        value, error = found
        show_error(error) if error else then(value)

    worker = create_worker(safe)
    worker.returned.connect(done)
    worker.start()
