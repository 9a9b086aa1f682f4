"""Image: an array that never travels without its geometry."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.lazy import Lazy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

AXES = "TCZYXS"
"""Known axes: time, channel, depth, row, column, colour sample."""

SPATIAL = "ZYX"

REAL = "biuf"
"""Kinds of NumPy's types that hold real numbers."""


@dataclass(frozen=True)
class Source:
    """Where an image came from, and what its file needs to be written again.

    Attributes
    ----------
    format
        Name of the format that read it (``"nifti"``, ``"tiff"``, ``"ome_zarr"``, ``"nrrd"``, ``"dicom"``,
        ``"raster"``, ``"vendor"``), or ``"array"`` for an image made in memory.
    path
        The file or folder; ``None`` for an image made in memory.
    header
        What the format's own writer needs to give the metadata back. Only the format that made
        it reads it, but for ``"own"`` (names of what that writer alone gives back) and ``"lost"`` (names
        of what no writer does).
    notes
        Sentences a user should see: what was assumed, what could not be kept. No patient data.
    channels
        Names of the channels along ``C``, empty where unknown.
    modality
        What measured it, by DICOM's abbreviation (``"CT"``, ``"MR"``, ...); ``None`` where unknown.
    """

    format: str = "array"
    path: str | None = None
    header: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    modality: str | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """An n-dimensional image with named axes and its place in the world.

    Attributes
    ----------
    array
        Values in the image's own units (Hounsfield units, counts, grey values), shape as named
        by `axes`, for instance ``(Z, Y, X)``. Integer arrays are stored values. A `Lazy` array where it was read
        so: it has a shape, a type and parts, and `loaded` gives the values.
    axes
        One letter per dimension of `array`, out of ``TCZYXS``; always holds ``Y`` and ``X``.
    spacing
        Distance between samples along each axis, in the unit of that axis; ``None`` where unknown
        or meaningless (channels).
    units
        UDUNITS/OME full name per axis (``"millimeter"``, ``"micrometer"``, ``"second"``); ``None``
        where unknown.
    affine
        ``(4, 4)`` matrix from voxel indices in the order ``(x, y, z, 1)`` to millimetres in the
        patient's RAS+ frame (NIfTI's; DICOM's LPS+ with the first two rows negated), or ``None``
        where the format has no such frame.
    valid
        Boolean array of the shape of `array`; ``False`` marks padding that was never measured.
        Such voxels are neither fitted nor changed. ``None``: every voxel was measured.
    value_range
        Smallest and largest value that the stored type can hold, where it is narrower than that of
        ``array.dtype`` (12-bit DICOM); ``None`` otherwise.
    source
        Where it came from.
    """

    array: NDArray[Any]
    axes: str
    spacing: tuple[float | None, ...] = ()
    units: tuple[str | None, ...] = ()
    affine: NDArray[np.float64] | None = None
    valid: NDArray[np.bool_] | None = None
    value_range: tuple[float, float] | None = None
    source: Source = Source()

    def __post_init__(self) -> None:
        """Check that the parts fit each other."""
        n = self.array.ndim
        if len(self.axes) != n:
            raise ImageError(f"An array of shape {self.array.shape} needs {n} axes, not {self.axes!r}.")
        unknown = sorted(set(self.axes) - set(AXES))
        if unknown or len(set(self.axes)) != n or not {"Y", "X"} <= set(self.axes):
            raise ImageError(
                f"Axes {self.axes!r} are not usable: name each dimension once, out of {AXES}, with Y and X among them."
            )
        if self.array.size == 0:
            raise ImageError(f"The image is empty: its shape is {self.array.shape}.")
        for name in ("spacing", "units"):
            given = getattr(self, name)
            if not given:
                object.__setattr__(self, name, (None,) * n)
            elif len(given) != n:
                raise ImageError(f"{name} has {len(given)} entries for the {n} axes {self.axes!r}.")
        if any(s is not None and not (math.isfinite(s) and s > 0) for s in self.spacing):
            raise ImageError(f"Spacing must be positive and finite; found {self.spacing} for axes {self.axes!r}.")
        if self.valid is not None and self.valid.shape != self.array.shape:
            raise ImageError(f"The valid mask's shape {self.valid.shape} is not the image's {self.array.shape}.")
        if self.affine is not None and self.affine.shape != (4, 4):
            raise ImageError(f"The affine's shape is {self.affine.shape}, not (4, 4).")

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype

    @property
    def spatial_axes(self) -> str:
        """The spatial axes present, in the array's order (``"ZYX"`` or ``"YX"``)."""
        return "".join(a for a in self.axes if a in SPATIAL)

    def spacing_of(self, axis: str) -> float | None:
        """Spacing along a named axis; ``None`` where unknown or where there is no such axis."""
        return self.spacing[self.axes.index(axis)] if axis in self.axes else None

    def size_of(self, axis: str) -> int:
        """Length of a named axis; 1 where there is no such axis."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def is_lazy(self) -> bool:
        """Whether the values are still in their file."""
        return isinstance(self.array, Lazy)

    def loaded(self) -> Image:
        """Return the same image with its values in memory."""
        return dataclasses.replace(self, array=np.asarray(self.array)) if self.is_lazy else self

    def measured(self) -> NDArray[np.bool_]:
        """Boolean array of the voxels that hold a measurement: finite, and not padding."""
        finite = np.isfinite(self.array) if self.array.dtype.kind == "f" else np.ones(self.shape, bool)
        return finite if self.valid is None else finite & self.valid

    def with_array(self, array: NDArray[Any]) -> Image:
        """Return the same image with other values on the same grid.

        Parameters
        ----------
        array
            Values of the same shape; the type may differ.

        Raises
        ------
        ImageError
            If the shape differs: a new grid needs a new geometry.
        """
        if array.shape != self.shape:
            raise ImageError(f"with_array needs shape {self.shape}, got {array.shape}.")
        return dataclasses.replace(self, array=array)

    def with_notes(self, *notes: str) -> Image:
        """Return the same image with sentences added to what its user should see."""
        source = dataclasses.replace(self.source, notes=(*self.source.notes, *notes))
        return dataclasses.replace(self, source=source)


def needed(image: object) -> Image:
    """Return what is to be an image.

    Raises
    ------
    ImageError
        If it is none.
    """
    if isinstance(image, Image):
        return image
    raise ImageError(
        f"An Image is needed, not {type(image).__name__}: dip_sci.read reads a file, and Image(array, axes) names an array's axes, "
        "such as 'ZYX'."
    )
