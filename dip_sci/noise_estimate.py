"""Which noise an image holds, measured on that image alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci import noise_ends
from dip_sci.errors import ImageError
from dip_sci.noise import Gaussian, Pointwise, Poisson, PoissonGaussian, Rician, Speckle
from dip_sci.noise_background import avoids_zero, background
from dip_sci.noise_blocks import FEWEST, Blocks, fine_level, thirds
from dip_sci.noise_counts import counts
from dip_sci.noise_curve import (
    Curve,
    Skew,
    curve,
    darkest,
    enough,
    exponent,
    magnitudes,
    misfit,
    photons,
    speckled,
    straight,
    typical_misfit,
)
from dip_sci.noise_frames import Shots, of_each
from dip_sci.noise_places import at, by_place, is_patchy, over_place
from dip_sci.noise_spectrum import measured_lags
from dip_sci.noise_spots import drawn, spots
from dip_sci.noise_structure import SLIGHT, Structure, holds_content, structure
from dip_sci.noise_words import describe, spread_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dip_sci.noise import CutOff
    from dip_sci.recipe import NoiseOptions

    Array = NDArray[Any]

QUIET = 0.5
"""Strength of the noise in the flattest spots, over that of the noise that was found, below which this is none.

Noise is everywhere. Magnitudes have .6 in their background; pages of text and gratings, which have no flat part, .06 to .35.
"""

DOUBT = 0.1
"""Relative standard error beyond which noise is not taken to be stronger yet: then it is hardly measured, and content was taken for
noise rather than noise for content.
"""

UNKNOWN = 0.25
"""The same, from which on it is told of."""

SPOTS_ERROR = 0.1
"""Relative standard error of noise that is measured there."""

SEVERAL, SURE = 4, 0.1
"""Brightnesses, and the largest relative standard error, with which the noise of flat parts is taken for Rician."""

EMPTY = 0.95
"""Strength of the noise at the finest frequencies where there is signal, over that of the background, from which on this is
taken for empty. It is, too, where neighbours share noise.
"""

LIT = 3.0
"""Magnitude, over sigma, from which on their noise is that of the signal's own part, nearly: of fainter ones it is finer."""

AMPLIFIED, AMPLIFIED_ALIKE, AMPLIFIED_ERROR = 1.1, 0.22, 0.03
"""Noise of the signal over that of the background from which on they are two, by how much (in logarithms) it may be another in bright
than in medium parts, as content is, and its least relative standard error. Parallel imaging unfolds the signal, and amplifies its
noise by the g-factor.
"""

UNLIKE = 1.8
"""How many times worse the law of magnitudes may fit the variances than that of photons, which has two more parameters. It fits
magnitudes at most 1.4 times worse, and photons at least 2.4 times.
"""

STRAIGHT, LINEAR = 0.22, 0.8
"""Misfit of photons' law, at most, and the power of the mean that the variance of what is lit goes with, at least, where what has
Rayleigh's law in the dark is photons: up to .21, and .9 and more. Of magnitudes, .7 at most, also where parallel imaging amplifies
their noise; where more is content than noise it is 1, too, but with a misfit of .25.
"""

SOME_LIT, SPAN = 3, 1.5
"""Brightnesses that are lit, and ratio of the brightest to the darkest, from which on a power can be told."""

LIKER, MOSTLY_LIKER = 0.8, 0.7
"""Misfit of speckle's law, over those of photons and of magnitudes, at which it is taken for speckle: 0.4 to 0.9 where there is
speckle, 0.9 and more elsewhere; or the same of its typical misfit, as of a dark part all may be texture.
"""

RANGE, MOST_LOOKS, KNOWN = 2.5, 60.0, 0.05
"""Ratio of bright and dark parts, at least, for speckle to be told from photons; its looks, at most, as weaker noise in proportion to
the signal is rather content; and the standard error of its strength, at most.
"""

