"""The page of one restoration: everything to judge it by, in one file that asks nothing of a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.report.pictures import aspect_of, figure, plane, png, window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.restoration import Restoration

    Values = NDArray[np.float64]

PLANES = 5
"""Planes of a volume that are shown, at most."""

ENOUGH = 4_000_000
"""Voxels that the numbers are taken from; of larger images every so many are."""

BANDS = ("darkest fifth", "second fifth", "middle fifth", "fourth fifth", "brightest fifth")
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")

SUMMARY = "summary"
"""Id of the page's element with what an overview needs."""


def page(image: Image, result: Restoration, record: Mapping[str, Any]) -> str:
    """Draw the report of a restoration.

    Parameters
    ----------
    image
        What was restored.
    result
        What came out.
    record
        From `dip_sci.provenance.record`. It names no file and no patient, nor does the page.

    Returns
    -------
    str
        A page of HTML with all pictures in it.
    """
    before, after = _sampled(image), _sampled(result.image)
    seen = np.isfinite(before) & np.isfinite(after) & _sampled_mask(image)
    report = result.report
    facts = {
        "pictures": _pictures(image, result),
        "aspect": aspect_of(image) * plane(image).shape[0] / plane(image).shape[1],
        "report": report,
        "record": record,
        "names": [name for name, _ in _parts(image, result)],
        "curve": figure(lambda axes: _curve(axes, result)) if report.data_terms else None,
        "histogram": figure(lambda axes: _histogram(axes, before[seen], after[seen])),
        "bands": _bands(before[seen], after[seen]),
        "places": _places(before, after, seen, image.axes),
        "risks": sorted(report.risks.items(), key=lambda item: item[1]),
        "recipe": json.dumps(record["recipe"], indent=1),
        "provenance": json.dumps({k: v for k, v in record.items() if k not in LONG}, indent=1),
        "summary": _summary(image, result, record, before, after, seen),
    }
    return rendered("image.html.j2", **facts)


LONG = ("recipe", "data_terms", "stop_curve")


