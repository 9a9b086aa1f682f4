"""Ours, the paper's settings and the classical bars on every dev pair.

``DIP_SCI_DATA=... python -m benchmarks.denoise --group fmd,w2s --presets balanced`` prints a markdown table: PSNR in
dB / SSIM, seconds and peak memory of our runs. Classical bars are tuned with the truth, which flatters them; ours
never see it.
"""

from __future__ import annotations

import argparse
from statistics import mean

from benchmarks import classical, ours
from benchmarks.pairs import GROUPS, pairs
from dip_sci.recipe import Recipe


def main() -> None:
    """Print the table, a row per pair as it is measured, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", default=",".join(GROUPS), help="groups, separated by commas (default: all)")
    parser.add_argument("--crop", type=int, help="side of a centred crop (default: whole images)")
    parser.add_argument("--presets", default="balanced", help="ours, separated by commas; 'paper' for its settings")
    parser.add_argument("--methods", default=",".join(classical.METHODS), help="classical bars, or '' for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="part of a pair's name")
    options = parser.parse_args()
    presets = [p for p in options.presets.split(",") if p]
    methods = [m for m in options.methods.split(",") if m]
    print(classical.row(["image", "noisy", *methods, *(f"{p} | s | MB" for p in presets)]))
    print(classical.row(["---"] * (2 + len(methods) + 3 * len(presets))))
    columns: dict[str, list[float]] = {}
    for pair in pairs(group=options.group.split(","), crop=options.crop):
        if options.only and options.only not in pair.name:
            continue
        bars = classical.bars(pair, options.crop, methods) if methods else {}
        cells = [f"{pair.psnr(pair.noisy):.2f} / {pair.ssim(pair.noisy):.3f}"]
        for method in methods:
            bar = bars.get(method)
            cells.append(f"{bar.psnr:.2f} / {bar.ssim:.3f}" if bar else "–")
            if bar:
                columns.setdefault(method, []).append(bar.psnr)
        for preset in presets:
            run = ours.restore(pair, _recipe(preset, options.seed))
            psnr = pair.psnr(run.values)
            columns.setdefault(preset, []).append(psnr)
            cells.append(f"{psnr:.2f} / {pair.ssim(run.values):.3f} | {run.report.seconds:.0f}")
            cells.append(f"{run.report.memory / 2**20:.0f}")
        print(classical.row([pair.name, *cells]), flush=True)
    for name, values in columns.items():
        print(f"mean {name}: {mean(values):.2f} dB over {len(values)}")


def _recipe(preset: str, seed: int) -> Recipe:
    options = ours.PAPER if preset == "paper" else {"preset": preset}
    return Recipe.parse({**options, "seed": seed, "output": {"dtype": "float32"}})


if __name__ == "__main__":
    main()
