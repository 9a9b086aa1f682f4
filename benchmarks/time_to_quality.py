"""How much sooner ours reaches the best that the paper's network and settings ever reach on an image.

The paper's fit runs in float32 with its own settings; its best averaged iterate is chosen with the truth, which
flatters it. Then ours runs with shorter and shorter fits of the default recipe, and the fastest one whose *final*
result reaches that PSNR counts, from start to end. Seconds of the paper's fit are its steps times the median time of
a step, measured in the same minute as ours: what else the machine did during that hour does not count.

``DIP_SCI_DATA=... python -m benchmarks.time_to_quality`` prints a markdown table (about an hour on 2 cores).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

from benchmarks import classical, ours
from benchmarks.pairs import Pair, pairs
from dip_sci.recipe import Recipe

LOOK_EVERY = 20
GIVE_UP = 200
"""Steps after the best iterate at which the paper's fit is called past its peak."""

TIMED = 10

STEPS = (20, 30, 45, 65, 95, 140, 200, 300, 400, 500, 700)
KEPT = Path(__file__).parent / "out" / "time_to_quality.json"


def best_of_paper(pair: Pair) -> dict[str, float]:
    """Fit with the paper's settings until well past the peak; PSNR and step of the best averaged iterate."""
    best, at = 0.0, 0
    for progress in ours.steps(pair, Recipe.parse(ours.PAPER)):
        if progress.step % LOOK_EVERY == 0:
            psnr = pair.psnr(progress.preview())
            if psnr > best:
                best, at = psnr, progress.step
            if progress.step % 100 == 0:
                print(f"  {pair.name} step {progress.step}: {psnr:.2f} dB", flush=True)
            if progress.step - at >= GIVE_UP:
                break
    return {"psnr": best, "step": at}


def paper_step(pair: Pair) -> float:
    """Median seconds of a step with the paper's settings."""
    times, last = [], time.perf_counter()
    for progress in ours.steps(pair, Recipe.parse(ours.PAPER)):
        times.append(time.perf_counter() - last)
        last = time.perf_counter()
        if progress.step == TIMED:
            break
    return median(times)


def ours_to(pair: Pair, psnr: float) -> tuple[int, float, float]:
    """Find the shortest fit of the default recipe that reaches a PSNR: steps, seconds from start to end, its PSNR."""
    steps, seconds, reached = 0, 0.0, 0.0
    for steps in STEPS:
        recipe = Recipe.parse({"fit": {"steps": steps}, "output": {"dtype": "float32"}})
        began = time.perf_counter()
        run = ours.restore(pair, recipe)
        seconds, reached = time.perf_counter() - began, pair.psnr(run.values)
        if reached >= psnr:
            break
    return steps, seconds, reached


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="F16,fish")
    parser.add_argument("--fresh", action="store_true", help="run the paper's fits again")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() and not options.fresh else {}
    chosen = [
        p for p in pairs(group=["cset9", "fmd"], crop=256) if p.name.split("/")[-1].split("_")[0] in options.images
    ]
    rows = []
    for pair in chosen:
        if pair.name not in kept:
            kept[pair.name] = best_of_paper(pair)
            KEPT.parent.mkdir(exist_ok=True)
            KEPT.write_text(json.dumps(kept, indent=1))
        paper = kept[pair.name]
        steps, seconds, reached = ours_to(pair, paper["psnr"])
        theirs = paper["step"] * paper_step(pair)
        rows.append([pair.name, f"{paper['psnr']:.2f}", int(paper["step"]), f"{theirs:.0f}"])
        rows[-1] += [f"{reached:.2f}", steps, f"{seconds:.1f}", f"{theirs / seconds:.0f}"]
    print(classical.row(["image", "paper, best dB", "at step", "s", "ours dB", "steps", "s", "times sooner"]))
    print(classical.row(["---"] * 8))
    for row in rows:
        print(classical.row(row))


if __name__ == "__main__":
    main()
