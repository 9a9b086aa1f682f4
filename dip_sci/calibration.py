"""Calibration: a camera's gain, offset and read noise from dark and evenly lit frames (the photon-transfer curve)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import chdtri

from dip_sci.errors import ImageError, RecipeError, WriteError
from dip_sci.noise import PoissonGaussian
from dip_sci.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dip_sci.image import Image

    Array = NDArray[Any]

RARE = 1e-6
"""Share of good pixels that may be taken for defective ones."""

LEFT = 0.1
"""Share of a stack's pixels that must be usable."""

MARGIN = 5.0
"""Standard deviations between a pixel's mean and saturation, below which its noise may be cut."""

ROUNDS = 10
"""Passes in which defective pixels are told from the others."""

FACTS = "# facts: "
"""Begins the line of a calibration file that holds what a recipe cannot."""

DARK = "The dark stack"


@dataclass(frozen=True)
class Calibration:
    """A camera's noise, as measured.

    Attributes
    ----------
    gain, offset, read_noise
        As in `PoissonGaussian`: grey levels per photon; grey level without light; standard
        deviation of the read noise in grey levels, rounding to whole numbers included.
    gain_error, offset_error, read_noise_error
        Their standard errors.
    shape
        Rows and columns of the frames.
    saturated, defective
        Pixels left out: those too near to saturation in some flat stack; those whose dark level
        or noise stands out (hot, stuck, blinking).
    sentence
        What was found, for the user.
    """

    gain: float
    offset: float
    read_noise: float
    gain_error: float
    offset_error: float
    read_noise_error: float
    shape: tuple[int, int]
    saturated: int
    defective: int
    sentence: str

    @property
    def model(self) -> PoissonGaussian:
        """The noise model."""
        return PoissonGaussian(self.gain, self.offset, self.read_noise)

    @property
    def options(self) -> dict[str, Any]:
        """The recipe's noise group."""
        return {"model": self.model.name, **asdict(self.model)}

    def doubts(self, image: Image) -> tuple[str, ...]:
        """Say why an image may be of another camera: it is larger than the frames, and so no part of one."""
        size, frame = tuple(map(image.size_of, "YX")), self.shape
        if size[0] <= frame[0] and size[1] <= frame[1]:
            return ()
        return (
            f"The noise of the camera was measured on frames of {frame[0]} x {frame[1]} pixels; the image has "
            f"{size[0]} x {size[1]}. Make sure that it is of the same camera, with the same settings.",
        )

    def text(self) -> str:
        """Return the text of a YAML file: a recipe with this noise, and in comments what `load` needs besides."""
        import yaml

        facts = {name: value for name, value in asdict(self).items() if name not in (*self.options, "sentence")}
        # One line, whatever its length: a comment cannot be continued.
        line = yaml.safe_dump(
            facts | {"shape": list(self.shape)}, default_flow_style=True, sort_keys=False, width=2**20
        )
        return f"# {self.sentence}\n{FACTS}{line}{yaml.safe_dump({'noise': self.options}, sort_keys=False)}"

    def save(self, path: str | Path) -> None:
        """Write a recipe with this noise (`text`), replacing a file that is there.

        Raises
        ------
        WriteError
            If the file cannot be written or its name asks for something else than YAML.
        """
        path = check_name(Path(path))
        try:
            path.write_text(self.text(), encoding="utf-8")
        except OSError as error:
            raise WriteError(f"{path} cannot be written: {error.strerror}.") from None

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises
        ------
        RecipeError
            If it cannot be read, or holds no calibration.
        """
        import yaml

        noise = Recipe.load(path).noise
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        try:
            facts = yaml.safe_load(next(line for line in lines if line.startswith(FACTS)).removeprefix(FACTS))
            named = {name: getattr(noise, name) for name in ("gain", "offset", "read_noise")}
            rows, columns = map(int, facts["shape"])
            facts = facts | named | {"shape": (rows, columns), "sentence": lines[0].removeprefix("# ")}
            if None in named.values() or facts.keys() != {f.name for f in fields(cls)}:
                raise ValueError
            return cls(**facts)
        except (StopIteration, ValueError, TypeError, KeyError, yaml.YAMLError):
            raise RecipeError(
                f"{path} holds no calibration: 'dip-sci calibrate' writes them, with what was measured in a comment."
            ) from None


def check_name(path: Path) -> Path:
    """Raise a `WriteError` where a file's name does not ask for YAML, in which alone there is room for comments."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise WriteError(f"A calibration is written as YAML; {path} must end in .yaml or .yml.")
    return path


