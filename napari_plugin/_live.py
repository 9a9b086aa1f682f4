"""The layers of one run: the preview that becomes the result, its earlier states, and its maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from qtpy.QtCore import QTimer

from napari_plugin._layers import KEY, RECORD, Origin, geometry, look
from napari_plugin._snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari import Viewer
    from napari.layers import Layer
    from numpy.typing import NDArray

    from dip_sci.image import Image

RUNNING = " (running)"

DRAWN_AFTER = 25
"""Milliseconds between making the preview's layer and drawing it the first time."""


class Live:
    """What one run shows in the viewer.

    All of the source layer's place and look is taken at the start: the layer may be gone at the end.

    Parameters
    ----------
    viewer, source
        Where to show it, and the layer that is restored.
    start
        First voxel of the part that is restored, one number per dimension of the layer.
    finer
        How many voxels of the result lie in one of the layer, along each dimension.
    done
        What to add to the layer's name.

    Attributes
    ----------
    layer
        The result's layer; ``None`` until there is something to show.
    states
        What can be gone back to, the result last; empty while the run goes on.
    """

    def __init__(self, viewer: Viewer, source: Layer, start: Sequence[int], finer: Sequence[int], done: str) -> None:
        self.viewer, self.source = viewer, source
        self.name = f"{source.name} {done}"
        self._place, self._look = geometry(source, start, finer), look(source)
        self._source_place = geometry(source, start)
        self._rgb = bool(source.rgb)
        self.layer: ImageLayer | None = None
        self.states: list[Snapshot] = []
        self._record: dict[str, Any] = {}

    @property
    def is_shown(self) -> bool:
        """Whether the result's layer is in the viewer."""
        return self.layer is not None and self.layer in self.viewer.layers

    def preview(self, state: NDArray[Any]) -> bool:
        """Show how far the run has come; return whether there is a layer to show it in."""
        if self.layer is None:
            layer = self.layer = self._add(state, self.name + RUNNING, {**self._look, "visible": False})
            # Making a layer and drawing it the first time are two moments, so that the window can answer in between.
            QTimer.singleShot(DRAWN_AFTER, lambda: setattr(layer, "visible", True))
        elif self.is_shown:
            self.layer.data = state
        return self.is_shown

    def finish(self, image: Image, states: Sequence[Snapshot], record: dict[str, Any] | None) -> None:
        """Show the result, ready to be saved with all that its source's file said.

        Parameters
        ----------
        image
            The result.
        states
            What can be gone back to, the result last.
        record
            How it came about; ``None`` where a run failed.
        """
        self.preview(states[-1].array)
        if not self.is_shown:
            # Somebody has removed the preview: the result is worth a layer of its own.
            self.layer = self._add(states[-1].array, self.name, self._look)
        assert self.layer is not None
        self.layer.name = self.name
        self.states, self._record = list(states), record or {}
        self.layer.metadata[KEY] = Origin.of(image, self.layer.scale)
        self._note()

    def give_up(self) -> None:
        """Take the preview away."""
        if self.layer is not None and self.is_shown:
            self.viewer.layers.remove(self.layer)
        self.layer = None

    def go_to(self, number: int) -> Snapshot:
        """Show an earlier state, or, with the last number, the result."""
        state = self.states[number]
        if self.layer is not None and self.is_shown:
            self.layer.data = state.array
            self._note(None if state is self.states[-1] else state.step)
        return state

    def before(self, *, shown: bool) -> None:
        """Show what was restored in place of the result, or the result again."""
        if self.layer is not None and self.is_shown:
            self.layer.visible = not shown
            if shown and self.source in self.viewer.layers:
                self.source.visible = True

    def add_map(self, values: NDArray[Any], what: str, *, of_source: bool = False, **keywords: Any) -> ImageLayer:
        """Show a map in the same place, on the grid of the result or of what was restored."""
        return self._add(values, f"{self.name}: {what}", keywords, self._source_place if of_source else None)

    def _note(self, step: int | None = None) -> None:
        """Write into the layer how what it shows came about."""
        assert self.layer is not None
        if not self._record:
            return
        record = self._record["record"]
        if step is not None:
            by_hand = f"The state after step {step} was chosen by hand, not the result."
            record = {**record, "notes": [*record["notes"], by_hand]}
        self.layer.metadata[RECORD] = {**self._record, "record": record}

    def _add(
        self, array: NDArray[Any], name: str, keywords: dict[str, Any], place: dict[str, Any] | None = None
    ) -> ImageLayer:
        layer = ImageLayer(array, name=name, rgb=self._rgb, metadata={}, **(place or self._place), **keywords)
        self.viewer.add_layer(layer)
        return layer
