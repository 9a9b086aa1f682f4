"""Findings: the noise of all channels and colour samples of an image, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci import colours
from dip_sci.colours import SILENT
from dip_sci.noise import Gaussian, Pointwise, PoissonGaussian, Rician, Speckle
from dip_sci.noise_blocks import CUT, EDGE
from dip_sci.noise_ends import piled
from dip_sci.noise_estimate import NoiseEstimate, estimate, rounding
from dip_sci.recipe import TAKEN_BY
from dip_sci.texture import Texture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.colours import Colours
    from dip_sci.noise_structure import Structure
    from dip_sci.recipe import NoiseOptions

    Array = NDArray[Any]

NOT_ASKED = NoiseEstimate(Gaussian(1.0), "What noise there is was not looked into.", None)

NOTHING_MEASURED = NoiseEstimate(Gaussian(1.0), "No voxel of this channel was measured.", None)

NEGLIGIBLE = 0.2
"""Share of mixtures' noise that neighbours may share without all of it being taken for such."""

COARSELY = 0.75
"""Share of the strength of coarse noise that methods go by which take noise for independent: fine content has less of it."""

UNEXPLAINED, BELOW = 0.01, 4.0
"""Share of the voxels, and standard deviations of the noise without light by which they are below what a model can make, from which
on the model is doubted."""

MOSTLY = 0.6
"""Correlation of two samples' noise from which on mixtures are better also where neighbours share the noise of both."""

ROUNDED = 1.5
"""Strength of noise over that of rounding up to which it is mostly rounding, which no two samples share."""

CUT_OFF, LEAST_CLEAR = 0.05, 0.1
"""Share of the values that are cut off from which on only voxels away from them count, and the share of those that must be left.

Fewer hardly lower the noise, and dark and bright parts are often the flat ones.
"""


