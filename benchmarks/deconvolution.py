"""Deconvolution: ours, and classical methods at their best by the truth.

``DIP_SCI_DATA=... python -m benchmarks.deconvolution [--only boat] [--preset balanced]`` prints a row per image, point spread
function and noise: PSNR in dB over the truth's range, over all voxels. Ours sees the blurred, noisy image and the point spread
function, and finds the noise itself; the others are given the weight, or stopped at the step, that the truth says is best:

========= =================================================================================================
Wiener    the least of ``|A x - y|^2 + w |L x|^2``, L the Laplacian
RL        Richardson (1972), Lucy (1974), up to 300 steps
TV        the least of ``|A x - y|^2 / 2 + w TV(x)``, by 60 steps of alternating directions
========= =================================================================================================

``--too-wide`` says instead how often point spread functions of other widths are told to be too wide.

Pictures and cells are crops of 256 x 256 voxels; *filaments* and *volume* are drawn: threads and points on a dim ground.
"""

from __future__ import annotations

import argparse
import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from benchmarks.classical import row
from benchmarks.inpainting import picture
from benchmarks.pairs import pairs
from dip_sci import noise_estimate
from dip_sci.functions import deconvolve
from dip_sci.image import Image
from dip_sci.implied import too_wide
from dip_sci.recipe import NoiseOptions, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[np.float64]

PICTURES = ("boat", "cameraman", "peppers", "hill")
CELLS = ("fmd/BPAE_G", "fmd/fish", "w2s/010_0")
DRAWN = {"filaments": (256, 256), "volume": (32, 96, 96)}
NOISES = ("100 photons", "1000 photons", "SD 10", "SD 2")
STEPS, ROUNDS = 300, 60
TIMES = (0.7, 1.0, 1.25, 1.5, 2.0, 3.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--only", default="", help="images, separated by commas (default: all)")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--too-wide", action="store_true")
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    if options.too_wide:
        _print_too_wide([name for name in (*PICTURES, *CELLS, *DRAWN) if not only or name in only])
        return
    print(row(["image", "blur", "noise", "blurred", "Wiener", "RL", "TV", "ours", "over the best", "s"]))
    print(row(["---"] * 10))
    gains = []
    for name in [name for name in (*PICTURES, *CELLS, *DRAWN) if not only or name in only]:
        truth = _truth(name)
        for blur, noise, psf, seen in _observations(name, truth):
            classical = [_best(method, seen, psf, truth) for method in (_wiener, _richardson_lucy, _total_variation)]
            start = time.monotonic()
            recipe = Recipe(preset=options.preset).merged({"output": {"dtype": "float32"}})
            ours = deconvolve(Image(seen.astype(np.float32), "ZYX"[-seen.ndim :]), psf, recipe).image.array
            seconds = time.monotonic() - start
            found = psnr(ours, truth)
            gains.append(found - max(classical))
            figures = [f"{value:.2f}" for value in (psnr(seen, truth), *classical, found)]
            print(row([name, blur, noise, *figures, f"{gains[-1]:+.2f}", f"{seconds:.0f}"]), flush=True)
    print(f"\nOver the best of the others: {np.mean(gains):+.2f} dB on average, {min(gains):+.2f} dB at worst.")


def _print_too_wide(names: list[str]) -> None:
    """Ask of each Gaussian how wide it may be; the noise is found on the image."""
    told: dict[str, list[list[bool]]] = {}
    for name in names:
        truth = _truth(name)
        for blur, noise, _, seen in _observations(name, truth):
            if not blur.startswith("Gaussian"):
                continue
            found = noise_estimate.estimate(seen, np.ones(seen.shape, bool), NoiseOptions(), volume=seen.ndim == 3)
            variance = float(np.mean(found.variance(seen)))
            widths = [4.0, 4.0] if truth.ndim == 2 else [6.0, 3.0, 3.0]
            functions = [_gaussian([times * width for width in widths]) for times in TIMES]
            told.setdefault(noise, []).append([too_wide(seen, psf, variance) for psf in functions])
    print(row(["noise", "images", *(f"{times:g} times as wide" for times in TIMES)]))
    print(row(["---"] * (2 + len(TIMES))))
    for noise, each in told.items():
        print(row([noise, str(len(each)), *(str(count) for count in np.sum(each, axis=0))]))


