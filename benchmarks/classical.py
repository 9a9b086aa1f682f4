"""Classical results to measure against, each tuned with the truth: nobody can have them, so they flatter the classical side.

``python -m benchmarks.classical --group fmd,w2s --crop 256`` prints a table. Results are kept in
``benchmarks/out/classical.json`` under the pair's name and crop as each is measured, so that neither this nor other
benchmarks need repeat them; `benchmarks.leaderboard` carries them into the committed file and back.

BM3D and BM4D are free for non-commercial use only: the package never imports them, and here they are left out where
they are not installed (``pip install bm3d bm4d``).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ive
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

from benchmarks.pairs import GROUPS, Pair, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]
    Denoiser = Callable[[Pair, Array, float], Array]

CACHE = Path(__file__).parent / "out" / "classical.json"

STEP = 1.18
"""Ratio between neighbouring strengths that are tried: seven of them span 0.6 to 1.6 times the true SD."""

UNEVEN = STEP**3
"""Where the climb starts for noise of uneven variance or correlated noise, which one SD for white noise understates."""

LOWEST_STABILISED = 2 * math.sqrt(3 / 8)
"""The stabilised value of zero counts."""


@dataclass(frozen=True)
class Bar:
    """The best that a method reaches on one pair.

    Attributes
    ----------
    psnr, ssim
        At the strength with the highest PSNR.
    strength
        That strength, in units of the residual's true SD.
    seconds
        Processor time of one run at that strength.
    """

    psnr: float
    ssim: float
    strength: float
    seconds: float


def nlm(pair: Pair, noisy: Array, sd: float) -> Array:
    """Non-local means (Buades 2005), 5×5 patches within 13×13; 3×3×3 within 7×7×7 for volumes."""
    size, reach = (5, 6) if pair.ndim == 2 else (3, 3)
    return denoise_nl_means(
        noisy,
        patch_size=size,
        patch_distance=reach,
        h=0.8 * sd,
        sigma=sd,
        channel_axis=-1 if pair.colour else None,
    )


def tv(pair: Pair, noisy: Array, sd: float) -> Array:
    """Total variation (Chambolle 2004), stopped as early as scikit-image does: further on it gets worse."""
    return denoise_tv_chambolle(noisy, weight=sd, channel_axis=-1 if pair.colour else None)


def wavelet(pair: Pair, noisy: Array, sd: float) -> Array:
    """Soft wavelet thresholds by BayesShrink (Chang, Yu, Vetterli 2000), without cycle spinning."""
    return denoise_wavelet(
        noisy,
        sigma=[sd] * 3 if pair.colour else sd,
        wavelet="db2",
        rescale_sigma=False,
        channel_axis=-1 if pair.colour else None,
    )


def bm3d(pair: Pair, noisy: Array, sd: float) -> Array:
    """BM3D (Dabov 2007; Mäkinen 2020), told that the noise is white; on one thread."""
    import bm3d as library  # noqa: TID251 - the one place that compares with it

    profile = library.BM3DProfile()
    profile.num_threads = 1
    return (library.bm3d_rgb if pair.colour else library.bm3d)(noisy, sd, profile)


def bm4d(pair: Pair, noisy: Array, sd: float) -> Array:
    """BM4D (Maggioni 2013), told that the noise is white; on one thread."""
    import bm4d as library  # noqa: TID251 - the one place that compares with it

    profile = library.BM4DProfile()
    profile.num_threads = 1
    return library.bm4d(noisy, sd, profile)


def bm3d_frames(pair: Pair, noisy: Array, sd: float) -> Array:
    """BM3D of each frame of a series by itself."""
    return np.stack([bm3d(pair, frame, sd) for frame in noisy])


def rician_sd(pair: Pair) -> float:
    """SD of either part of the complex noise under a magnitude image, from truth and second moment."""
    excess = np.square(pair.noisy, dtype=np.float64) - np.square(pair.truth, dtype=np.float64)
    return math.sqrt(max(float(excess.mean()), 0.0) / 2)


def unbiased(magnitude: Array, sd: float) -> Array:
    """Return the signal whose Rician mean is `magnitude` (Koay & Basser 2006), zero below the mean of pure noise."""
    signal = np.linspace(0, max(float(magnitude.max()), 0.0) + 3 * sd, 4096)
    x = np.square(signal / sd) / 4
    means = sd * math.sqrt(math.pi / 2) * ((1 + 2 * x) * ive(0, x) + 2 * x * ive(1, x))
    return np.interp(magnitude, means, signal)


def unbiased_bm3d(pair: Pair, noisy: Array, sd: float) -> Array:
    """BM3D, then the bias of Rician noise taken out."""
    return unbiased(bm3d(pair, noisy, sd), rician_sd(pair))


def unbiased_bm4d(pair: Pair, noisy: Array, sd: float) -> Array:
    """BM4D, then the bias of Rician noise taken out."""
    return unbiased(bm4d(pair, noisy, sd), rician_sd(pair))


def log_bm3d(pair: Pair, noisy: Array, sd: float) -> Array:
    """BM3D of the logarithm, whose bias is taken out as the truth has it; `sd` is in units of the noise's there."""
    least = 0.01 * float(noisy.mean())
    log, lit = np.log(np.maximum(noisy, least)), pair.truth > least
    off = (log - np.log(np.maximum(pair.truth, least)))[lit]
    return np.exp(bm3d(pair, log, sd * float(off.std())) - float(off.mean()))


