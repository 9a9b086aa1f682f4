"""Spacing and units in the three kinds of TIFF: OME-XML, ImageJ's description, and plain tags."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tifffile

from dip_sci.errors import ReadError
from dip_sci.io.axes import LENGTHS, TIMES, convert, full_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dip_sci.image import Image

OME_NAMES = {
    "micrometer": "µm",
    "nanometer": "nm",
    "picometer": "pm",
    "angstrom": "Å",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
    "second": "s",
    "millisecond": "ms",
    "microsecond": "µs",
    "nanosecond": "ns",
    "minute": "min",
    "hour": "h",
    "day": "d",
}

PLANE = frozenset({"TheC", "TheT", "TheZ"})
BEYOND = 12
"""Names that a message lists of what OME-XML holds beside an image."""

PRINT_DPI = (72, 96, 100, 120, 150, 180, 200, 240, 300, 350, 360, 400, 600, 720, 1200, 2400)
"""Resolutions per inch that programs fill in for the printer: they say nothing of the object."""


@dataclass(frozen=True)
class Grid:
    """Spacing and unit along each axis."""

    spacing: tuple[float | None, ...]
    units: tuple[str | None, ...]


def read(tif: tifffile.TiffFile, axes: str) -> Grid:
    """Return the grid of the first image of a file, for the axes given."""
    kind = tif.series[0].kind
    if kind == "ome":
        known = _from_ome(tif.ome_metadata or "")
    elif kind == "imagej":
        known = _from_imagej(tif)
    else:
        known = _from_description(tif, axes) or _from_tags(tif)
    steps = [known.get(a) for a in axes]
    return Grid(tuple(s and s[0] for s in steps), tuple(s and s[1] for s in steps))


def _step(value: Any, unit: str | None) -> tuple[float, str | None] | None:
    try:
        step = float(value)
    except (TypeError, ValueError):
        return None
    return (step, unit) if math.isfinite(step) and step > 0 else None


def _pixels(xml: str) -> dict[str, Any]:
    """Return the description of the first image in OME-XML."""
    try:
        image = tifffile.xml2dict(xml)["OME"]["Image"]
        pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    except (KeyError, TypeError, ValueError, SyntaxError):
        return {}
    return pixels if isinstance(pixels, dict) else {}


def _from_ome(xml: str) -> dict[str, tuple[float, str | None] | None]:
    pixels = _pixels(xml)
    # The units that the OME schema assumes where a file gives none.
    known = {
        a: _step(pixels.get(f"PhysicalSize{a}"), full_name(pixels.get(f"PhysicalSize{a}Unit", "µm"))) for a in "XYZ"
    }
    # "pixel" and "reference frame" are units to OME, but sizes to nobody.
    known = {a: s if s and s[1] else None for a, s in known.items()}
    known["T"] = _step(pixels.get("TimeIncrement"), full_name(pixels.get("TimeIncrementUnit", "s")))
    return known


def ome_channels(xml: str) -> tuple[str, ...]:
    """Return the channels' names from OME-XML, empty where it does not name them all."""
    channels = _pixels(xml).get("Channel", [])
    names = [c.get("Name") for c in (channels if isinstance(channels, list) else [channels]) if isinstance(c, dict)]
    return tuple(str(n) for n in names) if names and all(n is not None for n in names) else ()


def ome_files(xml: str, path: Path) -> list[str]:
    """Return the names of all files that OME-XML refers to.

    Raises
    ------
    ReadError
        If it is no XML, or brings definitions of its own, which can grow without end.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ReadError(f"{path} brings XML definitions of its own, which no OME-TIFF does; save it again.")
    try:
        root = ET.fromstring(xml)
    except (ET.ParseError, ValueError, RecursionError):
        raise ReadError(f"{path} has OME-XML that is damaged; save it again as OME-TIFF.") from None
    return [name for e in root.iter() for key in ("FileName", "MetadataFile") if (name := e.get(key)) is not None]


def ome_beyond(xml: str) -> tuple[str, ...]:
    """Return the names of what OME-XML says and is not written again."""
    try:
        root = ET.fromstring(xml)
    except (ET.ParseError, ValueError, RecursionError):
        return ()
    written = {"OME", "Image", "Pixels", "Channel", "TiffData", "UUID", "Plane", "LightPath"}
    names = {e.tag.rpartition("}")[2] for e in root.iter() if isinstance(e.tag, str)} - written
    places = {k for e in root.iter() if e.tag.endswith("Plane") for k in e.attrib if k not in PLANE}
    return tuple(f"OME's {name[:40]}" for name in sorted(names | places)[:BEYOND])


def _from_imagej(tif: tifffile.TiffFile) -> dict[str, tuple[float, str | None] | None]:
    meta = tif.imagej_metadata or {}
    known: dict[str, tuple[float, str | None] | None] = {}
    known["T"] = _step(meta.get("finterval"), full_name(meta.get("tunit", "sec")))
    unit = full_name(meta.get("unit"))
    if unit in LENGTHS:
        known |= {a: _step(_per_pixel(tif, a), full_name(meta.get(f"{a.lower()}unit")) or unit) for a in "XY"}
        known["Z"] = _step(meta.get("spacing"), full_name(meta.get("zunit")) or unit)
    return known


def _from_description(tif: tifffile.TiffFile, axes: str) -> dict[str, tuple[float, str | None] | None]:
    """Return what `written` left in the description of a plain TIFF."""
    meta = (tif.shaped_metadata or ({},))[0]
    named, spacing, units = meta.get("axes"), meta.get("spacing"), meta.get("units")
    if not (isinstance(named, str) and isinstance(spacing, list) and isinstance(units, list)):
        return {}
    return {a: _step(s, full_name(u)) for a, s, u in zip(named, spacing, units, strict=False) if a in axes}


def _from_tags(tif: tifffile.TiffFile) -> dict[str, tuple[float, str | None] | None]:
    """Return the spacing by resolution tags, where they look measured and not made for a printer."""
    page = tif.series[0].keyframe
    per_unit = {2: 25400.0, 3: 10000.0}.get(int(page.resolutionunit or 1))
    known: dict[str, tuple[float, str | None] | None] = {}
    for axis in "XY" if per_unit else "":
        step = _per_pixel(tif, axis)
        if step is None or per_unit is None:
            continue
        dpi = 25400.0 / (step * per_unit)
        if any(abs(dpi - usual) < 0.5 for usual in PRINT_DPI) or step == 1 or (per_unit == 25400.0 and step > 1e-3):
            continue
        known[axis] = _step(step * per_unit, "micrometer")
    return known


def _per_pixel(tif: tifffile.TiffFile, axis: str) -> float | None:
    """Return the resolution tag's units of length per pixel."""
    tag = tif.series[0].keyframe.tags.get(f"{axis}Resolution")
    if tag is None or not isinstance(tag.value, tuple) or 0 in tag.value:
        return None
    pixels, length = tag.value
    return float(length) / float(pixels)


