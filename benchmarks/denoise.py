"""Ours, the paper's settings and the classical bars on every dev pair.

``DIP_SCI_DATA=... python -m benchmarks.denoise --crop 256`` prints a markdown table, a row per pair as it is measured
(PSNR in dB / SSIM; seconds and peak MB of our runs), then means per group. Classical bars are tuned with the truth,
which flatters them; ours never see it. Every row is kept in the leaderboard. ``--quick`` is the same on `QUICK`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks import classical, leaderboard, ours
from benchmarks.pairs import GROUPS, Pair, group_of, pairs
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise

QUICK = (
    *("set12/01", "set12/09_s50", "cset9/F16_512rgb"),  # white
    *("fmd/fish", "fmd/mice", "w2s/010_0"),  # counts
    *("flim/bpae1", "oct/2", "lcd/dose_010", "mayo/000046", "m4raw/slice_08"),  # correlated
    "brainweb/rician_07",
)
"""Eleven crops of 256² and a volume: every kind of noise, in some ten minutes on 2 cores with `balanced`."""


def main() -> None:
    """Print the table, a row per pair as it is measured, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eleven crops of 256² and a volume, in some ten minutes")
    parser.add_argument("--group", default=",".join(GROUPS), help=f"out of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--only", help="part of a pair's name")
    parser.add_argument("--crop", type=int, help="side of a centred crop (default: whole images)")
    parser.add_argument("--presets", help="separated by commas; 'paper' for its settings (default: balanced)")
    parser.add_argument("--recipe", type=Path, action="append", default=[], help="recipe file; may be given again")
    parser.add_argument("--seed", type=int, help="in place of the recipes' own")
    parser.add_argument("--methods", default=",".join(classical.USUAL), help="classical bars, or '' for none")
    parser.add_argument("--board", type=Path, default=leaderboard.BOARD, help="where rows are kept")
    options = parser.parse_args()
    recipes = _recipes(options.presets, options.recipe, options.seed)
    methods = [m for m in options.methods.split(",") if m]
    groups = dict.fromkeys(map(group_of, QUICK)) if options.quick else options.group.split(",")
    began, commit = time.perf_counter(), leaderboard.commit()
    leaderboard.share(options.board)
    print(classical.row(["image", *methods, *(f"{name} | s | MB" for name in recipes)]))
    print(classical.row(["---"] * (1 + len(methods) + 3 * len(recipes))))
    rows: list[leaderboard.Row] = []
    for pair in pairs(group=list(groups), crop=256 if options.quick else options.crop):
        if (options.quick and pair.name not in QUICK) or (options.only and options.only not in pair.name):
            continue
        bars = classical.bars(pair, methods)
        new = leaderboard.bar_rows(pair.name, pair.crop, bars)
        cells = [classical.cell(bar.psnr, bar.ssim) if (bar := bars.get(m)) else "–" for m in methods]
        for name, recipe in recipes.items():
            new.append(measure(pair, name, recipe, commit))
            cells.append(f"{classical.cell(new[-1].psnr, new[-1].ssim)} | {new[-1].seconds:.0f} | {new[-1].mb:.0f}")
        print(classical.row([pair.name, *cells]), flush=True)
        leaderboard.keep(new, options.board)
        rows += new
    for name in recipes:
        print(f"\n{name}, commit {commit}\n")
        print("\n".join(leaderboard.summary(rows, name)))
    print(f"\n{time.perf_counter() - began:.0f} s in all")


def measure(pair: Pair, name: str, recipe: Recipe, commit: str) -> leaderboard.Row:
    """Restore a pair's noisy image and compare the result with the truth."""
    result = denoise(ours.as_image(pair), recipe)
    baseline = getattr(result, "baseline", None)
    return leaderboard.Row(
        pair.name,
        pair.crop,
        name,
        pair.psnr(result.image.array),
        pair.ssim(result.image.array),
        result.report.seconds,
        leaderboard.now(),
        hash=leaderboard.digest(recipe),
        commit=commit,
        mb=result.report.memory / 2**20,
        device=result.report.device,
        baseline=None if baseline is None else pair.psnr(np.asarray(baseline.array)),
    )


def _recipes(presets: str | None, files: list[Path], seed: int | None) -> dict[str, Recipe]:
    """Recipes by name: presets, then files by their stem; ``balanced`` where there is neither."""
    presets = ("" if files else "balanced") if presets is None else presets
    names = [name for name in presets.split(",") if name]
    found = {name: Recipe.parse(ours.PAPER if name == "paper" else {"preset": name}) for name in names}
    found |= {file.stem: Recipe.load(file) for file in files}
    changes = {"output": {"dtype": "float32"}} | ({} if seed is None else {"seed": seed})
    suffix = f" seed {seed}" if seed else ""
    return {name + suffix: recipe.merged(changes) for name, recipe in found.items()}


if __name__ == "__main__":
    main()
