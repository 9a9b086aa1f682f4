"""How noise is spread over an image: its correlation from voxel to voxel, with what is known of where it is strong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dip_sci import noise_spectrum, noise_spots
from dip_sci.noise_blocks import EDGE, FEWEST, FINE, SHARE, Blocks, cut, fine_level, flat_level
from dip_sci.noise_places import FEW, alike, is_patchy, over_place, scatter_of
from dip_sci.noise_spectrum import measured_lags, measured_power

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ISOTROPIC, ANISOTROPIC, DIFFERENCE = 0.28, 0.14, 0.12
"""Lag-1 autocorrelations that count: alike along both axes, or along one of them and so much less along the other.

Texture that leaks into the flattest blocks makes less.
"""

FLOOR = 0.09
"""Share of the blocks that are alike but for chance, below which what the flattest of them hold is texture.

The same noise is everywhere; texture is not.
"""

EVENED = {True: 1.05, False: 1.12}
"""How many times more blocks must be alike once a map of the noise's strength is taken off: for large differences, small.
"""

CLEARLY = 2.0
"""How many times more blocks must be alike over a map for independent noise to go by it: on weak noise, texture has 1.8 at most.
"""

FLATTER = 0.5
"""Share of the blocks that are alike but for chance by which correlated noise is measured."""

JUDGED = 2
"""How often flat blocks are chosen anew by the spectrum of those that were."""

WHITE = 0.8
"""Share of the noise's known standard deviation that the finest frequencies must have for it to be independent.

Correlation takes it away (a third is left at a width of 1.5 voxels, FWHM); content only adds to it.
"""

LEVEL, RISE = 2.4, 3.5
"""Ratio of the middle to the finest frequencies' power below which they hold independent noise: correlated noise weakens all the
way to the finest (2.8 and more); and ratio of the coarse to the finest ones from which there is content as well. What scanners
make where the finest are level rises by less (3.0).
"""

SHARP = 0.25
"""What more power than the finest frequencies there is in the medium ones, over that in the coarse ones, from which on it may be
smooth noise over a white floor, as scanners make it (.4 to .9; FWHM 2.5: .35): texture that is alike all over an image is smoother (.1).
"""

LEAST_FLOOR = 0.3
"""Standard deviation at the finest frequencies, over all, below which they hold only what blocks spread there."""

ALONE = 0.1
"""Lag-1 autocorrelation along an axis up to which noise is correlated along the other axis alone: content is along both."""

FAINT, NEGATIVE = 0.08, -0.05
"""Difference of the lag-1 autocorrelations from which on noise is shared along one axis where the flattest spots confirm it, and the
least of them: more negative ones are those of a grain that was sharpened.
"""

FAINTER, LITTLE = 0.05, 0.04
"""Difference from which on it is shared along one axis by too little to matter but for its strength, and the other one then at most.

On independent noise, pictures make .04.
"""

SIDED = 0.4
"""How one-sided the flattest spots are then, over what that noise makes of them, at least."""

SLIGHT, PLAIN, STEEPER = (0.2, 0.4), 0.3, 1.15
"""Least and largest lag-1 autocorrelation along both axes of an image that counts as interpolated; share of its blocks that are
alike but for chance, and steepness of its flattest spots' spectrum, over that of the noise that was found, at least.

On independent noise, texture has up to 1.0 where as many blocks are alike; bilinear interpolation makes 1.2 to 1.4.
"""

MANY, FLATTEST, MORE = 0.3, 0.02, 1.08
"""Shares of the blocks, from the flattest on, and how many times stronger what is finest in many may be than in very few: of noise it
is as strong (1.05 in brains), in textured pictures 1.1 to 1.9 times.
"""

STEEP_CONTENT = 1.8
"""Ratio of the middle to the finest frequencies' power that independent noise has at most: in brains under weak noise it is 1.6."""

_I, _J = np.indices((EDGE, EDGE))
_FINEST, _MIDDLE = (_I >= 12) & (_J >= 12), (_I >= 8) & (_I < 12) & (_J >= 8) & (_J < 12)
_COARSE = (_I + _J >= 2) & (_I + _J <= 4)
_RADIUS = np.hypot(_I, _J)
_INNER, _OUTER = (_RADIUS >= 3) & (_RADIUS < 4.2), (_RADIUS >= 5.5) & (_RADIUS < 7)


