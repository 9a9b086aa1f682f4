"""OME-Zarr's metadata: axes, units, scale and translation of each level, channel names; 0.1 to 0.5 in, 0.5 out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dip_sci.errors import ReadError
from dip_sci.io.axes import LENGTHS, TIMES, full_name
from dip_sci.io.ome_zarr_guard import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dip_sci.image import Image

VERSION = "0.5"
KINDS = {"T": "time", "C": "channel"}
LETTERS = {kind: letter for letter, kind in KINDS.items()}
OWN = ("omero", "name")
KNOWN = {"multiscales", "omero", "version", "_creator", "bioformats2raw.layout"}


@dataclass(frozen=True)
class Level:
    """One resolution of an image, as its metadata describes it.

    Attributes
    ----------
    path
        Its folder below that of the image.
    scale, translation
        One number per dimension, in the units of the axes; translation is that of the first voxel's middle.
    """

    path: Any
    scale: tuple[float, ...]
    translation: tuple[float, ...]


def attributes(folder: Path) -> dict[str, Any]:
    """Return OME's attributes of a group, empty where it has none."""
    found = metadata(folder, "zarr.json").get("attributes", {})
    found = found.get("ome", {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) and found else metadata(folder, ".zattrs")


def multiscale(ome: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the description of an image's levels."""
    found = ome.get("multiscales")
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict) or not isinstance(first.get("datasets"), list) or not first["datasets"]:
        raise ReadError(f"{path} is Zarr, but it describes no OME-Zarr image; export it as OME-Zarr 0.4 or 0.5.")
    return first


def axes_of(described: dict[str, Any], ndim: int, path: Path) -> tuple[str, tuple[str | None, ...]]:
    """Return the names and the units of the dimensions."""
    axes = described.get("axes") or [{"name": a} for a in "tczyx"[-ndim:]]
    axes = [a if isinstance(a, dict) else {"name": str(a)} for a in axes]
    letters = [LETTERS.get(str(a.get("type")), str(a.get("name", "?")).upper()) for a in axes]
    if len(axes) != ndim or len(set(letters)) != ndim or not set(letters) <= set("TCZYX"):
        names = [str(a.get("name"))[:20] for a in axes[:8]]
        raise ReadError(f"{path} names its {ndim} axes {names}; only t, c, z, y and x can be read, each once.")
    units = [full_name(a.get("unit")) for a in axes]
    fit = [
        u if u in (TIMES if a == "T" else LENGTHS) and a != "C" else None for a, u in zip(letters, units, strict=True)
    ]
    return "".join(letters), tuple(fit)


def levels(described: dict[str, Any], ndim: int, path: Path) -> list[Level]:
    """Return the levels, finest first; transformations of the whole are applied after those of a level."""
    found = []
    for dataset in described["datasets"]:
        if not isinstance(dataset, dict):
            raise ReadError(f"{path} describes a level in a way that is not known; export it again.")
        scale, translation = [1.0] * ndim, [0.0] * ndim
        for step in (*_list(dataset, path), *_list(described, path)):
            by, to = _transformation(step, ndim, path)
            scale = [s * b for s, b in zip(scale, by, strict=True)]
            translation = [t * b + o for t, b, o in zip(translation, by, to, strict=True)]
        found.append(Level(dataset.get("path"), tuple(scale), tuple(translation)))
    return found


def _list(described: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    steps = described.get("coordinateTransformations") or []
    if not isinstance(steps, list) or not all(isinstance(s, dict) for s in steps):
        raise ReadError(f"{path} has coordinate transformations that are no list; export it again.")
    return steps


def _transformation(step: dict[str, Any], ndim: int, path: Path) -> tuple[list[float], list[float]]:
    """Return what one transformation multiplies by and adds."""
    kind = step.get("type")
    if kind == "identity":
        return [1.0] * ndim, [0.0] * ndim
    try:
        numbers = [float(n) for n in step[str(kind)]]
    except (KeyError, TypeError, ValueError):
        numbers = []
    usable = kind in ("scale", "translation") and len(numbers) == ndim and all(map(math.isfinite, numbers))
    if not usable or (kind == "scale" and min(numbers, default=0) <= 0):
        raise ReadError(f"{path} has a coordinate transformation that is no usable scale or translation.")
    return (numbers, [0.0] * ndim) if kind == "scale" else ([1.0] * ndim, numbers)


def channels_of(ome: dict[str, Any], number: int) -> tuple[str, ...]:
    """Return the channels' names, empty where they are not all given."""
    omero = ome.get("omero")
    listed = omero.get("channels") if isinstance(omero, dict) else None
    names = [c.get("label") for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    return tuple(str(n) for n in names) if len(names) == number and all(n is not None for n in names) else ()


def lost(ome: dict[str, Any], described: dict[str, Any], folder: Path) -> tuple[str, ...]:
    """Return the names of what is there and never written again."""
    found = [f"the attribute {str(k)[:30]!r}" for k in ome if k not in KNOWN]
    found += ["the description of how the levels were made"] if described.get("metadata") else []
    return (*found, *(["the labels"] if (folder / "labels").is_dir() else []))


def written(
    image: Image,
    axes: str,
    steps: Sequence[tuple[float, ...]],
    names: Sequence[str],
    ranges: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Return OME's attributes for an image.

    Parameters
    ----------
    image
        The image.
    axes
        The order in which its dimensions are written.
    steps
        By how much each level is coarser than the first one, one factor per dimension.
    names
        The folder of each level.
    ranges
        Smallest and largest value of each channel.
    """
    places = [image.axes.index(a) if a in image.axes else None for a in axes]
    spacing = [(image.spacing[i] if i is not None else None) or 1.0 for i in places]
    units = [image.units[i] if i is not None and image.spacing[i] else None for i in places]
    origin = _origin(image, axes, spacing)
    datasets = []
    for name, factors in zip(names, steps, strict=True):
        scale = [s * f for s, f in zip(spacing, factors, strict=True)]
        # The first voxel's corner stays where it is; its middle does not.
        translation = [o + s * (f - 1) / 2 for o, s, f in zip(origin, spacing, factors, strict=True)]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(translation):
            transformations.append({"type": "translation", "translation": translation})
        datasets.append({"path": name, "coordinateTransformations": transformations})
    header = image.source.header if image.source.format == "ome_zarr" else {}
    described: dict[str, Any] = {"axes": [_axis(a, u) for a, u in zip(axes, units, strict=True)], "datasets": datasets}
    if len(datasets) > 1:
        described["type"] = "local mean"
    if isinstance(header.get("name"), str):
        described["name"] = header["name"]
    ome: dict[str, Any] = {"version": VERSION, "multiscales": [described]}
    omero = _omero(image, header, ranges)
    return {"ome": ome | ({"omero": omero} if omero else {})}


def _axis(letter: str, unit: str | None) -> dict[str, str]:
    kind = KINDS.get(letter, "space")
    usable = unit in (TIMES if kind == "time" else LENGTHS if kind == "space" else ())
    return {"name": letter.lower(), "type": kind} | ({"unit": unit} if usable and unit else {})


def _origin(image: Image, axes: str, spacing: Sequence[float]) -> list[float]:
    """Return where the first voxel's middle lies: its corner is where the source had it, whatever its size now."""
    header = image.source.header if image.source.format == "ome_zarr" else {}
    known = header.get("grid", {})
    found = []
    for axis, step in zip(axes, spacing, strict=True):
        before, at = known.get(axis, (step, 0.0))
        found.append(at + (step - before) / 2 if axis in "ZYX" else at)
    return found


def _omero(image: Image, header: Any, ranges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    number, names = image.size_of("C"), image.source.channels
    kept = header.get("omero")
    if isinstance(kept, dict) and names and channels_of({"omero": kept}, number) == names:
        return kept | {"channels": [{**_shown(r), **c} for r, c in zip(ranges, kept["channels"], strict=True)]}
    shown = [{"label": n, **_shown(r)} for n, r in zip(names, ranges, strict=True)] if len(names) == number else []
    return {"channels": shown} if shown else {}


def _shown(values: tuple[float, float]) -> dict[str, Any]:
    """Return how a channel is displayed where nothing is said: white, from its smallest value to its largest."""
    low, high = values
    return {"color": "FFFFFF", "window": {"min": low, "max": high, "start": low, "end": high}}
