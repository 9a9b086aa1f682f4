"""Pieces: a large image of which every part needs a fit of its own, restored part by part and blended without seams.

Where a network shows only what it was fitted to (full supervision), or a task is not the same everywhere (holes, a
guide, a finer grid), nothing that was learned from a sample could be applied to the rest. Each fit begins with the
weights that the one before it ended with.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci import large, sample
from dip_sci.device import free_memory
from dip_sci.errors import FitError
from dip_sci.scratch import Scratch
from dip_sci.tasks import repeated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.recipe import Recipe
    from dip_sci.tasks import Task

    Box = tuple[slice, ...]

HELD = {"full": 36, "recorrupted": 24}
"""Numbers that a fit and its passes hold per voxel of a piece, over the width of the network's first level.

Full supervision sees the whole of a piece at each step, with all that it takes to go back through the network: 26 to 32
were measured with the paper's network of 64 and 128 channels at 256 x 256 and 384 x 384.
"""

WARM_STEPS = {"full": 1.0, "recorrupted": 0.5}
"""Steps of a fit that begins where another ended, over those of one that begins with nothing.

What restores by looking around holds for the next piece, too. Weights that only show one image do not: they are worth
.4 dB at equal steps, and half of the steps cost 2 dB (half of barbara's pixels missing).
"""


@dataclass(frozen=True)
class Piece:
    """A part of the observation, and how much it counts in the result.

    Attributes
    ----------
    box
        On the observation's axes.
    ramps
        Weights along each axis of the box.
    """

    box: Box
    ramps: list[NDArray[np.float32]]


class Pieces:
    """A large image, the pieces that are still to be restored, and the sum of those that have been.

    Parameters
    ----------
    image
        What was measured.
    task, recipe
        What is asked of it, and how, every option decided.
    region
        Where to restore, of the image's shape; ``None`` for everywhere.
    device
        Where it is done.
    folder
        Where the sum is kept; ``None`` for the system's own place.

    Attributes
    ----------
    count
        Pieces in all, done or not.
    """

    def __init__(
        self,
        image: Image,
        task: Task,
        recipe: Recipe,
        region: NDArray[np.bool_] | None,
        device: torch.device,
        folder: Path | None,
    ) -> None:
        self.image, self.task, self.recipe, self.device = image, task, recipe, device
        self.ndim = str(recipe.generator.ndim)
        self.canvas = task.canvas(image, region)
        self.finer = task.finer(image.axes)
        wanted = task.wanted(image, known=recipe.output.known)
        self.wanted = wanted if region is None else wanted & repeated(region, self.finer)
        self._left = [piece for piece in self._planned(image.shape, self._shape(device)) if self._asked(piece)]
        self.count = len(self._left)
        self._change = Scratch(self.canvas.shape, folder)

    def __iter__(self) -> Iterator[Piece]:
        """Yield pieces until none is left."""
        while self._left:
            yield self._left.pop(0)

    def context(self, piece: Piece) -> Box:
        """Return the part of the image that a piece is restored from: more than itself, where all of it is missing."""
        box = piece.box
        while not self.task.fits(self.image, box):
            box = tuple(
                slice(max(b.start - (b.stop - b.start) // 2 - 1, 0), min(b.stop + (b.stop - b.start) // 2 + 1, n))
                if a in "ZYX"
                else b
                for a, b, n in zip(self.image.axes, box, self.image.shape, strict=True)
            )
        return box

    def cut(self, box: Box) -> Image:
        """Return a part of the image as an image of its own."""
        valid = None if self.image.valid is None else self.image.valid[box]
        array = np.ascontiguousarray(self.image.array[box])
        return dataclasses.replace(self.image, array=array, valid=valid, affine=None)

    def change(self, piece: Piece, context: Box, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a piece adds to the sum, of what was made of its context."""
        inner = tuple(
            slice((b.start - c.start) * f, (b.stop - c.start) * f)
            for b, c, f in zip(piece.box, context, self.finer, strict=True)
        )
        at = self._fine(piece.box)
        weight = large.outer([np.repeat(ramp, f) for ramp, f in zip(piece.ramps, self.finer, strict=True)])
        found = np.where(self.wanted[at], values[inner] - self.canvas.array[at].astype(np.float32), 0)
        return (weight * found).astype(np.float32)

    def add(self, piece: Piece, change: NDArray[np.float32]) -> None:
        """Add a piece to the sum."""
        self._change.add(self._fine(piece.box), change)

    def split(self, piece: Piece) -> None:
        """Put halves in the place of a piece that is too large for the memory.

        Raises
        ------
        FitError
            If it is as small as pieces become.
        """
        shape = tuple(b.stop - b.start for b in piece.box)
        half = large.halved(shape, self.image.axes, self.ndim)
        if half is None:
            raise FitError(
                f"There is not enough memory for a piece of {' x '.join(map(str, shape))} voxels: close other programs, or "
                "take a smaller network (generator.channels) or fewer networks (fit.seeds)."
            )
        halves = [
            Piece(
                tuple(slice(b.start + i.start, b.start + i.stop) for b, i in zip(piece.box, inner.box, strict=True)),
                [own[i] * ramp for own, i, ramp in zip(piece.ramps, inner.box, inner.ramps, strict=True)],
            )
            for inner in self._planned(shape, half)
        ]
        halves = [half for half in halves if self._asked(half)]
        self._left[:0] = halves
        self.count += len(halves) - 1

    def preview(self, context: Box, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the result so far, with a state of the piece at work in its place."""
        whole = self.canvas.array.astype(np.float32) + self._change[(slice(None),) * self.canvas.array.ndim]
        at = self._fine(context)
        whole[at] = np.where(self.wanted[at], values, whole[at])
        return whole

    def result(self) -> tuple[Image, int]:
        """Return the restored image, and how many voxels were clipped."""
        dtype = np.dtype(np.float32) if self.recipe.output.dtype == "float32" else self.canvas.dtype
        return large.changed(self.canvas, self._change, dtype)

    def _asked(self, piece: Piece) -> bool:
        return bool(self.wanted[self._fine(piece.box)].any())

    def _fine(self, box: Box) -> Box:
        return tuple(slice(b.start * f, b.stop * f) for b, f in zip(box, self.finer, strict=True))

    def _planned(self, shape: tuple[int, ...], piece: tuple[int, ...]) -> Iterator[Piece]:
        inside = large.SPATIAL[self.ndim]
        lines = [
            large.line(n, p, large.MARGIN[self.ndim], large.TRIM[self.ndim]) if a in inside else large.line(n, p, 0, 0)
            for a, n, p in zip(self.image.axes, shape, piece, strict=True)
        ]
        for choice in itertools.product(*lines):
            yield Piece(tuple(box for box, _ in choice), [ramp for _, ramp in choice])

    def _shape(self, device: torch.device) -> tuple[int, ...]:
        """Return the largest piece that the memory takes: of planes in 2D as many as make a sample."""
        inside = large.SPATIAL[self.ndim]
        most = room(self.recipe, device) // math.prod(self.finer)
        edge = max(self.recipe.output.tile or large.EDGE[self.ndim], large.LEAST[self.ndim])
        shape = tuple(
            min(n, edge) if a in inside else n if a in "CS" else 1
            for a, n in zip(self.image.axes, self.image.shape, strict=True)
        )
        while self._size(shape) > most and (half := large.halved(shape, self.image.axes, self.ndim)):
            shape = half
        several = max(sample.VOXELS // math.prod(shape), 1)
        for i, axis in enumerate(self.image.axes):
            if axis not in inside + "CS":
                count = min(self.image.shape[i], several)
                shape, several = (*shape[:i], count, *shape[i + 1 :]), several // count
        return shape

    def _size(self, shape: tuple[int, ...]) -> int:
        inside = large.SPATIAL[self.ndim]
        return math.prod(n for n, a in zip(shape, self.image.axes, strict=True) if a in inside)


def needed(image: Image, task: Task, recipe: Recipe, device: torch.device) -> bool:
    """Whether an image is too large for one fit, or for the tile that the recipe asks for.

    Parameters
    ----------
    image, task, recipe
        What is restored, what is asked of it, and how, every option decided.
    device
        Where it is done.
    """
    inside = large.SPATIAL[str(recipe.generator.ndim)]
    finer = math.prod(task.finer(image.axes))
    if recipe.output.tile is not None and max(image.size_of(a) for a in inside) > recipe.output.tile:
        return True
    if sample.is_large(image, finer):
        return True
    seen_at_once = math.prod(image.size_of(a) for a in inside) * finer
    return recipe.supervision.kind == "full" and seen_at_once > free_room(recipe, device)


def room(recipe: Recipe, device: torch.device) -> int:
    """Voxels of a piece at most, on the result's grid: a quarter of the free memory, and not more than a tile may take."""
    return large.most_voxels(_held(recipe), device)


def free_room(recipe: Recipe, device: torch.device) -> int:
    """Voxels that a single fit may see at once: half of the free memory."""
    return free_memory(device) // 2 // (4 * _held(recipe))


def _held(recipe: Recipe) -> int:
    width = (recipe.generator.channels or (16,))[0] * recipe.fit.seeds
    return HELD["full" if recipe.supervision.kind == "full" else "recorrupted"] * width
