"""Finer grids in the same field of view."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.scaling import cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from dip_sci.image import Image


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
    return on_finer(image, factors, np.where(whole, array, plain))


def on_finer(image: Image, factors: Sequence[int], array: NDArray[Any]) -> Image:
    """Return values on the grid of smaller voxels in an image's field of view, with its geometry.

    Parameters
    ----------
    image, factors
        As for `finer`.
    array
        The values, of the image's shape times the factors.
    """
    spacing = tuple(None if s is None else s / f for s, f in zip(image.spacing, factors, strict=True))
    return replace(
        image,
        array=array,
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
