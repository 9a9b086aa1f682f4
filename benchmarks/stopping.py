"""What a stop rule loses against the iterate chosen with the truth, under full supervision.

Each image is fitted twice from the same seed: once with the rule, and once for a fifth more steps with a look at the
truth every 20 of them, which gives the best that any stop could have returned (the rule itself waits well past it).

``DIP_SCI_DATA=... python -m benchmarks.stopping --rules moving_variance`` prints a markdown table.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import Any

from benchmarks import classical, ours
from benchmarks.pairs import pairs
from dip_sci.recipe import Recipe

LOOK_EVERY = 20
IMAGES = ("fmd/fish", "fmd/BPAE_G", "w2s/010_0", "set12/01")


def main() -> None:
    """Print a row per image and rule, then the loss of each rule: mean and worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default="moving_variance", help="stop rules, separated by commas")
    parser.add_argument("--images", default=",".join(IMAGES), help="names of pairs, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = options.images.split(",")
    print(classical.row(["image", "rule", "stopped after", "returned", "dB", "best dB", "at step", "loss"]))
    print(classical.row(["---"] * 8))
    losses: dict[str, list[float]] = {}
    for pair in pairs(group={n.split("/")[0] for n in names}, crop=256):
        if pair.name not in names:
            continue
        results = {rule: ours.restore(pair, _recipe(options.seed, rule=rule)) for rule in options.rules.split(",")}
        longest = 6 * max(run.report.steps for run in results.values()) // 5
        best, at = 0.0, 0
        for progress in ours.steps(pair, _recipe(options.seed, rule="fixed", steps=longest)):
            if progress.step % LOOK_EVERY == 0 and (psnr := pair.psnr(progress.preview())) > best:
                best, at = psnr, progress.step
        for rule, run in results.items():
            psnr = pair.psnr(run.values)
            losses.setdefault(rule, []).append(best - psnr)
            report = run.report
            cells = [pair.name, rule, report.steps, report.best_step, f"{psnr:.2f}", f"{best:.2f}", at]
            print(classical.row([*cells, f"{best - psnr:.2f}"]), flush=True)
    for rule, values in losses.items():
        print(f"{rule}: mean loss {mean(values):.2f} dB, worst {max(values):.2f} dB over {len(values)} images")


def _recipe(seed: int, *, rule: str, steps: int | None = None) -> Recipe:
    fit: dict[str, Any] = {} if steps is None else {"steps": steps}
    return Recipe.parse(
        {
            "seed": seed,
            "supervision": {"kind": "full"},
            "fit": fit,
            "stop": {"rule": rule},
            "output": {"dtype": "float32"},
        }
    )


if __name__ == "__main__":
    main()
