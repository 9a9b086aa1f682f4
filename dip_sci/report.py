"""Pictures of a restoration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dip_sci.image import Image

SHOWN = 768
"""Pixels along the longer edge of a panel, at most."""


def comparison(before: Image, after: Image, path: Path) -> None:
    """Draw before, after and residual side by side, as PNG.

    The middle plane is shown, in one grey window for both images (the 0.5th to the 99.5th
    percentile of the noisy one); the residual is grey at 0 and spans three of its standard deviations.

    Parameters
    ----------
    before, after
        Images on one grid.
    path
        The picture to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    noisy, clean = (_plane(i).astype(np.float64) for i in (before, after))
    residual = noisy - clean
    low, high = _window(noisy)
    spread = 3 * (np.nanstd(residual) or 1.0)
    rows, columns = noisy.shape[:2]
    aspect = _aspect(before)
    panel = 4.2
    figure = Figure(figsize=(3 * panel, panel * min(max(rows * aspect / columns, 0.3), 2) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [("before", noisy, low, high), ("after", clean, low, high), ("before - after", residual, -spread, spread)]
    for axes, (title, values, bottom, top) in zip(figure.subplots(1, 3), panels, strict=True):
        if values.ndim == 3:
            values = np.clip((values - bottom) / (top - bottom), 0, 1)
        axes.imshow(values, cmap="gray", vmin=bottom, vmax=top, aspect=aspect, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    figure.savefig(path, dpi=SHOWN / panel / 1.6)


def _plane(image: Image) -> NDArray[Any]:
    """Take the middle plane, of the first time point and channel, as ``(Y, X)`` or ``(Y, X, S)``."""
    index = tuple(
        slice(None) if a in "YXS" else (n // 2 if a == "Z" else 0) for a, n in zip(image.axes, image.shape, strict=True)
    )
    left = "".join(a for a in image.axes if a in "YXS")
    wanted = "YXS" if "S" in left else "YX"
    plane: NDArray[Any] = image.array[index].transpose([left.index(a) for a in wanted])
    return (
        plane[..., :3] if plane.ndim == 3 and plane.shape[-1] in (3, 4) else plane.reshape(*plane.shape[:2], -1)[..., 0]
    )


def _window(values: NDArray[Any]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(finite, [0.5, 99.5])) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _aspect(image: Image) -> float:
    y, x = image.spacing_of("Y"), image.spacing_of("X")
    return y / x if y and x else 1.0
