"""How noise grows with the brightness of one image: photons, speckle, and the magnitudes of magnetic resonance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.noise import Poisson, PoissonGaussian, Rician, Speckle
from dip_sci.noise_blocks import EDGE, HALVES, Blocks, finest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.recipe import NoiseOptions

    Array = NDArray[Any]

CLASSES, FEWEST, LEAST_FLAT = 32, 128, 16
"""Brightnesses that are told apart at most, blocks in each at least, and how many of them serve."""

SOME, AT_LEAST = 8, 32
"""The same in small images."""

FEW = 4
"""Brightnesses below which no law is told."""

CALM = 2.0
"""Standard errors by which the variance of a block may be above what a first model says, for it to count as flat."""

CROOKED, FLAT, STEEP = 0.2, 0.2, 4.0
"""Misfit of a line to the curve above which it is none, where fewer than a share of the blocks hold hardly more than it says: what
rises is content, as brick walls', and no photons are counted; unless the variance rises more than so many times.
"""

DARK, SPOT, CHANCE = 0.01, 5, 2.5
"""Share of the blocks, and of spots of so many voxels along each axis, that are darker than an offset at most; and by how many
standard deviations such a share of them is darker by chance."""

CLEAR, ALIKE = 3.0, (0.5, 2.0)
"""Standard errors by which skewness must grow with the brightness, and how, over what the variance's growth foretells."""

LIKELY, EXPECTED, SHARED = 2.0, 1.0, 2.0
"""Standard errors by which skewness must be that of less light for there to be read noise; where there is an offset, as only
cameras have, which read their values; and how many times as much as that of blocks apart its mean varies, as they overlap by half.
"""

WEAK = 0.1
"""Additive noise beside speckle, over this, where there is none to be seen."""

EVEN = 1.1
"""Variance of stabilised noise up to which noise that rises little with the brightness is taken for that of photons."""

LEAST_NOISE = 0.55
"""Variance over that of a model, at least: magnitudes have .7 and more at all brightnesses. A model that was fitted to content, as
to that of textured pictures with many photons, has .4 and less in their dark.
"""

RISE, LEAST = 2.0, 1.3
"""Ratio of the variances in bright and dark parts from which noise is taken for that of photons; where it was said to be.
"""


@dataclass(frozen=True, eq=False)
class Curve:
    """Mean and noise variance of flat blocks, class by class, from dark to bright."""

    mean: Array
    variance: Array

    def __len__(self) -> int:
        return len(self.mean)

    def over(self, least: float) -> Curve:
        """Return the part that is brighter than so much."""
        return Curve(self.mean[self.mean > least], self.variance[self.mean > least])