HIDDEN = 0.01
"""Read noise beside speckle, over that of the mean, where only the looks are given: a logarithm needs some."""


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise model with the sentence that explains it.

    Attributes
    ----------
    model
        How a single voxel scatters, with its parameters in image units.
    sentence
        What was found and how, for the user.
    structure
        Correlation and local strength of the noise, stabilised by `model`; ``None`` where the image
        is too small to say: the noise then counts as independent and as strong everywhere.
    error
        Relative standard error of the noise's standard deviation; 0 where it was given.
    cut_off
        Share of the voxels at an end of the range where the noise is cut off: they have less of it, or none.
    ends
        Where stabilised noise is cut off; ``None`` where it is not, or where it is not allowed for.
    """

    model: Pointwise
    sentence: str
    structure: Structure | None = None
    error: float = 0.0
    cut_off: float = 0.0
    ends: CutOff | None = None

    def stabilise(self, observed: Array) -> Array:
        """Map observations to a scale on which the noise is close to Gaussian with variance 1."""
        stable = self.model.stabilise(observed)
        return stable if self.ends is None else self.ends.stabilise(stable)

    def unstabilise(self, mean: Array) -> Array:
        """Map a denoised image on that scale back, without bias."""
        return self.model.unstabilise(mean if self.ends is None else self.ends.unstabilise(mean))

    def variance(self, truth: Array) -> Array:
        """Variance of the observation, given the noise-free values; of noise that is cut off, what is left of it."""
        whole = self.model.variance(truth)
        return whole if self.ends is None else whole * self.ends.variance(self.model.stabilise(truth))

    def stable_variance(self, mean: Array) -> Array:
        """Variance of stabilised observations, given their mean."""
        if self.ends is None:
            return _stable_variance(self.model, mean)
        return self.ends.stable_variance(mean) * _stable_variance(self.model, self.ends.unstabilise(mean))

    @property
    def doubt(self) -> float:
        """Share by which the noise's standard deviation may well be larger: a standard error, unless that is mostly content's."""
        return min(self.error, DOUBT)

    @property
    def correlation(self) -> float:
        """Larger of the noise's lag-1 autocorrelations along X and Y; 0 where they are not known."""
        return max(self.structure.lags, key=abs) if self.structure else 0.0


@dataclass(frozen=True)
class _Found:
    """A pointwise model and where it comes from.

    Attributes
    ----------
    error
        Relative standard error of its standard deviation; ``None`` where it was given or is exact.
    whole
        Whether it holds all of the noise, also where neighbours share some.
    alone
        Whether neighbours are known to share none, and its strength to be that everywhere.
    """

    model: Pointwise
    why: str
    error: float | None
    whole: bool = False
    alone: bool = False


def estimate(
    values: NDArray[Any],
    measured: NDArray[np.bool_],
    options: NoiseOptions,
    *,
    volume: bool = False,
    mixed: bool = False,
    colour: bool = False,
    linear: bool = False,
    frames: int = 1,
) -> NoiseEstimate:
    """Find the noise model of one image; what the user gave wins.

    Parameters
    ----------
    values
        One image, shape ``(*batch, Y, X)``, in its own units.
    measured
        Boolean, same shape: voxels that count.
    options
        The recipe's noise group.
    volume
        Whether the planes are neighbours in space.
    mixed
        Whether values are mixtures of those that were stored: their steps and ends are no longer seen.
    colour
        Whether values are those of a colour: a camera's matrix, which mixes them, leaves less of how skewed photons are.
    linear
        Whether the values stand behind an operator on light: that noise is cut off cannot be allowed for there.
    frames
        How many images along the first axis follow each other in time, with noise of their own.

    Returns
    -------
    NoiseEstimate

    Notes
    -----
    Of frames that follow each other, differences are measured: content that stays is not in them, and what moves no more than
    in a single frame.

    Gaussian: the power at the finest frequencies of the flattest blocks (`noise_blocks`). Poisson and
    Poisson-Gaussian: the same for each brightness, and a line through them (`noise_curve`), unless where it is tells the noise's
    strength better (`noise_places`). Rician: the background, where it has Rayleigh's law (`noise_background`), or the same for
    each brightness, where values avoid 0.
    Photons that are counted one by one are told by a variance equal to the mean, and then known exactly (`noise_counts`).

    The finest frequencies see only part of correlated noise. Where the structure of the stabilised
    noise says that it is correlated, a model that was measured is scaled to all of it.

    Blocks of 16 voxels are flat nowhere in a page of text or in a grating. What was found there is compared with what the
    flattest spots of 6 voxels hold: noise is everywhere, and what is not there is content.
    """
    if not measured.any():
        raise ImageError("The image holds no finite, measured voxel: there is nothing to restore.")
    values = np.where(measured, values, 0)
    planes = values.reshape(-1, *values.shape[-2:])
    seen = measured.reshape(planes.shape)
    step = 0.0 if mixed else _step(planes[seen])
    found = _pointwise(planes, seen, Shots.of(values, measured, frames), options, step, pure=not colour, linear=linear)
    spread = None if found.alone else _spread(found, values, measured, options, volume=volume, frames=frames)
    found, spread = _whole(*_amplified(found, spread, values, measured, frames))
    if found.error is not None and _open(options) and not _everywhere(found.model, spread, values, measured, frames):
        found, spread = _in_spots(found, spread, values, measured, frames)
    found = _at_least_rounding(found, step)
    model, error = found.model, found.error
    piles = {} if mixed or found.alone else noise_ends.piled(values[measured])
    even = not linear and (spread is None or spread.sd_map is None)
    ends = noise_ends.cut_off(model, piles, planes, seen) if even else None
    if error is None and ends is None:
        # Of noise that was given, nothing was measured that they could have been left out of.
        piles = {}
    within = "" if error is None else f", within {2 * error:.0%}"
    if error is not None and error > UNKNOWN:
        within = ", or much weaker (hardly a part of the image is flat; noise.sigma tells it)"
    about_ends = noise_ends.words(piles, allowed=ends is not None)
    sentence = f"{describe(model)}{within}{found.why}{spread_out(spread)}{about_ends}."
    if spread is not None and spread.sd_map is not None:
        spread = replace(spread, sd_map=of_each(spread.sd_map, values.shape, frames))
    return NoiseEstimate(model, sentence, spread, error or 0.0, sum(piles.values()), ends)


