"""How well the noise is found: relative errors on simulated noise, and on real pairs against what the truth gives.

``DIP_SCI_DATA=... python -m benchmarks.noise`` prints a markdown table; ``--only gaussian,photons`` does a part of it.

A row is one kind of noise on many images: mean size of the relative error, its mean, the worst image, and how far from
0 the errors are in units of the stated uncertainty (root mean square; about 1 where it is honest). The contents
of `fmd` and `w2s` are means of 50 and 400 shots and hold a little noise themselves, and so do the pictures: noise of
SD 2 cannot be told from their grain. Rows with `grain counted` go by the added noise and by what is found in a picture without any.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.pairs import pairs
from dip_sci import noise_estimate
from dip_sci.noise import Gaussian, PoissonGaussian, Rician, correlated_normal
from dip_sci.recipe import NoiseOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from dip_sci.noise_estimate import NoiseEstimate

    Array = NDArray[Any]

NATURAL = ("set12", "cset9", "fmd", "w2s")
PHOTONS = [(peak, read) for peak in (10, 30, 100, 1000) for read in (0.0, 2.0, 8.0)]
GRAINY = 1000
"""Photons from which on their noise is as weak as the pictures' own grain."""
GROUNDS = (200, 300, 400, 600, 1000)
FLUORESCENCE = ("fmd", "w2s")
CAMERA = PoissonGaussian(2.0, 100.0, 0.0)
SHAPES = ("fwhm 1", "fwhm 1.5", "fwhm 2", "fwhm 3", "ct ramp")
REAL = ("fmd", "w2s", "bacteria", "oct", "lcd", "mayo", "m4raw", "brainweb")
INTERPOLATED = ("finer_13", "finer_15", "finer_20", "finer_volume", "set14_turned")
FLAT = "flat image"
FOUR = ("set12/09", "set12/12", "cset9/F16_512rgb", "fmd/BPAE_G")
"""Contents for what takes longer."""


@dataclass
class Rows:
    """Relative errors, collected by row."""

    found: dict[str, list[tuple[str, float, float]]] = field(default_factory=dict)

    def add(self, row: str, image: str, error: float, stated: float = math.nan) -> None:
        """Keep the error of one image, and the relative standard error that was stated with it."""
        self.found.setdefault(row, []).append((image, error, stated))

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        yield "| noise | images | mean error | mean | worst | in stated errors |"
        yield "|---|---|---|---|---|---|"
        for row, entries in self.found.items():
            errors = np.array([e for _, e, _ in entries])
            stated = np.array([s for _, _, s in entries])
            name, worst, _ = max(entries, key=lambda entry: abs(entry[1]))
            told = np.isfinite(stated).all() and stated.all()
            ratio = np.sqrt(np.mean((errors / stated) ** 2)) if told else math.nan
            cells = [row, len(errors), f"{np.abs(errors).mean():.1%}", f"{errors.mean():+.1%}", f"{worst:+.1%} {name}"]
            yield "| " + " | ".join(map(str, [*cells, f"{ratio:.1f}"])) + " |"


@cache
def grain(name: str, model: str) -> Array:
    """Return the variance of the noise that is found in a picture to which none was added."""
    truth = truths()[name]
    return estimate(truth, model=model).model.variance(truth)


@cache
def truths() -> dict[str, Array]:
    """Clean grey planes by name; of colour pictures the green one."""
    found = {p.name: p.truth[..., 1] if p.colour else p.truth for p in pairs(group=NATURAL)}
    return {name: plane[:512, :512].astype(np.float64) for name, plane in found.items()}


def estimate(values: Array, *, volume: bool = False, frames: int = 1, **options: Any) -> NoiseEstimate:
    return noise_estimate.estimate(
        values, np.ones(values.shape, bool), NoiseOptions(**options), volume=volume, frames=frames
    )


def stated(found: NoiseEstimate) -> float:
    return getattr(found, "error", math.nan)


def off(found: NoiseEstimate, truth: Array, sd: Array) -> float:
    """Error of the standard deviation, on average over the image, over its mean; negative where most is missing."""
    difference = np.sqrt(found.model.variance(truth)) - sd
    return float(np.abs(difference).mean() / sd.mean() * np.sign(difference.mean()))


