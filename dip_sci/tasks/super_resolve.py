"""Super-resolution: finer voxels in the same field of view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dip_sci.errors import ImageError
from dip_sci.tasks.grid import finer, repeated
from dip_sci.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.operators import Operator
    from dip_sci.recipe import Recipe

LARGEST_FACTOR = 16


@dataclass(frozen=True, eq=False)
class SuperResolve(Task):
    """Make the voxels smaller.

    Attributes
    ----------
    factors
        How many times finer, along Z, Y and X; 1 along axes that the image has not.
    """

    name = "super_resolve"

    factors: tuple[int, int, int]

    @classmethod
    def of(cls, image: Image, factor: int | Sequence[int]) -> SuperResolve:
        """Check a factor against its image.

        Parameters
        ----------
        image
            What was measured.
        factor
            One for Y and X, or one for each spatial axis of the image, in its order.

        Raises
        ------
        ImageError
            If a factor is not a whole number from 1 to 16, all are 1, their number does not fit, or the image is too
            small.
        """
        given = (
            (1,) * (len(image.spatial_axes) - 2) + (factor,) * 2 if isinstance(factor, int | float) else tuple(factor)
        )
        if any(isinstance(f, bool) or f != int(f) or not 1 <= f <= LARGEST_FACTOR for f in given):
            raise ImageError(f"Factors must be whole numbers from 1 to {LARGEST_FACTOR}, found {given}.")
        if len(given) != len(image.spatial_axes):
            raise ImageError(
                f"{len(given)} factors were given for the spatial axes {image.spatial_axes}: give one for each of them, "
                "or a single one for Y and X."
            )
        if max(given) == 1:
            raise ImageError("All factors are 1: there is nothing to make finer.")
        by_axis = dict(zip(image.spatial_axes, map(int, given), strict=True))
        small = [a for a, f in by_axis.items() if f > 1 and image.size_of(a) < 2 * f]
        if small:
            raise ImageError(
                f"The image is too small to be made finer by {given}: shape {image.shape} ({image.axes}); along each axis "
                "twice the factor is needed to learn from."
            )
        z, y, x = (by_axis.get(a, 1) for a in "ZYX")
        return cls((z, y, x))

    @property
    def asked(self) -> dict[str, Any]:
        """See `Task`."""
        return {"factors": list(self.factors)}

    def finer(self, axes: str) -> tuple[int, ...]:
        """See `Task`."""
        return tuple(self.factors["ZYX".index(a)] if a in "ZYX" else 1 for a in axes)

    def canvas(self, image: Image) -> Image:
        """See `Task`: interpolated by cubics; what was not measured as the voxel that it lies in."""
        return finer(image, self.finer(image.axes))

    def wanted(self, image: Image, *, known: str) -> NDArray[np.bool_]:
        """See `Task`."""
        return repeated(image.measured(), self.finer(image.axes))

    def minds_noise(self, recipe: Recipe) -> bool:
        """See `Task`: it is removed before; what made voxels coarse is linear in values that are not stabilised."""
        return False

    def blends(self, recipe: Recipe) -> bool:
        """See `Task`."""
        return False

    def denoises_first(self, recipe: Recipe) -> bool:
        """See `Task`: where the noise is given, unless it was decided otherwise."""
        wanted = recipe.operator.denoise
        return recipe.noise.given if wanted == "auto" else wanted == "yes"

    def operator(self, axes: str, spacing: Sequence[float], recipe: Recipe, noise: float) -> Operator:
        """See `Task`."""
        from dip_sci.operators import Downsample

        return Downsample(self.finer(axes), recipe.operator.kernel, spacing)
