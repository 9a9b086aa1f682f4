"""Fusion: remove noise with the help of another image of the same object."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.image import REAL, Image
from dip_sci.region import as_volume, differ, from_volume, voxels_between
from dip_sci.tasks.task import Task

if TYPE_CHECKING:
    from typing import Any, Literal

    from numpy.typing import NDArray

NAME = "guide"


@dataclass(frozen=True, eq=False)
class Fuse(Task):
    """Remove noise, seeing another image: another channel, another modality, another exposure.

    Attributes
    ----------
    guides
        The guide's channels on the image's grid, each of mean 0 and standard deviation 1 where it was measured and
        broadcasting against the image; 0 where it was not, or does not reach.
    resampled
        Whether it lay on another grid.
    """

    name = "fuse"

    guides: tuple[NDArray[np.float32], ...]
    resampled: bool = False

    @classmethod
    def of(cls, image: Image, guide: NDArray[Any] | Image) -> Fuse:
        """Bring a guide onto its image's grid.

        Parameters
        ----------
        image
            What was measured.
        guide
            An array of the shape of the image's spatial axes, or an `Image` with these and, besides, channels or
            colour samples. Where both say where they lie, the guide may lie on another grid: it is interpolated.

        Raises
        ------
        ImageError
            If the guide does not fit, does not overlap with the image, or is constant.
        """
        given = guide.loaded() if isinstance(guide, Image) else _as_image(image, np.asarray(guide))
        spatial = image.spatial_axes
        others = [a for a in given.axes if a not in image.spatial_axes and given.size_of(a) > 1]
        if not set(spatial) <= set(given.axes) or any(a not in "CS" for a in others):
            raise ImageError(
                f"The guide has the axes {given.axes} and shape {given.shape}, the image {image.axes} and {image.shape}: "
                f"a guide needs the image's spatial axes, {image.spatial_axes}, and may have channels besides."
            )
        if given.dtype.kind not in REAL:
            raise ImageError(f"The guide holds values of type {given.dtype}: it needs real numbers.")
        seen = np.where(given.measured(), given.array, np.nan).astype(np.float32)
        first = seen.transpose(
            [*map(given.axes.index, _sorted_others(given, spatial)), *map(given.axes.index, spatial)]
        )
        channels = first.reshape(-1, *(given.size_of(a) for a in spatial))
        flat = dataclasses.replace(
            given,
            array=channels[0],
            axes=spatial,
            spacing=tuple(given.spacing_of(a) for a in spatial),
            units=tuple(given.units[given.axes.index(a)] for a in spatial),
            valid=None,
        )
        elsewhere = differ(image, flat)
        on_grid = [_linear(image, flat, channel) if elsewhere else channel for channel in channels]
        index = tuple(slice(None) if a in spatial else None for a in image.axes)
        return cls(tuple(_standard(channel)[index] for channel in on_grid), elsewhere)

    def within(self, image: Image, box: tuple[slice, ...]) -> Fuse:
        """See `Task`."""
        return dataclasses.replace(
            self,
            guides=tuple(
                guide[tuple(b if n > 1 else slice(None) for b, n in zip(box, guide.shape, strict=True))]
                for guide in self.guides
            ),
        )


def _as_image(image: Image, guide: NDArray[Any]) -> Image:
    spatial = tuple(image.size_of(a) for a in image.spatial_axes)
    if guide.shape != spatial:
        raise ImageError(
            f"The guide's shape {guide.shape} is not that of the image's spatial axes, {spatial} ({image.spatial_axes})."
        )
    return Image(guide, image.spatial_axes)


def _sorted_others(guide: Image, spatial: str) -> list[str]:
    return [a for a in guide.axes if a not in spatial]


def _standard(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    seen = channel[np.isfinite(channel)]
    if seen.size == 0:
        raise ImageError(
            "The guide and the image do not overlap: they lie in different places. Check that both are of one subject "
            "and that their files say where they lie."
        )
    spread = float(seen.std(dtype=np.float64))
    if spread == 0:
        raise ImageError("The guide is constant where the image is: there is nothing to be guided by.")
    scaled = (channel - np.float32(seen.mean(dtype=np.float64))) / np.float32(spread)
    return np.where(np.isfinite(scaled), scaled, 0).astype(np.float32)


def _linear(image: Image, guide: Image, channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate one channel of a guide at the image's voxels; not a number where its nearest voxel is none."""
    from scipy.ndimage import affine_transform, gaussian_filter

    matrix = voxels_between(image, guide, NAME)[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
    volume = as_volume(channel, guide.axes)
    # Where the image's voxels are larger, those of the guide are averaged first.
    steps = np.linalg.norm(matrix[:3, :3], axis=1)
    blur = [0.5 * np.sqrt(max(s**2 - 1, 0)) if n > 1 else 0 for s, n in zip(steps, volume.shape, strict=True)]
    shape = tuple(image.size_of(a) for a in "ZYX")

    def at_voxels(values: NDArray[Any], order: int, beyond: Literal["edge", "constant"]) -> NDArray[Any]:
        found: NDArray[Any] = affine_transform(
            np.pad(values, 1, mode=beyond), matrix[:3, :3], matrix[:3, 3] + 1, shape, order=order
        )
        return found

    def linear(values: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth = gaussian_filter(values, blur, mode="nearest") if any(blur) else values
        return at_voxels(smooth, order=1, beyond="edge")

    measured = np.isfinite(volume)
    inside = at_voxels(measured.astype(np.uint8), order=0, beyond="constant") > 0
    # Voxels that were not measured have no share in the mean of their neighbours.
    weight = np.where(inside, linear(measured.astype(np.float32)), 1)
    found = np.where(inside, linear(np.where(measured, volume, 0)) / weight, np.nan)
    return from_volume(found.astype(np.float32), image.spatial_axes)
