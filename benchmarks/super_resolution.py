"""Super-resolution of Set5 and Set14: ours, bicubic, total variation, no prior, and the paper's figures.

``DIP_SCI_DATA=... python -m benchmarks.super_resolution --set set5 --factor 4`` prints a table, a row per image as it is
measured, by the protocol of the paper: sides cropped to multiples of 32, reduced by the Lanczos2 operator, rounded to 8
bits; PSNR in dB over 255 of the luma, four pixels of border left out. *TV* and *no prior* fit the pixels themselves to
the reduced image, with and without a total variation (weight 1e-7 of the sum over the picture, as in the paper).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from benchmarks.classical import row
from dip_sci.functions import super_resolve
from dip_sci.image import Image
from dip_sci.recipe import Recipe
from dip_sci.resampling import resample

Array = NDArray[np.float32]

PAPER = {
    ("set5", 4): {"ours": 29.90, "bicubic": 28.44, "TV": 28.86, "no prior": 26.56},
    ("set14", 4): {"ours": 27.01, "bicubic": 26.05, "TV": 26.42, "no prior": 24.93},
    ("set5", 8): {"ours": 25.89},
    ("set14", 8): {"ours": 24.15},
}
"""Means by the authors' own pictures, under the name of their deep image prior's counterpart here."""

BORDER = 4


def main() -> None:
    """Print the table, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("set5", "set14"), default="set5")
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--only", help="part of a name")
    parser.add_argument("--crop", type=int, help="side of a centred crop (default: whole images)")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--pixels", action="store_true", help="fit the pixels themselves, too: TV and no prior")
    options = parser.parse_args()
    recipe = Recipe.parse({"preset": options.preset})
    methods = ["bicubic", *(["TV", "no prior"] if options.pixels else []), "ours"]
    print(row(["image", *methods, "s", "steps"]))
    print(row(["---"] * (len(methods) + 3)))
    rows = []
    for path in sorted((Path(os.environ["DIP_SCI_DATA"]) / "classic" / options.set).iterdir()):
        if options.only and options.only not in path.name:
            continue
        truth = picture(path, options.crop)
        coarse = reduced(truth, options.factor)
        results = {"bicubic": _resampled(coarse, truth.shape[:2], "cubic")}
        if options.pixels:
            results |= {"TV": pixels(coarse, options.factor, 1e-7), "no prior": pixels(coarse, options.factor, 0.0)}
        began = time.perf_counter()
        restored = super_resolve(Image(coarse, "YXS"), options.factor, recipe)
        seconds = time.perf_counter() - began
        results["ours"] = restored.image.array
        rows.append([psnr(results[m], truth) for m in methods])
        cells = [f"{v:.2f}" for v in rows[-1]]
        print(row([path.stem, *cells, f"{seconds:.0f}", str(restored.report.steps)]), flush=True)
    print(row(["mean", *(f"{v:.2f}" for v in np.mean(rows, axis=0)), "", ""]))
    paper = PAPER.get((options.set, options.factor), {})
    print(row(["the paper's mean", *(f"{paper[m]:.2f}" if m in paper else "–" for m in methods), "", ""]))


def picture(path: Path, crop: int | None) -> Array:
    """Read a colour picture, 0 to 255, its sides cropped to multiples of 32."""
    values = np.asarray(Picture.open(path).convert("RGB"), np.float32)
    h, w = (min(n, crop or n) // 32 * 32 for n in values.shape[:2])
    y, x = (values.shape[0] - h) // 2, (values.shape[1] - w) // 2
    return values[y : y + h, x : x + w]


def reduced(truth: Array, factor: int) -> Array:
    """Reduce a picture, to whole numbers."""
    small = _resampled(truth, [n // factor for n in truth.shape[:2]], "lanczos2")
    return np.clip(np.rint(small), 0, 255)


def pixels(coarse: Array, factor: int, weight: float, steps: int = 300) -> Array:
    """Fit pixels to a reduced picture: ``|A x - y|^2 + weight TV(x)`` on the range 0 to 1, from mid-grey noise."""
    y = torch.from_numpy(coarse).permute(2, 0, 1) / 255
    size = [n * factor for n in y.shape[1:]]
    rng = torch.Generator().manual_seed(0)
    x = (0.5 + 0.1 * torch.rand(3, *size, generator=rng)).requires_grad_()
    optimiser = torch.optim.Adam([x], lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (resample(x, y.shape[1:], "lanczos2") - y).square().mean()
        if weight:
            dy, dx = x.diff(dim=1)[:, :, 1:], x.diff(dim=2)[:, 1:, :]
            loss = loss + weight * (dy.square() + dx.square() + 1e-8).sqrt().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    values: Array = (255 * x.detach()).permute(1, 2, 0).numpy()
    return values


def psnr(values: NDArray[Any], truth: Array) -> float:
    """PSNR over 255 of the luma (ITU-R BT.601, 16 to 235), a border left out."""
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    apart = (_luma(np.clip(values, 0, 255)) - _luma(truth))[inside]
    return float(10 * np.log10(255**2 / np.mean(apart**2)))


def _luma(picture: NDArray[Any]) -> NDArray[np.float64]:
    luma: NDArray[np.float64] = picture @ np.array([65.481, 128.553, 24.966]) / 255 + 16
    return luma


def _resampled(values: Array, sizes: Any, kernel: Any) -> Array:
    moved = torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)
    found: Array = resample(moved, list(sizes), kernel).permute(1, 2, 0).numpy()
    return found


if __name__ == "__main__":
    main()