def frames(image: Image, name: str) -> Array:
    """Return an image's frames ``(N, Y, X)``, its time or depth axis being theirs.

    Raises
    ------
    ImageError
        If it has other axes besides, or only one frame.
    """
    count = max(image.size_of("T"), image.size_of("Z"))
    if count * image.size_of("Y") * image.size_of("X") != image.array.size:
        raise ImageError(
            f"{name} must be one stack of grey frames; its axes are {image.axes}, its shape is {image.shape}."
        )
    order = np.argsort(["TZCSYX".index(a) for a in image.axes])
    array = image.array.transpose(order).reshape(count, image.size_of("Y"), image.size_of("X"))
    _check_stack(array, name)
    return array


def calibrate(dark: Array, flats: Sequence[Array]) -> Calibration:
    """Measure a camera's gain, offset and read noise.

    Parameters
    ----------
    dark
        Frames without light, shape ``(N, Y, X)`` with N of 2 or more, in grey levels.
    flats
        One stack ``(N, Y, X)`` for each level of a steady light. It need not be even: only
        changes from frame to frame are looked at. The exposure time is that of the dark frames.

    Returns
    -------
    Calibration

    Raises
    ------
    ImageError
        Where a stack holds a single frame or frames of another size, is saturated, no brighter
        than the dark one, or without noise.

    Notes
    -----
    Each pixel's variance over its frames (of two frames: half of their squared difference) holds
    neither fixed pattern nor lamp profile; what the frames' means change by is taken off before,
    so that no flicker of the lamp and no drift of the dark level is in it either. Averaged over pixels, it rises with the mean above the
    dark level by the gain (Janesick 2007): a line through the dark point, weighted by the
    variances' own errors. The errors follow from the scatter over pixels.

    Pixels are left out where the dark mean stands out from the others', or where a variance is
    larger than chance leaves to one pixel in a million; and in a flat stack, where a sample is
    saturated or the mean is within 5 standard deviations of it.
    """
    stacks = {DARK: np.asarray(dark)}
    stacks |= {f"Flat stack {k}" if len(flats) > 1 else "The flat stack": np.asarray(f) for k, f in enumerate(flats, 1)}
    if len(stacks) < 2:
        raise ImageError("A flat stack is needed besides the dark one: frames of a steady light.")
    for name, stack in stacks.items():
        _check_stack(stack, name)
        if stack.shape[1:] != np.shape(dark)[1:]:
            raise ImageError(
                f"{name} has frames of {_size(stack)}, the dark stack of {_size(np.asarray(dark))}: "
                "take all of them with the same camera settings."
            )
    good = np.ones(np.shape(dark)[1:], bool)
    for stack in stacks.values():
        good &= np.isfinite(stack).all(axis=0)
    if not good.any():
        raise ImageError("No pixel has finite values in all frames.")
    zero = _dark(stacks.pop(DARK), good)
    level = _saturation(list(stacks.values()), zero.good)
    return _fit(zero, [_flat(stack, name, zero, level) for name, stack in stacks.items()])


@dataclass(frozen=True)
class _Dark:
    """Dark level and variance by pixel, and over the good pixels."""

    frames: int
    mean: Array
    variance: Array
    good: Array
    at_zero: float


@dataclass(frozen=True)
class _Flat:
    """Mean above the dark level and variance over the pixels used, with the variance's standard error."""

    name: str
    frames: int
    lift: float
    variance: float
    error: float
    saturated: Array
    defective: Array


