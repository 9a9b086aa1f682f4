"""Large images: what was learned from parts of one is applied tile by tile, blended without seams.

Neighbouring tiles overlap. In the middle of the overlap their weights go linearly from one to the other; its outer
edges, where a network sees less than it does inside, do not count. What is summed is by how much the image changes, so
that voxels which do not change keep their bits, whatever their type.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from dip_sci import sample
from dip_sci.combination import blend
from dip_sci.device import free_memory
from dip_sci.errors import FitError, WriteError
from dip_sci.lazy import Lazy
from dip_sci.scaling import cast as cast_values
from dip_sci.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dip_sci.finished import Finished
    from dip_sci.fit import Again
    from dip_sci.image import Image
    from dip_sci.preparation import Preparation

    Box = tuple[slice, ...]

SPATIAL = {"2d": "YX", "3d": "ZYX"}
"""Axes along which a network sees."""

MARGIN = {"2d": 32, "3d": 12}
"""Voxels by which a tile reaches beyond the middle of an overlap."""

TRIM = {"2d": 8, "3d": 3}
"""Voxels at a tile's inner ends that do not count."""

EDGE = {"2d": 1024, "3d": 160}
"""Longest edge of a tile."""

LEAST = {"2d": 128, "3d": 48}
"""Edge of a tile that is not made smaller, whatever the memory."""

ROOM = 2**30
"""Bytes that a tile may take in memory at most; less where less than four times as much is free."""

FLOATS = 12
"""Numbers that a pass holds per voxel, over the width of the network's first level."""

STACKED = 8
"""How many times more voxels may be filtered together than go through a network."""