def count_noise(pair: Pair) -> tuple[float, float]:
    """Gain `a` and offset `b` of the variance ``a * truth + b``, by reweighted least squares on truth and residual."""
    truth = pair.truth.astype(np.float64).ravel()
    squared = np.square(pair.noisy.astype(np.float64).ravel() - truth)
    floor = 0.05 * squared.mean()
    variance = np.full_like(truth, squared.mean())
    for _ in range(10):
        gain, offset = np.polyfit(truth, squared, 1, w=1 / variance)
        variance = np.maximum(gain * truth + offset, floor)
    return float(gain), float(offset)


def stabilise(values: Array, gain: float, offset: float) -> Array:
    """Generalised Anscombe transform of values whose variance is ``gain * mean + offset``: unit variance."""
    return 2 / gain * np.sqrt(np.maximum(gain * values + 0.375 * gain**2 + offset, 0))


def unstabilise(values: Array, gain: float, offset: float) -> Array:
    """Closed-form unbiased inverse of `stabilise` (Mäkitalo & Foi 2013)."""
    d = np.maximum(values, LOWEST_STABILISED)
    counts = d**2 / 4 + math.sqrt(1.5) / (4 * d) - 11 / (8 * d**2) + 5 * math.sqrt(1.5) / (8 * d**3) - 1 / 8
    return gain * counts - offset / gain


def stabilised(pair: Pair, noisy: Array, sd: float, *, denoiser: Denoiser, gain: float, offset: float) -> Array:
    """Denoise between the generalised Anscombe transform and its inverse; `sd` is in stabilised units."""
    return unstabilise(denoiser(pair, stabilise(noisy, gain, offset), sd), gain, offset)


def tune(pair: Pair, denoiser: Denoiser, sd: float, start: float = 1.0) -> Bar:
    """Climb from `start` times `sd` in steps of `STEP` to the strength with the highest PSNR."""
    runs: dict[int, tuple[float, Array, float]] = {}

    def score(rung: int) -> float:
        begun = time.process_time()
        estimate = denoiser(pair, pair.noisy.astype(np.float64), sd * start * STEP**rung)
        seconds = time.process_time() - begun
        runs[rung] = (pair.psnr(estimate), estimate, seconds)
        return runs[rung][0]

    best, top = 0, score(0)
    for direction in (1, -1):
        while (value := score(best + direction)) > top:
            best, top = best + direction, value
        if best != 0:
            break
    psnr, estimate, seconds = runs[best]
    return Bar(psnr, pair.ssim(estimate), start * STEP**best, seconds)


def measure(pair: Pair, method: str) -> Bar | None:
    """Tune one of `METHODS` on a pair; ``None`` where it does not apply or is not installed."""
    if find_spec(METHODS[method].needs) is None or not METHODS[method].applies(pair):
        return None
    if METHODS[method].relative:
        return tune(pair, METHODS[method].denoiser, 1.0)
    if not method.startswith("VST+"):
        start = UNEVEN if pair.kind in ("counts", "correlated") else 1.0
        return tune(pair, METHODS[method].denoiser, float(np.std(pair.noisy - pair.truth)), start)
    gain, offset = count_noise(pair)
    if gain <= 0:
        return None
    return tune(pair, partial(stabilised, denoiser=METHODS[method].denoiser, gain=gain, offset=offset), 1.0)


