"""Tasks: what is asked of an observation, and what of the result is new."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.region import region_array
from dip_sci.scaling import cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.operators import Operator
    from dip_sci.recipe import OperatorOptions, Recipe

LARGEST_FACTOR = 16

DONE = {"denoise": "Denoised", "inpaint": "Inpainted", "super_resolve": "Super-resolved", "pre_image": "Pre-image made"}
"""What a result is called, by the name of its task."""


class Task:
    """Remove the noise: what was observed is the image itself. Other tasks say where they differ.

    Attributes
    ----------
    name
        In records, and of the function and the command.
    nothing
        What a region without anything to restore does not hold.
    blends
        Whether classical denoisers make the same of the observation, to blend with.
    """

    name: ClassVar[str] = "denoise"
    nothing: ClassVar[str] = "measured"
    blends: ClassVar[bool] = True

    def measured(self, image: Image) -> NDArray[np.bool_]:
        """Return the voxels of the observation that say something, a boolean array of its shape."""
        return image.measured()

    def canvas(self, image: Image) -> Image:
        """Return the result's grid, filled by simple means: what is not restored stays so."""
        return image

    def wanted(self, image: Image, *, known: str) -> NDArray[np.bool_]:
        """Return the voxels of the canvas that the result replaces, but for the region of interest.

        Parameters
        ----------
        image
            The observation.
        known
            The recipe's `output.known`.
        """
        return image.measured()

    def finer(self, axes: str) -> tuple[int, ...]:
        """Return how many voxels of the canvas lie in one of the observation, along each of some axes."""
        return (1,) * len(axes)

    @property
    def asked(self) -> dict[str, Any]:
        """What it was given, as plain JSON values for a record."""
        return {}

    def minds_noise(self, recipe: Recipe) -> bool:
        """Return whether it matters which noise the observation holds."""
        return True

    def operator(self, axes: str, spacing: Sequence[float], options: OperatorOptions) -> Operator:
        """Return how the image becomes the observation.

        Parameters
        ----------
        axes, spacing
            Spatial axes of the network, and the observation's spacing along each.
        options
            The recipe's operator group.
        """
        # Imported here: a command line that only reads and writes needs no torch.
        from dip_sci.operators import Identity

        return Identity(spacing)


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
    blends = False

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
        spatial = tuple(k for k, a in enumerate(image.axes) if a in "ZYX")
        if not known.any(axis=spatial).all():
            raise ImageError(
                "Everything is missing, in one channel or at one time at least: there is nothing to fill it from. "
                "The mask must be non-zero where voxels are missing, and 0 where they are known."
            )
        depth = max(float(apart.max()) for apart, _ in _nearest(image, known, holes))
        in_plane = tuple(k for k, a in enumerate(image.axes) if a in "YX")
        return cls(np.array(holes), depth, not bool(known.any(axis=in_plane).all()))

    def measured(self, image: Image) -> NDArray[np.bool_]:
        """See `Task`."""
        return image.measured() & ~self.missing

    def canvas(self, image: Image) -> Image:
        """See `Task`: each missing voxel as the nearest known one."""
        array = image.array.copy()
        known = self.measured(image)
        for index, (_, at) in zip(_slabs(image), _nearest(image, known, self.missing), strict=True):
            holes = self.missing[index]
            array[index][holes] = array[index][tuple(a[holes] for a in at)]
        valid = None if image.valid is None else image.valid | self.missing
        return replace(image, array=array, valid=valid)

    def wanted(self, image: Image, *, known: str) -> NDArray[np.bool_]:
        """See `Task`."""
        return self.missing if known == "keep" else self.missing | image.measured()

    def minds_noise(self, recipe: Recipe) -> bool:
        """See `Task`: where the known voxels are kept, only if the noise was given."""
        return recipe.output.known == "restore" or recipe.noise.given

    def operator(self, axes: str, spacing: Sequence[float], options: OperatorOptions) -> Operator:
        """See `Task`: holes are filled from close by."""
        from dip_sci.operators import Identity

        return Identity(spacing, base=0)


@dataclass(frozen=True, eq=False)
class SuperResolve(Task):
    """Make the voxels smaller.

    Attributes
    ----------
    factors
        How many times finer, along Z, Y and X; 1 along axes that the image has not.
    """

    name = "super_resolve"
    blends = False

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

    def operator(self, axes: str, spacing: Sequence[float], options: OperatorOptions) -> Operator:
        """See `Task`."""
        from dip_sci.operators import Downsample

        return Downsample(self.finer(axes), options.kernel, spacing)


def repeated(array: NDArray[Any], factors: Sequence[int]) -> NDArray[Any]:
    """Repeat each value along each axis."""
    for axis, factor in enumerate(factors):
        array = np.repeat(array, factor, axis) if factor > 1 else array
    return array


def finer(image: Image, factors: Sequence[int]) -> Image:
    """Return an image on a grid of smaller voxels in the same field of view.

    Parameters
    ----------
    image
        Any image.
    factors
        How many times smaller, along each of its axes.

    Returns
    -------
    Image
        Values interpolated by cubics and cast to the image's type; where an interpolation would need a voxel that was
        not measured, the value of the voxel that it lies in. Spacing and affine are those of the smaller voxels: the
        corners of the field of view stay where they are.
    """
    import torch

    from dip_sci.resampling import resample

    measured = image.measured()
    values = np.where(measured, image.array, 0)
    kind = np.float64 if values.dtype.itemsize > 2 else np.float32
    sizes = [n * f for n, f in zip(image.shape, factors, strict=True)]
    smooth = resample(torch.from_numpy(values.astype(kind)), sizes, "cubic").numpy()
    inside = resample(torch.from_numpy(measured.astype(np.float32)), sizes, "cubic").numpy()
    plain = repeated(image.array, factors)
    array, _ = cast(smooth, image.dtype, image.value_range)
    whole = np.abs(inside - 1) < 1e-4
    spacing = tuple(None if s is None else s / f for s, f in zip(image.spacing, factors, strict=True))
    return replace(
        image,
        array=np.where(whole, array, plain),
        spacing=spacing,
        affine=_finer_affine(image, factors),
        valid=None if image.valid is None else repeated(image.valid, factors),
    )


def _finer_affine(image: Image, factors: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the affine of smaller voxels: the middle of the first one lies nearer to the corner."""
    if image.affine is None:
        return None
    by_axis = dict(zip(image.axes, factors, strict=True))
    change = np.eye(4)
    for k, axis in enumerate("XYZ"):
        f = by_axis.get(axis, 1)
        change[k, k], change[k, 3] = 1 / f, (1 / f - 1) / 2
    moved: NDArray[np.float64] = image.affine @ change
    return moved


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
