"""Preparation: from an image to problems on the network's range, and back without a trace."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci.counted import ANSCOMBE, Counted
from dip_sci.detection import Detected
from dip_sci.errors import ImageError
from dip_sci.image import Image
from dip_sci.layout import Layout, spacings
from dip_sci.noise import Poisson, PoissonGaussian
from dip_sci.problem import Problem
from dip_sci.scaling import Scaling, cast
from dip_sci.screening import Screening, as_float
from dip_sci.tasks import Task, repeated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.noise_estimate import NoiseEstimate
    from dip_sci.operators import Operator
    from dip_sci.recipe import Recipe

MARGIN = 32
"""Voxels around the region of interest that are fitted with it."""

COARSE = 3.0
"""Noise in grey levels below which a result in whole numbers loses noticeably: it may be 10 times cleaner."""

LARGEST = 1e30
"""Magnitude beyond which float32 arithmetic would overflow."""

LEAST_NOISE = 0.3
"""Least share of the standard deviation that a dark voxel is said to have."""

LEAST_NORMAL = 0.65
"""Variance of stabilised noise over that where photons are many, for the average photon, from which on it is as good as normal.
"""

WHOLE = 0.05
"""How far from whole numbers photons may be, which have gone through single precision."""

SMALLEST = 8
"""Voxels that an image needs along Y and X."""


class Preparation:
    """One image, ready to be fitted: noise estimated and stabilised, values scaled, axes stacked.

    Parameters
    ----------
    image
        What was measured.
    recipe
        With every option decided.
    region
        Boolean array of the image's shape: the voxels to restore, or (``output.outside``) those that count more;
        ``None`` for all.
    background
        Boolean array of the image's shape: where to measure the noise; ``None`` for everywhere.
    task
        What is asked of the image.
    dtype
        Stored type of the result, where it is not the image's.
    frames
        How many images along `generator.along` follow each other, where it is not all of them.

    Attributes
    ----------
    canvas
        The result's grid, with the values that stay where nothing is restored.
    noise
        What was found of the noise: of each channel and colour sample, or of mixtures of these.
    constant
        Whether there is nothing to restore.
    found
        What else was found.
    reach
        How many frames or planes on either side are seen with each.
    """

    def __init__(
        self,
        image: Image,
        recipe: Recipe,
        region: NDArray[np.bool_] | None,
        background: NDArray[np.bool_] | None = None,
        task: Task | None = None,
        dtype: np.dtype[Any] | None = None,
        frames: int | None = None,
    ) -> None:
        self.dtype = image.dtype if dtype is None else dtype
        self.image, self.recipe, self.task = image, recipe, task or Task()
        measured = self.task.measured(image)
        _check(image, measured)
        only = region if recipe.output.outside == "keep" else None
        self.canvas = self.task.canvas(image, only)
        finer = self.task.finer(image.axes)
        wanted = self.task.wanted(image, known=recipe.output.known)
        self.inside = wanted if only is None else wanted & repeated(only, finer)
        if not self.inside.any():
            raise ImageError(
                f"The region of interest holds no {self.task.nothing} voxel: there is nothing to restore in it."
            )
        self._box = _box(image, only)
        spatial = "ZYX" if recipe.generator.ndim == "3d" else "YX"
        self.layout = Layout(image.axes, spatial, joint=recipe.generator.joint_channels, along=recipe.generator.along)
        self.reach, self._frames = recipe.generator.neighbours or 0, frames
        self._shape = image.array[self._box].shape
        self.spacing = spacings(image, spatial)
        self.found = Screening(
            image, measured, recipe, self.task, self.layout, background, self._followed(), timed=self._timed
        )
        self.noise = self.found.noise
        # Stabilised noise and a plain scale for every channel and sample, or mixture of samples: (G, K, M, *spatial).
        values, seen = self.layout.stack(as_float(image.array[self._box])), self.layout.stack(measured[self._box])
        varies = np.array([not self._is_constant(values[i], seen[i]) for i in np.ndindex(*values.shape[:2])])
        self.constant = not varies.any()
        self._varies = varies.reshape(*values.shape[:2], *(1,) * (values.ndim - 2))
        values, seen = self.noise.mixed(self._stacked(self.found.values), self._stacked(self.found.explained))
        self._stack_shape: tuple[int, ...] = values.shape
        self._place = tuple(slice(b.start * f, b.stop * f) for b, f in zip(self._box, finer, strict=True))
        stable = self.noise.stabilised(values, seen)
        self.scaling, self._light = self._scalings(stable, values, seen)
        weighty = np.ones(image.shape, bool) if region is None else region
        self._observe(stable, seen, weighty)
        self.constant = self.constant or not self.inside.any()

    def on(self, part: Image) -> Preparation:
        """Prepare another part of the same scan for denoising, by the noise and the scaling that were found here.

        Parameters
        ----------
        part
            With the same axes, of any size along those of space and time.
        """
        other = copy.copy(self)
        measured = part.measured()
        other.image, other.canvas, other.inside, other._frames = part, part, measured, None
        other._box = other._place = _box(part, None)
        other._shape = part.array[other._box].shape
        other.found = self.found.on(part, measured, self.noise)
        values, seen = self.noise.mixed(other._stacked(other.found.values), other._stacked(other.found.explained))
        other._stack_shape = values.shape
        other._observe(self.noise.stabilised(values, seen), seen, np.ones(part.shape, bool))
        return other

    def even(self) -> bool:
        """Take the noise to be as strong everywhere; return whether it was found not to be."""
        uneven = self.noise.uneven
        self.noise = self.noise.even()
        return uneven

    def _scalings(self, stable: NDArray[Any], values: NDArray[Any], seen: NDArray[np.bool_]) -> tuple[Scaling, Scaling]:
        """Scale stabilised values, and light; mixtures all alike, as a sample's error is made of that of all."""
        unit_range = self.recipe.generator.output == "sigmoid"
        scaling = Scaling.fit(stable, seen, unit_range=unit_range)
        light = Scaling.fit(np.where(seen, values, 0), seen) if self.task.linear else scaling
        if not self.noise.rotated or unit_range:
            return scaling, light
        units = self.noise.sd.reshape(scaling.width.shape)
        scaling = scaling.together(units)
        return scaling, light.together(np.ones_like(units)) if self.task.linear else scaling

    def _observe(self, stable: NDArray[Any], seen: NDArray[np.bool_], weighty: NDArray[np.bool_]) -> None:
        """Keep what the network is taught with; channels that do not vary are left as they are, and so are plain areas."""
        self._result = self.canvas.array[self._place].shape
        samples = self.layout.stack(self.canvas.array[self._place]).shape
        self._result_stack: tuple[int, ...] = (samples[0], self._stack_shape[1], *samples[2:])
        self.inside = self.inside.copy()
        self.inside[self._place] &= self.layout.unstack(np.broadcast_to(self._varies, samples), self._result)
        if self.found.plain.any() and not self.task.linear:
            self.inside &= ~self.found.plain
        self._observation = np.where(seen, self.scaling.forward(stable), 0).astype(np.float32)
        self._seen = seen
        # Of an empty frame, or a plane of padding, nothing is to be learned.
        each = np.array([not self._is_constant(stable[i], seen[i]) for i in np.ndindex(*stable.shape[:3])])
        alive = np.any(each.reshape(*stable.shape[:3], *(1,) * (stable.ndim - 3)), axis=1, keepdims=True)
        within = self._stacked(weighty & ~self.found.plain) & self._varies & alive
        if self.noise.mixing is not None:
            within = within.any(axis=1, keepdims=True)
        self._weights = (np.where(within, 1.0, self.recipe.fit.outside) * seen).astype(np.float32)

    @property
    def images(self) -> int:
        """How many images are stacked."""
        groups, _, shared, *_ = self._stack_shape
        return groups * shared

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one restored image of the stack, ``(S, *spatial)``."""
        return (self._result_stack[1], *self._result_stack[3:])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of the images that share a network, and their edges."""
        groups, _, shared, *spatial = self._stack_shape
        return (groups * shared, *spatial)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise over that of the noisy image, of all samples: the mean over channels."""
        return float(np.sqrt(np.square(np.minimum(1 / self.scaling.width, 1.0)).mean(axis=1)).mean())

    @property
    def caution(self) -> float:
        """Variance of the noise as problems have it, over what was found: a standard error is added."""
        return self.noise.caution(np.square(1 / self.scaling.width).reshape(self._stack_shape[:2]))

    def problems(self, device: torch.device) -> list[Problem]:
        """Return one problem for all images (a shared network), or under full supervision one per image."""
        observation = torch.from_numpy(self._to_batch(self._observation))
        # A voxel of a colour image counts as measured when all of its samples are.
        measured = torch.from_numpy(self._to_batch(self._seen).all(axis=1, keepdims=True).astype(np.float32))
        weights = torch.from_numpy(self._to_batch(self._weights).min(axis=1, keepdims=True).astype(np.float32))
        sigma = torch.from_numpy(self._to_batch(self._noise_sd()))
        texture, detail = self.noise.textures(self.recipe.noise)
        factor = self.noise.stronger()
        stronger = None if factor is None else torch.from_numpy(factor.reshape(1, -1, *(1,) * len(self.layout.spatial)))
        operator = self.task.operator(
            self.layout.spatial, self.spacing, self.recipe, noise=float(sigma.square().mean().sqrt())
        )
        frames = self._followed()
        # Few frames, as at the end of a large image, have as many neighbours as they can.
        reach = min(self.reach, frames // 2)
        whole = Problem(
            *(observation, measured, weights, sigma, operator, texture, self._guides(), detail, None, stronger),
            frames=frames if reach else 1,
            reach=reach,
            timed=self.recipe.generator.along == "T",
        ).to(device)
        groups, _, shared, *_ = self._stack_shape
        stacks = [whole]
        if self.task.linear:
            # Each channel has a detector of its own.
            stacks = [self._detected(whole.only(g * shared, shared), g) for g in range(groups)]
        if self.recipe.supervision.kind == "recorrupted":
            return stacks
        return [stack.only(n) for stack in stacks for n in range(len(stack.observation))]

    def _detected(self, problem: Problem, group: int) -> Problem:
        """Return a group's problem with its operator on light, as it acts on the network's range."""
        model = self.noise.estimates[group * self._stack_shape[1]].model

        def operator(noise: float) -> Operator:
            return self.task.operator(self.layout.spatial, self.spacing, self.recipe, noise)

        if not isinstance(model, PoissonGaussian):
            return replace(problem, operator=operator(float(problem.sigma.square().mean().sqrt())))
        light, stable = (_per_sample(Scaling(s.centre[group], s.width[group])) for s in (self._light, self.scaling))
        noise = float(np.sqrt(model.variance(light.centre) / light.width**2).mean())
        return replace(problem, operator=Detected(operator(noise), model, light, stable))

    def judged(self, problem: Problem, estimate: torch.Tensor, first: int) -> tuple[Problem, bool]:
        """Return a problem with its noise in all detail that is known: what estimates are judged by.

        Where an estimate says that photons are few, no transform stabilises them: where nothing is counted, nothing
        scatters. Nor does anything beyond the end of the range. And what neighbours share counts here even where it is too
        little to fit by.

        Parameters
        ----------
        problem
            One of `problems`.
        estimate
            What was made of it, ``(N, S, *spatial)``, on the network's range.
        first
            How many images the problems before it held.

        Returns
        -------
        problem, known
            And whether its noise is near enough to normal, or counted, for errors to be foretold.
        """
        problem = problem.judged()
        if self.noise.normal:
            return problem, True
        g, s, m, *spatial = self._stack_shape
        batch = np.zeros((g * m, s, *spatial), np.float32)
        here = slice(first, first + len(estimate))
        batch[here] = estimate.cpu().numpy()
        stable = self.scaling.inverse(self._from_batch(batch), np.dtype(np.float32))
        variance, light = np.ones(self._stack_shape, np.float32), np.zeros(self._stack_shape, np.float32)
        for index, found in self.noise.each:
            variance[index] = found.stable_variance(stable[index])
            if isinstance(found.model, PoissonGaussian):
                light[index] = (found.unstabilise(stable[index]) - found.model.offset) / found.model.gain
        # What is found where it is flat, and so mostly dark, holds the noise that read noise adds there.
        levels = [e.structure.level if e.structure is not None else 1.0 for e in self.noise.estimates]
        flat = np.reshape(np.maximum(levels, 1.0), (g, s, 1, *(1,) * len(spatial)))
        shares = np.where(variance > 1, np.maximum(np.sqrt(variance) / flat, 1), np.sqrt(variance))
        # Even a dark voxel's noise is not known to be nothing.
        share = torch.from_numpy(self._to_batch(shares)[here]).clamp_min(LEAST_NOISE).to(problem.sigma)
        photons = self._to_batch(light * self._seen)[here]
        normal = (self._to_batch(variance)[here] * photons).sum() >= LEAST_NORMAL * photons.sum()
        counted = self._counted(stable, light, estimate, here)
        return replace(problem, sigma=problem.sigma * share, counted=counted), bool(normal) or counted is not None

    def _counted(
        self, stable: NDArray[Any], light: NDArray[Any], estimate: torch.Tensor, here: slice
    ) -> Counted | None:
        """Return the photons of some images, and what a stabilised estimate of all makes of them; ``None`` unless all are whole."""
        photons = np.where(self._seen, np.square(self.scaling.inverse(self._observation) / 2) - ANSCOMBE, 0)
        alone = all(
            isinstance(e.model, PoissonGaussian) and e.model.read_noise == 0 and e.ends is None
            for e in self.noise.estimates
        )
        if (
            not alone
            or self.noise.correlated
            or photons.min() < -WHOLE
            or np.abs(photons - np.rint(photons)).max() > WHOLE
        ):
            return None
        unit = np.ones((*self._stack_shape[:3], *(1,) * len(self.layout.spatial))) / self.scaling.width
        # Gains and offsets are gone where noise is stabilised.
        slope = Poisson().stable_slope(stable)
        parts = [self._to_batch(part)[here] for part in (np.rint(photons), unit, light, slope * unit)]
        return Counted(estimate, *(torch.from_numpy(part).to(estimate) for part in parts))

    def values(self, stack: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Turn restored images ``(N, S, *spatial)`` on the network's range into values on the canvas.

        Fewer than all images may be given; the rest, and whatever is outside the region or was not
        measured, keeps its value.

        Returns
        -------
        values, replaced
            Arrays of the canvas's shape: floating-point values, and which of them are new.
        """
        g, s, m, *spatial = self._result_stack
        done = np.zeros(g * m, bool)
        done[: len(stack)] = True
        full = np.zeros((g * m, s, *spatial), np.float32)
        full[: len(stack)] = stack
        scaled = self._from_batch(full)
        scaling = self._light if self.task.linear else self.scaling
        restored = self.noise.restored(scaling.inverse(scaled, self.found.values.dtype), linear=self.task.linear)
        fitted = np.broadcast_to(done.reshape(g, 1, m, *(1,) * len(spatial)), restored.shape)
        replaced = np.zeros(self.canvas.shape, bool)
        replaced[self._place] = self.inside[self._place] & self.layout.unstack(fitted, self._result)
        out = as_float(self.canvas.array)
        out[replaced] = self.layout.unstack(restored, self._result)[replaced[self._place]]
        return out, replaced

    def finish(self, values: NDArray[Any], replaced: NDArray[np.bool_]) -> tuple[Image, int]:
        """Cast values to the type that the recipe asks for; what was not replaced keeps its stored value exactly.

        Parameters
        ----------
        values, replaced
            From `values`.

        Returns
        -------
        image, clipped
            The result, and how many voxels were clipped.
        """
        dtype = np.dtype(np.float32) if self.recipe.output.dtype == "float32" else self.dtype
        kept = self.canvas.array
        # Casting goes by way of float64, which cannot hold all 64-bit integers.
        array = kept.astype(dtype) if dtype.kind == "f" or kept.dtype == dtype else cast(kept, dtype)[0]
        array[replaced], clipped = cast(values[replaced], dtype, self.image.value_range)
        return self.canvas.with_array(array), clipped

    def doubts(self) -> list[str]:
        """Warn where the noise model, or what the task was given, is hardly that of the image."""
        if self.constant or not self.task.minds_noise(self.recipe):
            return []
        stack = self._stacked(self.found.values)
        found = self.noise.doubts(stack, self._stacked(self.found.noisy))
        if self.noise.correlated:
            return found

        def variance() -> float:
            sd = self.noise.strength(self.found.whole(self.found.values)).astype(np.float64)
            return float(np.square(sd).mean())

        return found + self.task.doubts(stack, self._stacked(self.task.measured(self.image)), variance)

    def rounding(self) -> str | None:
        """Warn where whole numbers are too coarse for what the noise leaves."""
        if self.constant or self.image.dtype.kind == "f" or self.recipe.output.dtype == "float32":
            return None
        if not self.task.minds_noise(self.recipe):
            return None
        noisy = self.found.values[self.found.noisy]
        sd = float(self.noise.sd_at(float(np.median(noisy))).min()) if noisy.size else COARSE
        if sd >= COARSE:
            return None
        return (
            f"The noise (standard deviation {sd:.2g}) is hardly larger than the step between whole numbers: "
            "rounding to the stored type costs precision. Set output.dtype to float32 to keep it."
        )

    def noise_map(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return how strong the noise is at each voxel.

        Parameters
        ----------
        values
            Array of the image's shape that stands for the truth: the restored image.

        Returns
        -------
        ndarray
            Standard deviation in the image's units, of the image's shape; 0 in plain areas, and for a sample that is no colour.
        """
        sd: NDArray[np.float32] = self.found.unstacked(self.noise.strength(self.found.whole(as_float(values))))
        sd[self.found.plain] = 0
        return sd

    def _noise_sd(self) -> NDArray[np.float32]:
        """Return the standard deviation of the noise on the network's range: one per image, or one per voxel."""
        flat = (*self._stack_shape[:3], *(1,) * len(self.layout.spatial))
        sd: NDArray[np.float32] = np.broadcast_to((1 / self.scaling.width).astype(np.float32), flat)
        # Too little noise misleads whoever goes by it more than too much: the larger of two measurements
        # counts, and the standard error on top.
        given = self.recipe.noise.sigma is not None or self.recipe.noise.gain is not None
        levels = [1.0 if given else _at_most(e) for e in self.noise.estimates]
        sd = sd * np.array(levels, np.float32).reshape(*self._stack_shape[:2], *(1,) * (sd.ndim - 2))
        if not self.noise.uneven:
            return sd
        maps = self.found.whole(np.ones(self.image.shape, np.float32))
        for index, estimate in self.noise.each:
            found = estimate.structure
            if found is not None and found.sd_map is not None:
                maps[index] = found.sd_map
        # The maps are of the whole image, the problem is of its part around the region of interest.
        here: NDArray[np.float32] = self._stacked(self.found.unstacked(maps))
        return sd * here[:, : self._stack_shape[1]]

    def _followed(self) -> int:
        """How many images of the stack follow each other."""
        along = self.recipe.generator.along
        there = along in self.image.axes and along not in self.layout.spatial
        return (self._frames or self._shape[self.image.axes.index(along)]) if there else 1

    @property
    def _timed(self) -> bool:
        """Whether frames are to be seen together that follow each other in time."""
        return self.reach > 0 and self.recipe.generator.along == "T" and self.task.minds_noise(self.recipe)

    def _guides(self) -> torch.Tensor | None:
        """Stack what the task knows of each image besides all observations."""
        parts = [self._guide(guide) for guide in self.task.guides]
        return torch.cat(parts, dim=1) if parts else None

    def _guide(self, guide: NDArray[np.float32]) -> torch.Tensor:
        stack = self.layout.stack(np.broadcast_to(guide, self.image.shape)[self._box])
        return torch.from_numpy(self._to_batch(stack[:, :1]).copy())

    @staticmethod
    def _is_constant(values: NDArray[Any], seen: NDArray[np.bool_]) -> bool:
        return not seen.any() or bool(np.ptp(values[seen]) == 0)

    def _stacked(self, array: NDArray[Any]) -> NDArray[Any]:
        """Stack the part of an array of the image's shape that is fitted."""
        return self.layout.stack(array[self._box])

    def _to_batch(self, stack: NDArray[Any]) -> NDArray[Any]:
        moved = np.moveaxis(stack, 2, 1)
        return np.ascontiguousarray(moved.reshape(-1, *moved.shape[2:]))

    def _from_batch(self, batch: NDArray[Any]) -> NDArray[Any]:
        g, s, m, *_ = self._stack_shape
        return np.moveaxis(batch.reshape(g, m, s, *batch.shape[2:]), 1, 2)


def _per_sample(scaling: Scaling) -> Scaling:
    """Bring the scaling of a group ``(S, 1, *1)`` to images ``(S, *spatial)``."""
    return Scaling(scaling.centre[:, 0], scaling.width[:, 0])


def _at_most(estimate: NoiseEstimate) -> float:
    """Return the standard deviation that stabilised noise may have."""
    found = estimate.structure
    return (1 + estimate.doubt) * (1.0 if found is None else max(found.level * found.excess, 1.0))


def _check(image: Image, measured: NDArray[np.bool_]) -> None:
    if image.dtype.kind not in "iuf" and image.dtype != bool:
        raise ImageError(f"Values of type {image.dtype} cannot be restored: convert them to a real number type.")
    if image.dtype == bool:
        raise ImageError("The image holds only true and false: it looks like a mask, not like a scan.")
    small = [a for a in "YX" if image.size_of(a) < SMALLEST]
    if small:
        raise ImageError(
            f"The image is too small to learn from: shape {image.shape} ({image.axes}), "
            f"at least {SMALLEST} voxels are needed along Y and X."
        )
    if not measured.any():
        raise ImageError("The image holds no finite, measured voxel: there is nothing to restore.")
    if image.dtype.kind == "f":
        seen = image.array[measured].astype(np.float64)
        largest, spread = float(np.abs(seen).max()), float(np.ptp(seen))
        if largest > LARGEST or 0 < spread < 1 / LARGEST:
            raise ImageError(
                f"Values up to {largest:.3g} that span {spread:.3g} are beyond single precision: "
                "give the image in another unit."
            )


def _box(image: Image, region: NDArray[np.bool_] | None) -> tuple[slice, ...]:
    """Find the part that is fitted: the region and its surroundings, without an alpha sample."""
    box = [slice(0, n) for n in image.shape]
    if "S" in image.axes and image.size_of("S") in (2, 4):
        at = image.axes.index("S")
        box[at] = slice(0, image.shape[at] - 1)
    if region is not None:
        for axis, name in enumerate(image.axes):
            if name in image.spatial_axes:
                others = tuple(k for k in range(region.ndim) if k != axis)
                hit = np.flatnonzero(region.any(axis=others))
                box[axis] = slice(max(int(hit[0]) - MARGIN, 0), min(int(hit[-1]) + MARGIN + 1, image.shape[axis]))
    return tuple(box)
