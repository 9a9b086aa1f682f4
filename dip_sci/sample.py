"""Sample: parts of an image too large to be worked on as a whole, stacked as an image of their own."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from dip_sci.image import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Box = tuple[slice, ...]

LARGE = 2**25
"""Voxels from which an image is learned from parts of it, however much memory there is."""

WORK = 64
"""Bytes that working on a whole image takes per voxel."""

VOXELS = 2**23
"""Voxels of a sample."""

AMONG = 8
"""How many times as many parts are looked at for those that hold most."""

EDGES = {"2d": {"Y": 512, "X": 512}, "3d": {"Z": 48, "Y": 96, "X": 96}}
"""Edges of its parts."""


def is_large(image: Image, finer: int = 1) -> bool:
    """Whether an image is not worked on as a whole: a large one, or one that takes half of the free memory.

    Parameters
    ----------
    image
        The whole.
    finer
        How many voxels of the result there are for one of the image.
    """
    size = math.prod(image.shape) * finer
    return size > LARGE or WORK * size > psutil.virtual_memory().available / 2


def places(
    image: Image,
    ndim: str,
    seed: int,
    wanted: Sequence[NDArray[np.bool_]] = (),
    *,
    series: tuple[str, int] = ("Z", 0),
) -> list[Box]:
    """Choose parts of an image: half of them at random, and half where its values differ most.

    What is rare, as a few bright cells in the dark, has to be learned from, too, and its noise is another.

    Parameters
    ----------
    image
        The whole.
    ndim
        ``"2d"`` or ``"3d"``.
    seed
        Of the choice.
    wanted
        Masks of the image's shape: as many parts for each of them hold some of it.
    series
        Axis along which images follow each other, and how many on either side are seen with each.

    Returns
    -------
    list of tuple of slice
        Boxes of one shape on the image's axes, with all channels and samples.
    """
    along, neighbours = series
    edges = {"T": 1, "Z": 1, **({along: 2 * neighbours + 3} if neighbours else {}), **EDGES[ndim]}
    part = [min(n, edges.get(a, n)) for a, n in zip(image.axes, image.shape, strict=True)]
    # Evenly from end to end, so that the far end has the chance that the near one has.
    starts = [np.linspace(0, n - p, -(-n // p)).astype(int) for n, p in zip(image.shape, part, strict=True)]
    grid = list(itertools.product(*starts))
    rng = np.random.default_rng(seed)
    shuffled = [
        tuple(slice(int(a), int(a) + p) for a, p in zip(grid[i], part, strict=True)) for i in rng.permutation(len(grid))
    ]
    count = max(VOXELS // math.prod(part), 1)
    masks: list[NDArray[np.bool_] | None] = [*wanted] or [None]
    share = max(count // len(masks), 1)
    chosen: list[Box] = []
    for mask in masks:
        free = (box for box in shuffled if box not in chosen and (mask is None or mask[box].any()))
        among = list(itertools.islice(free, AMONG * share))
        if len(among) > share:
            others = among[share // 2 :]
            fullest = sorted(others, key=lambda box: _contrast(image, box), reverse=True)
            among = among[: share // 2] + fullest
        chosen += among[:share]
    return chosen


def _contrast(image: Image, box: Box) -> float:
    """How far the values in a box are apart, but for the thousandth at either end: hot pixels are no content."""
    part = cut(image, [box])
    values = part.array[part.measured()]
    if not values.size:
        return 0.0
    low, high = np.quantile(values, [0.001, 0.999])
    return float(high - low)


def cut(image: Image, boxes: Sequence[Box]) -> Image:
    """Return boxes of one shape as an image whose points in time they are, one after another.

    Parameters
    ----------
    image
        The whole, whose values may still be in a file.
    boxes
        On its axes.
    """
    axes, at = (image.axes, image.axes.index("T")) if "T" in image.axes else (f"T{image.axes}", 0)

    def stacked(array: Any) -> NDArray[Any]:
        parts = [np.asarray(array[box]) for box in boxes]
        return np.concatenate(parts, axis=at) if "T" in image.axes else np.stack(parts)

    new = () if "T" in image.axes else (None,)
    return dataclasses.replace(
        image,
        array=stacked(image.array),
        axes=axes,
        spacing=(*new, *image.spacing),
        units=(*new, *image.units),
        affine=None,
        valid=None if image.valid is None else stacked(image.valid),
    )


def placed(image: Image, boxes: Sequence[Box], values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of an image, in some boxes replaced by others: what `cut` took out, back in its place.

    Parameters
    ----------
    image, boxes
        As for `cut`.
    values
        Of the shape that `cut` returns.
    """
    whole = np.array(image.array, values.dtype)
    time = image.axes.find("T")
    for n, box in enumerate(boxes):
        long = 1 if time < 0 else box[time].stop - box[time].start
        whole[box] = values[n] if time < 0 else values.take(range(n * long, (n + 1) * long), axis=time)
    return whole
