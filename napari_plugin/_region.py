"""A painted region: Labels or Shapes of any grid, as a mask on the grid of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes

from dip_sci.errors import ImageError
from dip_sci.image import SPATIAL
from dip_sci.region import METRES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

    Index = tuple[slice, ...]
    Array = NDArray[Any]

CORNERS = 64
"""Corners of the polygon that an ellipse becomes."""


@dataclass(frozen=True, eq=False)
class Region:
    """What was painted, and how the image's voxels lie in it; made in the window's thread, used in another.

    Attributes
    ----------
    name
        Of the layer.
    matrix
        From the image's voxels to the region's, ``(k + 1, k + 1)``, over the last k dimensions that both have.
    labels
        The painted labels; ``None`` for shapes.
    shapes
        Kind and corners of each shape, in the region's coordinates ``(corners, ndim)``.
    shape, axes
        The image layer's, colour samples left out.
    """

    name: str
    matrix: Array
    labels: Array | None
    shapes: tuple[tuple[str, Array], ...]
    shape: tuple[int, ...]
    axes: str

    @classmethod
    def of(cls, layer: Layer, image: Layer, axes: str) -> Region:
        """Take what a Labels or Shapes layer holds at this moment; `axes` are those of the image layer."""
        shape = tuple(int(n) for n in _shape(image))
        matrix = between(image, layer)
        axes = axes[: len(shape)]
        if isinstance(layer, Shapes):
            kinds = zip(layer.shape_type, layer.data, strict=True)
            return cls(layer.name, matrix, None, tuple((str(k), np.array(d)) for k, d in kinds), shape, axes)
        assert isinstance(layer, Labels)
        data = layer.data[0] if layer.multiscale else layer.data
        return cls(layer.name, matrix, data, (), shape, axes)

    @property
    def on_image_grid(self) -> bool:
        """Whether the labels have the image's grid, so that nothing has to be looked up."""
        if self.labels is None:
            return True
        return tuple(self.labels.shape) == self.shape and bool(np.allclose(self.matrix, np.eye(len(self.matrix))))

    @property
    def sentence(self) -> str:
        """Say that the labels lie on another grid; empty where they do not."""
        if self.on_image_grid or self.labels is None:
            return ""
        return (
            f"The labels {self.name!r} of shape {tuple(self.labels.shape)} lie on another grid than the image of shape "
            f"{self.shape}: each voxel takes the label nearest to it, and none outside of them."
        )

    def mask(self, index: Index | None = None) -> NDArray[np.bool_]:
        """Return where the region is, on the image layer's grid or a part of it.

        Parameters
        ----------
        index
            The part, one slice per dimension of the layer.

        Raises
        ------
        ImageError
            If nothing of the region is inside.
        """
        box = [s.indices(n)[:2] for s, n in zip(index or (slice(None),) * len(self.shape), self.shape, strict=True)]
        inside = self._painted(box) if self.labels is not None else self._drawn(box)
        if not inside.any():
            what = "has no label other than 0" if self.labels is not None else "holds no area"
            raise ImageError(
                f"The region {self.name!r} is empty: it {what} inside the image. "
                "Paint or draw where to restore, or choose the whole image."
            )
        return inside

    def box(self) -> tuple[list[float], list[float]] | None:
        """Return the first and last corner around all shapes, in the image's voxels; ``None`` without any."""
        k = len(self.matrix) - 1
        own = [corners for kind, corners in self._own_shapes() if kind != "line"]
        if not own:
            return None
        every = np.concatenate(own)
        rest = list(self.shape[: len(self.shape) - k])
        return [0.0] * len(rest) + list(every.min(axis=0)), rest + list(every.max(axis=0) + 1)

    def _own_shapes(self) -> list[tuple[str, Array]]:
        """Return the shapes with their corners in the image's voxels."""
        inverse = np.linalg.inv(self.matrix)
        k = len(inverse) - 1
        found = []
        for kind, given in self.shapes:
            corners = _round(given) if kind == "ellipse" else given
            found.append((kind, corners[:, -k:] @ inverse[:k, :k].T + inverse[:k, -1]))
        return found

    def _painted(self, box: list[tuple[int, int]]) -> NDArray[np.bool_]:
        assert self.labels is not None
        size = [b - a for a, b in box]
        if self.on_image_grid:
            found: NDArray[np.bool_] = np.asarray(self.labels[tuple(slice(a, b) for a, b in box)]) != 0
            return found
        k = len(self.matrix) - 1
        labels = np.asarray(self.labels)
        # Dimensions that only the labels have: inside if at any of their places.
        labels = (labels != 0).any(axis=tuple(range(labels.ndim - k))) if labels.ndim > k else labels != 0
        last = box[-k:]
        inside = np.zeros([b - a for a, b in last], bool)
        if np.allclose(self.matrix[:k, :k], np.diag(np.diag(self.matrix)[:k])):
            rows = [self._along(axis, last[axis], n) for axis, n in enumerate(labels.shape)]
            inside = labels[np.ix_(*(at for at, _ in rows))]
            for axis, (_, ok) in enumerate(rows):
                inside &= ok.reshape([-1 if d == axis else 1 for d in range(k)])
        else:
            for first in range(inside.shape[0]):
                inside[first] = self._turned(labels, last, first)
        return np.broadcast_to(inside, size)

    def _along(self, axis: int, ends: tuple[int, int], n: int) -> tuple[Array, NDArray[np.bool_]]:
        at = np.rint(self.matrix[axis, axis] * np.arange(*ends) + self.matrix[axis, -1]).astype(int)
        return at.clip(0, n - 1), (at >= 0) & (at < n)

    def _turned(self, labels: NDArray[np.bool_], box: list[tuple[int, int]], first: int) -> NDArray[np.bool_]:
        """Look up one plane of a grid that is turned against the image's."""
        rest = [b - a for a, b in box[1:]]
        places = np.stack([np.full(rest, first), *np.indices(rest)]).reshape(len(box), -1).astype(float)
        places += np.array([a for a, _ in box], float)[:, None]
        at = np.rint(self.matrix[:-1, :-1] @ places + self.matrix[:-1, -1:]).astype(int)
        ok = np.all([(a >= 0) & (a < n) for a, n in zip(at, labels.shape, strict=True)], axis=0)
        found = np.zeros(at.shape[1], bool)
        found[ok] = labels[tuple(a[ok] for a in at)]
        return found.reshape(rest)

    def _drawn(self, box: list[tuple[int, int]]) -> NDArray[np.bool_]:
        k = len(self.matrix) - 1
        inside = np.zeros([b - a for a, b in box], bool)
        for kind, corners in self._own_shapes():
            if kind not in ("line", "path"):
                _fill(inside, corners - [a for a, _ in box[-k:]], self.axes[-k:])
        return inside