def _pointwise(
    planes: Array,
    seen: NDArray[np.bool_],
    shots: Shots,
    options: NoiseOptions,
    step: float,
    *,
    pure: bool,
    linear: bool,
) -> _Found:
    """Find how single voxels scatter; where values are `pure`, photons are as skewed as counted."""
    given = _from_user(options, planes[seen])
    if given is not None:
        return _Found(given, ", as given", error=None)
    if np.ptp(planes[seen]) == 0:
        return _Found(Gaussian(1.0), ", assumed: the image is constant", error=None)
    # A camera's offset or read noise given without a gain still says that photons are counted.
    told_of_camera = options.model == "auto" and not (options.offset is options.read_noise is None)
    counted = options.model in ("poisson", "poisson_gaussian") or told_of_camera
    lowest = float(planes[seen].min())
    if _may_be_counts(options, lowest):
        single = counts(planes, seen, step)
        if single is not None:
            return _Found(single, ": each step of the values is a photon", error=None, alone=True)
    if options.model in ("auto", "rician") and not counted:
        dark = _beside_background(planes, seen, shots, options, step)
        if dark is not None:
            return dark
    if options.model != "gaussian":
        found = _rising(planes, seen, shots, options, counted=counted, pure=pure, linear=linear)
        if found is not None:
            return found
    why = f", from {shots.where}"
    if counted:
        why += "; it was to be that of photons, but the variance does not rise with the grey level"
    if options.model == "speckle":
        why += "; it was to be speckle, but the variance does not rise with the grey level"
    # What remains where the image is too small to say more; efficient to 37 %.
    return _Found(Gaussian(_finest(*shots.flat)), why, min(1.0, 2.3 / math.sqrt(seen.sum())))