def psnr(values: NDArray[Any], truth: Array) -> float:
    """PSNR over the truth's range, in dB."""
    return float(10 * np.log10(np.ptp(truth) ** 2 / np.mean(np.square(values - truth))))


def _truth(name: str) -> Array:
    """Grey values from 0 to 255."""
    if name in DRAWN:
        return _drawn(DRAWN[name])
    if name in PICTURES:
        return picture(name, 256).astype(np.float64)
    values = next(p for p in pairs(group=name.split("/")[0], crop=256) if p.name == name).truth.astype(np.float64)
    values = np.squeeze(values) - values.min()
    return 255 * values / values.max()


def _drawn(shape: tuple[int, ...]) -> Array:
    """Threads and points, a fifth wider than a voxel apart from their ground."""
    rng = np.random.default_rng(0)
    light = np.zeros(shape)
    for _ in range(150):
        light[tuple(rng.integers(4, n - 4) for n in shape)] += rng.uniform(300, 3000)
    for _ in range(40):
        at, way = rng.uniform(0, shape), rng.normal(size=len(shape))
        for _ in range(1600):
            way = way / np.linalg.norm(way) + rng.normal(0, 0.02, len(shape))
            at = at + 0.125 * way
            voxel = np.rint(at).astype(int)
            if (voxel >= 0).all() and (voxel < shape).all():
                light[tuple(voxel)] += 40
    light = ndimage.gaussian_filter(light, 0.8)
    return 255 * (light / light.max() + 0.02) / 1.02


def _observations(name: str, truth: Array) -> Iterator[tuple[str, str, Array, Array]]:
    """Blur, and add noise: two of the blurs, each with two noises."""
    blurs = {"Gaussian 4": _gaussian([4.0] * truth.ndim), "disk 3": _disk(3)}
    if truth.ndim == 3:
        blurs = {"Gaussian 6, 3, 3": _gaussian([6.0, 3.0, 3.0])}
    for blur, psf in blurs.items():
        light = ndimage.convolve(truth, psf, mode="nearest")
        for noise in NOISES[:3] if blur.startswith("Gaussian") else NOISES[1::2]:
            rng = np.random.default_rng(zlib.crc32(f"{name} {blur} {noise}".encode()))
            strength = float(noise.split()[0 if "photons" in noise else 1])
            if "photons" in noise:
                yield blur, noise, psf, rng.poisson(light * strength / 255) * 255 / strength
            else:
                yield blur, noise, psf, light + rng.normal(0, strength, light.shape)