def _fill(inside: NDArray[np.bool_], corners: Array, axes: str) -> None:
    """Fill a polygon that lies in a plane along two of the last dimensions, which `axes` names."""
    from skimage.draw import polygon2mask

    k = corners.shape[1]
    spread = np.ptp(corners, axis=0)
    plane = sorted(np.argsort(spread)[-2:])
    shape = inside.shape[-k:]
    flat = polygon2mask((shape[plane[0]], shape[plane[1]]), corners[:, plane])
    where: list[Any] = []
    for axis in range(k):
        at = int(np.rint(corners[:, axis].mean()))
        # What is drawn on one time point or channel counts on all.
        everywhere = axis in plane or axes[axis] not in SPATIAL
        if not everywhere and not 0 <= at < shape[axis]:
            return
        where.append(slice(None) if everywhere else at)
    inside[(..., *where)] |= flat


def _round(box: Array) -> Array:
    """Return the corners of an ellipse from those of its box."""
    centre, a, b = box.mean(axis=0), (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)[:, None]
    return np.asarray(centre + np.cos(turn) * a + np.sin(turn) * b)


def _shape(layer: Layer) -> Sequence[int]:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return data.shape[: layer.ndim]  # type: ignore[no-any-return]


def between(image: Layer, other: Layer) -> Array:
    """Return the matrix from one layer's voxels to another's, ``(k + 1, k + 1)``, over the last k that both have."""
    both = min(image.ndim, other.ndim)
    return np.asarray(np.linalg.inv(_to_world(other, both)) @ _units(image, other) @ _to_world(image, both))


def _to_world(layer: Layer, last: int) -> Array:
    """Return the matrix from a layer's voxels to the world, over its last dimensions."""
    n = layer.ndim
    zero = np.asarray(layer.data_to_world(np.zeros(n)))
    matrix = np.eye(n + 1)
    matrix[:n, n] = zero
    for axis in range(n):
        matrix[:n, axis] = np.asarray(layer.data_to_world(np.eye(n)[axis])) - zero
    return matrix[n - last :, n - last :]


def _units(image: Layer, region: Layer) -> Array:
    """Return the matrix from the image's units to the region's."""
    k = min(image.ndim, region.ndim)
    factors = [
        METRES[str(a)] / METRES[str(b)] if str(a) in METRES and str(b) in METRES else 1.0
        for a, b in zip(image.units[-k:], region.units[-k:], strict=True)
    ]
    return np.diag([*factors, 1.0])
