"""Pictures: planes of images and curves, as files or as parts of a page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes
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

    noisy, clean = (plane(i).astype(np.float64) for i in (before, after))
    residual = noisy - clean
    low, high = window(noisy)
    spread = 3 * (np.nanstd(residual) or 1.0)
    rows, columns = noisy.shape[:2]
    aspect = aspect_of(before)
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


def plane(image: Image, z: int | None = None) -> NDArray[Any]:
    """Take a plane, by default the middle one, of the first time point and channel, as ``(Y, X)`` or ``(Y, X, S)``."""
    z = image.size_of("Z") // 2 if z is None else z
    index = tuple(slice(None) if a in "YXS" else (z if a == "Z" else 0) for a in image.axes)
    left = "".join(a for a in image.axes if a in "YXS")
    wanted = "YXS" if "S" in left else "YX"
    found: NDArray[Any] = image.array[index].transpose([left.index(a) for a in wanted])
    return (
        found[..., :3] if found.ndim == 3 and found.shape[-1] in (3, 4) else found.reshape(*found.shape[:2], -1)[..., 0]
    )


def window(values: NDArray[Any]) -> tuple[float, float]:
    """Return the grey window that shows values: their 0.5th to their 99.5th percentile."""
    finite = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(finite, [0.5, 99.5])) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def aspect_of(image: Image) -> float:
    """Return the height of a pixel over its width."""
    y, x = image.spacing_of("Y"), image.spacing_of("X")
    return y / x if y and x else 1.0


def png(values: NDArray[Any], low: float, high: float, longest: int = SHOWN) -> str:
    """Return a plane as a PNG picture in a ``data:`` address.

    Parameters
    ----------
    values
        ``(Y, X)`` or ``(Y, X, 3)``.
    low, high
        Values shown black and white.
    longest
        Pixels along the longer edge, at most; of larger planes every so many pixels are shown.
    """
    from PIL import Image as Picture

    step = max(1, -(-max(values.shape[:2]) // longest))
    shown = np.nan_to_num(values[::step, ::step].astype(np.float64), nan=low)
    grey = np.clip((shown - low) / max(high - low, 1e-30) * 255, 0, 255).round().astype(np.uint8)
    file = io.BytesIO()
    Picture.fromarray(grey).save(file, "PNG", optimize=True)
    return _address("image/png", file.getvalue())


def figure(draw: Callable[[Axes], None], width: float = 5.2, height: float = 2.8) -> str:
    """Return a figure, drawn by a function, as an SVG picture in a ``data:`` address."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(drawn)
    axes = drawn.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    file = io.BytesIO()
    # The same data give the same file: no date, no random names.
    with mpl.rc_context({"svg.hashsalt": "dip_sci"}):
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _address("image/svg+xml", file.getvalue())


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