def gaussian(rows: Rows) -> None:
    """White noise of one strength, the model known and not known."""
    for sigma in (2, 5, 10, 15, 25, 50):
        for name, truth in truths().items():
            noisy = Gaussian(sigma).sample(truth, np.random.default_rng(sigma))
            for model in ("gaussian", "auto"):
                found = estimate(noisy, model=model)
                row = f"gaussian {name.split('/')[0]} {sigma}{' auto' * (model == 'auto')}"
                rows.add(row, name, off(found, truth, np.full(truth.shape, float(sigma))), stated(found))
                if model == "gaussian":
                    rows.add(f"{row}, grain counted", name, off(found, truth, np.sqrt(sigma**2 + grain(name, model))))


def photons(rows: Rows) -> None:
    """Photons at several levels, with read noise (in photons); the offset is given for all but the first row."""
    for peak, read in PHOTONS:
        for name, grey in truths().items():
            model = PoissonGaussian(CAMERA.gain, CAMERA.offset, read * CAMERA.gain)
            truth = model.offset + model.gain * peak * np.clip(grey, 0, None) / grey.max()
            noisy = model.sample(truth, np.random.default_rng(peak))
            row, sd = f"photons {peak} read {read:g}", np.sqrt(model.variance(truth))
            found = estimate(noisy)
            rows.add(f"{row}: SD", name, off(found, truth, np.maximum(sd, 1e-3)), stated(found))
            if peak >= GRAINY:
                scale = (model.gain * peak / grey.max()) ** 2
                rows.add(
                    f"{row}: SD, grain counted", name, off(found, truth, np.sqrt(sd**2 + scale * grain(name, "auto")))
                )
            # Read noise far below the photons' leaves no trace: what it is off by, over the noise in the dark tenth.
            dark = max(model.read_noise, float(np.quantile(sd, 0.1)))
            if isinstance(found.model, PoissonGaussian):
                rows.add(f"{row}: read noise, nothing given", name, (found.model.read_noise - model.read_noise) / dark)
            known = estimate(noisy, model="poisson_gaussian", offset=model.offset).model
            if not isinstance(known, PoissonGaussian):
                rows.add(f"{row}: not found", name, 1.0)
                continue
            rows.add(f"{row}: gain", name, known.gain / model.gain - 1)
            rows.add(f"{row}: read noise", name, (known.read_noise - model.read_noise) / dark)


def without_offset(rows: Rows) -> None:
    """Photons with read noise, the offset taken off; nothing is given."""
    for peak, read in PHOTONS:
        if not read:
            continue
        for name, grey in truths().items():
            model = PoissonGaussian(CAMERA.gain, 0.0, read * CAMERA.gain)
            truth = model.gain * peak * np.clip(grey, 0, None) / grey.max()
            found = estimate(model.sample(truth, np.random.default_rng(peak)))
            row = f"photons {peak} read {read:g}, no offset"
            rows.add(f"{row}: SD", name, off(found, truth, np.sqrt(model.variance(truth))), stated(found))
            if isinstance(found.model, PoissonGaussian):
                dark = max(model.read_noise, float(np.quantile(np.sqrt(model.variance(truth)), 0.1)))
                rows.add(f"{row}: gain", name, found.model.gain / model.gain - 1)
                rows.add(f"{row}: read noise", name, (found.model.read_noise - model.read_noise) / dark)


def grounds(rows: Rows) -> None:
    """Photons with a little read noise, cut off at 0; where there are three or four, they scatter as magnitudes without signal do."""
    for peak in GROUNDS:
        model = PoissonGaussian(1.0, 0.0, 0.5)
        for name, grey in truths().items():
            if not name.startswith(FLUORESCENCE):
                continue
            truth = peak * (grey - grey.min()) / np.ptp(grey)
            found = estimate(np.maximum(model.sample(truth, np.random.default_rng(peak)), 0))
            row = f"photons {peak} over a dark ground"
            rows.add(f"{row}: SD", name, off(found, truth, np.sqrt(model.variance(truth))), stated(found))
            rows.add(f"{row}: not found", name, float(not isinstance(found.model, PoissonGaussian)))


def frames(rows: Rows) -> None:
    """White noise of eight frames of a series, in which nothing moves or all does; of a single frame beside it."""
    for sigma in (2, 5, 10, 25):
        for name in FOUR:
            truth, rng = truths()[name], np.random.default_rng(sigma)
            moved = {
                "stays": np.repeat(truth[None], 8, axis=0),
                "moves": np.stack([np.roll(truth, (t, 2 * t), (0, 1))[16:-16, 16:-16] for t in range(8)]),
            }
            for what, shown in moved.items():
                noisy = shown + rng.normal(0, sigma, shown.shape)
                for count, values in {1: noisy[:1], 8: noisy}.items():
                    found = estimate(values, frames=count)
                    row = f"sigma {sigma}, {what}, {count} frame{'s' * (count > 1)}"
                    rows.add(row, name, off(found, shown[:count], np.full(values.shape, float(sigma))), stated(found))