def rendered(template: str, **facts: Any) -> str:
    """Fill in a template; what it is given is text, never markup."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dip_sci.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = number
    return environment.get_template(template).render(**facts)


def number(value: float | None) -> str:
    """Write a number for reading: four digits that count."""
    return "–" if value is None else f"{value:.4g}"


def _parts(image: Image, result: Restoration) -> list[tuple[str, Image]]:
    found = [("before", image), ("after", result.image)]
    return found if result.baseline is None else [*found, ("classical", result.baseline)]


def _pictures(image: Image, result: Restoration) -> list[dict[str, Any]]:
    """Return the pictures of each plane shown, by the part's name."""
    depth = image.size_of("Z")
    count = min(depth, PLANES)
    wanted = [depth // 2] if count == 1 else sorted({round((k + 0.5) * depth / count - 0.5) for k in range(count)})
    low, high = window(np.stack([plane(image, z).astype(np.float64) for z in wanted]))
    parts = _parts(image, result)
    removed = [plane(image, z).astype(np.float64) - plane(result.image, z) for z in wanted]
    reach = 3 * (float(np.nanstd(np.stack(removed))) or 1.0)
    spread = None if result.spread is None else np.stack([plane(result.spread, z) for z in wanted])
    found = []
    for n, z in enumerate(wanted):
        shown = {name: png(plane(part, z), low, high) for name, part in parts}
        shown["residual"] = png(removed[n], -reach, reach)
        if spread is not None:
            shown["spread"] = png(spread[n], 0, float(spread.max()) or 1.0)
        found.append({"z": z, **shown})
    return found


def _sampled(image: Image) -> Values:
    """Return every so many of an image's values, so that few enough are left."""
    return image.array[_every(image)].astype(np.float64)


def _sampled_mask(image: Image) -> NDArray[np.bool_]:
    here = image.array[_every(image)]
    return np.ones(here.shape, bool) if image.valid is None else image.valid[_every(image)]


def _every(image: Image) -> tuple[slice, ...]:
    size = float(np.prod(image.shape))
    step = max(1, int(np.ceil((size / ENOUGH) ** (1 / len(image.spatial_axes)))))
    return tuple(slice(None, None, step if a in image.spatial_axes else None) for a in image.axes)


def _bands(before: Values, after: Values) -> list[dict[str, Any]]:
    """Compare means in bands of brightness, as the result shows it: the noise would sort itself into them."""
    # By rank, as whole numbers may have no fifths; equal values go by their place.
    band = np.empty(after.size, int)
    band[np.argsort(after, kind="stable")] = len(BANDS) * np.arange(after.size) // max(after.size, 1)
    rows = [("whole image", np.ones(after.shape, bool)), *((name, band == n) for n, name in enumerate(BANDS))]
    return [_row(name, before[inside], after[inside]) for name, inside in rows if inside.any()]


def _places(before: Values, after: Values, seen: NDArray[np.bool_], axes: str) -> list[dict[str, Any]]:
    """Compare means in nine parts of the field of view."""
    order = [axes.index(a) for a in "YX"]
    ninths = np.zeros(before.shape, int)
    for weight, axis in zip((3, 1), order, strict=True):
        n = before.shape[axis]
        shape = [n if k == axis else 1 for k in range(before.ndim)]
        ninths += weight * (3 * np.arange(n) // n).reshape(shape)
    parts = [(name, seen & (ninths == k)) for k, name in enumerate(PLACES)]
    return [_row(name, before[inside], after[inside]) for name, inside in parts if inside.any()]


def _row(name: str, before: Values, after: Values) -> dict[str, Any]:
    removed = before - after
    sd = float(removed.std())
    apart = float(-removed.mean())
    return {
        "name": name,
        "count": before.size,
        "before": float(before.mean()),
        "after": float(after.mean()),
        "apart": apart,
        "share": apart / sd if sd else 0.0,
    }


def _curve(axes: Axes, result: Restoration) -> None:
    report = result.report
    terms = np.asarray(report.data_terms)
    axes.plot(np.arange(1, len(terms) + 1), terms, color="0.6", lw=0.7, label="data term")
    if len(terms) > 20:
        width = max(len(terms) // 20, 2)
        axes.plot(
            np.arange(width, len(terms) + 1), np.convolve(terms, np.ones(width) / width, "valid"), color="0.2", lw=1.2
        )
    axes.axvline(report.best_step, color="tab:red", lw=1, label=f"step {report.best_step}, returned")
    if terms.min() > 0 and terms.max() > 10 * terms.min():
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("data term")
    handles, labels = axes.get_legend_handles_labels()
    if report.stop_curve:
        other = axes.twinx()
        steps, values = zip(*report.stop_curve, strict=True)
        other.plot(steps, values, color="tab:blue", lw=1, label=f"stop rule ({report.recipe.stop.rule})")
        other.set_ylabel("stop rule", color="tab:blue")
        more = other.get_legend_handles_labels()
        handles, labels = [*handles, *more[0]], [*labels, *more[1]]
    axes.legend(handles, labels, frameon=False, fontsize="small")


def _histogram(axes: Axes, before: Values, after: Values) -> None:
    low, high = np.quantile(before, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, 101)
    for values, name, color in ((before, "before", "0.6"), (after, "after", "tab:red")):
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        axes.stairs(counts + 0.5, edges, label=name, color=color, lw=1.2)
    axes.set_yscale("log")
    axes.set_xlabel("value")
    axes.set_ylabel("voxels")
    axes.legend(frameon=False, fontsize="small")


def _summary(
    image: Image, result: Restoration, record: Mapping[str, Any], before: Values, after: Values, seen: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return what an overview of many reports shows and compares."""
    removed = np.where(seen, before - after, 0)
    sd, spread = float(removed[seen].std()), float(before[seen].std())
    along = image.axes.index("X")
    neighbours = [np.take(removed, range(a, removed.shape[along] - 1 + a), axis=along) for a in (0, 1)]
    shared = float((neighbours[0] * neighbours[1]).mean() / sd**2) if sd else 0.0
    shown = plane(image), plane(result.image)
    low, high = window(shown[0].astype(np.float64))
    return {
        "before": png(shown[0], low, high, 128),
        "after": png(shown[1], low, high, 128),
        "removed": sd / spread if spread else 0.0,
        "shift": abs(float(removed[seen].mean())) / sd if sd else 0.0,
        "shared": shared,
        "network": result.report.weights.get("network"),
        "seconds": record["seconds"],
        "stop": record["stop_reason"],
        "noise": record["noise"][0] if record["noise"] else "",
    }