@dataclass(frozen=True)
class Method:
    """A denoiser, the module it needs and the pairs it is for; whether its strength is over that of the noise."""

    denoiser: Denoiser
    needs: str = "skimage"
    applies: Callable[[Pair], bool] = lambda _: True
    relative: bool = False


def _has_cubes(pair: Pair) -> bool:
    """Whether there are BM4D's cubes in it."""
    return pair.ndim == 3 and min(pair.truth.shape) >= 4


METHODS: dict[str, Method] = {
    "noisy": Method(lambda pair, noisy, sd: noisy),
    "NLM": Method(nlm),
    "TV": Method(tv),
    "wavelet": Method(wavelet, "pywt"),
    "BM3D": Method(bm3d, "bm3d", lambda pair: pair.ndim == 2),
    "VST+BM3D": Method(bm3d, "bm3d", lambda pair: pair.kind == "counts" and pair.ndim == 2),
    "unbiased BM3D": Method(unbiased_bm3d, "bm3d", lambda pair: pair.ndim == 2 and pair.kind == "rician"),
    "log BM3D": Method(log_bm3d, "bm3d", lambda pair: pair.ndim == 2 and pair.kind == "speckle", relative=True),
    "BM3D by frame": Method(bm3d_frames, "bm3d", lambda pair: pair.axes is not None),
    "BM4D": Method(bm4d, "bm4d", lambda pair: _has_cubes(pair)),
    "VST+BM4D": Method(bm4d, "bm4d", lambda pair: pair.kind == "counts" and _has_cubes(pair)),
    "unbiased BM4D": Method(unbiased_bm4d, "bm4d", lambda pair: pair.kind == "rician" and _has_cubes(pair)),
}

USUAL = tuple(method for method in METHODS if method != "wavelet")
"""Those that ours is measured against. Wavelet thresholds never came first."""


def bars(pair: Pair, methods: Collection[str] = USUAL, fresh: bool = False) -> dict[str, Bar]:
    """Return the classical bars of a pair, measured once and kept.

    Parameters
    ----------
    pair
        The noisy image and its truth; kept under its name and crop.
    methods
        Names out of `METHODS`; those that do not apply are left out of the result.
    fresh
        Measure again what is kept already.
    """
    key = f"{pair.name}@{pair.crop or 'whole'}"
    found = {} if fresh else kept().get(key, {})
    for method in methods:
        if method not in found and (bar := measure(pair, method)) is not None:
            found[method] = bar
            keep({key: {method: bar}})
    return {method: found[method] for method in methods if method in found}


def kept() -> dict[str, dict[str, Bar]]:
    """Bars measured so far, by pair and crop (``"fmd/fish@256"``, ``"fmd/fish@whole"``), then by method."""
    known = json.loads(CACHE.read_text()) if CACHE.is_file() else {}
    return {key: {method: Bar(**bar) for method, bar in found.items()} for key, found in known.items()}


def keep(new: dict[str, dict[str, Bar]]) -> None:
    """Add bars to those measured so far, in place of older ones."""
    known = kept()
    for key, found in new.items():
        known.setdefault(key, {}).update(found)
    CACHE.parent.mkdir(exist_ok=True)
    part = CACHE.with_suffix(".part")
    part.write_text(json.dumps(known, default=dataclasses.asdict, indent=1, sort_keys=True))
    part.replace(CACHE)


def cell(psnr: float, ssim: float) -> str:
    """PSNR in dB / SSIM."""
    return f"{psnr:.2f} / {ssim:.3f}"


def row(cells: Iterable[object]) -> str:
    """One line of a markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print a markdown table of bars: PSNR in dB / SSIM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--group", default=",".join(GROUPS), help="groups, separated by commas (default: all)")
    parser.add_argument("--crop", type=int, help="side of a centred crop (default: whole images)")
    parser.add_argument("--methods", default=",".join(USUAL), help=f"out of {', '.join(METHODS)} (default: most)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept already")
    options = parser.parse_args()
    methods = options.methods.split(",")

    print(row(["image", *methods]))
    print(row(["---"] * (1 + len(methods))))
    for pair in pairs(group=options.group.split(","), crop=options.crop):
        found = bars(pair, methods, options.fresh)
        cells = [cell(b.psnr, b.ssim) if (b := found.get(m)) else "–" for m in methods]
        print(row([pair.name, *cells]), flush=True)


if __name__ == "__main__":
    main()