def _check_stack(stack: Array, name: str) -> None:
    if stack.ndim != 3 or stack.size == 0 or stack.dtype.kind not in "iuf":
        raise ImageError(f"{name} must hold grey frames (N, Y, X); its shape is {stack.shape} of {stack.dtype}.")
    if len(stack) < 2:
        raise ImageError(f"{name} holds one frame only: noise is what changes between two frames or more.")


def _size(stack: Array) -> str:
    return f"{stack.shape[1]} x {stack.shape[2]} pixels"


def _moments(stack: Array, good: Array, profile: Array | float = 1.0) -> tuple[Array, Array]:
    """Mean and variance of each pixel over the frames, less the changes of the frames' means times `profile`."""
    levels = np.array([frame[good].mean(dtype=np.float64) for frame in stack])
    mean, squares = np.zeros(stack.shape[1:]), np.zeros(stack.shape[1:])
    for n, (frame, level) in enumerate(zip(stack, levels, strict=True), 1):
        x = np.where(good, frame, level) - (level - levels.mean()) * profile
        step = x - mean
        mean += step / n
        squares += step * (x - mean)
    return mean, squares / (len(stack) - 1)


def _limit(stack: Array) -> float:
    """Factor above the true variance that a measured one exceeds once in a million pixels."""
    dof = len(stack) - 1
    return float(chdtri(dof, RARE)) / dof


def _least(stack: Array) -> float:
    """Variance that whole numbers have by themselves."""
    return 1e-12 if stack.dtype.kind == "f" else 1 / 12


def _dark(stack: Array, good: Array) -> _Dark:
    good = _near(_moments(stack, good)[0], good, np.sqrt(_least(stack)))
    mean, variance = _moments(stack, good)
    keep = good & (variance <= np.quantile(variance[good], 0.95))
    for _ in range(ROUNDS):
        keep = good & (variance <= _limit(stack) * max(variance[keep].mean(), _least(stack)))
    at_zero = float(np.mean([(frame[keep] == 0).mean() for frame in stack]))
    return _Dark(len(stack), mean, variance, keep, at_zero)


def _near(levels: Array, good: Array, least: float) -> Array:
    """Those of the good pixels whose level is not far from the others'."""
    off = np.abs(levels - np.median(levels[good]))
    spread = max(1.4826 * float(np.median(off[good])), least)
    near: Array = good & (off <= MARGIN * spread)
    return near


def _saturation(flats: Sequence[Array], good: Array) -> float:
    """Grey level at which values pile up; infinite where they do not."""
    top = max(float(frame[good].max()) for stack in flats for frame in stack)
    at_top, next_lower, at_next = 0, -np.inf, 0
    for frame in (frame[good] for stack in flats for frame in stack):
        at_top += int(np.count_nonzero(frame == top))
        below = frame[frame < top]
        highest = float(below.max()) if below.size else -np.inf
        if highest > next_lower:
            next_lower, at_next = highest, 0
        at_next += int(np.count_nonzero(below == next_lower))
    # The tail of a distribution thins out towards its end; one that was cut off does not.
    return top if at_top >= 10 and at_top > 2 * at_next else np.inf