class Tiles:
    """A large image, restored tile by tile.

    Parameters
    ----------
    image
        The whole; its values may be in a file.
    region
        Where to restore, of the image's shape; ``None`` for everywhere.
    prepared
        Of a sample of it (`sample.cut`).
    again
        Applies the networks that were fitted to the sample.
    weights
        Share of each part in the result, and in the pilots of others, as of a `Combination`.
    device
        Where it is done.
    folder
        Where the sum is kept while it is made; ``None`` for the system's own place.
    plan
        How another run has divided the image, as of `plan`; ``None`` to go by the free memory.

    Attributes
    ----------
    plan
        Shape of the tiles, and how many voxels are worked on at once at most.
    planned
        The tiles: where each lies, and its weights along each axis.
    """

    def __init__(
        self,
        image: Image,
        region: NDArray[np.bool_] | None,
        prepared: Preparation,
        again: Again,
        weights: tuple[dict[str, float], tuple[dict[str, float], ...]],
        device: torch.device,
        folder: Path | None = None,
        plan: tuple[tuple[int, ...], int] | None = None,
    ) -> None:
        self.image, self.region, self.prepared = image, region, prepared
        self.again, self.weights, self.device = again, weights, device
        recipe = prepared.recipe
        self.ndim = "3d" if recipe.generator.ndim == "3d" else "2d"
        self.passes = recipe.supervision.passes
        self._several, self._folder = recipe.fit.seeds > 1, folder
        self._most = most_voxels(FLOATS * (recipe.generator.channels or (16,))[0], device) if plan is None else plan[1]
        self.shape = self._tile_shape() if plan is None else plan[0]
        self.plan = self.shape, self._most
        self.planned = [
            (box, ramps)
            for box, ramps in self._planned(image.shape, self.shape)
            if region is None or bool(region[box].any())
        ]
        self.note: str | None = None

    def run(self, finished: Finished | None = None) -> Iterator[float]:
        """Restore tile after tile, sum them up, and yield the share that is done.

        Parameters
        ----------
        finished
            Tiles that an earlier run, or others, have done; those that are missing there are added.
        """
        self._change = Scratch(self.image.shape, self._folder)
        self._spread = Scratch(self.image.shape, self._folder) if self._several else None
        # In one order, whoever has done which of them: it decides the last digits of a sum.
        for done, (box, ramps) in enumerate(self.planned, start=1):
            try:
                place, (change, *spread) = self._weighted(box, ramps, finished)
            except WriteError as error:
                # As long as the result has room, the run can go on without what would spare the next one work.
                finished, self.note = None, f"The run could not be saved on the way: {error}"
                place, (change, *spread) = self._weighted(box, ramps, None)
            self._change.add(place, change)
            if self._spread is not None:
                self._spread.add(place, spread[0])
            yield done / len(self.planned)

    def make(self, finished: Finished, which: slice) -> Iterator[float]:
        """Restore some of the tiles only, leave them in `finished`, and yield the share that is done."""
        wanted = self.planned[which]
        for done, (box, ramps) in enumerate(wanted, start=1):
            self._weighted(box, ramps, finished)
            yield done / len(wanted)

    def _weighted(
        self, box: Box, ramps: list[NDArray[np.float32]], finished: Finished | None
    ) -> tuple[Box, NDArray[np.float32]]:
        """Return what a tile adds to the sums, of change and perhaps of spread, and where."""
        counts = [np.flatnonzero(ramp) for ramp in ramps]
        inner = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in counts)
        place = tuple(slice(b.start + i.start, b.start + i.stop) for b, i in zip(box, inner, strict=True))
        name = ""
        if finished is not None:
            masks = (self.image.valid, self.region)
            parts = [np.asarray(self.image.array[box]), *(None if m is None else m[box] for m in masks)]
            name = finished.name(str([(b.start, b.stop) for b in box]), parts)
            found = finished.find(name)
            if found is not None:
                return place, found
        weight = outer(ramps)
        if self.region is not None:
            weight = weight * self.region[box]
        # A tile's ends, which do not count, may be anything.
        made = np.stack([(weight * part)[inner] for part in self._restored(box)[: 1 + self._several]])
        if finished is not None:
            finished.keep(name, made)
        return place, made

    def result(self) -> tuple[Image, int]:
        """Return the restored image, which is a `Lazy` one where the image is, and how many voxels were clipped."""
        dtype = np.dtype(np.float32) if self.prepared.recipe.output.dtype == "float32" else self.image.dtype
        return changed(self.image, self._change, dtype)

    def spread(self) -> Image | None:
        """Return the standard deviation over the networks, float32; ``None`` for a single network."""
        if self._spread is None:
            return None
        kept = self._spread
        spread = self.image.with_array(cast("NDArray[Any]", Lazy(self.image.shape, np.float32, lambda box: kept[box])))
        return spread if self.image.is_lazy else spread.loaded()

    def _restored(self, box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return by how much a tile changes, and its spread; where memory is short, of two halves in turn."""
        shape = _shape(box)
        if self._voxels(shape) <= self._most or not halved(shape, self.image.axes, self.ndim):
            try:
                return self._pass(box)
            except (MemoryError, RuntimeError) as error:
                if not is_short(error):
                    raise
                if not halved(shape, self.image.axes, self.ndim):
                    raise FitError(
                        f"There is not enough memory for a tile of {' x '.join(map(str, shape))} voxels: close other "
                        "programs, or take a smaller network (generator.channels) or fewer networks (fit.seeds)."
                    ) from None
            # From here on no tile is as large.
            self._most = self._voxels(shape) // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        change, spread = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for inner, ramps in self._planned(shape, halved(shape, self.image.axes, self.ndim) or shape):
            moved = tuple(slice(b.start + i.start, b.start + i.stop) for b, i in zip(box, inner, strict=True))
            found = self._restored(moved)
            weight = outer(ramps)
            change[inner] += weight * found[0]
            spread[inner] += weight * found[1]
        return change, spread

    def _pass(self, box: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Apply the networks and the classical methods to one tile."""
        part = sample.cut(self.image, [box])
        prepared = self.prepared.on(part)
        shape = _shape(box)
        if not prepared.inside.any():
            return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        (problem,) = prepared.problems(self.device)
        with torch.no_grad():
            estimate = self.again(problem, self.passes)
            seen, _ = prepared.judged(problem, estimate.mean(dim=0), 0)
            found = blend(seen, estimate, *self.weights, coarse=True).cpu().numpy()
        values, replaced = prepared.values(found.mean(axis=0))
        change = np.where(replaced, values - np.where(replaced, part.array, 0), 0)
        spread = np.zeros(values.shape, np.float32)
        if self._several:
            each = np.stack([prepared.values(one)[0] for one in found])
            spread[replaced] = each[:, replaced].std(axis=0, ddof=1)
        return change.astype(np.float32).reshape(shape), spread.reshape(shape)

    def _planned(
        self, shape: tuple[int, ...], tile: tuple[int, ...]
    ) -> Iterator[tuple[Box, list[NDArray[np.float32]]]]:
        """Yield tiles of about one shape that cover another, and their weights along each axis."""
        lines = [line(n, t, *self._margin(axis)) for axis, n, t in zip(self.image.axes, shape, tile, strict=True)]
        for choice in itertools.product(*lines):
            yield tuple(box for box, _ in choice), [ramp for _, ramp in choice]

    def _long(self, axis: str) -> int:
        """Frames or planes of a tile: so many that those that are only seen are not the most."""
        reach = self._margin(axis)[0]
        return 4 * reach + 1

    def _margin(self, axis: str) -> tuple[int, int]:
        if axis in SPATIAL[self.ndim]:
            return MARGIN[self.ndim], TRIM[self.ndim]
        # Planes and frames are seen with their neighbours, and restored without them.
        reach = self.prepared.reach if axis == self.prepared.recipe.generator.along else 0
        return reach, reach

    def _voxels(self, shape: tuple[int, ...]) -> int:
        """Voxels of a tile as far as memory goes: a network sees one image at a time, filters see a series as a whole."""
        seen = math.prod(n for n, a in zip(shape, self.image.axes, strict=True) if a in SPATIAL[self.ndim] + "CS")
        return max(seen, math.prod(shape) // STACKED)

    def _tile_shape(self) -> tuple[int, ...]:
        """Return the largest tile that the memory takes: whole planes of some number in 2D, a box in 3D."""
        longest = max(self.prepared.recipe.output.tile or EDGE[self.ndim], LEAST[self.ndim])
        spatial = SPATIAL[self.ndim]
        shape = tuple(
            min(n, longest) if a in spatial else n if a in "CS" else self._long(a)
            for a, n in zip(self.image.axes, self.image.shape, strict=True)
        )
        shape = tuple(min(a, b) for a, b in zip(shape, self.image.shape, strict=True))
        while self._voxels(shape) > self._most and (halves := halved(shape, self.image.axes, self.ndim)):
            shape = halves
        return shape


def halved(shape: tuple[int, ...], axes: str, ndim: str) -> tuple[int, ...] | None:
    """Return a shape of half the length along its longest axis of space; ``None`` where it is the least."""
    axis = max((i for i, a in enumerate(axes) if a in SPATIAL[ndim]), key=lambda i: shape[i])
    if shape[axis] <= LEAST[ndim]:
        return None
    half = max(shape[axis] // 2 + MARGIN[ndim], LEAST[ndim])
    return (*shape[:axis], min(half, shape[axis] - 1), *shape[axis + 1 :])


def changed(image: Image, change: Scratch, dtype: np.dtype[Any]) -> tuple[Image, int]:
    """Add a change to an image, and count the voxels that are clipped; where nothing changes, values keep their bits.

    The image that is returned is a `Lazy` one where the image is.
    """

    def part(box: Box) -> tuple[NDArray[Any], int]:
        before, by = np.asarray(image.array[box]), change[box]
        at = by != 0
        found = before.astype(dtype)
        # float64 only where float32 cannot hold the values.
        exact = np.float32 if before.dtype.itemsize <= 2 or before.dtype == np.float32 else np.float64
        found[at], clipped = cast_values(before[at].astype(exact) + by[at], dtype, image.value_range)
        return found, clipped

    lazy = Lazy(image.shape, dtype, lambda box: part(box)[0], getattr(image.array, "chunks", None))
    clipped = sum(part(box)[1] for box in lazy.boxes())
    result = image.with_array(cast("NDArray[Any]", lazy))
    return result if image.is_lazy else result.loaded(), clipped


def line(length: int, tile: int, margin: int, trim: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """Cut an axis into tiles that overlap by twice the margin, with weights that sum to one everywhere.

    Examples
    --------
    >>> [(box.start, box.stop, ramp.tolist()) for box, ramp in line(8, 6, 2, 1)]
    [(0, 6, [1.0, 1.0, 1.0, 0.75, 0.25, 0.0]), (2, 8, [0.0, 0.25, 0.75, 1.0, 1.0, 1.0])]
    """
    if length <= tile:
        return [(slice(0, length), np.ones(length, np.float32))]
    count = math.ceil((length - 2 * margin) / (tile - 2 * margin))
    size = math.ceil((length + (count - 1) * 2 * margin) / count)
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    ramps = [np.ones(size) for _ in starts]
    for i, (a, b) in enumerate(itertools.pairwise(starts)):
        overlap = a + size - b
        wide = max(overlap - 2 * trim, 0)
        places = np.arange(overlap) - (overlap - wide) // 2
        rising = np.clip((places + 0.5) / wide, 0, 1) if wide else (places >= 0).astype(float)
        ramps[i][size - overlap :] *= 1 - rising
        ramps[i + 1][:overlap] *= rising
    # Where tiles are so short that three of them meet, the weights are no shares yet.
    total = np.zeros(length)
    for s, ramp in zip(starts, ramps, strict=True):
        total[s : s + size] += ramp
    return [
        (slice(s, s + size), (ramp / total[s : s + size]).astype(np.float32))
        for s, ramp in zip(starts, ramps, strict=True)
    ]


def outer(ramps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Multiply weights along axes into those of a box."""
    weight: NDArray[np.float32] = np.ones((1,) * len(ramps), np.float32)
    for axis, ramp in enumerate(ramps):
        weight = weight * ramp.reshape([-1 if k == axis else 1 for k in range(len(ramps))])
    return weight


def _shape(box: Box) -> tuple[int, ...]:
    return tuple(b.stop - b.start for b in box)


def most_voxels(held: int, device: torch.device) -> int:
    """Return how many voxels may be worked on at once, each of which holds so many numbers."""
    free = free_memory(device)
    room = free // 4 if device.type == "cuda" else min(free // 4, ROOM)
    return int(max(room // (4 * held), 1))


def is_short(error: Exception) -> bool:
    """Whether an error says that memory is short; torch says so on the CPU in a plain `RuntimeError`."""
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in words or "alloc" in words
