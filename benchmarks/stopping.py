"""What each stop rule loses against the iterate chosen with the truth.

All rules that can watch the same fit do so: one fit per image and kind of fit, whose states are compared with the truth. It
goes on until every rule has stopped and the best is well past. `loss` is against the best state of that fit, `under
full` against that of the plain `full` fit: it holds what the fit itself is worse (or better) by, as with noise added.

``DIP_SCI_DATA=... python -m benchmarks.stopping`` prints two markdown tables: by image, and by rule.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks import classical, ours
from benchmarks.pairs import group_of, pairs
from dip_sci import stopping
from dip_sci.recipe import Recipe
from dip_sci.stopping import Verdict

if TYPE_CHECKING:
    from benchmarks.pairs import Pair
    from dip_sci.stopping import StopRule, View

LOOK_EVERY = 10
IMAGES = ("set12/01", "cset9/F16_512rgb", "fmd/BPAE_G", "fmd/fish", "w2s/010_0", "flim/bpae1", "mayo/000046")
STEPS = {"full": 2000, "recorrupted": 500}


@dataclass(frozen=True)
class Fit:
    """One kind of fit, and the rules that can watch it.

    Attributes
    ----------
    supervision
        `full` or `recorrupted`.
    rules
        Those that watch; the first is the recipe's own, and makes what it needs of the fit.
    recipe
        What else makes it so.
    """

    supervision: str
    rules: tuple[str, ...]
    recipe: dict[str, Any] = field(default_factory=dict)


FITS = {
    # A fiftieth of the voxels is kept out of it.
    "full": Fit("full", ("held_out", "windowed_variance", "moving_variance", "discrepancy")),
    "full, split": Fit("full", ("split",)),
    "full, split, two networks": Fit("full", ("split",), {"fit": {"seeds": 2}}),
    # At a constant rate, so that a stop has something to win.
    "recorrupted": Fit("recorrupted", ("sure", "fixed"), {"fit": {"schedule": "constant"}}),
    "hide": Fit(
        "recorrupted",
        ("held_out", "sure", "fixed"),
        {"supervision": {"recorrupt": "hide"}, "fit": {"schedule": "constant"}},
    ),
    "split": Fit(
        "recorrupted",
        ("held_out", "sure", "fixed"),
        {"supervision": {"recorrupt": "split"}, "fit": {"schedule": "constant"}},
    ),
}


@dataclass
class Panel:
    """Rules that watch one fit side by side; none ends it.

    Attributes
    ----------
    rules
        By name.
    best, ended
        By name: the step whose state it would return, and after which it stopped.
    """

    rules: dict[str, StopRule]
    best: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """See `StopRule`: a fit that goes back takes nothing of what was seen."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """See `StopRule`."""

    def observe(self, step: int, view: View) -> Verdict:
        """See `StopRule`."""
        for name, rule in self.rules.items():
            if name not in self.ended:
                verdict = rule.observe(step, view)
                if verdict.best:
                    self.best[name] = step
                if verdict.stop is not None:
                    self.ended[name] = step
        return Verdict(None, best=True, stop=None)


def watch(pair: Pair, fit: Fit, *, seed: int) -> tuple[Panel, dict[int, float]]:
    """Let all rules watch a fit of one image; return them, and the PSNR of its states by step."""
    steps = STEPS[fit.supervision]
    recipe = Recipe.parse(
        {
            "seed": seed,
            "supervision": {"kind": fit.supervision},
            "fit": {"steps": steps},
            "stop": {"min_start": min(100, steps // 5)},
            "output": {"dtype": "float32", "classical": "none"},
        }
    ).merged(fit.recipe)
    panel = Panel({rule: stopping.build(recipe.merged({"stop": {"rule": rule}}).stop) for rule in fit.rules})
    found: dict[int, float] = {}
    with mock.patch.object(stopping, "build", return_value=panel):
        for progress in ours.steps(pair, recipe.merged({"stop": {"rule": fit.rules[0]}})):
            step = progress.step
            if step % LOOK_EVERY == 0 or any(at == step for rule, at in panel.best.items() if rule != "fixed"):
                found[step] = pair.psnr(progress.preview())
            over = all(rule in panel.ended for rule in fit.rules)
            if over and step > 1.2 * max(found, key=lambda s: found[s]):
                break
            if step == steps:
                break
    return panel, found


def main() -> None:
    """Print a row per image, fit and rule, then the losses of each rule: mean and worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", default=";".join(FITS), help="kinds of fit, separated by semicolons")
    parser.add_argument("--images", default=",".join(IMAGES), help="names of pairs, separated by commas")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = options.images.split(",")
    head = ["image", "fit", "rule", "stopped after", "returned", "dB", "best dB", "at step", "loss", "under full"]
    print(classical.row(head))
    print(classical.row(["---"] * len(head)))
    rows: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for pair in pairs(group={group_of(name) for name in names}, crop=options.crop):
        if pair.name not in names:
            continue
        reference = math.nan
        for name in options.fits.split(";"):
            panel, found = watch(pair, FITS[name], seed=options.seed)
            at = max(found, key=lambda step: found[step])
            best = found[at]
            reference = best if name == "full" else reference
            for rule in FITS[name].rules:
                psnr, stopped = found[panel.best[rule]], panel.ended.get(rule)
                row = best - psnr, reference - psnr, stopped or max(found)
                rows.setdefault((name, rule), []).append(row)
                cells = [
                    stopped or "-",
                    panel.best[rule],
                    f"{psnr:.2f}",
                    f"{best:.2f}",
                    at,
                    *map("{:.2f}".format, row[:2]),
                ]
                print(classical.row([pair.name, name, rule, *cells]), flush=True)
    head = ["fit", "rule", "images", "loss, mean", "worst", "under full, mean", "worst", "steps, mean"]
    print("\n" + classical.row(head))
    print(classical.row(["---"] * len(head)))
    for key, found_rows in rows.items():
        losses, unders, steps = zip(*found_rows, strict=True)
        values = [f"{v:.2f}" for v in (mean(losses), max(losses), mean(unders), max(unders))]
        print(classical.row([*key, len(losses), *values, round(mean(steps))]))


if __name__ == "__main__":
    main()