def _flat(stack: Array, name: str, zero: _Dark, level: float) -> _Flat:
    good = zero.good & (stack.max(axis=0) < level)
    _refuse_saturated(good, zero.good, name, level)
    mean, _ = _moments(stack, good)
    lift, dark_variance = mean - zero.mean, float(zero.variance[zero.good].mean())
    brightness, chance = float(lift[good].mean()), np.sqrt(max(dark_variance, _least(stack)) / good.sum())
    if brightness <= MARGIN * chance:
        raise ImageError(
            f"{name} is not brighter than the dark one: {mean[good].mean():.6g} grey levels against "
            f"{zero.mean[good].mean():.6g}. Were they exchanged?"
        )
    # A lamp that flickers does so in proportion: each pixel by its own share of the light.
    _, variance = _moments(stack, good, lift / brightness)
    keep = good & (variance <= np.quantile(variance[good], 0.95))
    for _ in range(ROUNDS):
        gain = max(variance[keep].mean() - dark_variance, 0) / lift[keep].mean()
        expected = np.maximum(dark_variance + gain * lift, _least(stack))
        unsaturated = good & (mean + MARGIN * np.sqrt(expected) < level)
        _refuse_saturated(unsaturated, zero.good, name, level)
        keep = unsaturated & (variance <= _limit(stack) * expected)
    error = float(variance[keep].std() / np.sqrt(keep.sum()))
    used = float(variance[keep].mean())
    if used <= dark_variance + 3 * error:
        raise ImageError(
            f"{name} is no noisier than the dark one (variance {used:.4g} against {dark_variance:.4g}): use brighter "
            "light, and frames that were neither averaged nor denoised."
        )
    saturated = zero.good & ~unsaturated
    return _Flat(name, len(stack), float(lift[keep].mean()), used, error, saturated, unsaturated & ~keep)


def _refuse_saturated(good: Array, whole: Array, name: str, level: float) -> None:
    if good.sum() < LEFT * whole.sum():
        raise ImageError(
            f"{name} is saturated: {1 - good.sum() / whole.sum():.0%} of its pixels come near to {level:.6g} grey levels. "
            "Use less light or a shorter exposure."
        )


def _fit(zero: _Dark, flats: Sequence[_Flat]) -> Calibration:
    dark = zero.variance[zero.good]
    base, base_error = float(dark.mean()), float(dark.std() / np.sqrt(dark.size))
    x, y, error = (np.array(v) for v in zip(*((f.lift, f.variance - base, f.error) for f in flats), strict=True))
    share = (x / error**2) / np.sum((x / error) ** 2)
    gain = float(share @ y)
    gain_error = float(np.hypot(np.linalg.norm(share * error), share.sum() * base_error))
    if gain_error > 0.2 * gain:
        raise ImageError(
            f"The gain comes out as {gain:.3g} ± {gain_error:.3g} grey levels per photon: use brighter light or more frames."
        )
    offsets, read_noise = zero.mean[zero.good], float(np.sqrt(base))
    saturated = np.logical_or.reduce([f.saturated for f in flats])
    defective = np.logical_or.reduce([~zero.good, *(f.defective for f in flats)])
    values = {
        "gain": gain,
        "offset": float(offsets.mean()),
        "read_noise": read_noise,
        "gain_error": gain_error,
        "offset_error": float(offsets.std() / np.sqrt(offsets.size)),
        "read_noise_error": base_error / (2 * read_noise) if read_noise > 0 else 0.0,
    }
    values = {name: float(f"{value:.6g}") for name, value in values.items()}
    counts = int(saturated.sum()), int(defective.sum())
    sentence = (
        "Gain {gain:.4g} ± {gain_error:.2g} grey levels per photon, offset {offset:.5g} ± {offset_error:.2g}, "
        "read noise {read_noise:.4g} ± {read_noise_error:.2g}".format(**values)
        + f", from {zero.frames} dark and {' + '.join(str(f.frames) for f in flats)} flat frames of "
        + f"{zero.mean.shape[0]} x {zero.mean.shape[1]} pixels; "
        + f"{counts[0]} saturated and {counts[1]} defective pixels were left out."
    )
    off = np.abs(y - gain * x)
    if (off > np.maximum(0.05 * y, 5 * error)).any():
        sentence += (
            f" The levels of light disagree by up to {(off / y).max():.0%}: the camera is not linear, or the lamp "
            "not steady."
        )
    if zero.at_zero > 0.02:
        sentence += (
            f" {zero.at_zero:.0%} of the dark values are 0, where the camera cuts its noise off: offset and read noise "
            "are not to be trusted; raise its black level."
        )
    shape = (zero.mean.shape[0], zero.mean.shape[1])
    return Calibration(**values, shape=shape, saturated=counts[0], defective=counts[1], sentence=sentence)