@dataclass(frozen=True)
class Findings:
    """Which noise a stack ``(G, S, M, *spatial)`` holds: that of each sample, or of mixtures of them ``(G, K, M, *spatial)``.

    Attributes
    ----------
    estimates
        One per channel and sample, or mixture, in the order of the stack.
    groups
        How many channels there are.
    mixing
        From samples to mixtures and back; ``None`` where samples stand for themselves.
    first
        The noise of each sample where it must be stabilised before samples are mixed: all count photons.
    """

    estimates: tuple[NoiseEstimate, ...]
    groups: int
    mixing: Colours | None = None
    first: tuple[NoiseEstimate, ...] = ()

    @property
    def each(self) -> list[tuple[tuple[int, ...], NoiseEstimate]]:
        """Estimates with their places."""
        return list(zip(np.ndindex(self.groups, self.samples), self.estimates, strict=True))

    @property
    def model(self) -> Pointwise | None:
        """How a voxel of the first channel and sample scatters; ``None`` where only mixtures' noise is known."""
        return None if self.rotated else self.estimates[0].model

    @property
    def samples(self) -> int:
        """How many samples, or mixtures, each channel has."""
        return len(self.estimates) // self.groups

    @property
    def structures(self) -> list[Structure]:
        """How the noise is spread, where that is known."""
        return [e.structure for e in self.estimates if e.structure is not None]

    @property
    def rotated(self) -> bool:
        """Whether it is the noise of mixtures of several samples."""
        return self.mixing is not None and self.mixing.rotated

    @property
    def correlated(self) -> bool:
        """Whether neighbouring voxels share noise."""
        if not self.rotated:
            return any(s.correlated for s in self.structures)
        variance = np.square(self.sd)
        shared = [e.structure is not None and e.structure.correlated for e in self.estimates]
        share = (variance * np.reshape(shared, variance.shape)).sum(axis=1) / variance.sum(axis=1)
        return bool(share.max() > NEGLIGIBLE)

    @property
    def counts(self) -> bool:
        """Whether photons are counted."""
        return any(isinstance(e.model, PoissonGaussian) for e in self.estimates)

    @property
    def gaussian(self) -> bool:
        """Whether the noise is Gaussian, as strong everywhere, and was measured."""
        return all(isinstance(e.model, Gaussian) and e.error > 0 for e in self.estimates) and not self.uneven

    @property
    def normal(self) -> bool:
        """Whether stabilised noise is normal whatever the brightness: neither photons' nor speckle, and none of it cut off."""
        return not self.counts and all(e.ends is None and not isinstance(e.model, Speckle) for e in self.estimates)

    @property
    def cut_off(self) -> float:
        """Share of the voxels whose noise is cut off at an end of the range: the mean over channels and samples."""
        return float(np.mean([e.cut_off for e in self.estimates]))

    @property
    def sentences(self) -> list[str]:
        """What was found, in words: one for each channel and sample or mixture."""
        found = [e.sentence for e in self.estimates]
        if self.mixing is None or not self.mixing.rotated:
            return found
        names = [", ".join(f"{share:.2f}" for share in row) for row in self.mixing.to] * self.groups
        low, high = self.mixing.correlation
        allowed = any(e.ends is not None for e in self.first)
        ends = (
            f"; {self.cut_off:.0%} of the values are cut off, and do not count"
            if self.cut_off > 0 and not allowed
            else ""
        )
        return [
            f"Colours share noise (correlation {low:.2f} to {high:.2f}), so that it was measured in mixtures of them that do "
            f"not{ends}{', as stabilised' if self.first else ''}.",
            *(e.sentence for e in self.first),
            *(f"Mixture ({name}): {sentence}" for name, sentence in zip(names, found, strict=True)),
        ]

    @property
    def sd(self) -> NDArray[np.float64]:
        """Standard deviation of the noise of dark voxels, in image units, ``(G, K)``."""
        return np.sqrt(self._variance(0.0))

    def sd_at(self, value: float) -> NDArray[np.float64]:
        """Return the standard deviation of the noise of samples of a value, in image units, ``(G, S)``."""
        variance = self._variance(value)
        if self.mixing is not None:
            variance = self.mixing.variance(variance)
        if self.first:
            variance = variance * np.reshape([e.model.variance(np.array([value])) for e in self.first], variance.shape)
        return np.sqrt(variance)

    def _variance(self, value: float) -> NDArray[np.float64]:
        found = [float(e.model.variance(np.array([value]))[0]) for e in self.estimates]
        return np.reshape(found, (self.groups, self.samples))

    def caution(self, weights: NDArray[Any]) -> float:
        """Return the factor by which the noise's variance, in which channels and samples have weights, may be over what was found."""
        doubts = np.reshape([e.doubt for e in self.estimates], (self.groups, self.samples))
        return float((weights * np.square(1 + doubts)).sum() / weights.sum())

    def even(self) -> Findings:
        """Return the same as if the noise were as strong everywhere."""
        taken = [
            e if e.structure is None else replace(e, structure=replace(e.structure, sd_map=None))
            for e in self.estimates
        ]
        return replace(self, estimates=tuple(taken))

    @property
    def uneven(self) -> bool:
        """Whether it is stronger in some places than in others."""
        return any(s.sd_map is not None for s in self.structures)

    def mixed(self, values: Array, seen: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
        """Mix the samples of a stack; mixtures are measured where all samples are."""
        if self.mixing is None:
            return values, seen
        mixtures = self.mixing.mix(_stabilised(values, seen, self.first) if self.first else np.where(seen, values, 0))
        return mixtures, np.broadcast_to(np.all(seen, axis=1, keepdims=True), mixtures.shape)

    def stabilised(self, mixtures: Array, seen: NDArray[np.bool_]) -> Array:
        """Bring mixtures to where their noise is 1; what was not measured is 0."""
        return _stabilised(mixtures, seen, self.estimates)

    def restored(self, stable: Array, *, linear: bool = False) -> Array:
        """Bring denoised mixtures back to samples; with `linear`, they are in image units already."""
        mixtures = stable
        if not linear:
            mixtures = np.stack([e.unstabilise(stable[i]) for i, e in self.each]).reshape(stable.shape)
        samples = mixtures if self.mixing is None else self.mixing.separate(mixtures)
        if not self.first:
            return samples
        places = zip(np.ndindex(*samples.shape[:2]), self.first, strict=True)
        return np.stack([e.unstabilise(samples[i]) for i, e in places]).reshape(samples.shape)

    def strength(self, truth: Array) -> NDArray[np.float32]:
        """Return the standard deviation of the noise of each value of a stack of samples, in image units."""
        mixtures = truth if self.mixing is None else self.mixed(truth, np.ones(truth.shape, bool))[0]
        sd = np.empty(mixtures.shape, np.float32)
        for index, e in self.each:
            found = e.structure
            # The model holds all of the noise; flat parts, which are mostly dark, may have less where photons are few.
            place = 1.0 if found is None or found.sd_map is None else found.sd_map
            sd[index] = np.sqrt(e.variance(mixtures[index])) * place
        if self.mixing is None:
            return sd
        samples: NDArray[np.float32] = np.sqrt(self.mixing.variance(np.square(sd)))
        for i, e in zip(np.ndindex(*samples.shape[:2]), self.first, strict=False):
            samples[i] *= np.sqrt(e.variance(truth[i]))
        return samples

    def explains(self, truth: Array) -> NDArray[np.float32]:
        """Return `strength`, that of a photon at least: where there are fewer, single ones stand out of the dark."""
        lit = np.array(truth)
        counting = () if self.rotated else self.each
        for (g, s), e in zip(np.ndindex(*truth.shape[:2]), self.first, strict=True) if self.first else counting:
            if isinstance(e.model, PoissonGaussian):
                here = lit[g] if self.samples == 1 else lit[g, s]
                np.maximum(here, e.model.offset + e.model.gain, out=here)
        return self.strength(lit)

    def doubts(self, values: Array, seen: NDArray[np.bool_]) -> list[str]:
        """Say where samples ``(G, S, M, *spatial)`` are darker than their noise model can make them."""
        found = []
        for index, e in [] if self.rotated else self.each:
            lit = values[index][seen[index]]
            if not lit.size:
                continue
            if isinstance(e.model, PoissonGaussian):
                least = e.model.offset - BELOW * e.model.read_noise - e.model.gain
                share, what = np.mean(lit < least), f"darker than a camera's offset of {e.model.offset:.4g} allows"
            elif isinstance(e.model, Rician):
                share, what = np.mean(lit < 0), "negative, which magnitudes are not"
            elif isinstance(e.model, Speckle):
                share, what = np.mean(lit < -BELOW * e.model.read_noise), "negative, which intensities are not"
            else:
                continue
            if share > UNEXPLAINED:
                found.append(
                    f"{share:.0%} of the values are {what}, and cannot come back as they were: the noise model "
                    "(noise.model, noise.offset, or a calibration) is hardly that of this image."
                )
        return list(dict.fromkeys(found))

    def stronger(self) -> NDArray[np.float32] | None:
        """Return how much stronger mixtures' noise is at coarse frequencies ``(K,)``: at most as that of the strongest."""
        if self.mixing is None or not self.mixing.coarse.any():
            return None
        factor = np.clip(COARSELY * self.mixing.coarse, self.sd, self.sd.max(axis=1, keepdims=True)) / self.sd
        found: NDArray[np.float32] = factor.mean(axis=0).astype(np.float32)
        return found

    def textures(self, options: NoiseOptions) -> tuple[Texture, Texture | None]:
        """Return what neighbours share as far as fits go by it, and where that is nothing, what they share too little of."""
        if self.correlated:
            return self._texture([s for s in self.structures if s.correlated]), None
        return Texture(), self._texture(self.structures) if options.spatial == "auto" and self.structures else None

    def _texture(self, found: list[Structure]) -> Texture:
        """Draw noise as it was found: samples that stand for themselves alike, and each mixture by itself."""
        if not self.rotated:
            return Texture(np.mean([s.kernel for s in found], axis=0))
        alone = np.zeros_like(found[0].kernel)
        alone[tuple(n // 2 for n in alone.shape)] = 1
        kernels = [alone if e.structure is None else e.structure.kernel for e in self.estimates]
        return Texture(np.reshape(kernels, (self.groups, self.samples, *alone.shape)).mean(axis=0), each=True)


def find(
    stack: Array,
    seen: NDArray[np.bool_],
    options: NoiseOptions,
    *,
    colour: bool,
    volume: bool,
    linear: bool,
    frames: int = 1,
) -> Findings:
    """Find the noise of a stack ``(G, S, M, *spatial)``.

    Parameters
    ----------
    stack, seen
        The values, and which of them were measured.
    options
        The recipe's noise group.
    colour
        Whether samples are colours, in one unit, so that they may be mixed.
    volume
        Whether planes are neighbours in space.
    linear
        Whether the values stand behind an operator: there a magnitude's noise counts as Gaussian.
    frames
        How many of the images follow each other in time, with noise of their own.

    Notes
    -----
    Where samples share noise, mixtures of them are looked into. These are kept, unless neighbours share the noise of both, and
    samples little of it: then nothing is gained, and content is stronger over noise where colours are mixed to brightness.
    """
    copied = colours.copies(stack) if colour else None
    if copied is not None:
        return _found(stack[:, :1], seen[:, :1], options, copied, volume=volume, linear=linear, frames=frames)
    several = colour and stack.shape[1] > 1
    apart = _found(stack, seen, options, None, several=several, volume=volume, linear=linear, frames=frames)
    told = any(getattr(options, name) is not None for name in TAKEN_BY)
    if not colour or told or not _may_be_mixed(apart, stack, seen, linear=linear):
        return apart
    photons = all(isinstance(e.model, PoissonGaussian) for e in apart.estimates)
    first = apart.estimates if photons else ()
    values = _stabilised(stack, seen, first) if first else np.where(seen, stack, 0)
    mixing = colours.shared(values, seen)
    if mixing is None:
        return apart
    gaussian = options.model_copy(update={"model": "gaussian"})
    whole = np.all(seen, axis=1, keepdims=True)
    if apart.cut_off > CUT_OFF:
        whole = _clear(stack, seen, whole)
    whole = np.broadcast_to(whole, stack.shape)
    mixed = _found(mixing.mix(values), whole, gaussian, mixing, volume=volume, linear=linear, frames=frames)
    if apart.correlated and mixed.correlated and max(map(abs, mixing.correlation)) < MOSTLY:
        return apart
    estimates = tuple(replace(e, cut_off=apart.cut_off) for e in mixed.estimates)
    return replace(mixed, estimates=estimates, first=first)


def not_asked(stack: Array, *, colour: bool) -> Findings:
    """Return what stands for the noise of a stack where nobody minds it."""
    copied = colours.copies(stack) if colour else None
    return Findings((NOT_ASKED,) * (len(stack) * (stack.shape[1] if copied is None else 1)), len(stack), copied)


def _may_be_mixed(apart: Findings, stack: Array, seen: NDArray[np.bool_], *, linear: bool) -> bool:
    """Whether the noise of no sample is hidden by rounding, a magnitude's or speckle, or must stay as it is behind an operator on light."""
    if (linear and apart.counts) or any(isinstance(e.model, Rician | Speckle) for e in apart.estimates):
        return False
    known = [(e.model, rounding(stack[i][seen[i]])) for i, e in apart.each if seen[i].any()]
    return all(model.sigma > ROUNDED * least for model, least in known if isinstance(model, Gaussian))


def _stabilised(stack: Array, seen: NDArray[np.bool_], estimates: tuple[NoiseEstimate, ...]) -> Array:
    """Bring a stack to where the noise of each sample is 1; what was not measured is 0."""
    places = zip(np.ndindex(*stack.shape[:2]), estimates, strict=True)
    stable = np.stack([e.stabilise(stack[i]) for i, e in places]).reshape(stack.shape)
    stable[~seen] = 0
    return stable


def _clear(stack: Array, seen: NDArray[np.bool_], whole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out of what was measured ``(G, 1, M, *spatial)`` where the noise of samples is cut off: mixtures hide that."""
    from scipy.ndimage import uniform_filter

    clear = whole.copy()
    for g, s in np.ndindex(*stack.shape[:2]):
        ends = list(piled(stack[g, s][seen[g, s]])) if seen[g, s].any() else []
        if ends:
            size = (*(1,) * (stack.ndim - 4), EDGE, EDGE)
            clear[g, 0] &= uniform_filter(np.isin(stack[g, s], ends).astype(np.float32), size) <= CUT
    return clear if clear.sum() >= LEAST_CLEAR * whole.sum() else whole


def _gaussian(model: Pointwise, seen: Array) -> Pointwise:
    """Return Gaussian noise in place of magnitudes' or of speckle, for an operator that acts on the values themselves."""
    if isinstance(model, Rician):
        return Gaussian(model.sigma)
    return Gaussian(math.sqrt(np.mean(model.variance(seen)))) if isinstance(model, Speckle) else model


def _found(
    stack: Array,
    seen: NDArray[np.bool_],
    options: NoiseOptions,
    mixing: Colours | None,
    *,
    volume: bool,
    linear: bool,
    frames: int,
    several: bool = False,
) -> Findings:
    rotated = mixing if mixing is not None and mixing.rotated else None

    def one(g: int, s: int) -> NoiseEstimate:
        if not seen[g, s].any():
            return NOTHING_MEASURED
        if rotated is not None and rotated.sd[s] == 0:
            return NoiseEstimate(Gaussian(SILENT * float(rotated.sd.max())), "No noise.")
        mixed = rotated is not None
        return estimate(
            *(stack[g, s], seen[g, s], options),
            volume=volume,
            mixed=mixed,
            colour=several,
            linear=linear,
            frames=frames,
        )

    found = [one(g, s) for g, s in np.ndindex(*stack.shape[:2])]
    if linear:
        places = zip(np.ndindex(*stack.shape[:2]), found, strict=True)
        found = [replace(e, model=_gaussian(e.model, stack[i][seen[i]])) for i, e in places]
    return Findings(tuple(found), len(stack), mixing)