def _rising(
    planes: Array,
    seen: NDArray[np.bool_],
    shots: Shots,
    options: NoiseOptions,
    *,
    counted: bool,
    pure: bool,
    linear: bool,
) -> _Found | None:
    """Find noise that rises with the brightness, of a law that was told (where it is `counted`: photons') or fits best."""
    blocks = shots.blocks()
    rises, why = curve(blocks), f", from the variance of {shots.where}"
    if options.model == "rician":
        if len(rises) < 2 or np.median(rises.variance) == 0:
            return None
        model, error = magnitudes(rises)
        return _Found(model, f", from {shots.where}, for lack of a background that has Rayleigh's law", error)
    if options.model == "speckle":
        fit = speckled(rises, blocks, options.read_noise)
        return None if fit is None else _Found(fit[0], why, fit[1])
    if len(rises) == 0:
        return None
    unknown = options.offset is options.read_noise is None
    skewed = Skew(*thirds(planes, seen)) if unknown and pure and options.model != "poisson" else None
    lowest, dark = float(planes[seen].min()), darkest(planes, seen, rises, blocks)
    fitted = photons(rises, blocks, options, lowest, dark, skewed=skewed)
    lit = None if counted else _magnitudes(rises)
    if not counted and not linear and lowest >= 0:
        others = [straight(rises, options, lowest, dark), None if lit is None else lit[0]]
        speckle = _speckle(rises, blocks, shots.flat[0].shape, [other for other in others if other is not None])
        if speckle is not None:
            return _Found(speckle[0], why, speckle[1])
    if lit is not None:
        photons_too = fitted is not None and misfit(rises, lit[0]) > UNLIKE * misfit(rises, fitted[0])
        if not photons_too and enough(rises, lit[0]) and avoids_zero(planes, seen, lit[0].sigma):
            return _Found(lit[0], f", from {shots.where}; values avoid 0 as magnitudes do", lit[1])
    if fitted is not None and (
        counted
        or (skewed is not None and skewed.agrees(fitted[0]))
        or not by_place(blocks, shots.flat[0].shape, fitted[0].variance(blocks.mean))
    ):
        return _Found(fitted[0], why, fitted[1])
    return None


def _spread(
    found: _Found,
    values: Array,
    measured: NDArray[np.bool_],
    options: NoiseOptions,
    *,
    volume: bool,
    frames: int,
) -> Structure | None:
    """Measure how stabilised noise is spread over the image."""
    model = found.model
    stable = Shots.of(np.where(measured, model.stabilise(values), 0), measured, frames)
    spread = structure(
        stable.values,
        stable.measured,
        pair=stable.pair,
        volume=volume,
        correlated=None if options.spatial == "auto" else options.spatial == "correlated",
        given=partial(_stable_variance, model) if found.error is None or found.whole else None,
        lit=float(model.stabilise(np.array(LIT * model.sigma))) if isinstance(model, Rician) else None,
    )
    if spread is not None and isinstance(model, PoissonGaussian) and not spread.correlated:
        # No transform quite stabilises few photons: the map would be one of the light.
        return replace(spread, sd_map=None)
    return spread


def _whole(found: _Found, spread: Structure | None) -> tuple[_Found, Structure | None]:
    """Scale a model that was measured at the finest frequencies to all of the noise."""
    if spread is None or found.error is None or found.whole:
        return found, spread
    if isinstance(found.model, Gaussian):
        error = spread.error
    elif spread.correlated:
        error = math.hypot(spread.error, found.error)
    else:
        model = _scaled(found.model, spread.hidden)
        return replace(found, model=model), replace(spread, level=spread.level / spread.hidden)
    return replace(found, model=_scaled(found.model, spread.level), error=error), replace(spread, level=1.0)


def _in_spots(
    found: _Found, spread: Structure | None, values: Array, measured: NDArray[np.bool_], frames: int
) -> tuple[_Found, Structure | None]:
    """Find the noise of the flattest spots, where it is weaker than what was found in blocks."""
    quiet = spots(*Shots.of(values, measured, frames).flat)
    if quiet is None or quiet.level**2 >= found.model.variance(np.median(values[measured])):
        return found, spread
    why = ", from the flattest spots: elsewhere what looks like noise is content"
    return _Found(Gaussian(quiet.level), why, SPOTS_ERROR), None


def _at_least_rounding(found: _Found, step: float) -> _Found:
    """Replace Gaussian noise that was measured to be weaker than that of rounding by this."""
    rounded = step / math.sqrt(12)
    if found.error is None or not isinstance(found.model, Gaussian) or found.model.sigma >= rounded:
        return found
    why = f", that of rounding to steps of {step:.4g}: what else there is is weaker"
    return replace(found, model=Gaussian(rounded), why=why)