def written(image: Image, axes: str, kind: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return tifffile's options that store the grid of an image.

    Parameters
    ----------
    image
        The image.
    axes
        The order in which its dimensions are written.
    kind
        ``"ome"``, ``"imagej"`` or ``"plain"``.
    header
        What the source's header holds; empty for an image from another format.
    """
    if kind == "ome":
        return {"metadata": _as_ome(image, axes, header)}
    if kind == "imagej":
        return _as_imagej(image, axes, header)
    places = [image.axes.index(a) for a in axes]
    metadata: dict[str, Any] = {"axes": axes}
    if any(image.spacing):
        metadata |= {"spacing": [image.spacing[i] for i in places], "units": [image.units[i] for i in places]}
    return {"metadata": metadata, **_resolution(image, "centimeter")}


def _unit(image: Image, axis: str) -> str | None:
    return image.units[image.axes.index(axis)] if axis in image.axes else None


def _as_ome(image: Image, axes: str, header: Mapping[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    for axis, key, table in (*((a, f"PhysicalSize{a}", LENGTHS) for a in "XYZ"), ("T", "TimeIncrement", TIMES)):
        step, unit = image.spacing_of(axis), _unit(image, axis)
        if step is None:
            continue
        metadata[key] = step
        # Without a known unit OME would take micrometres or seconds for granted.
        metadata[f"{key}Unit"] = OME_NAMES[unit] if unit in table and unit in OME_NAMES else "pixel"
        if table is TIMES and unit not in TIMES:
            del metadata[key], metadata[f"{key}Unit"]
    names = image.source.channels
    if names and len(names) == image.size_of("C"):
        metadata["Channel"] = {"Name": list(names)}
    return metadata


def _as_imagej(image: Image, axes: str, header: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(header.get("imagej", {}))
    if header.get("shape", {}).get("C", 1) != image.size_of("C"):
        kept = {k: v for k, v in kept.items() if k not in ("Ranges", "LUTs")}
    metadata: dict[str, Any] = {**kept, "axes": axes}
    unit = _unit(image, "X")
    if unit in LENGTHS and image.spacing_of("X"):
        metadata["unit"] = {"micrometer": "micron"}.get(unit, OME_NAMES[unit])
        depth, depth_unit = image.spacing_of("Z"), _unit(image, "Z")
        if depth is not None and depth_unit in LENGTHS:
            metadata["spacing"] = convert(depth, depth_unit, unit)
    step, time = image.spacing_of("T"), _unit(image, "T")
    if step is not None:
        metadata["finterval"] = convert(step, time, "second") if time in TIMES else step
        metadata |= {"tunit": "sec"} if time in TIMES else {"tunit": "frame"}
    return {"metadata": metadata, **_resolution(image, unit)}


def _resolution(image: Image, unit: str | None) -> dict[str, Any]:
    """Return pixels per `unit`, where both are known and fit the tag's fraction of 32-bit integers."""
    pixels = []
    for axis in "XY":
        step, own = image.spacing_of(axis), _unit(image, axis)
        if step is None or own not in LENGTHS or unit not in LENGTHS:
            return {}
        pixels.append(1 / convert(step, own, unit))
    if not all(1e-9 < p < 4e9 for p in pixels):
        return {}
    name = "CENTIMETER" if unit == "centimeter" else "NONE"
    return {"resolution": tuple(pixels), "resolutionunit": name}
