"""Super-resolution: finer voxels in the same field of view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.tasks.grid import finer, repeated
from dip_sci.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
            One for Y and X, wherever they are among the image's axes, or one for each spatial axis of the image, in its
            order.

        Raises
        ------
        ImageError
            If a factor is not a whole number from 1 to 16, all are 1, their number does not fit, or the image is too
            small.
        """
        each = factor.tolist() if isinstance(factor, np.ndarray | np.generic) else factor
        if isinstance(each, str) or not isinstance(each, Iterable):
            each = tuple(each if a in "YX" else 1 for a in image.spatial_axes)
        given = tuple(each)
        if not all(map(_is_factor, given)):
            raise ImageError(f"Factors must be whole numbers from 1 to {LARGEST_FACTOR}, found {factor!r}.")
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

    def canvas(self, image: Image, region: NDArray[np.bool_] | None = None) -> Image:
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


def _is_factor(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and value in range(1, LARGEST_FACTOR + 1)