def _beside_background(
    planes: Array, seen: NDArray[np.bool_], shots: Shots, options: NoiseOptions, step: float
) -> _Found | None:
    """Find how magnitudes scatter that have a background without signal, or nearly without."""
    empty = background(planes, seen, step)
    if empty is None:
        return None
    blocks = shots.blocks()
    rises = curve(blocks)
    line = straight(rises, options, float(planes[seen].min()), darkest(planes, seen, rises, blocks))
    if options.model == "auto" and line is not None and _lit_by_photons(rises, line, empty.sigma):
        return None
    bright = blocks[blocks.mean >= LIT * empty.sigma]
    told = len(bright) >= FEWEST // 4
    weaker = told and fine_level(bright) < EMPTY * empty.sigma and max(measured_lags(bright)) < SLIGHT[0]
    flat = _magnitudes(rises) if weaker else None
    if flat is not None and flat[0].sigma < empty.sigma:
        return _Found(flat[0], f", from {shots.where}: no background is quite empty", flat[1])
    why = ", from the background, which has Rayleigh's law"
    return _Found(Rician(empty.sigma), why, empty.error, whole=True)


def _lit_by_photons(rises: Curve, line: PoissonGaussian, empty: float) -> bool:
    """Whether noise grows as photons' where there is light: where there are three or four, they scatter by Rayleigh's law, too."""
    lit = rises.over(LIT * empty)
    told = len(lit) >= SOME_LIT and lit.mean[-1] > SPAN * lit.mean[0]
    return told and misfit(rises, line) < STRAIGHT and exponent(lit) > LINEAR


def _amplified(
    found: _Found, spread: Structure | None, values: Array, measured: NDArray[np.bool_], frames: int
) -> tuple[_Found, Structure | None]:
    """Find the noise of the signal, and where it is strong, where there is more than in the background and not only content."""
    model = found.model
    if not (isinstance(model, Rician) and found.whole) or spread is None or spread.correlated:
        return found, spread
    shots = Shots.of(np.where(measured, model.stabilise(values), 0), measured, frames)
    blocks, shape = shots.blocks(), shots.flat[0].shape
    lit = blocks.mean >= float(model.stabilise(np.array(LIT * model.sigma)))
    if np.count_nonzero(lit) < FEWEST // 4:
        return found, spread
    signal, sd_map = blocks[lit], None
    level, apart = _by_brightness(signal, signal)
    strength, relative, evened = over_place(blocks, shape)
    placed, nearer = _by_brightness(evened[lit], signal)
    if is_patchy(strength) and nearer < apart:
        size = math.sqrt(np.mean(np.square(at(signal, relative))))
        level, apart, sd_map = placed * size, nearer, (relative / size).reshape(shots.values.shape).astype(np.float32)
        signal = evened[lit]
    if level < AMPLIFIED or apart > AMPLIFIED_ALIKE or holds_content(signal):
        return found, spread
    why = f", from {shots.where}: {level:.1f} times that of the background, as in parallel imaging"
    stronger = _Found(Rician(level * model.sigma), why, max(apart / 2, AMPLIFIED_ERROR))
    return stronger, replace(spread, level=spread.level / level, sd_map=sd_map)


def _by_brightness(blocks: Blocks, of: Blocks) -> tuple[float, float]:
    """Measure the noise of blocks: its strength, and by how much that is another (in logarithms) in the bright and medium ones."""
    parts = np.array_split(np.argsort(of.mean), 3)[1:]
    middle, brightest = (max(fine_level(blocks[part]), 1e-9) for part in parts)
    return min(fine_level(blocks), middle, brightest), abs(math.log(middle / brightest))


def _magnitudes(found: Curve) -> tuple[Rician, float] | None:
    """Fit the noise of magnitudes where it is known at several brightnesses, with its error where that is small."""
    if len(found) < SEVERAL or np.median(found.variance) == 0:
        return None
    model, error = magnitudes(found)
    return (model, error) if error < SURE else None


def _speckle(
    found: Curve, blocks: Blocks, shape: tuple[int, ...], others: list[PoissonGaussian | Rician]
) -> tuple[Speckle, float] | None:
    """Fit speckle to planes of a shape ``(N, Y, X)``, where its law fits the variances better than all others do."""
    fit = speckled(found, blocks)
    if fit is None or fit[1] > KNOWN or fit[0].looks > MOST_LOOKS or found.mean[-1] < RANGE * found.mean[0]:
        return None
    model = fit[0]

    def better(off: Callable[[Curve, PoissonGaussian | Rician | Speckle], float], ratio: float) -> bool:
        return all(off(found, model) < ratio * off(found, other) for other in others)

    liker = better(misfit, LIKER) or better(typical_misfit, MOSTLY_LIKER)
    return fit if liker and not by_place(blocks, shape, model.variance(blocks.mean)) else None