def phantom() -> Array:
    path = next(p for p in pairs(group="brainweb")).truth
    return path.astype(np.float64)


def rician(rows: Rows) -> None:
    """Magnitudes of the BrainWeb phantom: the volume, and single slices of it."""
    truth = phantom()
    for percent in (1, 3, 5, 7, 9, 11, 15):
        model = Rician(percent / 100 * truth.max())
        noisy = model.sample(truth, np.random.default_rng(percent))
        planes = {"volume": (noisy, truth), **{f"slice {z}": (noisy[z], truth[z]) for z in range(8, 64, 8)}}
        for name, (values, clean) in planes.items():
            found = estimate(values, volume=values.ndim == 3)
            row = f"rician {percent} % {name.split()[0]}"
            rows.add(f"{row} ({type(found.model).__name__})", name, off_rician(found, clean, model), stated(found))


def off_rician(found: NoiseEstimate, truth: Array, model: Rician) -> float:
    """Error of sigma; of a Gaussian estimate, where the signal is strong."""
    sigma = getattr(found.model, "sigma", None)
    if sigma is None:
        sigma = float(np.sqrt(np.mean(found.model.variance(truth[truth > 3 * model.sigma]))))
    return sigma / model.sigma - 1


def filtered(shape: str, size: tuple[int, int]) -> tuple[Array, Array]:
    """Kernel of the autocorrelation over lags -15 to 15, and power at the frequencies of the image."""
    fy, fx = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])
    radius = np.hypot(fy, fx)
    if shape == "ct ramp":
        power = radius * np.cos(np.pi / 2 * np.minimum(radius / 0.5, 1)) ** 2
    else:
        width = float(shape.split()[1]) / math.sqrt(8 * math.log(2))
        power = np.exp(-0.5 * (2 * np.pi * width * radius) ** 2) ** 2
    kernel = np.fft.irfft2(power, size)
    kernel = np.roll(kernel / kernel[0, 0], (15, 15), (0, 1))[:31, :31]
    return kernel, power


def spectrum_error(found: NoiseEstimate, kernel: Array, sigma: float) -> float:
    """Integral of the spectra's difference over that of the true one, at 32 x 32 frequencies."""
    structure = found.structure
    assert structure is not None

    def spectrum(part: Array) -> Array:
        half = part.shape[0] // 2
        around = np.zeros((32, 32))
        around[: part.shape[0], : part.shape[1]] = part
        return np.fft.fft2(np.roll(around, (-half, -half), (0, 1))).real

    guess = structure.kernel if structure.correlated else np.ones((1, 1))
    sd = float(np.sqrt(np.mean(found.model.variance(np.zeros(1)))))
    true = spectrum(kernel) * sigma**2
    return float(np.abs(spectrum(guess) * sd**2 - true).sum() / true.sum())


def correlated(rows: Rows) -> None:
    """Gaussian noise whose neighbours are alike: all of its strength, and its spectrum."""
    for shape in SHAPES:
        for sigma in (10, 25):
            for name in (*FOUR, FLAT):
                truth = np.full((512, 512), 100.0) if name == FLAT else truths()[name]
                kernel, power = filtered(shape, (1024, 1024))
                white = np.random.default_rng(sigma).standard_normal((1024, 1024))
                noise = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power))[: truth.shape[0], : truth.shape[1]]
                found = estimate(truth + sigma * noise / noise.std())
                row = f"{shape} of {sigma}{', ' + FLAT if name == FLAT else ''}"
                told = found.structure is not None and found.structure.correlated
                rows.add(
                    f"{row}: SD", name + " (not called correlated)" * (not told), _sd(found) / sigma - 1, stated(found)
                )
                rows.add(f"{row}: spectrum", name, spectrum_error(found, kernel, sigma))


def _sd(found: NoiseEstimate) -> float:
    return float(np.sqrt(found.model.variance(np.full(1, 100.0))).mean())


