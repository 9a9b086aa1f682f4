"""What a noise model, a guide and a prior are worth beyond denoising: ``python -m benchmarks.tasks [--only CASE]``.

Each row is a simulated case with the truth at hand: ours, what it must beat, and the difference in dB of PSNR.

========= =================================================================================================
counts    half of the pixels missing, 10 photons at most, known pixels denoised: under photon noise, and
          under Gaussian noise of the same mean strength; of pictures, and of cells (means of 50 exposures)
few       the same with a twentieth of the pixels missing
counts-sr the same for twice finer pixels, 30 photons at most
noisy-sr  twice finer pixels under noise of SD 15: the noise removed first, and cubic interpolation of our
          denoised image
slices    slices three times too thick (the mean of three): ours, and cubic interpolation; of a phantom, of the spine
          of `sample_data`, whose own noise is part of the truth, of another (T2), of a brain with voxels of 0.67 mm at
          7 tesla, and of the mean of many brains
taught    the same slices: ours, and networks that learn from the other half of the truth what slices as thick
          lack, at the best of their steps by the truth
guide     a noisy channel with a clean one as guide, and alone: a picture by its own borders in other contrasts, the red of
          colours by the green
guided    the same, and a guided filter alone with the best of radii by the truth
full      half of the pixels missing: ours, and the classic prior given ten times the time
========= =================================================================================================
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import PIL.Image
import pydicom
import scipy.io
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.classical import row
from benchmarks.inpainting import half, picture
from benchmarks.pairs import pairs
from dip_sci.functions import fuse, inpaint, super_resolve
from dip_sci.guided import RADII, guided
from dip_sci.image import Image
from dip_sci.recipe import Recipe
from dip_sci.resampling import resample
from dip_sci.restore import denoise

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = NDArray[np.float32]
SIDE = 192
SAMPLES = Path(__file__).parent.parent / "sample_data"
PICTURES = ("cameraman", "boat", "peppers")
CELLS = ("fmd/BPAE_G", "fmd/fish", "fmd/mice")
COLOURS = ("kodim01", "kodim03", "image_House256rgb")
VOLUMES = ("BrainWeb T1", "sample spine T1", "spine T2")
BRAINS = ("7 T brain T1", "mean of 152 brains T1")
IMAGES = {
    "slices": VOLUMES + BRAINS,
    "taught": VOLUMES,
    **dict.fromkeys(("counts", "few", "counts-sr"), PICTURES + CELLS),
    **dict.fromkeys(("guide", "guided"), PICTURES + COLOURS),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="a case")
    parser.add_argument("--images", help="some of its images, separated by commas")
    parser.add_argument("--preset", default="balanced")
    options = parser.parse_args()
    cases: dict[str, Any] = {
        "counts": _counts,
        "few": partial(_counts, share=0.05),
        "counts-sr": _counts_finer,
        "noisy-sr": _noisy_finer,
        "slices": _slices,
        "taught": _taught,
        "guide": _guide,
        "guided": _guided,
        "full": _full,
    }
    print(row(["case", "image", "ours", "the other", "difference"]))
    print(row(["---"] * 5))
    for name, case in cases.items():
        if options.only in (None, name):
            images = options.images.split(",") if options.images else IMAGES.get(name, PICTURES)
            for image in images:
                ours, other, truth = case(image, options.preset)
                values = [psnr(result, truth) for result in (ours, other)]
                print(row([name, image, *(f"{v:.2f}" for v in values), f"{values[0] - values[1]:+.2f}"]), flush=True)


def psnr(values: NDArray[Any], truth: Array) -> float:
    """PSNR over the truth's range."""
    return float(10 * np.log10(np.ptp(truth) ** 2 / np.square(values.astype(np.float64) - truth).mean()))


def _recipe(preset: str, **groups: Any) -> Recipe:
    return Recipe.parse({"preset": preset, **groups})


def _resampled(values: Array, sizes: list[int], kernel: Any) -> Array:
    found: Array = resample(torch.from_numpy(np.ascontiguousarray(values))[None], sizes, kernel)[0].numpy()
    return found


def _noises(mean: float) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"model": "poisson", "gain": 1.0, "offset": 0.0}, {"model": "gaussian", "sigma": float(mean**0.5)}


