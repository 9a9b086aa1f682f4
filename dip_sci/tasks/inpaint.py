"""Inpainting: fill in what is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.region import region_array
from dip_sci.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.operators import Operator
    from dip_sci.recipe import Recipe

DEEP = 12.0
"""Distance in voxels into a hole, from which on nothing around it says by example what is in it."""


@dataclass(frozen=True, eq=False)
class Inpaint(Task):
    """Fill in what is missing.

    Attributes
    ----------
    missing
        Boolean array of the image's shape: the voxels to fill.
    depth
        Distance from the innermost missing voxel to the next known one, in voxels along Z, Y and X.
    planes
        Whether whole planes are missing, of which only their neighbours along Z know.
    """

    name = "inpaint"
    nothing = "missing"
    completes = True

    missing: NDArray[np.bool_]
    depth: float
    planes: bool

    @classmethod
    def of(cls, image: Image, missing: NDArray[Any] | Image | None) -> Inpaint:
        """Check a mask against its image.

        Parameters
        ----------
        image
            What was measured.
        missing
            Non-zero where to fill: of the image's shape or of that of its spatial axes. ``None``: all voxels that
            are not finite.

        Raises
        ------
        ImageError
            If nothing is missing, or everything is (in one channel at one time).
        """
        if missing is None:
            holes: NDArray[np.bool_] = ~np.isfinite(image.array)
            if not holes.any():
                raise ImageError("Nothing is missing: all values are finite. Give a mask of the voxels to fill.")
        else:
            found = region_array(image, missing, "mask of missing voxels")
            assert found is not None
            holes = found
        known = image.measured() & ~holes
        if not known.any(axis=_spatial(image)).all():
            raise ImageError(
                "Everything is missing, in one channel or at one time at least: there is nothing to fill it from. "
                "The mask must be non-zero where voxels are missing, and 0 where they are known."
            )
        depth = max(float(apart.max()) for apart, _ in _nearest(image, known, holes))
        in_plane = tuple(k for k, a in enumerate(image.axes) if a in "YX")
        return cls(np.array(holes), depth, not bool(known.any(axis=in_plane).all()))

    @property
    def deep(self) -> bool:
        """See `Task`."""
        return self.depth > DEEP

    def measured(self, image: Image) -> NDArray[np.bool_]:
        """See `Task`."""
        return image.measured() & ~self.missing

    def canvas(self, image: Image, region: NDArray[np.bool_] | None = None) -> Image:
        """See `Task`: each missing voxel as the nearest known one."""
        array = image.array.copy()
        known = self.measured(image)
        filled = self.missing if region is None else self.missing & region
        for index, (_, at) in zip(_slabs(image), _nearest(image, known, filled), strict=True):
            holes = filled[index]
            array[index][holes] = array[index][tuple(a[holes] for a in at)]
        valid = None if image.valid is None else image.valid | filled
        return replace(image, array=array, valid=valid)

    def fits(self, image: Image, box: tuple[slice, ...]) -> bool:
        """See `Task`: where something is known in each channel at each time."""
        valid = None if image.valid is None else image.valid[box]
        part = replace(image, array=np.asarray(image.array[box]), valid=valid)
        return bool((part.measured() & ~self.missing[box]).any(axis=_spatial(image)).all())

    def within(self, image: Image, box: tuple[slice, ...]) -> Task:
        """See `Task`: depth and planes stay those of the whole."""
        return replace(self, missing=self.missing[box])

    def wanted(self, image: Image, *, known: str) -> NDArray[np.bool_]:
        """See `Task`."""
        return self.missing if known == "keep" else self.missing | image.measured()

    def minds_noise(self, recipe: Recipe) -> bool:
        """See `Task`: where the known voxels are kept, only if the noise was given."""
        return recipe.output.known == "restore" or recipe.noise.given

    def blends(self, recipe: Recipe) -> bool:
        """See `Task`: where the known voxels are denoised, too."""
        return recipe.output.known == "restore" and recipe.supervision.kind != "full"

    def operator(self, axes: str, spacing: Sequence[float], recipe: Recipe, noise: float) -> Operator:
        """See `Task`: beside voxels that count as they are, holes are filled from close by."""
        from dip_sci.operators import Identity

        return Identity(spacing) if self.blends(recipe) else Identity(spacing, base=0)


def _spatial(image: Image) -> tuple[int, ...]:
    return tuple(k for k, a in enumerate(image.axes) if a in "ZYX")


def _slabs(image: Image) -> list[tuple[int | slice, ...]]:
    """Index each channel, colour sample and time point of an image."""
    others = [n if a not in "ZYX" else 1 for a, n in zip(image.axes, image.shape, strict=True)]
    return [
        tuple(slice(None) if a in "ZYX" else i for a, i in zip(image.axes, at, strict=True))
        for at in np.ndindex(*others)
    ]


def _nearest(
    image: Image, known: NDArray[np.bool_], holes: NDArray[np.bool_]
) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Return for each slab the distance of its holes from the next known voxel, and the indices of that one."""
    from scipy.ndimage import distance_transform_edt

    found = []
    for index in _slabs(image):
        apart, at = distance_transform_edt(~known[index], return_indices=True)
        found.append((np.where(holes[index], apart, 0.0), at))
    return found