def uneven(rows: Rows) -> None:
    """White and correlated Gaussian noise, weak at one edge and strong at the other, or in the middle."""
    for form in ("ramp", "hill"):
        for shape in ("white", "fwhm 1.5"):
            for name in FOUR:
                truth = truths()[name]
                y, x = (np.linspace(-1, 1, n) for n in truth.shape)
                sd_map = (
                    1 + 0.5 * x + 0 * y[:, None]
                    if form == "ramp"
                    else 0.6 + 0.8 * np.exp(-2 * (x**2 + y[:, None] ** 2))
                )
                kernel = None if shape == "white" else filtered(shape, (1024, 1024))[0]
                noise = correlated_normal(truth.shape, kernel, np.random.default_rng(0))
                found = estimate(truth + 20 * sd_map * noise, model="gaussian")
                assert found.structure is not None
                guess = 1.0 if found.structure.sd_map is None else found.structure.sd_map
                local = guess * _sd(found) * (1.0 if found.structure.correlated else found.structure.level)
                ratio = local / (20 * sd_map)
                rows.add(f"{form} {shape}: local SD", name, float(np.abs(ratio - 1).mean()))
                rows.add(f"{form} {shape}: SD", name, float(np.sqrt(np.mean(ratio**2))) - 1, stated(found))


def dense(rows: Rows) -> None:
    """White noise where no block is flat: lines of letters, a grating, swells that go on from plane to plane of a volume."""
    y, x = np.mgrid[:256, :256]
    letters = np.random.default_rng(1).random((16, 9, 256)) < 0.5
    lines = np.concatenate([letters, np.zeros((16, 7, 256), bool)], axis=1).reshape(256, 256)
    swells = gaussian_filter(np.random.default_rng(2).normal(size=(24, 96, 96)), (6, 2, 2))
    contents = {
        "letters": np.where(lines, 20.0, 230.0),
        "grating": np.where((0.9 * x + 0.35 * y) % 17 < 8, 200.0, 60.0),
        "swells": 500 + 40 * swells / swells.std(),
    }
    for name, truth in contents.items():
        for sigma in (3, 5, 10, 20):
            noisy = truth + np.random.default_rng(sigma).normal(0, sigma, truth.shape)
            found = estimate(noisy, volume=truth.ndim == 3)
            rows.add(f"{name} {sigma}", name, _over(found, truth) / sigma - 1, stated(found))


def interpolated(rows: Rows) -> None:
    """Noise that interpolation shares: magnitudes finer than they were measured, pictures that were turned; where there is signal."""
    for group in INTERPOLATED:
        for pair in pairs(group=group):
            found = estimate(pair.noisy, volume=pair.ndim == 3)
            bright = pair.truth > (50 if pair.kind == "rician" else 0)
            sd = float((pair.noisy - pair.truth)[bright].std())
            rows.add(group, pair.name, _over(found, pair.truth[bright]) / sd - 1, stated(found))


def real(rows: Rows) -> None:
    """Real pairs: the noise's standard deviation against that of noisy less truth, over thirds by brightness."""
    for group in REAL:
        for pair in pairs(group=group):
            found = estimate(pair.noisy, volume=pair.ndim == 3)
            kind = type(found.model).__name__
            wild = np.isfinite(pair.truth) & (pair.truth > pair.truth.min())
            edges = np.quantile(pair.truth[wild], (0, 1 / 3, 2 / 3, 1))
            for third, low, high in zip(("dark", "middle", "bright"), edges[:-1], edges[1:], strict=True):
                inside = wild & (pair.truth >= low) & (pair.truth <= high)
                mean = found.model.mean(pair.truth[inside])
                sd = float(np.sqrt(np.mean((pair.noisy[inside] - mean) ** 2)))
                rows.add(
                    f"{group} {third} ({kind})", pair.name, _over(found, pair.truth[inside]) / sd - 1, stated(found)
                )


def _over(found: NoiseEstimate, truth: Array) -> float:
    return float(np.sqrt(np.mean(found.model.variance(truth))))


TABLES: dict[str, Callable[[Rows], None]] = {
    f.__name__: f
    for f in (
        gaussian,
        photons,
        without_offset,
        grounds,
        frames,
        rician,
        correlated,
        uneven,
        dense,
        interpolated,
        real,
    )
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TABLES), help=f"tables, separated by commas: {', '.join(TABLES)}")
    for name in parser.parse_args().only.split(","):
        rows = Rows()
        TABLES[name](rows)
        print("\n".join(rows.lines()), flush=True)


if __name__ == "__main__":
    main()
