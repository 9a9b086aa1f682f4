"""Interference: stripes that electric hum leaves in an image that was scanned row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci import planewise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

SMALLEST = 128
"""Edge of the planes from which on interference can be told from content."""

ALONG, COARSEST = 0.012, 0.05
"""Frequencies, in cycles per voxel: at most along the stripes, and at least across them."""

APART = 0.03
"""Distance from both axes, in cycles per voxel, from which on a tone is a pattern of the image's own: a grating, a lattice."""

SERIES, TUNED = 3, 0.04
"""Tones that are multiples of one, but for a share of it, from which on they are a pattern of the image's own: lines of text."""

CLEAR = 60.0
"""Power over that of the frequencies around, from which on a tone stands out. Noise alone hardly ever has 14 anywhere."""

WEAKEST, STRONGEST = 0.6, 1.5
"""Amplitude in any part of the plane over that in the median, between which a tone is the same everywhere: content is not."""

IN_STEP = 0.8
"""Amplitude of the whole plane over that in the median part, at least, if all parts swing together; and the reverse."""

FAINTEST, LOUDEST = 0.01, 1.0
"""Amplitudes over the standard deviation of the noise: weaker stripes do not matter, stronger ones count as content."""

PARTS = 3
"""Parts along each axis that are compared."""

NEAR = 8
"""Distance, in frequencies of the plane, within which peaks count as one."""

AROUND = 25
"""Edge, in frequencies, of the window over which power is compared."""

MOST, TRIED = 12, 8
"""Tones that are taken out of a plane at most, and that are looked at in vain before the rest is taken for content."""


@dataclass(frozen=True)
class Tone:
    """One sine wave in a plane.

    Attributes
    ----------
    frequency
        Cycles per voxel along Y and X.
    amplitude
        Over the standard deviation of the noise.
    """

    frequency: tuple[float, float]
    amplitude: float

    @property
    def along(self) -> str:
        """Axis that its stripes run along."""
        return "X" if abs(self.frequency[0]) > abs(self.frequency[1]) else "Y"

    @property
    def period(self) -> float:
        """Voxels from one stripe to the next."""
        return 1 / math.hypot(*self.frequency)


def take_out(planes: Array, seen: NDArray[np.bool_]) -> tuple[Array, list[Tone]]:
    """Remove interference from planes.

    A tone counts as interference where it stands out from the frequencies around it, runs along rows or columns, is
    weaker than the noise, and as strong in each part of the plane as in any other. Strong or local stripes are content, and
    so are all where others run in other directions, or many have a common period.

    Parameters
    ----------
    planes
        ``(*batch, Y, X)``, floating point.
    seen
        Which voxels were measured, of the same shape; planes with holes are left alone.

    Returns
    -------
    planes, tones
        The very array that was given where there is none; the tones of all planes.
    """
    return planewise.take_out(planes, seen, SMALLEST, _without)


def describe(tones: Sequence[Tone]) -> str:
    """Put what was taken out into words."""
    words = []
    for along, across in (("X", "Y"), ("Y", "X")):
        here = sorted((tone for tone in tones if tone.along == along), key=lambda tone: -tone.amplitude)
        if here:
            periods = " and ".join(dict.fromkeys(f"{tone.period:.2g}" for tone in here[:4]))
            words.append(f"along {along}, every {periods} voxels along {across}")
    loudest = max(tone.amplitude for tone in tones)
    return (
        f"Electric interference: faint stripes {' and '.join(words)}, of {loudest:.2g} times the noise's standard "
        "deviation; they are taken out first, unless noise.interference is keep."
    )


def _without(plane: Array) -> tuple[list[Tone], Array]:
    """Take the strongest tone out, again and again (as CLEAN does, Högbom 1974)."""
    found: list[Tone] = []
    cleaned = plane
    while len(found) < MOST:
        tone = _strongest(cleaned)
        if tone is None:
            break
        cleaned = cleaned - _wave(cleaned, tone.frequency)
        found.append(tone)
    return ([], plane) if _series(found) else (found, cleaned)


def _series(tones: Sequence[Tone]) -> bool:
    """Say whether several tones are multiples of one."""
    for along in "XY":
        heights = np.array([1 / tone.period for tone in tones if tone.along == along])
        for fundamental in (height / k for height in heights for k in range(1, SERIES + 1)):
            over = heights / fundamental
            if len(np.unique(np.round(over[np.abs(over - np.round(over)) < TUNED]))) >= SERIES:
                return True
    return False


def _strongest(plane: Array) -> Tone | None:
    """Find the strongest tone that is no content."""
    passed_over: list[tuple[float, float]] = []
    for peak in _outstanding(plane):
        if len(passed_over) == TRIED or _near(peak.at, passed_over, plane.shape):
            continue
        if _in_parts(plane, peak.at) is not None:
            frequency = _refined(plane, peak.at)
            each, whole = _in_parts(plane, frequency), _swing(plane, frequency)
            in_step = each is not None and IN_STEP * each <= whole <= each / IN_STEP
            amplitude = math.sqrt(2 * np.mean(np.square(_wave(plane, frequency)))) / peak.noise
            if in_step and FAINTEST < amplitude <= LOUDEST and _allowed(*frequency):
                return Tone(frequency, amplitude)
        passed_over.append(peak.at)
    return None


