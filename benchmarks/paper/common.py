"""What the scripts share: their arguments, pictures of the data folder, the paper's settings, tables and contact sheets."""

from __future__ import annotations

import argparse
import math
import os
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from benchmarks import ours
from dip_sci.image import Image
from dip_sci.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from dip_sci.restoration import Restoration

    Array = NDArray[Any]

OUT = Path(__file__).parent.parent / "out" / "paper"

LIGHT = {"channels": [16, 32, 64, 128, 128], "skip_channels": [4]}
"""A twelfth of the work of the paper's network (methods: forward multiplications): what quick forms fit."""

CLEAN = {"noise": {"model": "auto"}}
"""Of what is observed without noise: to name a model has it looked for, and taken out first."""


@dataclass(frozen=True)
class Form:
    """How much a script does.

    Attributes
    ----------
    quick
        Small crops and few steps, minutes on two cores; else the paper's sizes and settings, hours without a GPU.
    device
        As in a recipe.
    """

    quick: bool
    device: str

    def recipe(self, *changes: dict[str, Any], steps: tuple[int, int]) -> Recipe:
        """Return the paper's recipe with changes: its light network and the first number of steps, or the second."""
        data = deepcopy(ours.PAPER)
        data["device"] = self.device
        data["output"] = {"classical": "none", "dtype": "float32"}
        data["fit"]["steps"] = steps[0] if self.quick else steps[1]
        if self.quick:
            data["generator"] |= LIGHT
            data["fit"]["precision"] = "auto"
        recipe = Recipe.parse(data)
        for change in changes:
            recipe = recipe.merged(change)
        return recipe

    def default(self, **changes: Any) -> Recipe:
        """Return the default recipe: preset fast in the quick form."""
        preset = "fast" if self.quick else "balanced"
        return Recipe.parse({"preset": preset, "device": self.device, "output": {"dtype": "float32"}}).merged(changes)


def form(text: str | None) -> Form:
    """Read a script's arguments; its docstring is the help."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small crops, few steps: minutes on two cores")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    return Form(options.quick, options.device)


def picture(path: str, *, grey: bool = False) -> NDArray[np.float32]:
    """Read a picture of the data folder: ``(Y, X, 3)`` or ``(Y, X)``, 0 to 255."""
    with Picture.open(Path(os.environ["DIP_SCI_DATA"]) / "classic" / path) as file:
        return np.asarray(file.convert("L" if grey else "RGB"), np.float32)


def crop(values: Array, side: int | None, at: tuple[float, float] = (0.5, 0.5)) -> Array:
    """Cut a square out of a picture; `at` says where, from 0 to 1 along rows and columns."""
    if side is None:
        return values
    starts = [round(max(n - side, 0) * where) for n, where in zip(values.shape[:2], at, strict=True)]
    return values[tuple(slice(s, s + side) for s in starts)]


def image(values: Array) -> Image:
    """Give a picture its axes."""
    return Image(np.ascontiguousarray(values, np.float32), "YXS" if values.ndim == 3 else "YX")


def psnr(estimate: Array, truth: Array, where: Array | None = None) -> float:
    """Peak signal-to-noise ratio over 255, of values clipped to 0..255."""
    error = np.square(np.clip(estimate, 0, 255).astype(np.float64) - truth)
    return 10 * math.log10(255**2 / max(float((error if where is None else error[where]).mean()), 1e-12))


def luma(values: Array) -> Array:
    """Return the luma of a colour picture as the papers on super-resolution do: 16 to 235 (ITU-R BT.601)."""
    return values if values.ndim == 2 else 16 + values @ np.array([65.481, 128.553, 24.966]) / 255


def timed(run: Callable[[], Restoration]) -> tuple[Array, float]:
    """Run a restoration: its values, and the seconds it took."""
    began = time.perf_counter()
    return run().image.array, time.perf_counter() - began


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a markdown table; numbers get two digits."""
    print("| " + " | ".join(head) + " |\n| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in row) + " |", flush=True)


def sheet(name: str, rows: Sequence[Sequence[tuple[str, Array]]], side: int = 256) -> Path:
    """Draw a contact sheet of labelled pictures, 0 to 255, a row per image; return where it was written."""
    line = 16
    columns = max(len(row) for row in rows)
    canvas = Picture.new("RGB", (columns * side, len(rows) * (side + line)), "white")
    draw = ImageDraw.Draw(canvas)
    for y, row in enumerate(rows):
        for x, (label, values) in enumerate(row):
            shown = Picture.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
            scale = side / max(shown.size)
            size = [max(1, round(n * scale)) for n in shown.size]
            shown = shown.resize(
                (size[0], size[1]), Picture.Resampling.NEAREST if scale >= 1 else Picture.Resampling.BOX
            )
            canvas.paste(shown, (x * side, y * (side + line) + line))
            draw.text((x * side + 2, y * (side + line) + 2), label, fill="black")
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.png"
    canvas.save(path)
    print(f"\nContact sheet: {path}")
    return path
