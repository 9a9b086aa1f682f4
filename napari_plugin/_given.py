"""What a task is given besides its image: how much finer, another image, how a point was blurred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import ComboBox, LineEdit
from napari.layers import Image as ImageLayer

from dip_sci.errors import ImageError
from dip_sci.image import SPATIAL
from dip_sci.region import LEAST
from napari_plugin import _scope
from napari_plugin._layers import SERIES, attributes_of, axes_of, grid_of, image_of, source_path
from napari_plugin._layout import narrow
from napari_plugin._region import between
from napari_plugin._scripts import LAYERS
from napari_plugin._tasks import Guide

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from numpy.typing import NDArray

    from napari_plugin._tasks import Task

    Index = tuple[slice, ...]

ONE_FOR_ALL = "2"


class Given:
    """The fields for it; a task shows the one that it needs.

    Parameters
    ----------
    viewer
        Whose layers can be given.
    chosen
        Returns the layer that is to be restored.

    Attributes
    ----------
    fields
        By what is needed (`Task.needs`).
    """

    def __init__(self, viewer: Viewer, chosen: Callable[[], Any]) -> None:
        self.viewer, self._chosen = viewer, chosen
        self.factor = LineEdit(
            label="factor",
            value=ONE_FOR_ALL,
            tooltip="How many times finer: one whole number for Y and X, or one for each spatial axis, as in 3,1,1",
        )
        self.guide = ComboBox(
            label="guide",
            choices=self._others,
            tooltip="Another image of the same object: another channel, exposure or modality",
        )
        self.psf = ComboBox(
            label="PSF",
            choices=self._others,
            tooltip="The point spread function: the image of a point on the image's grid, of odd sizes. "
            "It is divided by its sum",
        )
        self.fields: dict[str, Any] = {"factor": self.factor, "guide": self.guide, "psf": self.psf}
        for box in (self.guide, self.psf):
            narrow(box)

    def layers_changed(self) -> None:
        """Offer the layers that there are now."""
        for box in (self.guide, self.psf):
            with box.changed.blocked():
                box.reset_choices()

    def show(self, task: Task) -> None:
        """Show what a task needs."""
        for name, field in self.fields.items():
            field.visible = name == task.needs

    def read(self, task: Task, letters: str, index: Index) -> Callable[[], Any]:
        """Return what reads, in another thread, what a task is given, for a part of the chosen layer.

        Raises
        ------
        ImageError
            If it is not there, or is none.
        """
        if task.needs == "factor":
            factor = self.factors()
            return lambda: factor
        if not task.needs:
            return lambda: None
        layer = self.layer(task.needs)
        if task.needs == "guide":
            return self._guide(layer, letters, index)
        data, attributes = layer.data, attributes_of(layer)
        return lambda: image_of(data, attributes)

    def factors(self) -> int | tuple[int, ...]:
        """Return the factor, or one for each spatial axis.

        Raises
        ------
        ImageError
            If what is written is neither.
        """
        words = self.factor.value.strip("()[] ")
        try:
            found = tuple(int(word) for word in words.replace(" ", "").split(","))
        except ValueError:
            raise ImageError(
                f"The factor {self.factor.value!r} is no whole number: write one for Y and X, such as 2, or one for each "
                "spatial axis, such as 3,1,1."
            ) from None
        return found[0] if len(found) == 1 else found

    def layer(self, name: str) -> Any:
        """Return the layer that is given.

        Raises
        ------
        ImageError
            If there is none.
        """
        layer = self.fields[name].value
        if layer is None or layer not in self.viewer.layers:
            raise ImageError(f"There is no {LAYERS[name]}: open it as another image layer, and choose it.")
        return layer

    def words(self, task: Task) -> str | None:
        """Return what stands for it in a script: the factor, or the file that the layer came from."""
        if task.needs == "factor":
            found = self.factors()
            return str(found) if isinstance(found, int) else ",".join(map(str, found))
        if not task.needs:
            return None
        layer = self.layer(task.needs)
        # One of several series has no file of its own.
        return None if SERIES in layer.metadata else source_path(attributes_of(layer), _scope.shape_of(layer))

    def _others(self, *_: Any) -> list[tuple[str, Any]]:
        chosen = self._chosen()
        return [
            (layer.name, layer) for layer in self.viewer.layers if isinstance(layer, ImageLayer) and layer is not chosen
        ]

    def _guide(self, layer: Any, letters: str, index: Index) -> Callable[[], Guide]:
        """Return what reads a guide: of one on the image's grid, only the part that is looked at."""
        image = self._chosen()
        data, attributes, shape = layer.data, attributes_of(layer), _scope.shape_of(layer)
        own = axes_of(attributes, shape)
        parts = {a: s for a, s in zip(letters, index, strict=True) if a in SPATIAL}
        matrix = _between_spatial(image, letters, layer, own)
        sizes = {a: n for a, n in zip(letters, _scope.shape_of(image), strict=True) if a in SPATIAL}
        same_sizes = sizes == {a: n for a, n in zip(own, shape, strict=True) if a in SPATIAL}
        if same_sizes and matrix is not None and _is_still(matrix, sizes):
            here = _scope.index(own, shape, parts)
            return lambda: Guide(image_of(data, attributes, None, here))
        starts = np.eye(4)
        starts[:3, 3] = [parts[a].start or 0 if a in parts else 0 for a in "XYZ"]
        said = _has_affine(image) and _has_affine(layer)
        placed = None if said or matrix is None else matrix @ starts
        return lambda: Guide(image_of(data, attributes), placed)


def _has_affine(layer: Any) -> bool:
    """Whether a layer's file says where it lies."""
    found = grid_of(layer.data, attributes_of(layer))
    return found.affine is not None


def _between_spatial(image: Any, letters: str, other: Any, own: str) -> NDArray[Any] | None:
    """Return the matrix from an image layer's voxels ``(x, y, z, 1)`` to another's as they lie in the viewer.

    ``None`` where an axis of space is not among the last dimensions, by which napari lays one layer over another.
    """
    matrix = between(image, other)
    both = len(matrix) - 1
    places = []
    for names, layer in ((letters, image), (own, other)):
        at = {a: i - (layer.ndim - both) for i, a in enumerate(names[: layer.ndim]) if a in SPATIAL}
        if any(i < 0 for i in at.values()):
            return None
        places.append(at)
    if set(places[0]) != set(places[1]):
        return None
    found = np.eye(4)
    for k, a in enumerate("XYZ"):
        if a not in places[0]:
            continue
        for m, b in enumerate("XYZ"):
            if b in places[0]:
                found[k, m] = matrix[places[1][a], places[0][b]]
        found[k, 3] = matrix[places[1][a], both]
    return found


def _is_still(matrix: NDArray[Any], sizes: dict[str, int]) -> bool:
    """Whether a matrix leaves all corners of a grid where they are, as nearly as files say it."""
    ends = [sizes.get(a, 1) - 1 for a in "XYZ"]
    corners = np.array([[x, y, z, 1] for x in (0, ends[0]) for y in (0, ends[1]) for z in (0, ends[2])]).T
    return bool(np.abs(matrix @ corners - corners).max() <= LEAST)
