"""Deconvolution: undo a known blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.image import REAL, SPATIAL, Image
from dip_sci.region import length
from dip_sci.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from dip_sci.operators import Operator
    from dip_sci.recipe import Recipe

UNIT = 1e-3
"""How far a point spread function's sum may be from 1."""

SYMMETRIC = 1e-3
"""How far a symmetric one's values may differ from their mirror images, over the largest."""

LOOKED_AT, EDGES = 5, {2: 512, 3: 128}
"""Planes, or volumes, that are asked whether they can have been blurred so, and the edges of what is looked at in their middle."""


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
            The image of a point on the image's grid, its centre in the middle: odd sizes, not negative, of sum 1. An
            array has the image's spatial axes in their order, or Y and X; an `Image` says which axes it has.

        Raises
        ------
        ImageError
            If it is none, or does not fit.
        """
        given = _flat(psf) if isinstance(psf, Image) else _as_image(image, np.asarray(psf))
        axes = "".join(a for a in SPATIAL if a in given.axes)
        array = given.array.transpose([given.axes.index(a) for a in axes])
        if not set(axes) <= set(image.axes):
            raise ImageError(_dimensions(image, array.shape))
        if array.dtype.kind not in REAL:
            raise ImageError(f"The point spread function holds values of type {array.dtype}: it needs real numbers.")
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
        if any(n > 2 * image.size_of(a) - 1 for a, n in zip(axes, array.shape, strict=True)):
            raise ImageError(f"The point spread function, {array.shape}, is larger than the image, {image.shape}.")
        _refuse_other_grid(image, given)
        return cls((values / values.sum()).astype(np.float32))

    @property
    def asked(self) -> dict[str, Any]:
        """See `Task`."""
        return {"psf_shape": list(self.psf.shape)}

    @property
    def symmetric(self) -> bool:
        """Whether the blur looks the same flipped along any axis."""
        most = SYMMETRIC * float(self.psf.max())
        return all(float(np.abs(self.psf - np.flip(self.psf, axis)).max()) <= most for axis in range(self.psf.ndim))

    def blends(self, recipe: Recipe) -> bool:
        """See `Task`: they know nothing of the blur."""
        return False

    def doubts(self, stack: NDArray[Any], seen: NDArray[np.bool_], variance: Callable[[], float]) -> list[str]:
        """See `Task`: whether the blur leaves as much of the image as there is."""
        from dip_sci.implied import too_wide

        spatial = stack.shape[-self.psf.ndim :]
        whole = seen.reshape(-1, *spatial).all(axis=tuple(range(1, self.psf.ndim + 1)))
        edges = [min(n, EDGES[self.psf.ndim]) for n in spatial]
        middle = tuple(slice((n - edge) // 2, (n + edge) // 2) for n, edge in zip(spatial, edges, strict=True))
        planes = stack.reshape(-1, *spatial)[(whole, *middle)]
        some = planes[:: -(-len(planes) // LOOKED_AT)] if len(planes) else planes
        power = variance()
        if 2 * sum(too_wide(plane.astype(np.float64), self.psf, power) for plane in some) <= len(some):
            return []
        return [
            "The image holds detail that this point spread function takes away: it is too wide, or there is more noise than "
            "was found. Detail that was added is not to be relied on. Measure the function anew, or give noise.sigma."
        ]

    def operator(self, axes: str, spacing: Sequence[float], recipe: Recipe, noise: float) -> Operator:
        """See `Task`."""
        from dip_sci.blur import Blur

        return Blur(self.psf, spacing, noise)


def normalised(psf: Image) -> Image:
    """Return a point spread function divided by its sum, where that is a number of more than 0."""
    if psf.dtype.kind not in REAL:
        return psf
    values = psf.array.astype(np.float64)
    total = float(values.sum())
    return psf.with_array(values / total) if total > 0 else psf


def _as_image(image: Image, psf: NDArray[Any]) -> Image:
    if psf.ndim not in (2, len(image.spatial_axes)):
        raise ImageError(_dimensions(image, psf.shape))
    if psf.size == 0:
        raise ImageError(f"The point spread function is empty: its shape is {psf.shape}.")
    return Image(psf, image.spatial_axes if psf.ndim == len(image.spatial_axes) else "YX")


def _flat(psf: Image) -> Image:
    """Return a point spread function along its spatial axes, without a Z of one plane."""
    others = [a for a in psf.axes if a not in SPATIAL and psf.size_of(a) > 1]
    if others:
        raise ImageError(
            f"The point spread function has the axes {psf.axes} and shape {psf.shape}: it may have spatial axes only. Give "
            "a single channel of it, at a single time, without colours."
        )
    axes = "".join(a for a in psf.spatial_axes if a != "Z" or psf.size_of(a) > 1)
    return Image(
        np.asarray(psf.array).reshape([psf.size_of(a) for a in axes]),
        axes,
        tuple(psf.spacing_of(a) for a in axes),
        tuple(psf.units[psf.axes.index(a)] for a in axes),
    )


def _dimensions(image: Image, shape: tuple[int, ...]) -> str:
    depth = len(image.spatial_axes)
    return (
        f"The point spread function has the shape {shape}: it needs 2 dimensions{'' if depth == 2 else f' or {depth}'}, as "
        f"the image has the spatial axes {image.spatial_axes}."
    )


def _refuse_other_grid(image: Image, psf: Image) -> None:
    for axis in psf.axes:
        steps = [i.spacing_of(axis) for i in (image, psf)]
        units = [i.units[i.axes.index(axis)] for i in (image, psf)]
        a, b = steps if units[0] == units[1] else (length(i, axis) for i in (image, psf))
        if a is not None and b is not None and abs(a - b) > 0.02 * a:
            own, other = (f"{s:.4g} {u or ''}".rstrip() for s, u in zip(steps, units, strict=True))
            raise ImageError(
                f"The point spread function's voxels are {other} apart along {axis}, the image's {own}: bring it onto the "
                "image's grid."
            )
