"""Inpainting of the eleven grey images: ours, biharmonic inpainting, and the paper's figure.

``DIP_SCI_DATA=... python -m benchmarks.inpainting`` prints a table, a row per image as it is measured: PSNR in dB over
the missing and the known pixels alike, over 255, with results clipped to 0..255; seconds of ours. ``--crop 256`` takes
centred crops, for which the paper gives no figures. ``--case text`` lays lines of text over the images instead of taking
half of their pixels away.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from skimage.restoration import inpaint_biharmonic

from benchmarks.classical import row
from dip_sci.functions import inpaint
from dip_sci.image import Image
from dip_sci.recipe import Recipe

Array = NDArray[np.float32]

PAPER = {
    "barbara": (32.22, 28.14),
    "boat": (33.06, 31.44),
    "house": (39.16, 34.58),
    "lena": (36.16, 35.04),
    "peppers": (33.05, 31.11),
    "cameraman": (29.80, 27.90),
    "couple": (32.52, 31.18),
    "fingerprint": (32.84, 31.34),
    "hill": (32.77, 32.35),
    "man": (32.20, 31.92),
    "montage": (34.54, 28.05),
}
"""The deep image prior's PSNR and convolutional sparse coding's, for whole images (Ulyanov et al. 2018, table 1)."""


def main() -> None:
    """Print the table, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crop", type=int, help="side of a centred crop (default: whole images)")
    parser.add_argument("--case", choices=("half", "text"), default="half", help="what is missing (default: half)")
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--recipe", type=Path, help="recipe file")
    parser.add_argument("--preset", default="balanced")
    options = parser.parse_args()
    recipe = (Recipe() if options.recipe is None else Recipe.load(options.recipe)).merged({"preset": options.preset})
    print(row(["image", "biharmonic", "paper", "sparse coding", "ours", "s", "steps"]))
    print(row(["---"] * 7))
    rows = []
    for name in options.only.split(",") if options.only else PAPER:
        truth = picture(name, options.crop)
        missing = half(truth.shape) if options.case == "half" else text(truth.shape)
        began = time.perf_counter()
        result = inpaint(Image(np.where(missing, 0, truth).astype(np.float32), "YX"), missing, recipe)
        seconds = time.perf_counter() - began
        classical = inpaint_biharmonic(np.where(missing, 0, truth), missing)
        rows.append((psnr(classical, truth), psnr(result.image.array, truth)))
        whole = options.crop is None and options.case == "half"
        paper = [f"{v:.2f}" for v in PAPER[name]] if whole else ["–", "–"]
        cells = [f"{rows[-1][0]:.2f}", *paper, f"{rows[-1][1]:.2f}", f"{seconds:.0f}", str(result.report.steps)]
        print(row([name, *cells]), flush=True)
    classical_mean, ours = np.mean(rows, axis=0)
    print(f"\nMean: biharmonic {classical_mean:.2f}, ours {ours:.2f} dB ({ours - classical_mean:+.2f}).")
    print(f"Smallest gain over biharmonic: {min(b - a for a, b in rows):+.2f} dB.")


def picture(name: str, crop: int | None) -> Array:
    """Read one of the eleven images, grey values 0 to 255."""
    path = Path(os.environ["DIP_SCI_DATA"]) / "classic" / "csc11" / f"{name}.png"
    values = np.asarray(Picture.open(path).convert("L"), np.float32)
    if crop is None:
        return values
    y, x = ((n - crop) // 2 for n in values.shape)
    return values[y : y + crop, x : x + crop]


def half(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Half of the pixels, each by itself."""
    return np.random.default_rng(0).random(shape) < 0.5


def text(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Lines of text from border to border."""
    canvas = Picture.new("L", (shape[1], shape[0]), 0)
    draw = ImageDraw.Draw(canvas)
    line = "What is written over an image hides it only in part. "
    for k, y in enumerate(range(4, shape[0], 26)):
        draw.text((3 - 40 * (k % 3), y), line * (shape[1] // 100), fill=255, font=ImageFont.load_default(16))
    return np.asarray(canvas) > 64


def psnr(values: NDArray[Any], truth: Array) -> float:
    """PSNR over 255 of values clipped to what a picture holds."""
    return float(10 * np.log10(255**2 / np.mean((np.clip(values, 0, 255) - truth) ** 2)))


if __name__ == "__main__":
    main()
