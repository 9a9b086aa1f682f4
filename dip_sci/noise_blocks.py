"""The flat parts of an image, where its noise can be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

EDGE = 16
"""Edge of the blocks whose cosine transforms are compared."""

STEP = 4
"""Distance between neighbouring blocks."""

MOST = 16_000
"""Blocks that are looked at; of a volume not all."""

SHARE, FEWEST = 0.05, 200
"""Blocks that count as flat: a share of them, but not fewer than a number."""

VERY_FEW, LIKE = 50, 1.05
"""Blocks that tell how flat the others are; and how much more noise than in them is there by chance."""

CUT = 0.02
"""Share of pixels at the ends of the image's range from which on a block's noise is taken to be cut off."""

_I, _J = np.indices((EDGE, EDGE))

FINE = _I + _J >= 1.25 * EDGE
"""The finest frequencies, which content hardly reaches."""

FADED = 0.03
"""Power over the largest below which a frequency holds hardly any noise."""


@cache
def halves(edge: int = EDGE) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return the frequencies of a block to judge by and to measure at."""
    i, j = np.indices((edge, edge))
    even, odd = ((i + j) % 2 == 0) & (i + j > 0), (i + j) % 2 == 1
    return (even, odd), (odd, even)


HALVES = halves()

TURNED = HALVES[0][0] & (_I + _J >= 9)
"""Frequencies at which a block is the same when turned about its centre, less coarse ones, where most content is."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Overlapping blocks, as squared coefficients of their cosine transforms.

    A block is judged by one half of the frequencies, like the black fields of a chequerboard, and
    measured at the other half; then the other way round. Noise is independent between the two, so
    that the flattest blocks are not those where it happened to be weak; content is in both.

    Attributes
    ----------
    power
        ``(N, 16, 16)``, or of another edge. Slopes and bends were taken out before, and so out of the coarsest frequencies.
    mean
        Mean of each block.
    place
        Plane, row and column of each, in steps, ``(N, 3)``.
    noise
        Power that noise has at each frequency, where that is known, up to a factor, ``(16, 16)``.
    """

    power: Array
    mean: Array
    place: Array
    noise: Array | float = 1.0

    @property
    def over_noise(self) -> Array:
        """Power over that of noise."""
        return self.power / self.noise

    def __len__(self) -> int:
        return len(self.mean)

    def __getitem__(self, which: NDArray[Any]) -> Blocks:
        return Blocks(self.power[which], self.mean[which], self.place[which], self.noise)

    def over(self, sd: Array) -> Blocks:
        """Divide each block by a number."""
        return Blocks(self.power / np.square(sd)[:, None, None], self.mean, self.place, self.noise)

    def judged_by(self, noise: Array) -> Blocks:
        """Judge how flat blocks are by their power over that of noise ``(16, 16)``."""
        return Blocks(self.power, self.mean, self.place, np.maximum(noise, FADED * noise.max()))

    def flattest(self, half: Array, share: float, fewest: int) -> Array:
        """Return the indices of the blocks with least power, over that of noise, at one half of the frequencies."""
        count = max(int(share * len(self)), min(fewest, len(self) // 4), 1)
        judged = self.power.reshape(len(self), -1) @ (half / self.noise).ravel()
        flat: Array = np.argpartition(judged, count - 1)[:count]
        return flat

    def area(self, share: float = SHARE, fewest: int = FEWEST) -> float:
        """Pixels that the flattest blocks cover."""
        covered = 0
        for judge, _ in HALVES:
            corners = self.place[self.flattest(judge, share, fewest)]
            cells = [corners + np.array([0, i, j]) for i in range(EDGE // STEP) for j in range(EDGE // STEP)]
            covered += len(np.unique(np.concatenate(cells), axis=0))
        return covered * STEP**2 / len(HALVES)

    def spectrum(self, share: float = SHARE, fewest: int = FEWEST) -> Array:
        """Variance of the noise at each frequency of a block, from the flattest blocks."""
        found = np.zeros(self.power.shape[1:])
        for judge, measure in halves(len(found)):
            found[measure] = self.power[self.flattest(judge, share, fewest)][:, measure].mean(axis=0)
        return found


@cache
def _bends(edge: int = EDGE) -> list[tuple[Array, Array]]:
    """Orthonormal polynomials of first and second degree, as products of one along Y and one along X."""
    powers = np.linspace(-1, 1, edge)[:, None] ** np.arange(3)
    flat, slope, bend = np.linalg.qr(powers)[0].T.astype(np.float32)
    return [(slope, flat), (flat, slope), (bend, flat), (flat, bend), (slope, slope)]


@cache
def waves() -> Array:
    """Return what the coefficients of a block are its products with ``(256, 16, 16)``: cosines, less slopes and bends."""
    from scipy.fft import idctn

    found: Array = idctn(np.eye(EDGE**2).reshape(-1, EDGE, EDGE), axes=(1, 2), norm="ortho")
    flat = np.full(EDGE, EDGE**-0.5)
    for one, other in [(flat, flat), *_bends()]:
        found -= np.einsum("nij,i,j->n", found, one, other)[:, None, None] * np.outer(one, other)
    return found


def fine_level(blocks: Blocks, share: float = SHARE, fewest: int = FEWEST) -> float:
    """Measure independent noise: its standard deviation at the finest frequencies of the flattest blocks."""
    return math.sqrt(blocks.spectrum(share, fewest)[FINE].mean())


def flat_level(blocks: Blocks) -> tuple[float, float, int]:
    """Measure independent noise on as many of the flattest blocks as hold no more than the very flattest, but for chance.

    Returns
    -------
    level, content, count
        Its standard deviation, how much of it may be content, as a share, and on how many blocks it was measured.
    """
    most = max(int(SHARE * len(blocks)), min(FEWEST, len(blocks) // 4), 1)
    least = fine_level(blocks, 0, VERY_FEW)
    for count in sorted({most, *(n for n in (FEWEST, FEWEST // 2, VERY_FEW) if n < most)}, reverse=True):
        level = fine_level(blocks, 0, count)
        if level <= LIKE * least:
            break
    # The very flattest, which nothing flatter confirms, have as much content as others have more, about.
    wider, flatter = (fine_level(blocks, 0, 3 * count), level) if count == VERY_FEW else (level, least)
    return level, max(wider / flatter - 1, 0.0) if flatter > 0 else 0.0, count


def finest(blocks: Blocks) -> NDArray[np.bool_]:
    """Choose the finest frequencies at which there is noise, as many as are `FINE`.

    Where the noise is smooth, only content is left at the very finest. Content is sparse: the median hardly sees it.
    """
    coarse = blocks.power[:, : EDGE // 4, : EDGE // 4].sum(axis=(1, 2))
    spectrum = np.median(blocks.power[coarse <= np.quantile(coarse, 0.1)], axis=0)
    spectrum[: EDGE // 4, : EDGE // 4] = 0
    there = spectrum > FADED * spectrum.max()
    bands = [there & (least <= _I + _J) for least in range(EDGE + EDGE // 4, 0, -1)]
    # Where there is no noise, what power there is may be at a frequency or two.
    enough = all((there & half).any() for half, _ in HALVES)
    return next((band for band in bands if band.sum() >= FINE.sum()), there if enough else FINE)


def cut(
    planes: Array, seen: NDArray[np.bool_], edge: int = EDGE, step: int = STEP, pair: tuple[Array, Array] | None = None
) -> Blocks:
    """Cut planes ``(N, Y, X)`` into blocks of an edge, a step apart, that were measured throughout.

    Constant blocks (empty, saturated) are left out, and so are those whose noise is cut off at the
    ends of the image's range, unless there are hardly any others.

    Parameters
    ----------
    planes, seen
        The values, and which of them were measured.
    edge, step
        Of the blocks.
    pair
        The frames whose differences the planes are: they tell how bright a block is, and where noise is cut off.
    """
    pixels, place = _pixels(planes[None] if pair is None else np.stack([planes, *pair]), seen, edge, step)
    own = pixels[0].mean(axis=(1, 2), dtype=np.float64)
    mean = own if pair is None else pixels[1:].mean(axis=(0, 2, 3), dtype=np.float64)
    return Blocks(np.square(_coefficients(pixels[0], own), dtype=np.float64), mean, place)


def thirds(planes: Array, seen: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Measure the third cumulant of what is in the blocks of planes ``(N, Y, X)``.

    Returns
    -------
    mean, variance, third
        Of each block: its mean, the variance by which it is to be judged how flat it is, and the third cumulant of a voxel's
        noise.

    Notes
    -----
    At every second frequency, in the order of a chequerboard, a block is the same when turned about its centre, and at the
    others it changes its sign. Only the former hold something of the third cumulant of independent noise: so the others judge. The
    coarse ones, where most content is, are left out of what is measured.
    """
    from scipy.fft import idctn

    pixels, _ = _pixels(planes[None], seen, EDGE, STEP)
    mean = pixels[0].mean(axis=(1, 2), dtype=np.float64)
    found = _coefficients(pixels[0], mean)
    variance = np.square(found[:, HALVES[0][1]], dtype=np.float64).mean(axis=1)
    alike = idctn(np.where(TURNED, found, 0), axes=(1, 2), norm="ortho").astype(np.float64)
    return mean, variance, (alike * alike * alike).mean(axis=(1, 2)) / _share_of_thirds()


def skewness(planes: Array, seen: NDArray[np.bool_]) -> float:
    """Measure how skewed the noise of planes ``(N, Y, X)`` is, in their flattest blocks; not a number where there are none."""
    _, variance, third = thirds(planes, seen)
    if len(third) < FEWEST // 4:
        return math.nan
    flat = np.argsort(variance)[: max(len(third) // 5, FEWEST // 4)]
    return float(third[flat].mean() / variance[flat].mean() ** 1.5)


@cache
def _share_of_thirds() -> float:
    """Say what share of the third cumulant of independent noise the frequencies hold at which it is measured."""
    flat = waves()[TURNED.flatten()].reshape(int(TURNED.sum()), -1)
    return float(((flat.T @ flat) ** 3).sum(axis=1).mean())


def together(samples: Array, seen: NDArray[np.bool_], edge: int = EDGE, step: int = STEP) -> Array:
    """Cut the samples of a colour image ``(S, N, Y, X)`` at the same places as `cut` does.

    Returns
    -------
    Array
        Coefficients ``(S, blocks, edge, edge)``, not squared.
    """
    pixels, _ = _pixels(samples, seen, edge, step)
    return np.stack([_coefficients(part, part.mean(axis=(1, 2), dtype=np.float64)) for part in pixels])


def _pixels(samples: Array, seen: NDArray[np.bool_], edge: int, step: int) -> tuple[Array, Array]:
    """Return the blocks of samples that serve in all of them ``(S, blocks, edge, edge)``, and their places."""
    if min(seen.shape[1:]) < edge:
        return np.empty((len(samples), 0, edge, edge)), np.empty((0, 3), np.intp)
    windows, whole = (
        np.lib.stride_tricks.sliding_window_view(a, (edge, edge), axis=(-2, -1))[..., ::step, ::step, :, :]
        for a in (samples, seen)
    )
    place = np.argwhere(whole.all(axis=(-1, -2)))
    place = place[:: max(1, len(place) // MOST)]
    pixels = np.stack([windows[s][tuple(place.T)] for s in range(len(samples))])
    varied = (pixels.min(axis=(2, 3)) < pixels.max(axis=(2, 3))).all(axis=0)
    pixels, place = pixels[:, varied], place[varied]
    if len(place) == 0:
        return pixels, place
    ends = [(part[seen].min(), part[seen].max()) for part in samples]
    shares = [
        ((part <= low) | (part >= high)).mean(axis=(1, 2)) for part, (low, high) in zip(pixels, ends, strict=True)
    ]
    sound = np.max(shares, axis=0) <= CUT
    return (pixels[:, sound], place[sound]) if sound.sum() >= FEWEST // 4 else (pixels, place)


def _coefficients(pixels: Array, mean: Array) -> Array:
    """Cosine transforms of blocks, less their slopes and bends."""
    from scipy.fft import dctn

    edge = pixels.shape[-1]
    rest = (pixels - mean[:, None, None]).astype(np.float32)
    # Slopes and bends go on at all frequencies, down to the finest, because a block ends abruptly.
    for wave, other in _bends(edge):
        rest -= np.einsum("nij,i,j->n", rest, wave, other, optimize=True)[:, None, None] * np.outer(wave, other)
    found: Array = dctn(rest, axes=(1, 2), norm="ortho", overwrite_x=True)
    return found