@dataclass(frozen=True, eq=False)
class Structure:
    """Noise's correlation and where it is strong.

    Attributes
    ----------
    level
        Standard deviation of all of the noise, on the scale of the values that were given.
    excess
        How much stronger the noise is by all of its spectrum than by its finest frequencies, at least
        1: correlation that does not count as such, unless it is clearly texture.
    error
        Relative standard error of `level`.
    lags
        Lag-1 autocorrelation along X and along Y.
    correlated
        Whether it counts.
    hidden
        How much stronger the noise is than at its finest frequencies, where it is shared along one axis by too little to count.
    kernel
        Autocorrelation over lags -7 to 7 along Y and X, 1 at the centre; with a leading axis for lags
        -1 to 1 along Z where planes are given as neighbours.
    sd_map
        Local standard deviation over `level`, ``(*batch, Y, X)``; ``None`` where it is about the same everywhere, or not
        clearly another from place to place.
    """

    level: float
    excess: float
    error: float
    lags: tuple[float, float]
    correlated: bool
    hidden: float
    kernel: NDArray[np.float32]
    sd_map: NDArray[np.float32] | None

    @property
    def plane_kernel(self) -> NDArray[np.float32]:
        """Autocorrelation within a plane."""
        return self.kernel[len(self.kernel) // 2] if self.kernel.ndim == 3 else self.kernel


def structure(
    values: NDArray[Any],
    measured: NDArray[np.bool_],
    *,
    volume: bool,
    correlated: bool | None = None,
    given: Callable[[Array], Array] | None = None,
    lit: float | None = None,
    white: bool = False,
    pair: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> Structure | None:
    """Measure how the noise of one image is spread.

    Parameters
    ----------
    values
        One image ``(*batch, Y, X)``, stabilised: the pointwise noise is about as strong everywhere.
    measured
        Which voxels count.
    volume
        Whether the planes are neighbours in space.
    correlated
        Whether the noise is; ``None`` to find out.
    given
        Where it is known how strong all of the noise is: its variance on the scale of `values`, given their local mean.
    lit
        Local mean from which on there is signal, where without signal the noise has another correlation.
    white
        Whether it is known to be independent.
    pair
        The frames ``(N, Y, X)`` whose differences the planes are.

    Returns
    -------
    Structure or None
        ``None`` where the image is too small to say, or constant.

    Notes
    -----
    The variance of each frequency is the median power, over the flattest blocks, of a local cosine transform: content
    is sparse there, noise is not (after Ponomarenko et al. 2007). A block is judged by one half of its frequencies and
    measured at the other (`Blocks`). Of correlated noise, the spectrum is then freed of what blocks blur (`noise_spectrum`).
    Independent noise is as strong at all frequencies, and is measured at the finest ones. What seems to be correlated noise
    may be content: its spectrum tells, which is level at fine frequencies, or the flattest spots, or second differences from plane
    to plane of a volume (`noise_spots`).
    """
    planes = values.reshape(-1, *values.shape[-2:])
    seen = measured.reshape(planes.shape)
    if min(planes.shape[1:]) < 2 * EDGE:
        return None
    blocks = cut(planes, seen, pair=pair)
    if len(blocks) < FEWEST // 4:
        return None
    signal = blocks if lit is None else _with_signal(blocks, lit)
    asked = correlated is None
    if asked and given is not None:
        white = _at_finest(signal, given) > WHITE
        if signal is not blocks and not white and max(measured_lags(signal)) > SLIGHT[0]:
            asked, correlated = False, True
    only_lit = bool(correlated) and given is not None and signal is not blocks
    blocks = signal if only_lit else blocks
    relative, even = _evened(blocks, planes.shape)
    clear = alike(even) > CLEARLY * alike(blocks)
    if only_lit and not clear:
        # Where the noise's strength is known, its law holds everywhere: a map would be one of content.
        relative, even = None, blocks
    # The map says where, the level how much: over the whole image the map's mean square is 1.
    size = 1.0 if relative is None else float(np.sqrt(np.mean(relative[seen] ** 2)))
    evened, known = (planes, given) if relative is None else (planes / relative, None)
    place = _Place(evened, seen, size, volume, known)
    resampled = asked and not white and _resampled(even, place)
    if asked and not (white or resampled):
        correlated = _is_shared(even, place)
        white = correlated is None
    found: _Found | None
    if white:
        found = _white(even, place)
    elif correlated:
        found = _shared(even, place)
    else:
        found = _unshared(even, place, resampled=resampled, asked=asked)
    if found is None:
        return None
    sd_map = None
    if relative is not None and (correlated or clear):
        sd_map = (relative / size).reshape(values.shape).astype(np.float32)
    kernel = noise_spectrum.autocorrelation(found.spectrum)
    if volume and len(planes) > 1:
        between = _between_planes(planes, seen)
        kernel = np.stack([between * kernel, kernel, between * kernel])
    return Structure(
        level=found.level,
        excess=found.excess,
        error=found.error,
        lags=found.lags,
        correlated=bool(correlated),
        hidden=found.hidden,
        kernel=kernel.astype(np.float32),
        sd_map=sd_map,
    )


@dataclass(frozen=True, eq=False)
class _Place:
    """What blocks were cut from, once the noise is about as strong everywhere.

    Attributes
    ----------
    planes, seen
        ``(N, Y, X)``, over the map of the noise's strength, and which of their voxels count.
    size
        Root of the mean square of that map.
    volume
        Whether the planes are neighbours in space.
    given
        As of `structure`, where there is no map.
    """

    planes: Array
    seen: NDArray[np.bool_]
    size: float
    volume: bool
    given: Callable[[Array], Array] | None

    def most(self, blocks: Blocks) -> float:
        """Return the variance that noise has at most."""
        return math.inf if self.given is None else float(np.mean(self.given(blocks.mean)))


class _Found(NamedTuple):
    """Some of a `Structure`, and the spectrum of the noise."""

    level: float
    error: float
    spectrum: Array
    lags: tuple[float, float] = (0.0, 0.0)
    excess: float = 1.0
    hidden: float = 1.0


def _white(blocks: Blocks, place: _Place) -> _Found:
    """Measure noise that is known to be independent."""
    level, error = _level(blocks, None)
    return _Found(level * place.size, error, noise_spectrum.as_measured(np.ones((EDGE, EDGE))))


def _shared(blocks: Blocks, place: _Place) -> _Found | None:
    """Measure noise that neighbours share: that they do is told by all that is flat; how much, by where there is least besides."""
    sample = _sample(blocks)
    if not measured_power(sample, _flat(sample)).any():
        return None
    judged = _judged(sample)
    spectrum = noise_spectrum.capped(_resolved(judged), place.most(sample))
    level, error = _level(judged, spectrum)
    return _Found(level * place.size, error, spectrum, measured_lags(sample))


def _unshared(blocks: Blocks, place: _Place, *, resampled: bool, asked: bool) -> _Found | None:
    """Measure noise that neighbours share too little for it to count, at the finest frequencies, and what there is of it besides."""
    lags, power = measured_lags(blocks), measured_power(blocks, SHARE)
    if not power.any():
        return None
    spectrum = noise_spectrum.as_measured(power)
    level, error = _level(blocks, None)
    level *= place.size
    found = _Found(level, error, spectrum, lags)
    if not resampled and min(map(abs, lags)) > ALONE and _on_a_floor(power, level):
        return found
    if asked and _more_faintly(lags, place, noise_spectrum.autocorrelation(spectrum).astype(np.float32)):
        hidden = noise_spectrum.beyond_finest(lags)
        level *= hidden
        found = found._replace(level=level, hidden=hidden)
    excess = max(math.sqrt(noise_spectrum.mean(spectrum)) * place.size / level, 1.0)
    # Of what is resampled, it is shared too little, and too unevenly, to be gone by; but all of it is there.
    return found._replace(level=level * excess) if resampled else found._replace(excess=excess)


def _is_shared(blocks: Blocks, place: _Place) -> bool | None:
    """Say whether neighbours share noise; ``None`` where only content makes it seem so."""
    if alike(blocks) < FLOOR:
        return False
    if _faintly(blocks, place):
        return True
    sample = _sample(blocks)
    lags = measured_lags(sample)
    if not _counts(lags):
        return False
    power = measured_power(sample, _flat(sample))
    if not power.any():
        return False
    spectrum = noise_spectrum.capped(noise_spectrum.resolved(power), place.most(sample))
    own = noise_spectrum.autocorrelation(spectrum).astype(np.float32)
    level = _level(sample, spectrum)[0] * place.size
    if min(map(abs, lags)) > ALONE and _on_a_floor(power, level):
        smooth = _sharpness(power) > SHARP and noise_spots.everywhere(place.planes, place.seen, own)
        if not smooth:
            return None
    return noise_spots.share(place.planes, place.seen, own, lags, volume=place.volume) or None


def _evened(blocks: Blocks, shape: tuple[int, ...]) -> tuple[Array | None, Blocks]:
    """Return where the noise is how strong ``(N, Y, X)``, or ``None`` where a map is not worth it, and blocks over it."""
    strength, relative, even = over_place(blocks, shape)
    patchy = is_patchy(strength)
    if alike(even) < max(FLOOR, EVENED[patchy] * alike(blocks)):
        return None, blocks
    return relative if patchy else None, even


def _with_signal(blocks: Blocks, least: float) -> Blocks:
    """Leave out the blocks without signal, unless there are hardly any others."""
    signal = blocks[blocks.mean >= least]
    return signal if len(signal) >= FEWEST // 4 else blocks


def _sample(blocks: Blocks) -> Blocks:
    """Choose the blocks that show whether noise is shared: the background of a magnitude image is no sample of its noise."""
    bright = blocks[blocks.mean >= np.median(blocks.mean)]
    return bright if _counts(measured_lags(bright)) and not _counts(measured_lags(blocks)) else blocks


def _resampled(blocks: Blocks, place: _Place) -> bool:
    """Say whether neighbours share noise as where an image was turned or moved by parts of a voxel.

    Interpolation shares it less than a scanner does, and more at some places than at others: in the flattest spots.
    """
    low, high = sorted(measured_lags(blocks))
    if low < SLIGHT[0] or high > SLIGHT[1] or alike(blocks) < PLAIN:
        return False
    found = noise_spots.steepness(place.planes, place.seen, _autocorrelation(blocks))
    return found is not None and found[0] > STEEPER * found[1]


def _at_finest(blocks: Blocks, given: Callable[[Array], Array]) -> float:
    """Measure noise at the finest frequencies, over its known standard deviation."""
    known = blocks.over(np.sqrt(np.maximum(given(blocks.mean), 1e-6)))
    return fine_level(known)


def _counts(lags: tuple[float, float]) -> bool:
    low, high = sorted(map(abs, lags))
    return high > ISOTROPIC or (high > ANISOTROPIC and high - low > DIFFERENCE)


def holds_content(blocks: Blocks) -> bool:
    """Say whether content is in the finest frequencies even of the flattest blocks."""
    middle, finest_ones = (float(blocks.spectrum()[band].mean()) for band in (_MIDDLE, _FINEST))
    more = fine_level(blocks, MANY) > MORE * fine_level(blocks, FLATTEST)
    return more or middle > STEEP_CONTENT * finest_ones


def _on_a_floor(power: Array, level: float) -> bool:
    """Say whether a spectrum is that of content on top of independent noise: level where it is fine, and steep below."""
    floor, middle, coarse = (float(power[band].mean()) for band in (_FINEST, _MIDDLE, _COARSE))
    return floor / LEVEL < middle < LEVEL * floor and coarse > RISE * floor > RISE * (LEAST_FLOOR * level) ** 2


def _faintly(blocks: Blocks, place: _Place) -> bool:
    """Say whether noise is shared along one axis, if only by so little that content might look the same in blocks."""
    low, high = sorted(measured_lags(blocks))
    if _counts((low, high)) or low < NEGATIVE or high - low < FAINT:
        return False
    return noise_spots.confirmed(place.planes, place.seen, _autocorrelation(blocks))


def _more_faintly(lags: tuple[float, float], place: _Place, kernel: NDArray[np.float32]) -> bool:
    """Say whether noise is shared along one axis, by too little to go by, but with all of its strength not at the finest frequencies."""
    low, high = sorted(lags)
    if not (abs(low) < LITTLE and high - low >= FAINTER):
        return False
    sided = noise_spots.sidedness(place.planes, place.seen, kernel)
    return sided is not None and sided > SIDED


def _autocorrelation(blocks: Blocks) -> NDArray[np.float32]:
    """Measure the autocorrelation of what flat blocks hold, as noise."""
    return noise_spectrum.autocorrelation(_resolved(blocks)).astype(np.float32)


def _resolved(blocks: Blocks) -> Array:
    """Measure the spectrum of noise that neighbours share."""
    return noise_spectrum.resolved(measured_power(blocks, _flat(blocks)))


def _sharpness(power: Array) -> float:
    """Measure how far what lies over a level floor reaches: its power at medium over that at coarse frequencies."""
    floor, inner, outer = (float(power[band].mean()) for band in (_FINEST, _INNER, _OUTER))
    return (outer - floor) / max(inner - floor, 1e-300)


def _judged(blocks: Blocks) -> Blocks:
    """Judge how flat blocks are by the spectrum of their own noise.

    Noise that neighbours share has most of its power at few frequencies; beside them, content is seen under less noise.
    """
    for _ in range(JUDGED):
        blocks = blocks.judged_by(measured_power(blocks, _flat(blocks)))
    return blocks


def _flat(blocks: Blocks) -> float:
    """Count the share of the blocks that hold noise and hardly anything else.

    Half of those that have no more power than noise alone may have by chance: many, as noise that is not quite as strong
    everywhere is weak in the very flattest, and not all, as the others hold more content.
    """
    power = blocks.over_noise.mean(axis=(1, 2))
    scatter = scatter_of(measured_power(blocks, FEW) / blocks.noise)
    least = np.quantile(power, FEW) / (1 - 1.3 * scatter)
    return float(np.clip(FLATTER * np.mean(power <= least * (1 + 2 * scatter)), FEW, 1.0))


def _level(blocks: Blocks, spectrum: Array | None) -> tuple[float, float]:
    """Measure the standard deviation of the noise, of a spectrum or white, and its relative standard error.

    The error is made of the scatter of that many coefficients and of what more content there is in
    blocks that are nearly as flat.
    """
    if spectrum is None:
        level, content, count = flat_level(blocks)
        independent = blocks.area(0, count) / EDGE**2 * FINE.sum()
        return level, math.hypot(2 * content, 1.3 / math.sqrt(2 * independent), 0.005)
    level, share = math.sqrt(noise_spectrum.mean(spectrum)), _flat(blocks)
    flatter, here = (noise_spectrum.as_measured(measured_power(blocks, part)) for part in (share / 2, share))
    content = math.sqrt(noise_spectrum.mean(flatter) / noise_spectrum.mean(here)) - 1
    independent = blocks.area(1.0) / EDGE**2 * spectrum.sum() ** 2 / (spectrum**2).sum()
    return level, math.hypot(content, 1 / math.sqrt(independent), 0.02)


def _between_planes(planes: NDArray[Any], seen: NDArray[np.bool_]) -> float:
    """Correlation of the finest diagonal details of neighbouring planes, where there is hardly any content."""
    detail = planes[:, :-1, :-1] - planes[:, 1:, :-1] - planes[:, :-1, 1:] + planes[:, 1:, 1:]
    both = (seen[1:] & seen[:-1])[:, 1:, 1:]
    a, b = detail[1:][both], detail[:-1][both]
    limit = 3 * 1.4826 * np.median(np.abs(a)) if len(a) else 0.0
    calm = (np.abs(a) < limit) & (np.abs(b) < limit)
    if calm.sum() < 64:
        return 0.0
    found = float((a[calm] * b[calm]).mean() / np.sqrt((a[calm] ** 2).mean() * (b[calm] ** 2).mean()))
    return found if found > 0.05 else 0.0
