"""What is to be restored: the image, the part of it, the painted region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox, Container, LineEdit, Widget
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Shapes

from dip_sci.errors import DipSciError, ImageError
from napari_plugin import _scope
from napari_plugin._given import Given
from napari_plugin._layers import SERIES, attributes_of, axes_of, grid_of, image_of, part, source_path
from napari_plugin._layout import narrow
from napari_plugin._region import Region
from napari_plugin._scripts import Script
from napari_plugin._tasks import TASKS, Task
from napari_plugin._worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

    from dip_sci.image import Image
    from dip_sci.recipe import Recipe
    from dip_sci.tasks import Task as Asked

WHOLE, FIELD = "the whole image", "the visible field"
TRIAL_SECONDS = 8.0


class Choice(Container[Widget]):
    """The upper part of the widget: which layer, which task, which part.

    Parameters
    ----------
    viewer
        Whose layers can be chosen.
    changed
        Called when something else is to be restored.
    """

    def __init__(self, viewer: Viewer, changed: Callable[[], None]) -> None:
        self.viewer, self._changed = viewer, changed
        self.layer_box = ComboBox(label="image", choices=self._images, nullable=True)
        self.task_box = ComboBox(label="task", choices=[(t.title, t.name) for t in TASKS.values()])
        self.region = ComboBox(
            label="region", choices=self._regions, tooltip="Where to restore: a Labels or Shapes layer you painted in"
        )
        self.given = Given(viewer, lambda: self.layer)
        self.role = ComboBox(label="meaning", choices=lambda *_: [(r.title, r) for r in self.task.roles])
        self.axes = LineEdit(
            label="axes", tooltip="One letter per dimension: T time, C channel, Z plane, Y row, X column, S colour"
        )
        self.times = LineEdit(
            label="time points", value=_scope.CURRENT, tooltip="all, current, or numbers from 0, such as 0-4"
        )
        self.channels = LineEdit(
            label="channels", value=_scope.ALL, tooltip="all, current, or numbers from 0, such as 0-1"
        )
        rows = [self.layer_box, self.task_box, *self.given.fields.values(), self.region, self.role]
        rows += [self.axes, self.times, self.channels]
        super().__init__(widgets=rows, labels=True)
        self.margins = (0, 0, 0, 0)
        for box in (self.layer_box, self.task_box, self.region, self.role):
            narrow(box)
        self.layer_box.changed.connect(self._layer_changed)
        self.region.changed.connect(self._show_rows)
        for widget in (self.task_box, *self.given.fields.values(), self.axes, self.times, self.channels):
            widget.changed.connect(self._part_changed)

    @property
    def layer(self) -> Any:
        """The chosen image layer, ``None`` where there is none."""
        layer = self.layer_box.value
        return layer if layer in self.viewer.layers else None

    @property
    def task(self) -> Task:
        """What to do with it."""
        return TASKS[self.task_box.value]

    @property
    def letters(self) -> str:
        """The axes as the user sees them, colour samples included."""
        return self.axes.value.strip().upper()

    def layers_changed(self) -> None:
        """Offer the layers that there are now."""
        before = self.layer_box.value
        with self.layer_box.changed.blocked():
            self.layer_box.reset_choices()
            images = [layer for _, layer in self._images()]
            if self.layer_box.value is None and images:
                active = self.viewer.layers.selection.active
                self.layer_box.value = active if active in images else images[-1]
        with self.region.changed.blocked():
            self.region.reset_choices()
        self.given.layers_changed()
        if self.layer_box.value is not before:
            self._layer_changed()
        else:
            self._show_rows()

    def error(self) -> str:
        """Return why nothing can be restored, ``""`` where something can."""
        try:
            self.require()
        except DipSciError as error:
            return str(error)
        return ""

    def require(self) -> Any:
        """Return the chosen layer.

        Raises
        ------
        ImageError
            If there is none, or its axes do not name its dimensions.
        """
        if self.layer is None:
            raise ImageError("There is no image layer: open an image, or choose File > Open Sample > dip_sci.")
        shape = _scope.shape_of(self.layer)
        axes_of(attributes_of(self.layer), shape)
        letters = self.letters
        ok = len(letters) == len(shape) == len(set(letters)) and set(letters) <= set("TCZYXS") and {*"YX"} <= {*letters}
        if not ok:
            raise ImageError(
                f"The axes {letters!r} do not name the layer's {len(shape)} dimensions, {shape}: give one letter for "
                "each, out of T, C, Z, Y, X and S (colour), none twice, Y and X among them."
            )
        return self.layer

    def parts(self) -> dict[str, slice]:
        """Return by axis which time points and channels to restore.

        Raises
        ------
        ImageError
            If there are no such ones.
        """
        layer, letters = self.require(), self.letters
        at, shape = _scope.here(self.viewer, layer), _scope.shape_of(layer)
        rows = (("T", self.times, "time points"), ("C", self.channels, "channels"))
        where = [(axis, letters.index(axis), row, what) for axis, row, what in rows if axis in letters]
        return {axis: _scope.frames(row.value, at[i], shape[i], what) for axis, i, row, what in where}

    def index_of(self, parts: dict[str, slice]) -> _scope.Index:
        """Return one slice per dimension of the layer."""
        return _scope.index(self.letters, _scope.shape_of(self.require()), parts)

    def source(self, parts: dict[str, slice]) -> Callable[[], Image]:
        """Return what reads the pixels of a part, in another thread, of the layer as it is now."""
        layer = self.require()
        data, attributes, index = layer.data, attributes_of(layer), self.index_of(parts)
        given = self._given_axes()

        def read() -> Image:
            image = image_of(data, attributes, given, index)
            # The layer may be painted on or removed meanwhile; what is restored stays as it is.
            return image.with_array(image.array.copy()) if np.shares_memory(image.array, data) else image

        return read if isinstance(data, np.ndarray) else lambda: image_of(data, attributes, given, index)

    def job(self, recipe: Recipe, parts: dict[str, slice]) -> Job:
        """Return what to run, with the painted region."""
        recipe = recipe if self.region.value is None else recipe.merged(self.role.value.options)
        return Job(self.source(parts), self._mask(parts), self.task, recipe, self._read_given(parts))

    def asked(self, parts: dict[str, slice]) -> Callable[[Image], Asked] | None:
        """Return what makes, in another thread, the engine's task for a part; ``None`` while something is missing."""
        try:
            task, mask, given = self.task, self._mask(parts), self._read_given(parts)
        except ImageError:
            return None
        return lambda image: task.bind(image, mask(image), given())

    def trial(self, recipe: Recipe) -> tuple[Job, dict[str, slice]]:
        """Return a job of seconds, and the part that it is tried on: the box drawn in a Shapes layer, or what is seen."""
        layer, region = self.require(), self.painted()
        box = region.box() if region is not None and region.labels is None else None
        parts = _scope.crop(self.viewer, layer, self.letters, box)
        limit = recipe.stop.max_seconds
        recipe = recipe.merged({"stop": {"max_seconds": min(limit or TRIAL_SECONDS, TRIAL_SECONDS)}})
        # Without its holes there is nothing to fill; without a region of interest the crop itself is one.
        mask = self._mask(parts) if self.task.mask == "missing" else lambda _: None
        return Job(self.source(parts), mask, self.task, recipe, self._read_given(parts)), parts

    def finer(self, parts: dict[str, slice]) -> tuple[int, ...]:
        """Return how many voxels of the result lie in one of the layer, along each of its dimensions.

        Raises
        ------
        ImageError
            If the factor does not fit the part.
        """
        layer = self.require()
        if self.task.needs != "factor":
            return (1,) * int(layer.ndim)
        index = self.index_of(parts)
        whole = grid_of(layer.data, attributes_of(layer), self._given_axes())
        here = part(whole, index, whole.array[index])
        factors = self.task.bind(here, None, self.given.factors()).finer(self.letters)
        return tuple(factors[: layer.ndim])

    def _mask(self, parts: dict[str, slice]) -> Callable[[Image], Any]:
        """Return what finds, in another thread, where a part was painted."""
        region, index = self.painted(), self.index_of(parts)[: self.require().ndim]

        def mask(image: Image) -> Any:
            if region is None:
                return None
            inside = region.mask(index)
            return inside if inside.ndim == image.array.ndim else np.broadcast_to(inside[..., None], image.shape)

        return mask

    def _read_given(self, parts: dict[str, slice]) -> Callable[[], Any]:
        return self.given.read(self.task, self.letters, self.index_of(parts))

    def _given_axes(self) -> str | None:
        """Return the axes where the user has given others than the layer's own."""
        layer = self.require()
        own = axes_of(attributes_of(layer), _scope.shape_of(layer))
        return None if self.letters == own else self.letters

    def painted(self) -> Region | None:
        """Return the region as it is painted now, ``None`` for the whole image."""
        return None if self.region.value is None else Region.of(self.region.value, self.require(), self.letters)

    def script(self, recipe: Recipe) -> Script:
        """Return what stands in the widget, ready to be run elsewhere."""
        layer = self.require()
        painted = self.region.value is not None
        given = (recipe.merged(self.role.value.options) if painted else recipe).model_dump(exclude_unset=True)
        shape = _scope.shape_of(layer)
        # A part has no file: what is run elsewhere must be what is run here.
        part = self.index_of(self.parts()) != _scope.index(self.letters, shape, {})
        source = None if part else source_path(attributes_of(layer), shape)
        axes = self._given_axes() if source else self.letters
        series = layer.metadata.get(SERIES) if source else None
        return Script(self.task, given, source, axes, painted, self.given.words(self.task), part, series)

    def _images(self, *_: Any) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self.viewer.layers if isinstance(layer, ImageLayer)]

    def _regions(self, *_: Any) -> list[tuple[str, Any]]:
        painted = [(layer.name, layer) for layer in self.viewer.layers if isinstance(layer, Labels | Shapes)]
        return [(WHOLE, None), *painted]

    def _layer_changed(self, _value: Any = None) -> None:
        letters = ""
        self.given.layers_changed()
        if self.layer is not None:
            try:
                letters = axes_of(attributes_of(self.layer), _scope.shape_of(self.layer))
            except ImageError:
                letters = ""
        with self.axes.changed.blocked():
            self.axes.value = letters
        self._part_changed()

    def _part_changed(self, _value: Any = None) -> None:
        self._show_rows()
        self._changed()

    def _show_rows(self, _value: Any = None) -> None:
        self.given.show(self.task)
        self.role.reset_choices()
        self.role.visible = self.region.value is not None
        self.axes.visible = self.layer is not None and len(_scope.shape_of(self.layer)) > 2
        self.times.visible = "T" in self.letters
        self.channels.visible = "C" in self.letters
