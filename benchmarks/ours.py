"""Our own runs as benchmarks see them: a pair in, an estimate with its cost out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dip_sci.image import Image
from dip_sci.restore import denoise, iter_restore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from benchmarks.pairs import Pair
    from dip_sci.progress import Progress
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Report

PAPER: dict[str, Any] = {
    # Ulyanov, Vedaldi & Lempitsky, CVPR 2018, denoising of F16: the table's first row.
    "noise": {"model": "gaussian"},
    "generator": {
        "kind": "hourglass",
        "channels": [128] * 5,
        "skip_channels": [4],
        "upsample": ["linear"],
        "norm": "batch",
        "output": "sigmoid",
    },
    "input": {"kind": "noise", "channels": 32, "scale": 0.1, "jitter": 1 / 30},
    "supervision": {"kind": "full"},
    "fit": {"steps": 3000, "rate": 0.01, "schedule": "constant", "averaging": 0.99, "precision": "float32"},
    "stop": {"rule": "fixed"},
}


@dataclass(frozen=True, eq=False)
class Run:
    """An estimate and what it took.

    Attributes
    ----------
    values
        On the pair's grid, float32.
    report
        The restoration's own report.
    """

    values: NDArray[Any]
    report: Report


def as_image(pair: Pair) -> Image:
    """Give a pair's noisy values their axes."""
    axes = (pair.axes or ("ZYX" if pair.ndim == 3 else "YX")) + ("S" if pair.colour else "")
    spacing = None if pair.spacing is None else (*pair.spacing, *[None] * (len(axes) - len(pair.spacing)))
    return Image(pair.noisy, axes, spacing=spacing or ())


def restore(pair: Pair, recipe: Recipe) -> Run:
    """Restore a pair's noisy image; its truth is not looked at."""
    result = denoise(as_image(pair), recipe)
    return Run(result.image.array, result.report)


def steps(pair: Pair, recipe: Recipe) -> Iterator[Progress[Any]]:
    """Restore a pair's noisy image step by step, for a benchmark that looks at the iterates."""
    return iter_restore(as_image(pair), recipe)