def curve(blocks: Blocks, near: PoissonGaussian | Speckle | None = None) -> Curve:
    """Measure the noise at each brightness, at the finest frequencies it has.

    Parameters
    ----------
    blocks
        Of which the flattest tenth at each brightness serves, sixteen at least.
    near
        A first model: then all blocks serve that hold hardly more than the noise that it says, where they are more.
    """
    if len(blocks) == 0:
        return Curve(np.empty(0), np.empty(0))
    order, band = np.argsort(blocks.mean), finest(blocks)
    count = max(min(len(order) // FEWEST, CLASSES), min(len(order) // AT_LEAST, SOME), 1)
    found = [_point(blocks[part], band, near) for part in np.array_split(order, count)]
    mean, variance = np.array(found).T
    return Curve(mean, variance)


def _point(group: Blocks, band: NDArray[np.bool_], near: PoissonGaussian | Speckle | None) -> tuple[float, float]:
    pairs = []
    for judge, measure in HALVES:
        flat = group.flattest(judge, 0.1, LEAST_FLAT)
        if near is not None:
            flat = max(flat, np.flatnonzero(_calm(group, judge, near)), key=len)
        pairs.append((group.mean[flat].mean(), group.power[flat][:, measure & band].mean()))
    mean, variance = np.mean(pairs, axis=0)
    return float(mean), float(variance)


def _calm(blocks: Blocks, judge: NDArray[np.bool_], model: PoissonGaussian | Speckle) -> NDArray[np.bool_]:
    """Say which blocks hold, at one half of the frequencies, hardly more noise than a model says."""
    calm: NDArray[np.bool_] = blocks.power[:, judge].mean(axis=1) < _bound(model, blocks.mean)
    return calm


def _bound(model: PoissonGaussian | Speckle, mean: Array) -> Array:
    """Say what variance a flat block, known at half of its frequencies, hardly exceeds."""
    variance: Array = model.variance(mean)
    if isinstance(model, Speckle):
        surplus = np.full_like(variance, 6 / model.looks)
    else:
        # Photons of which there are few have a fourth cumulant, too, of gain^2 times their variance at most.
        surplus = model.gain**2 / np.maximum(variance, 1e-30 * model.gain**2)
    bound: Array = variance * (1 + CALM * np.sqrt(4 + surplus) / EDGE)
    return bound


def darkest(planes: Array, seen: NDArray[np.bool_], found: Curve, blocks: Blocks) -> float:
    """Return how bright the darkest spots of an image are: blocks are larger than many of them.

    Parameters
    ----------
    planes, seen
        ``(N, Y, X)``, and which voxels were measured.
    found, blocks
        Their curve and blocks.
    """
    from scipy.ndimage import uniform_filter

    size = (1, SPOT, SPOT)
    whole = uniform_filter(seen.astype(np.float32), size) > 1 - 0.5 / SPOT**2
    dark = float(np.quantile(blocks.mean, DARK))
    if not whole.any():
        return dark
    means = uniform_filter(planes.astype(np.float64), size)[whole]
    # Of as many spots some are darker by chance.
    return min(dark, float(np.quantile(means, DARK)) + CHANCE * math.sqrt(float(found.variance[0])) / SPOT)


def photons(
    found: Curve,
    blocks: Blocks,
    options: NoiseOptions,
    lowest: float,
    dark: float,
    *,
    skewed: Skew | None = None,
) -> tuple[PoissonGaussian, float] | None:
    """Fit the line variance = gain * mean + constant (after Foi et al. 2008).

    Parameters
    ----------
    found
        The curve of the image's blocks.
    blocks
        The line is fitted once more to all that hold hardly more noise than it says.
    options
        The recipe's noise group: what it gives of offset and read noise is kept.
    lowest
        The lowest grey level of the image.
    dark
        How bright dark spots are (`darkest`).
    skewed
        The skewness of its noise, where that may say that photons are counted, and what of it is read noise.

    Returns
    -------
    model, error
        The model and the relative standard error of its standard deviations; ``None`` where the
        variance does not rise with the brightness.
    """
    fit = _through(found, options, lowest, dark)
    if fit is None:
        return None
    found = curve(blocks, fit[0])
    model, error, rise = _through(found, options, lowest, dark) or fit
    told = options.model in ("poisson", "poisson_gaussian") or not (options.offset is options.read_noise is None)
    crooked = misfit(found, model) > CROOKED and _calm(blocks, HALVES[0][0], model).mean() < FLAT
    if crooked and rise < STEEP and not told:
        return None
    if skewed is None:
        return None if rise < RISE and not told else (model, error)
    model = skewed.split(model, dark)
    # Where there are few and much read noise, no transform evens out the noise; Gaussian noise is nearer to it.
    even = float(np.median(model.stable_variance(found.mean))) < EVEN
    return (model, error) if rise >= RISE or told or (even and skewed.agrees(model)) else None


def _through(
    found: Curve, options: NoiseOptions, lowest: float, dark: float
) -> tuple[PoissonGaussian, float, float] | None:
    """Fit a line to a curve: the model, its relative standard error, and the ratio of the variances at its ends.

    No offset that is not given is above how bright dark blocks are.
    """
    if len(found) < FEW:
        return None
    poisson = options.model == "poisson"
    read_noise = 0.0 if poisson else options.read_noise
    # Offset and read noise enter the variance only as read_noise**2 - gain * offset.
    if options.offset is not None and read_noise is not None:
        fit = _line(found.mean - options.offset, found.variance - read_noise**2, through_zero=True)
    else:
        fit = _line(found.mean, found.variance)
    gain, constant, error = fit
    ends = gain * found.mean[[0, -1]] + constant
    rise = ends[1] / max(ends[0], 1e-12 * ends[1]) if gain > 0 else 0.0
    if rise < LEAST:
        return None
    if options.offset is not None:
        offset = options.offset
        read = math.sqrt(max(gain * offset + constant, 0.0)) if read_noise is None else read_noise
    elif read_noise is not None:
        offset, read = (read_noise**2 - constant) / gain, read_noise
    else:
        # Without photons the line crosses zero: the offset is there, or as far below as there are grey levels. A camera's
        # is not negative: where no place is darker than 0, what noise there is at 0 was read.
        dim = dark + CHANCE * math.sqrt(float(found.variance[0])) / EDGE < 0
        crossing, least = -constant / gain, min(lowest, 0.0) if dim else 0.0
        offset = max(crossing, least)
        read = math.sqrt(gain * (least - crossing)) if crossing < least else 0.0
    if options.offset is None and offset > dark:
        offset = dark
        gain, _, error = _line(found.mean - dark, found.variance - read**2, through_zero=True)
    return Poisson(gain, offset) if poisson else PoissonGaussian(gain, offset, read), error, float(rise)


@dataclass(frozen=True, eq=False)
class Skew:
    """How skewed what is in each block of an image is.

    The third cumulant of photons is ``gain**2 * (mean - offset)``, whatever the read noise is, which has none.

    Attributes
    ----------
    mean, variance, third
        Of each block: its mean, the variance by which it is judged how flat it is, and the third cumulant of its noise.
    """

    mean: Array
    variance: Array
    third: Array

    def agrees(self, model: PoissonGaussian) -> bool:
        """Whether it grows with the brightness as that of photons of the model's gain."""
        mean, third, weight = self._classes(model)
        if len(mean) < SOME:
            return False
        centred = mean - weight @ mean
        power = float(weight @ centred**2)
        if power <= 0:
            return False
        slope = float(weight @ (centred * third)) / power
        off = third - weight @ third - slope * centred
        error = math.sqrt(float(weight**2 @ (centred * off) ** 2)) / power
        low, high = (ratio * model.gain**2 for ratio in ALIKE)
        return low < slope < high and slope > CLEAR * error

    def split(self, model: PoissonGaussian, dark: float) -> PoissonGaussian:
        """Tell read noise from light that is not there.

        Parameters
        ----------
        model
            Of which only the line of the variance is known: its offset is the lowest there can be.
        dark
            How bright dark spots are: no place is darker than without light, be there content in it or none.

        Returns
        -------
        PoissonGaussian
            With the same line; the model itself where it is not likely that there is read noise.
        """
        mean, third, weight = self._classes(model)
        if len(mean) < SOME:
            return model
        each = mean - third / model.gain**2
        offset = float(weight @ each)
        # Weights are those of the least error; blocks that overlap are in several classes.
        error = math.sqrt(SHARED * float(weight @ np.square(each - offset)) / (len(each) - 1))
        if offset - model.offset < (EXPECTED if model.offset > 0 else LIKELY) * error:
            return model
        offset = min(offset, dark)
        variance = model.gain * (offset - model.offset) + model.read_noise**2
        return PoissonGaussian(model.gain, offset, math.sqrt(variance)) if offset > model.offset else model

    def _classes(self, model: PoissonGaussian) -> tuple[Array, Array, Array]:
        """Mean and third cumulant of the blocks that hold hardly more noise than a model says, by brightness; and weights."""
        calm = np.flatnonzero(self.variance < _bound(model, self.mean))
        count = min(len(calm) // AT_LEAST, CLASSES)
        if count == 0:
            return np.empty(0), np.empty(0), np.empty(0)
        parts = np.array_split(calm[np.argsort(self.mean[calm])], count)
        mean, third = np.array([(self.mean[part].mean(), self.third[part].mean()) for part in parts]).T
        # A third moment scatters as the variance to the power of 3/2.
        variance = model.variance(mean)
        weight = np.maximum(variance / (float(variance.max()) or 1.0), 1e-3) ** -3.0
        return mean, third, weight / weight.sum()


def straight(found: Curve, options: NoiseOptions, lowest: float, dark: float) -> PoissonGaussian | None:
    """Return photons by a curve alone, whatever speaks against them; see `photons`."""
    fit = _through(found, options, lowest, dark)
    return None if fit is None else fit[0]


def speckled(found: Curve, blocks: Blocks, read_noise: float | None = None) -> tuple[Speckle, float] | None:
    """Fit the line variance = mean**2 / looks + read_noise**2.

    Parameters
    ----------
    found, blocks
        The curve of the image's blocks, and these.
    read_noise
        Where it is known.

    Returns
    -------
    model, error
        The model, and the relative standard error of its standard deviations; ``None`` where the variance does not rise with
        the brightness.
    """
    fit = _proportional(found, read_noise)
    return fit and (_proportional(curve(blocks, fit[0]), read_noise) or fit)


def _proportional(found: Curve, read_noise: float | None) -> tuple[Speckle, float] | None:
    if len(found) < FEW or found.mean[-1] <= 0:
        return None
    power = np.square(np.maximum(found.mean, 0))
    share, constant, error = _line(power, found.variance)
    if constant <= 0 or read_noise is not None:
        constant = (read_noise or 0.0) ** 2
        share, _, error = _line(power, found.variance - constant, through_zero=True)
    ends = share * power[[0, -1]] + constant
    if share <= 0 or ends[1] < LEAST * ends[0]:
        return None
    # Where nothing is to be seen of it, it is a tenth of the speckle where that is weakest.
    hidden = WEAK**2 * share * max(float(power[0]), WEAK**4 * float(power[-1]))
    return Speckle(1 / share, math.sqrt(constant or hidden)), error


def magnitudes(found: Curve) -> tuple[Rician, float]:
    """Fit the noise of magnitudes, weaker than sigma where there is no signal, to the curve.

    Returns
    -------
    model, error
        The model, and the relative standard error of sigma.
    """
    from scipy.optimize import minimize_scalar

    def off(log_sigma: float) -> float:
        return float((_off(found, Rician(math.exp(log_sigma))) ** 2).sum())

    start = 0.5 * math.log(np.median(found.variance))
    best = Rician(math.exp(minimize_scalar(off, bounds=(start - 1.5, start + 1.5), method="bounded").x))
    return best, misfit(found, best) / 2 / math.sqrt(len(found))


def exponent(found: Curve) -> float:
    """Power of the mean that the variance goes with: 1 for photons, 2 for speckle, 0 where noise is as strong everywhere."""
    variance = np.maximum(found.variance, 1e-9 * found.variance.max())
    return float(np.polyfit(np.log(found.mean), np.log(variance), 1)[0]) if variance.all() else 0.0


def enough(found: Curve, model: Rician) -> bool:
    """Whether there is nowhere clearly less noise than a model says: content adds to a variance, nothing takes from it."""
    return bool((found.variance > LEAST_NOISE * model.variance(model.signal(found.mean))).all())


def misfit(found: Curve, model: Rician | PoissonGaussian | Speckle) -> float:
    """Scatter of the logarithms of a curve's variances about those of a model, whatever is far off."""
    return float(np.std(_off(found, model)))


def typical_misfit(found: Curve, model: Rician | PoissonGaussian | Speckle) -> float:
    """Distance of the logarithm of a variance from that of a model at half of the brightnesses, be the others far off."""
    return float(np.median(np.abs(_off(found, model))))


def _off(found: Curve, model: Rician | PoissonGaussian | Speckle) -> Array:
    # Magnitudes are brighter than their signal.
    signal = model.signal(found.mean) if isinstance(model, Rician) else found.mean
    # Content adds to a variance.
    least = 1e-9 * float(found.variance.max())
    error: Array = np.arctan(2 * np.log(found.variance / np.maximum(model.variance(signal), least)))
    return error


def _line(x: Array, y: Array, *, through_zero: bool = False) -> tuple[float, float, float]:
    """Robust line, and the relative error of the root of what is fitted.

    A variance estimate scatters in proportion to itself; texture only ever adds to it.
    """
    least = 1e-3 * max(float(y.max()), 1e-30)
    design = np.stack([x, np.full_like(x, 0.0 if through_zero else 1.0)], axis=1)
    level, robust = np.maximum(y, least), np.ones_like(y)
    line: Array = np.zeros(2)
    scale = 1.0
    for _ in range(10):
        weight = np.sqrt(robust) / level
        line = np.linalg.lstsq(design * weight[:, None], y * weight, rcond=None)[0]
        level = np.maximum(design @ line, least)
        off = (y - level) / level
        scale = 1.4826 * float(np.median(np.abs(off))) + 1e-12
        robust = np.where(off > scale, (scale / np.maximum(off, scale)) ** 2, 1.0)
    weighted = design * (np.sqrt(robust) / level)[:, None]
    spread = scale**2 * np.einsum("ni,ij,nj->n", weighted, np.linalg.pinv(weighted.T @ weighted), weighted)
    return float(line[0]), float(line[1]), float(np.sqrt(spread.mean()) / 2)
