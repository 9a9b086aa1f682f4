"""The experiment behind the prior: how fast a network learns a picture, that picture with noise, scrambled, and noise.

Ulyanov, Vedaldi & Lempitsky, IJCV 2020, figure 2: the two that look natural are learnt much sooner. The steps to a
given data term must rise from one to the next; the script fails if they do not.

``DIP_SCI_DATA=... python -m benchmarks.paper.learning_curves [--quick]``
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.paper import common
from dip_sci.restore import iter_restore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dip_sci.recipe import Recipe

LEVEL = 0.01
"""Mean square error on the range 0 to 1 at which steps are counted: below the noise of "noisy" (0.0096), noise is learnt."""


def targets(clean: NDArray[np.float32], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Make the four targets of a picture, all from 0 to 255."""
    rng = np.random.default_rng(seed)
    pixels = clean.reshape(-1, *clean.shape[2:])
    return {
        "natural": clean,
        "noisy": np.clip(clean + rng.normal(0, 25, clean.shape), 0, 255).astype(np.float32),
        "scrambled": rng.permutation(pixels).reshape(clean.shape),
        "white noise": rng.uniform(0, 255, clean.shape).astype(np.float32),
    }


def curve(values: NDArray[np.float32], recipe: Recipe) -> list[float]:
    """Fit a target; its mean square error on the range 0 to 1 at each step."""
    span = float(np.ptp(values)) / 255
    return [p.data_term * span**2 for p in iter_restore(common.image(values), recipe)]


def steps_to(terms: list[float], level: float) -> int:
    """Return the first step at which the mean of five data terms is at the level; one more than all if none is."""
    smooth = np.convolve(terms, np.ones(5) / 5, "valid")
    reached = np.flatnonzero(smooth <= level)
    return int(reached[0]) + 5 if reached.size else len(terms) + 1


def in_order(curves: dict[str, list[float]], level: float) -> bool:
    """Whether each target takes more steps than the one before; of two that never arrive, the lower one is ahead."""
    ranks = [(steps_to(terms, level), float(np.mean(terms[-20:]))) for terms in curves.values()]
    never = len(next(iter(curves.values()))) + 1
    return all(a[0] < b[0] or (a[0] == b[0] == never and a[1] < b[1]) for a, b in itertools.pairwise(ranks))


def draw(curves: dict[str, list[float]], level: float) -> None:
    """Draw the curves as the paper does: error over steps, both by powers of ten."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, terms in curves.items():
        axes.loglog(range(1, len(terms) + 1), terms, label=name)
    axes.axhline(level, color="grey", linewidth=0.5)
    axes.set(xlabel="step", ylabel="mean square error")
    axes.legend()
    common.OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(common.OUT / "learning_curves.png", dpi=120)
    print(f"\nFigure: {common.OUT / 'learning_curves.png'}")


def main() -> None:
    """Print the steps, draw the figure, check the order."""
    form = common.form(__doc__)
    clean = common.crop(common.picture("cset9/image_F16_512rgb.png"), 64 if form.quick else None, (0.45, 0.6))
    quick: dict[str, Any] = {"input": {"jitter": 0.0}}
    recipe = form.recipe(quick, steps=(500, 10_000))
    curves = {}
    for name, values in targets(clean).items():
        curves[name] = curve(values, recipe)
        print(f"{name}: {steps_to(curves[name], LEVEL)}", flush=True)
    levels = (0.04, 0.02, LEVEL)
    common.table(
        ["target", *(f"steps to {level:g}" for level in levels), "last error"],
        [
            [
                name,
                *(n if (n := steps_to(terms, level)) <= len(terms) else f"> {len(terms)}" for level in levels),
                f"{np.mean(terms[-20:]):.5f}",
            ]
            for name, terms in curves.items()
        ],
    )
    draw(curves, LEVEL)
    assert in_order(curves, LEVEL), "The order is not natural < noisy < scrambled < white noise."
    print("In order: natural < noisy < scrambled < white noise.")


if __name__ == "__main__":
    main()
