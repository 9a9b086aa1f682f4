"""Screening: what an image holds besides content, and its values without what is no noise."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci import findings, interference, noise_frames, offsets, outliers, plain
from dip_sci.errors import ImageError
from dip_sci.guided import RADII, guided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.findings import Findings
    from dip_sci.image import Image
    from dip_sci.interference import Tone
    from dip_sci.layout import Layout
    from dip_sci.offsets import Offsets
    from dip_sci.recipe import Recipe
    from dip_sci.tasks import Task

LOOKS, RARE = 4, 1e-4
"""How often outliers are looked for, at most, as more stand out of the noise that is found without the others; and the share of
them that hardly changes it."""

SLIGHT = 0.01
"""Noise that is assumed, over all there is, where the guides are asked for content."""

FEWEST = 256
"""Voxels that a background region needs."""


class Screening:
    """An image without hum and outliers, and what was found of its noise.

    Parameters
    ----------
    image
        What was measured.
    measured
        Boolean array of the image's shape.
    recipe, task, layout
        What is asked of the image, and how its axes are stacked.
    background
        Boolean array of the image's shape: where to measure the noise; ``None`` for everywhere.
    frames
        How many images along `generator.along` follow each other.
    timed
        Whether they are frames in time that are to be seen together.

    Attributes
    ----------
    values
        Floating-point array of the image's shape.
    explained
        Which of them were measured, and are explained by content and noise.
    plain
        Which of them lie in whole areas of one value, without noise.
    noise
        What was found of the noise: of each channel and colour sample, or of mixtures of these.
    offsets, interference
        Columns and rows with offsets of their own, and electric hum, that were taken out.
    outliers
        Share of the voxels that no noise explains: they count as missing, and are restored by what is around them.
    in_time
        Share of the noise that frames have in common with the next, where they are to be seen together.
    """

    def __init__(
        self,
        image: Image,
        measured: NDArray[np.bool_],
        recipe: Recipe,
        task: Task,
        layout: Layout,
        background: NDArray[np.bool_] | None,
        frames: int,
        *,
        timed: bool,
    ) -> None:
        self._recipe, self._task, self._layout, self._measured = recipe, task, layout, measured
        self._asked = task.minds_noise(recipe)
        self.outliers = self.in_time = 0.0
        self._begin(image, measured)
        frames = frames if timed and self._asked else 1
        if frames > 1:
            self.in_time = self._shared_in_time(frames)
        at = measured & ~self.plain
        at = at if background is None else _in_background(at, background)
        self._find_noise(at, frames if self.in_time < noise_frames.SHARED else 1)

    def on(self, part: Image, measured: NDArray[np.bool_], noise: Findings) -> Screening:
        """Screen another part of the same scan, whose noise is known."""
        other = copy.copy(self)
        other.noise, other._measured = noise, measured
        other._begin(part, measured)
        if other._minds_outliers:
            other.explained = measured & ~other._take_out(measured)
        return other

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words."""
        hum = [offsets.describe(self.offsets)] if self.offsets else []
        hum += [interference.describe(self.interference)] if self.interference else []
        stray = [outliers.describe(self.outliers)] if self.outliers > 0 else []
        share = self.plain.sum() / self._measured.sum()
        areas = [plain.describe(float(share))] if share > plain.TOLD else []
        return tuple(areas) if share == 1 else (*self.noise.sentences, *hum, *stray, *areas)

    @property
    def noisy(self) -> NDArray[np.bool_]:
        """Which voxels hold content and noise, and nothing else."""
        return self.explained & ~self.plain

    def whole(self, array: NDArray[Any]) -> NDArray[Any]:
        """Stack an array of the image's shape, without an alpha sample."""
        return self._layout.stack(array[self._colours])

    def unstacked(self, stack: NDArray[Any]) -> NDArray[Any]:
        """Bring a stack back to the image's axes; nothing is in an alpha sample."""
        array = np.zeros(self.values.shape, stack.dtype)
        array[self._colours] = self._layout.unstack(stack, array[self._colours].shape)
        return array

    def _begin(self, image: Image, measured: NDArray[np.bool_]) -> None:
        """Take what is no noise out of an image, but for outliers."""
        self.values, self.explained = as_float(image.array), measured
        self.offsets: list[Offsets] = []
        self.interference: list[Tone] = []
        self._colours = tuple(
            slice(0, n - 1) if a == "S" and n in (2, 4) else slice(None)
            for a, n in zip(image.axes, image.shape, strict=True)
        )
        self.plain = np.zeros(image.shape, bool)
        if not self._asked:
            return
        stack, seen = self.whole(self.values), self.whole(measured)
        areas = [plain.find(stack[index], seen[index]) for index in np.ndindex(*stack.shape[:2])]
        self.plain = self.unstacked(np.reshape(areas, stack.shape))
        if self._recipe.noise.interference == "keep":
            return
        # First, as offsets are there at all frequencies, of which some stand out.
        level, self.offsets = offsets.take_out(stack, seen)
        cleaned, self.interference = interference.take_out(level, seen)
        if cleaned is not stack:
            self._replace(cleaned)

    def _find_noise(self, measured: NDArray[np.bool_], frames: int) -> None:
        """Find the noise in turn with the voxels that it does not explain."""
        self.noise = self._findings(measured, frames)
        for _ in range(LOOKS if self._minds_outliers else 0):
            taken = self._take_out(self.explained)
            self.explained = self.explained & ~taken
            self.outliers = 1 - float(self.explained.sum() / self._measured.sum())
            if taken.mean() < RARE:
                break
            self.noise = self._findings(measured, frames)

    @property
    def _minds_outliers(self) -> bool:
        return self._recipe.noise.outliers == "auto" and self._asked

    def _take_out(self, measured: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Replace voxels that the noise does not explain by one of those around them; return where they were."""
        stack, seen = self.whole(self.values), self.whole(measured)
        found = outliers.find(stack, seen, self.noise.explains, often=self.outliers > outliers.OFTEN)
        if found.any():
            self._replace(outliers.replaced(stack, seen, found))
        return self.unstacked(found)

    def _replace(self, stack: NDArray[Any]) -> None:
        self.values[self._colours] = self._layout.unstack(stack, self.values[self._colours].shape)

    def _findings(self, measured: NDArray[np.bool_], frames: int) -> Findings:
        # The noise of a small region is that of the whole image, where there is far more to measure it on.
        stack, colour = self.whole(self.values), not self._layout.joint
        if not self._asked or not measured.any():
            return findings.not_asked(stack, colour=colour)
        find = partial(
            findings.find,
            seen=self.whole(measured),
            options=self._recipe.noise,
            colour=colour,
            volume=len(self._layout.spatial) == 3,
            linear=self._task.linear,
            frames=frames,
        )
        found = find(stack)
        if not (self._task.guides and found.gaussian):
            return found
        # What the guide foretells is content. Photons must be seen with their brightness.
        left = find(stack - self._foretold(stack, self.whole(measured)))
        weaker = left.gaussian and not left.rotated and (left.sd < found.sd).all()
        return left if weaker else found

    def _foretold(self, stack: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[Any]:
        """Return what the guides tell of a stack ``(G, S, M, *spatial)``, as far as it was measured."""
        guides = [self.whole(np.broadcast_to(guide, self.values.shape))[0, 0] for guide in self._task.guides]
        beside = torch.from_numpy(np.stack(guides, axis=1).copy())
        foretold = np.empty_like(stack)
        for g, s, m in np.ndindex(*stack.shape[:3]):
            here = seen[g, s, m]
            middle = stack[g, s, m][here].mean() if here.any() else 0
            y = torch.from_numpy(np.where(here, stack[g, s, m], middle).astype(stack.dtype))[None]
            # What was taken for noise may be what they tell.
            foretold[g, s, m] = guided(y, beside[m], SLIGHT * y.std(), RADII[-1])[0].numpy()
        return foretold

    def _shared_in_time(self, frames: int) -> float:
        """Measure how much noise frames share with the next."""
        stack, seen = self.whole(self.values), self.whole(self._measured)

        def series(part: NDArray[Any]) -> NDArray[Any]:
            """Bring the frames of ``(G, S, M, *spatial)`` before Y."""
            apart = part.reshape(-1, part.shape[2] // frames, frames, *part.shape[3:])
            return np.moveaxis(apart, 2, -3)

        return noise_frames.shared(series(np.where(seen, stack, 0)), series(seen))


def as_float(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in floating point, of which as much as float32 can hold is exact."""
    exact = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return array.astype(np.float32 if exact or array.dtype.itemsize <= 2 else np.float64)


def _in_background(measured: NDArray[np.bool_], background: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = measured & background
    if inside.sum() < FEWEST:
        raise ImageError(
            f"The background region holds {inside.sum()} measured voxels: at least {FEWEST} are needed to measure noise."
        )
    return inside
