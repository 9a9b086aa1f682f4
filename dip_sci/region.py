"""A region of interest on the grid of the image that it is a region of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.image import REAL, SPATIAL, Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 0.05
"""Share of a voxel by which two grids may differ before they are two: what rounding in files makes."""


def on_grid(image: Image, region: Image, *, resample: bool = False, name: str = "region of interest") -> Image:
    """Return a region on an image's grid, or refuse one that lies on another.

    Parameters
    ----------
    image
        What will be restored.
    region
        A mask with the image's axes or its spatial ones; axes of length 1 do not count.
    resample
        Take, for each voxel of the image, the value of the region's nearest voxel; 0 outside the region's grid.
    name
        What to call it in an error.

    Returns
    -------
    Image
        The mask along the image's spatial axes, or along all of its axes where the region has them all.

    Raises
    ------
    ImageError
        If the grids differ and `resample` is not set, or nothing says where one lies in the other.
    """
    flat = _without_single(region, image)
    if flat.axes not in (image.axes, image.spatial_axes):
        raise ImageError(
            f"The {name} has the axes {region.axes}, the image {image.axes}: give a mask with the image's axes or with "
            f"its spatial ones, {image.spatial_axes}."
        )
    if not differ(image, flat):
        return flat
    if not resample:
        raise ImageError(
            f"The {name} lies on another grid than the image. Image: {_described(image)}. Region: {_described(flat)}. "
            "Give a mask on the image's grid, or let it be resampled (--resample-region)."
        )
    if flat.axes != image.spatial_axes:
        raise ImageError(
            f"The {name} has the axes {flat.axes}: only a mask along {image.spatial_axes} can be resampled."
        )
    return _nearest(image, flat, name)


def region_array(
    image: Image, region: NDArray[Any] | Image | None, name: str = "region of interest"
) -> NDArray[np.bool_] | None:
    """Bring a region onto an image's axes.

    Parameters
    ----------
    image
        What will be restored.
    region
        Non-zero inside; of the image's shape, or of that of its spatial axes. An `Image` must lie on the image's
        grid, too.
    name
        What to call it in an error.

    Raises
    ------
    ImageError
        If the shapes do not fit or nothing is inside.
    """
    if region is None:
        return None
    given = on_grid(image, region, name=name).array if isinstance(region, Image) else np.asarray(region)
    if given.dtype.kind not in REAL:
        raise ImageError(
            f"The {name} is to be an array of numbers or an Image, not {type(region).__name__}: dip_sci.read reads a file."
        )
    array: NDArray[np.bool_] = np.isfinite(given) & (given != 0)
    spatial = tuple(image.size_of(a) for a in image.spatial_axes)
    if array.shape == image.shape:
        inside = array
    elif array.shape == spatial:
        index = tuple(slice(None) if a in image.spatial_axes else None for a in image.axes)
        inside = np.broadcast_to(array[index], image.shape)
    else:
        raise ImageError(
            f"The {name}'s shape {array.shape} fits neither the image's {image.shape} ({image.axes}) "
            f"nor its spatial shape {spatial} ({image.spatial_axes})."
        )
    if not inside.any():
        raise ImageError(f"The {name} is empty: it has no non-zero voxel.")
    return inside


def _without_single(region: Image, image: Image) -> Image:
    """Return the region with the image's number of axes: those of length 1 dropped or added, order as the image's."""
    drop = [i for i, (a, n) in enumerate(zip(region.axes, region.shape, strict=True)) if n == 1 and a not in image.axes]
    axes = "".join(a for i, a in enumerate(region.axes) if i not in drop)
    array = np.squeeze(region.array, tuple(drop))
    known = {a: (s, u) for a, s, u in zip(region.axes, region.spacing, region.units, strict=True)}
    if set(axes) not in (set(image.axes), set(image.spatial_axes)):
        for i in [i for i, (a, n) in enumerate(zip(axes, array.shape, strict=True)) if n == 1 and a not in SPATIAL][
            ::-1
        ]:
            array, axes = np.squeeze(array, i), axes[:i] + axes[i + 1 :]
    for axis in image.spatial_axes:
        if axis not in axes and image.size_of(axis) == 1:
            array, axes = array[None], axis + axes
    order = [a for a in image.axes if a in axes]
    if len(order) != len(axes):
        return region
    array = array.transpose([axes.index(a) for a in order])
    steps = [known.get(a, (None, None)) for a in order]
    return dataclasses.replace(
        region,
        array=array,
        axes="".join(order),
        spacing=tuple(s for s, _ in steps),
        units=tuple(u for _, u in steps),
        valid=None,
    )


def differ(image: Image, region: Image) -> bool:
    """Return whether a region lies on another grid than an image, as far as is known."""
    if any(region.size_of(a) != image.size_of(a) for a in region.axes):
        return True
    if image.affine is not None and region.affine is not None:
        # By how many of its voxels each corner of the image is off.
        ends = [image.size_of(a) - 1 for a in "XYZ"]
        corners = np.array([[x, y, z, 1] for x in (0, ends[0]) for y in (0, ends[1]) for z in (0, ends[2])]).T
        off = (region.affine @ corners - image.affine @ corners)[:3]
        voxel = np.linalg.norm(image.affine[:3, :3], axis=0).min()
        return bool(np.abs(off).max() > LEAST * voxel)
    for axis in image.spatial_axes:
        a, b = length(image, axis), length(region, axis)
        if a is not None and b is not None and abs(a - b) > LEAST * a / max(image.size_of(axis) - 1, 1):
            return True
    return False


def length(image: Image, axis: str) -> float | None:
    """Return a spacing in metres, `None` where it or its unit is not known."""
    step, unit = image.spacing_of(axis), image.units[image.axes.index(axis)] if axis in image.axes else None
    return step * METRES[unit] if step is not None and unit in METRES else None


METRES = {"nanometer": 1e-9, "micrometer": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2, "meter": 1.0}


def _described(image: Image) -> str:
    shape = " x ".join(f"{image.size_of(a)} {a}" for a in image.spatial_axes)
    steps = [image.spacing_of(a) for a in image.spatial_axes]
    unit = image.units[image.axes.index("X")] or ""
    size = " x ".join("?" if s is None else f"{s:.6g}" for s in steps)
    place = ""
    if image.affine is not None:
        rows = "; ".join(" ".join(f"{v:.6g}" for v in row) for row in image.affine[:3])
        place = f", affine [{rows}]"
    return f"{shape} voxels of {size} {unit}".rstrip() + place


def _nearest(image: Image, region: Image, name: str) -> Image:
    """Look up, plane by plane, the region's voxel nearest to each of the image's."""
    matrix = voxels_between(image, region, name)
    shape = tuple(image.size_of(a) for a in "ZYX")
    given = as_volume(region.array, region.axes)
    result = np.zeros(shape, given.dtype)
    y, x = np.mgrid[: shape[1], : shape[2]]
    for z in range(shape[0]):
        places = np.stack([x, y, np.full_like(x, z), np.ones_like(x)]).reshape(4, -1)
        at: NDArray[Any] = np.rint((matrix @ places)[:3] + 0.0).astype(np.int64)[::-1]
        inside = np.all([(a >= 0) & (a < n) for a, n in zip(at, given.shape, strict=True)], axis=0)
        result[z].reshape(-1)[inside] = given[tuple(a[inside] for a in at)]
    spatial = image.spatial_axes
    return dataclasses.replace(
        region,
        array=from_volume(result, spatial),
        spacing=tuple(image.spacing_of(a) for a in spatial),
        units=tuple(image.units[image.axes.index(a)] for a in spatial),
        affine=image.affine,
    )


def as_volume(array: NDArray[Any], axes: str) -> NDArray[Any]:
    """Bring an array along spatial axes, in whichever order, to Z, Y and X."""
    moved = array.transpose([axes.index(a) for a in SPATIAL if a in axes])
    return moved if "Z" in axes else moved[None]


def from_volume(volume: NDArray[Any], axes: str) -> NDArray[Any]:
    """Undo `as_volume`."""
    flat = volume if "Z" in axes else volume[0]
    return flat.transpose(["".join(a for a in SPATIAL if a in axes).index(a) for a in axes])


def voxels_between(image: Image, region: Image, name: str) -> NDArray[np.float64]:
    """Return the matrix from the image's voxels to the region's, ``(x, y, z, 1)``.

    Raises
    ------
    ImageError
        If nothing says where one lies in the other.
    """
    if image.affine is not None and region.affine is not None:
        if abs(np.linalg.det(region.affine[:3, :3])) == 0:
            raise ImageError(f"The {name}'s orientation is not a usable matrix: give one on the image's grid.")
        matrix: NDArray[np.float64] = np.linalg.inv(region.affine) @ image.affine
        return matrix
    matrix = np.eye(4)
    for i, axis in enumerate("XYZ"):
        if axis not in image.spatial_axes:
            continue
        a, b = length(image, axis), length(region, axis)
        if a is None or b is None:
            raise ImageError(
                f"The {name} cannot be resampled: the voxel size along {axis} of one of the two is not known. "
                "Give one on the image's grid."
            )
        # Both grids begin at the same corner, not at the same voxel's middle.
        matrix[i, i], matrix[i, 3] = a / b, (a / b - 1) / 2
    return matrix
