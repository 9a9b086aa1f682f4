"""Steps per second of the paper's network and of ours, and their FLOP/s beside a matrix product's.

``python -m benchmarks.speed [--device cuda]`` prints a markdown table. A step is forward, backward and update on a
256 x 256 image (3 x 256 x 256 for the paper's network); FLOP are counted by torch, for forward and backward.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import classical, ours
from dip_sci import device as machine
from dip_sci.image import Image
from dip_sci.recipe import Recipe
from dip_sci.restore import iter_restore

if TYPE_CHECKING:
    from collections.abc import Callable

WARM, TIMED = 3, 12
SIZE = 256


def matmul(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    seconds = median(_time(device, lambda: a @ a) for _ in range(8))
    return 2 * n**3 / seconds


def step_times(recipe: dict[str, Any], image: Image) -> tuple[float, float]:
    """Median seconds of a step, and its FLOP."""
    parsed = Recipe.parse(recipe).merged({"fit": {"steps": WARM + TIMED}, "stop": {"rule": "fixed"}})
    run = iter_restore(image, parsed)
    times = []
    with FlopCounterMode(display=False) as counter:
        next(run)
    flop = counter.get_total_flops()
    for _ in range(WARM + TIMED - 1):
        began = time.perf_counter()
        next(run)
        times.append(time.perf_counter() - began)
    run.close()
    return median(times[WARM:]), flop


def _time(device: torch.device, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = machine.pick(options.device)
    rng = np.random.default_rng(0)
    grey = Image(rng.normal(100, 10, (SIZE, SIZE)).astype(np.float32), "YX")
    colour = Image(rng.normal(100, 10, (SIZE, SIZE, 3)).astype(np.float32), "YXS")
    volume = Image(rng.normal(100, 10, (64, 128, 128)).astype(np.float32), "ZYX")
    peaks = {name: matmul(device, getattr(torch, name)) for name in ("float32", "bfloat16")}
    print(
        f"{machine.describe(device)}; matrix product "
        + ", ".join(f"{k} {v / 1e9:.0f} GFLOP/s" for k, v in peaks.items())
    )
    print(classical.row(["network", "image", "precision", "ms a step", "GFLOP a step", "GFLOP/s", "of peak"]))
    print(classical.row(["---"] * 7))
    for name, recipe, image in [
        ("paper", ours.PAPER, colour),
        ("full", {"supervision": {"kind": "full"}}, grey),
        ("fast", {"preset": "fast"}, grey),
        ("balanced", {}, grey),
        ("best", {"preset": "best"}, grey),
        ("balanced", {}, volume),
    ]:
        for precision in peaks:
            fit = {**recipe.get("fit", {}), "precision": precision}
            seconds, flop = step_times({**recipe, "fit": fit, "device": options.device}, image)
            rate = flop / seconds
            cells = [name, "x".join(map(str, image.shape)), precision, f"{seconds * 1e3:.0f}", f"{flop / 1e9:.1f}"]
            print(classical.row([*cells, f"{rate / 1e9:.0f}", f"{rate / peaks[precision]:.0%}"]), flush=True)


if __name__ == "__main__":
    main()