def _may_be_counts(options: NoiseOptions, lowest: float) -> bool:
    """Whether nothing is given that whole photons above the lowest value would contradict."""
    known = options.offset in (None, lowest) and options.read_noise in (None, 0.0)
    return known and options.model in ("auto", "poisson", "poisson_gaussian") and options.spatial != "correlated"


def _from_user(options: NoiseOptions, seen: Array) -> Pointwise | None:
    if options.looks is not None:
        hidden = HIDDEN * float(np.mean(np.abs(seen))) / math.sqrt(options.looks)
        return Speckle(options.looks, options.read_noise or hidden or 1.0)
    if options.sigma is not None:
        return Rician(options.sigma) if options.model == "rician" else Gaussian(options.sigma)
    if options.gain is not None:
        offset = options.offset or 0.0
        if options.model == "poisson":
            return Poisson(options.gain, offset)
        return PoissonGaussian(options.gain, offset, options.read_noise or 0.0)
    return None


def _stable_variance(model: Pointwise, mean: Array) -> Array:
    """Variance of stabilised noise about a mean, on the stabilised scale."""
    if isinstance(model, PoissonGaussian | Speckle):
        return model.stable_variance(model.unstabilise(mean))
    return np.ones_like(mean)


def _open(options: NoiseOptions) -> bool:
    """Whether nothing is given that independent Gaussian noise would contradict."""
    told = options.offset, options.read_noise
    return options.model in ("auto", "gaussian") and options.spatial == "auto" and told == (None, None)


def _everywhere(
    model: Pointwise, spread: Structure | None, values: Array, measured: NDArray[np.bool_], frames: int
) -> bool:
    """Say whether the flattest spots of an image hold noise as it was found."""
    shots = Shots.of(np.where(measured, model.stabilise(values), 0), measured, frames)
    stable, seen = shots.flat
    if spread is not None and spread.sd_map is not None:
        stable = stable / spread.sd_map.reshape(stable.shape)
    found = spots(stable, seen)
    if found is None or spread is None:
        return found is None or found.level > QUIET
    there = drawn(spread.plane_kernel if spread.correlated else None)
    return found.level > QUIET * spread.level * there.level


def _scaled(model: Pointwise, factor: float) -> Pointwise:
    """Scale the noise's standard deviation."""
    if isinstance(model, Poisson):
        return Poisson(model.gain * factor**2, model.offset)
    if isinstance(model, PoissonGaussian):
        return PoissonGaussian(model.gain * factor**2, model.offset, model.read_noise * factor)
    if isinstance(model, Speckle):
        return Speckle(model.looks / factor**2, model.read_noise * factor)
    assert isinstance(model, Gaussian | Rician)
    return type(model)(model.sigma * factor)


def rounding(seen: Array) -> float:
    """Return the standard deviation of what rounding does to values."""
    return _step(seen) / math.sqrt(12)


def _step(seen: Array) -> float:
    """Distance between the values that occur."""
    levels = np.unique(seen[:: max(1, seen.size // 100_000)])
    gaps = np.diff(levels)
    gaps = gaps[gaps > 1e-6 * np.ptp(levels)]
    return float(gaps.min()) if gaps.size else 0.0


def _finest(planes: Array, seen: NDArray[np.bool_]) -> float:
    """Median absolute deviation of diagonal Haar details (Donoho & Johnstone 1994); positive whatever comes."""
    h, w = (n - n % 2 for n in planes.shape[1:])
    corners = [np.s_[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]
    whole = np.logical_and.reduce([seen[corner] for corner in corners])
    a, b, c, d = (planes[corner].astype(np.float64) for corner in corners)
    details = np.abs(0.5 * (a - b - c + d)[whole])
    if not details.any():
        return float(np.std(planes[seen], dtype=np.float64)) or 1.0
    # More than half of the details are exactly 0 in a frame that is mostly empty: ask the others.
    return float(np.median(details) or np.median(details[details > 0])) / 0.6745