def _light(name: str, photons: float) -> Array:
    """Read an image as the photons that are expected; but for one pixel in a thousand, no more than so many."""
    if name not in CELLS:
        return picture(name, SIDE) / 255 * photons
    pair = next(p for p in pairs(group=["fmd"], crop=SIDE) if p.name == name)
    values = np.clip(pair.truth, 0, None).astype(np.float32)
    return values / np.float32(np.quantile(values, 0.999)) * photons


def _counts(name: str, preset: str, share: float = 0.5) -> tuple[Array, Array, Array]:
    truth = _light(name, 10)
    seen = np.random.default_rng(0).poisson(truth).astype(np.float32)
    missing = np.random.default_rng(0).random(truth.shape) < share
    seen[missing] = 0
    ours, other = (
        inpaint(Image(seen, "YX"), missing, _recipe(preset, noise=noise, output={"known": "restore"})).image.array
        for noise in _noises(float(truth.mean()))
    )
    return ours, other, truth


def _counts_finer(name: str, preset: str) -> tuple[Array, Array, Array]:
    truth = _light(name, 30)
    coarse = np.random.default_rng(0).poisson(np.clip(_resampled(truth, [SIDE // 2] * 2, "lanczos2"), 0, None))
    ours, other = (
        super_resolve(Image(coarse.astype(np.float32), "YX"), 2, _recipe(preset, noise=noise)).image.array
        for noise in _noises(float(truth.mean()))
    )
    return ours, other, truth


def _noisy_finer(name: str, preset: str) -> tuple[Array, Array, Array]:
    truth = picture(name, SIDE)
    noise = np.random.default_rng(0).normal(0, 15, (SIDE // 2,) * 2)
    coarse = Image((_resampled(truth, [SIDE // 2] * 2, "lanczos2") + noise).astype(np.float32), "YX")
    recipe = _recipe(preset, noise={"sigma": 15.0})
    ours = super_resolve(coarse, 2, recipe).image.array
    return ours, _resampled(denoise(coarse, recipe).image.array, [SIDE] * 2, "cubic"), truth


def _slices(name: str, preset: str) -> tuple[Array, Array, Array]:
    truth = _volume(name)
    thick, cubic = _thick(truth)
    image = Image(thick, "ZYX", spacing=(3.0, 1.0, 1.0))
    ours = super_resolve(image, (3, 1, 1), _recipe(preset, operator={"kernel": "box"})).image.array
    return ours, cubic, truth


def _thick(truth: Array) -> tuple[Array, Array]:
    """Make slices three times too thick, and interpolate them."""
    thick = _resampled(truth, [len(truth) // 3, *truth.shape[1:]], "box")
    return thick, _resampled(thick, list(truth.shape), "cubic")


def _taught(name: str, preset: str) -> tuple[Array, Array, Array]:
    ours, cubic, truth = _slices(name, preset)
    middle, best = truth.shape[2] // 2, cubic.copy()
    for learned, asked in ((np.s_[..., :middle], np.s_[..., middle:]), (np.s_[..., middle:], np.s_[..., :middle])):
        found = _lessons(cubic[learned], truth[learned], cubic[asked])
        best[asked] = max(found, key=lambda result: psnr(result, truth[asked]))
    return ours, best, truth


def _lessons(seen: Array, truth: Array, asked: Array, edge: int = 36) -> Iterator[Array]:
    """Yield what a network makes of one volume while it learns from the truth of another."""
    torch.manual_seed(0)
    rng, sd = np.random.default_rng(0), float(truth.std())
    layers = [part for i in range(5) for part in (nn.Conv3d(24 if i else 1, 24, 3, padding=1), nn.LeakyReLU(0.1))]
    network = nn.Sequential(*layers, nn.Conv3d(24, 1, 3, padding=1))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(1201):
        starts = [int(rng.integers(0, n - min(edge, n) + 1)) for n in truth.shape]
        starts[0] -= starts[0] % 3
        at = tuple(slice(a, a + edge) for a in starts)
        flips = [axis for axis in (2, 3, 4) if rng.random() < 0.5]
        base, target = (torch.from_numpy(part[at])[None, None].flip(flips) / sd for part in (seen, truth))
        optimiser.zero_grad()
        functional.mse_loss(base + network(base), target).backward()
        optimiser.step()
        if step % 100 == 0:
            with torch.no_grad():
                base = torch.from_numpy(asked)[None, None] / sd
                yield ((base + network(base)) * sd)[0, 0].numpy()


def _volume(name: str) -> Array:
    """Read a volume of like voxels, as many planes as make whole slices of three."""
    folder = Path(os.environ["DIP_SCI_DATA"]) / "mri"
    if name == "BrainWeb T1":
        whole = np.moveaxis(scipy.io.loadmat(folder / "brainweb" / "T1data.mat")["ima"], 2, 0)
        return whole[60:108, 40:136, 40:136].astype(np.float32)
    if name == "7 T brain T1":
        files = sorted((folder / "studyforrest_t1").glob("*.dcm"))[:48]
        planes = np.stack([pydicom.dcmread(file).pixel_array for file in files])
        return _middle(planes.astype(np.float32))
    if name == "mean of 152 brains T1":
        mean = nibabel.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
        return _middle(np.asarray(mean.dataobj, np.float32).T)  # type: ignore[attr-defined]
    path = SAMPLES / "mri" / "spine_t1w.nii.gz" if name == "sample spine T1" else folder / "sct" / "t2.nii.gz"
    values = np.asarray(nibabel.load(path).dataobj, np.float32).T  # type: ignore[attr-defined]
    return np.ascontiguousarray(values[: len(values) // 3 * 3])


def _middle(volume: Array) -> Array:
    """Cut the middle of a volume out, ``(48, 96, 96)``."""
    starts = [(have - want) // 2 for have, want in zip(volume.shape, (48, 96, 96), strict=True)]
    return np.ascontiguousarray(volume[tuple(slice(a, a + n) for a, n in zip(starts, (48, 96, 96), strict=True))])


def _beside(name: str) -> tuple[Image, Image, Array]:
    """Return a noisy channel, a clean guide and the truth."""
    if name in COLOURS:
        with PIL.Image.open(Path(os.environ["DIP_SCI_DATA"]) / "classic" / "cset9" / f"{name}.png") as file:
            colours = np.asarray(file.convert("RGB"), np.float32)
        top, left = ((n - SIDE) // 2 for n in colours.shape[:2])
        truth, guide = (colours[top : top + SIDE, left : left + SIDE, k] for k in (0, 1))
    else:
        truth = picture(name, SIDE)
        # Another modality: the same borders, other contrasts.
        guide = (255 * np.sin(truth / 255 * 2.5)).astype(np.float32)
    noisy = (truth + np.random.default_rng(0).normal(0, 40, truth.shape)).astype(np.float32)
    return Image(noisy, "YX"), Image(guide, "YX"), truth


def _guide(name: str, preset: str) -> tuple[Array, Array, Array]:
    noisy, guide, truth = _beside(name)
    return fuse(noisy, guide, _recipe(preset)).image.array, denoise(noisy, _recipe(preset)).image.array, truth


def _guided(name: str, preset: str) -> tuple[Array, Array, Array]:
    noisy, guide, truth = _beside(name)
    clean = torch.from_numpy((guide.array - guide.array.mean()) / guide.array.std())[None]
    seen, sd = torch.from_numpy(noisy.array)[None], torch.full((1, 1, 1), 40.0)
    alone = (guided(seen, clean, sd, radius)[0].numpy() for radius in RADII)
    return fuse(noisy, guide, _recipe(preset)).image.array, max(alone, key=lambda v: psnr(v, truth)), truth


def _full(name: str, preset: str) -> tuple[Array, Array, Array]:
    truth = picture(name, SIDE)
    missing = half(truth.shape)
    seen = Image(np.where(missing, 0, truth).astype(np.float32), "YX")
    began = time.monotonic()
    ours = inpaint(seen, missing, _recipe(preset)).image.array
    longer = 10 * (time.monotonic() - began)
    # The paper's network for missing pixels, and as many steps as there is time for.
    classic = _recipe(
        preset,
        supervision={"kind": "full"},
        generator={"kind": "hourglass", "channels": (128,) * 5, "skip_channels": (128,)},
        input={"jitter": 0.03},
        fit={"steps": 11000, "rate": 0.01},
        stop={"max_seconds": longer},
        output={"classical": "none"},
    )
    return ours, inpaint(seen, missing, classic).image.array, truth


if __name__ == "__main__":
    main()