def _gaussian(widths: list[float]) -> Array:
    """Full widths at half maximum, in voxels."""
    sds = [width / 2.3548 for width in widths]
    point = np.zeros([2 * int(np.ceil(3.5 * sd)) + 1 for sd in sds])
    point[tuple(n // 2 for n in point.shape)] = 1
    found = ndimage.gaussian_filter(point, sds)
    return np.asarray(found / found.sum())


def _disk(radius: float, parts: int = 8) -> Array:
    n = 2 * int(np.ceil(radius)) + 1
    at = (np.arange(n * parts) + 0.5) / parts - n / 2
    inside = np.hypot(at[:, None], at) < radius
    found = inside.reshape(n, parts, n, parts).mean(axis=(1, 3))
    return np.asarray(found / found.sum())


class _Wide:
    """An image with a border, beyond which it is taken for periodic."""

    def __init__(self, seen: Array, psf: Array, width: int) -> None:
        self.border = [width * n // 2 for n in psf.shape]
        self.axes = tuple(range(seen.ndim))
        ends = [(b, b) for b in self.border]
        self.seen, self.known = np.pad(seen, ends, mode="edge"), np.pad(np.ones(seen.shape), ends)
        self.transfer = self.spectrum(psf)

    def spectrum(self, kernel: Array) -> Array:
        """Return a transfer function of a kernel whose middle is voxel 0."""
        whole = np.zeros(self.seen.shape)
        whole[tuple(slice(n) for n in kernel.shape)] = kernel
        return np.asarray(fft.rfftn(np.roll(whole, [-(n // 2) for n in kernel.shape], self.axes)))

    def apply(self, image: Array, spectrum: Array) -> Array:
        return np.asarray(fft.irfftn(fft.rfftn(image) * spectrum, s=image.shape))

    def cut(self, image: Array) -> Array:
        return image[tuple(slice(b, -b) for b in self.border)]

    def differences(self) -> list[Array]:
        """Transfer functions of the differences along each axis."""
        step = np.array([1.0, -1.0, 0.0])
        return [self.spectrum(step.reshape([-1 if k == axis else 1 for k in self.axes])) for axis in self.axes]


def _best(method: Any, seen: Array, psf: Array, truth: Array) -> float:
    return max(psnr(found, truth) for found in method(seen, psf))


def _wiener(seen: Array, psf: Array) -> Iterator[Array]:
    wide = _Wide(seen, psf, 4)
    faded = wide.seen - seen.mean()
    for axis, border in enumerate(wide.border):
        at = np.arange(1, faded.shape[axis] + 1)
        fade = np.clip(np.minimum(at, at[::-1]) / border, 0, 1)
        faded = faded * fade.reshape([-1 if k == axis else 1 for k in wide.axes])
    rough = np.square(sum(np.abs(d) ** 2 for d in wide.differences()))
    for weight in 10.0 ** np.arange(-5, 1.6, 0.33):
        inverse = wide.transfer.conj() / (np.abs(wide.transfer) ** 2 + weight * rough + 1e-12)
        yield wide.cut(wide.apply(faded, inverse)) + seen.mean()


def _richardson_lucy(seen: Array, psf: Array) -> Iterator[Array]:
    wide = _Wide(np.maximum(seen, 0), psf, 2)
    image = np.full(wide.seen.shape, wide.seen.mean())
    for step in range(STEPS):
        arriving = np.maximum(wide.apply(image, wide.transfer), 1e-3)
        image = image * np.maximum(wide.apply(wide.seen / arriving, wide.transfer.conj()), 0)
        if step % 3 == 0:
            yield wide.cut(image)


def _total_variation(seen: Array, psf: Array) -> Iterator[Array]:
    wide = _Wide(seen, psf, 2)
    transfer, steps = wide.transfer, wide.differences()
    for weight in 10.0 ** np.arange(-1.5, 2.1, 0.4):
        rate = max(weight / 10, 0.02)
        inverse = 1 / (np.abs(transfer) ** 2 + rate * sum(np.abs(d) ** 2 for d in steps) + 1e-9)
        image = wide.seen
        slopes, light = np.zeros((seen.ndim, *image.shape)), np.zeros(image.shape)
        for _ in range(ROUNDS):
            wanted = np.stack([wide.apply(image, d) for d in steps]) + slopes
            length = np.sqrt(np.square(wanted).sum(axis=0))
            kept = wanted * np.maximum(1 - weight / rate / np.maximum(length, 1e-9), 0)
            slopes = wanted - kept
            arriving = wide.apply(image, transfer) + light
            agreed = (wide.known * wide.seen + arriving) / (wide.known + 1)
            light = arriving - agreed
            total = transfer.conj() * fft.rfftn(agreed - light)
            total = total + rate * sum(d.conj() * fft.rfftn(k - s) for d, k, s in zip(steps, kept, slopes, strict=True))
            image = np.asarray(fft.irfftn(total * inverse, s=image.shape))
        yield wide.cut(image)


if __name__ == "__main__":
    main()