def _near(frequency: tuple[float, float], others: Sequence[tuple[float, float]], shape: tuple[int, ...]) -> bool:
    """Whether a frequency, or the same the other way round, is near one of others."""
    y, x = frequency
    return any(
        max(abs(y - sign * v) * shape[0], abs(x - sign * u) * shape[1]) <= NEAR for v, u in others for sign in (1, -1)
    )


@dataclass(frozen=True)
class _Peak:
    """A frequency that stands out.

    Attributes
    ----------
    at
        Cycles per voxel along Y and X.
    power
        Over that around it.
    noise
        Standard deviation of white noise with the power around it, or with that in the median, if this is less.
    """

    at: tuple[float, float]
    power: float
    noise: float


def _outstanding(plane: Array) -> list[_Peak]:
    """Find the frequencies along the axes that stand out, strongest first."""
    from scipy import fft
    from scipy.ndimage import uniform_filter

    window = _window(plane.shape)
    power = np.abs(fft.rfft2((plane - plane.mean()) * window)) ** 2 / np.square(window).sum()
    logs = np.log(power + 1e-12 * power.max() + 1e-300)
    # Of noise, the logarithms' mean lies below the mean's logarithm by Euler's constant.
    around = np.exp(uniform_filter(logs, AROUND, mode=("wrap", "mirror")) + np.euler_gamma)
    fy, fx = fft.fftfreq(plane.shape[0]), fft.rfftfreq(plane.shape[1])
    ratio = power / around
    y, x = np.abs(fy)[:, None], fx
    if ratio[(np.minimum(y, x) > APART) & (np.hypot(y, x) >= COARSEST)].max(initial=0) > CLEAR:
        return []
    ratio = np.where(_allowed(fy[:, None], fx), ratio, 0)
    rows, columns = np.nonzero(ratio > CLEAR)
    order = np.argsort(-ratio[rows, columns])
    noise = np.sqrt(np.minimum(around, np.median(around)))
    return [
        _Peak((float(fy[i]), float(fx[j])), float(ratio[i, j]), float(noise[i, j]))
        for i, j in zip(rows[order], columns[order], strict=True)
    ]


def _allowed(fy: Any, fx: Any) -> Any:
    """Whether stripes of a frequency run along rows or columns, and are fine."""
    y, x = np.abs(fy), np.abs(fx)
    return ((x <= ALONG) & (y >= COARSEST)) | ((y <= ALONG) & (x >= COARSEST))


def _refined(plane: Array, frequency: tuple[float, float]) -> tuple[float, float]:
    """Find a tone's frequency between those of the transform."""
    from scipy.optimize import minimize

    # Half a cycle per voxel is its own mirror image: beside it, the two would be taken for a swell.
    size = np.where(np.abs(frequency) < 0.5, plane.shape, np.inf)
    window = [np.hanning(n + 2)[1:-1] for n in plane.shape]
    rest = plane - plane.mean()

    def weakness(step: Array) -> float:
        y, x = (
            w * np.exp(-2j * np.pi * f * np.arange(n))
            for w, f, n in zip(window, frequency + step / size, plane.shape, strict=True)
        )
        return -float(np.abs(y @ rest @ x))

    first = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    best = minimize(weakness, first[0], method="Nelder-Mead", options={"initial_simplex": first, "xatol": 1e-3})
    fy, fx = frequency + np.clip(best.x, -1, 1) / size
    return float(fy), float(fx)


def _wave(plane: Array, frequency: tuple[float, float]) -> Array:
    """Fit a sine wave of a frequency to a plane, by least squares with weights that fade out towards its edges."""
    # Sums over the plane of products of one factor along Y and one along X: no further plane is needed.
    y, x = (np.exp(2j * np.pi * f * np.arange(n)) for f, n in zip(frequency, plane.shape, strict=True))
    down, across = (np.square(np.hanning(n + 2)[1:-1]) for n in plane.shape)
    weight, twice = down.sum() * across.sum(), (down @ y**2) * (across @ x**2)
    products = np.array([[weight + twice.real, twice.imag], [twice.imag, weight - twice.real]]) / 2
    with_plane = (down * y) @ (plane - plane.mean()) @ (across * x)
    # At half a cycle per voxel there is no sine.
    cosine, sine = np.linalg.lstsq(products, np.array([with_plane.real, with_plane.imag]), rcond=0.02)[0]
    turned = (cosine - 1j * sine) * y
    wave: Array = np.outer(turned.real, x.real)
    wave -= np.outer(turned.imag, x.imag)
    return wave


def _in_parts(plane: Array, frequency: tuple[float, float]) -> float | None:
    """Measure how strong a tone is in parts of the plane, which overlap by half: `None` where they differ."""
    height, width = (n // PARTS for n in plane.shape)
    strengths = []
    for i in range(2 * PARTS - 1):
        for j in range(2 * PARTS - 1):
            top, left = i * height // 2, j * width // 2
            strengths.append(_swing(plane[top : top + height, left : left + width], frequency))
    middle = float(np.median(strengths))
    alike = WEAKEST * middle <= min(strengths) and max(strengths) <= STRONGEST * middle
    return middle if alike else None


def _swing(part: Array, frequency: tuple[float, float]) -> float:
    """Measure how strong a tone is."""
    window = _window(part.shape)
    y, x = (np.exp(-2j * np.pi * f * np.arange(n)) for f, n in zip(frequency, part.shape, strict=True))
    return float(np.abs(y @ ((part - part.mean()) * window) @ x) / window.sum())


def _window(shape: Sequence[int]) -> Array:
    y, x = (np.hanning(n + 2)[1:-1] for n in shape)
    return np.outer(y, x)
