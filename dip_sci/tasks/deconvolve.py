"""Deconvolution: undo a known blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.image import Image
from dip_sci.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from dip_sci.operators import Operator
    from dip_sci.recipe import Recipe

UNIT = 1e-3
"""How far a point spread function's sum may be from 1."""


@dataclass(frozen=True, eq=False)
class Deconvolve(Task):
    """Undo a known blur, under the noise that came after it.

    Attributes
    ----------
    psf
        Point spread function, ``(Z, Y, X)`` or, where planes are blurred each for itself, ``(Y, X)``.
    """

    name = "deconvolve"
    linear = True
    sharpens = True

    psf: NDArray[np.float32]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """See `Task`."""
        return (self.psf,)

    @classmethod
    def of(cls, image: Image, psf: NDArray[Any] | Image) -> Deconvolve:
        """Check a point spread function against its image.

        Parameters
        ----------
        image
            What was measured.
        psf
            The image of a point on the image's grid, its centre in the middle: odd sizes, not negative, of sum 1.

        Raises
        ------
        ImageError
            If it is none, or does not fit.
        """
        array = np.squeeze(psf.array) if isinstance(psf, Image) else np.asarray(psf)
        depth = len(image.spatial_axes)
        if array.ndim not in (2, depth):
            raise ImageError(
                f"The point spread function has the shape {array.shape}: it needs 2 dimensions"
                f"{'' if depth == 2 else f' or {depth}'}, as the image has the spatial axes {image.spatial_axes}."
            )
        even = [n for n in array.shape if n % 2 == 0]
        if even:
            raise ImageError(
                f"The point spread function has the shape {array.shape}: all of its sizes must be odd, so that it has a "
                "middle. Crop or pad it by one."
            )
        values = array.astype(np.float64)
        if not np.isfinite(values).all() or values.min() < 0:
            raise ImageError(
                "The point spread function holds negative values or some that are not finite: it is a share of light. "
                "Subtract its background and set what is below 0 to 0."
            )
        if abs(values.sum() - 1) > UNIT:
            raise ImageError(
                f"The point spread function is not normalised: its sum is {values.sum():.6g}, not 1. Divide it by its sum."
            )
        spatial = image.spatial_axes[-array.ndim :]
        larger = [a for a, n in zip(spatial, array.shape, strict=True) if n > 2 * image.size_of(a) - 1]
        if larger:
            raise ImageError(f"The point spread function, {array.shape}, is larger than the image, {image.shape}.")
        if isinstance(psf, Image):
            _refuse_other_grid(image, psf)
        return cls((values / values.sum()).astype(np.float32))

    @property
    def asked(self) -> dict[str, Any]:
        """See `Task`."""
        return {"psf_shape": list(self.psf.shape)}

    def blends(self, recipe: Recipe) -> bool:
        """See `Task`: they know nothing of the blur."""
        return False

    def operator(self, axes: str, spacing: Sequence[float], recipe: Recipe, noise: float) -> Operator:
        """See `Task`."""
        from dip_sci.blur import Blur

        return Blur(self.psf, spacing, noise)


def normalised(psf: Image) -> Image:
    """Return a point spread function divided by its sum, where that is more than 0."""
    values = psf.array.astype(np.float64)
    total = float(values.sum())
    return psf.with_array(values / total) if total > 0 else psf


def _refuse_other_grid(image: Image, psf: Image) -> None:
    for axis in image.spatial_axes:
        a, b = image.spacing_of(axis), psf.spacing_of(axis)
        same_unit = axis in psf.axes and psf.units[psf.axes.index(axis)] == image.units[image.axes.index(axis)]
        if a and b and same_unit and abs(a - b) > 0.02 * a:
            raise ImageError(
                f"The point spread function's voxels are {b:.4g} apart along {axis}, the image's {a:.4g}: bring it onto the "
                "image's grid."
            )
