"""Layer <-> Image: pixels never lose their place on the way in or out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import ImageError
from dip_sci.image import AXES, SPATIAL, Image, Source
from dip_sci.region import METRES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.layers import Layer
    from numpy.typing import NDArray

    Index = tuple[slice, ...]
    LayerData = tuple[Any, dict[str, Any], str]

KEY, RECORD, SERIES = "dip_sci", "dip_sci_record", "dip_sci_series"
"""Where a layer's `metadata` holds its `Origin`, a result's record of its run, and which of several series it is."""

GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What places a layer in the world; every layer made of another one copies all of it."""

LOOK = ("colormap", "gamma", "contrast_limits", "interpolation2d", "interpolation3d", "rendering")
USUAL = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
"""Axes of a layer that does not name its own, by their number."""


@dataclass(frozen=True, eq=False)
class Origin:
    """All of an image but its pixels: what a layer's transforms cannot hold.

    Attributes
    ----------
    like
        The image, with an array of its shape that takes no memory.
    scale
        The layer's scale as it was given; a user who changes it knows better than the file.
    """

    like: Image
    scale: tuple[float, ...]

    @classmethod
    def of(cls, image: Image, scale: Sequence[float]) -> Origin:
        """Keep all of an image but its pixels."""
        empty = np.broadcast_to(np.zeros((), image.dtype), image.shape)
        return cls(dataclasses.replace(image, array=empty), tuple(map(float, scale)))


def layer_data(image: Image, name: str, levels: Sequence[Any] = (), series: str | None = None) -> LayerData:
    """Return an image as napari's layer data tuple.

    Parameters
    ----------
    image
        What was read.
    name
        Name of the layer.
    levels
        Coarser versions of the array, for a multiscale layer; they lie where the image lies.
    series
        Which one of those that its file or folder holds, as `dip_sci.io.read` takes it.
    """
    image, rgb = _samples_placed(image)
    axes = image.axes[:-1] if rgb else image.axes
    scale = [image.spacing_of(a) or 1.0 for a in axes]
    keywords: dict[str, Any] = {
        "name": name,
        "scale": scale,
        "units": [_unit(image, a) for a in axes],
        "axis_labels": [a.lower() for a in axes],
        "rgb": rgb,
        "metadata": {KEY: Origin.of(image, scale), **({} if series is None else {SERIES: series})},
    }
    if image.affine is not None:
        keywords["affine"] = _world(image, axes)
    else:
        keywords["translate"] = [_start(image, a) for a in axes]
    if levels:
        keywords["multiscale"] = True
        return [image.array, *levels], keywords, "image"
    return image.array, keywords, "image"


def image_of(data: Any, attributes: Mapping[str, Any], axes: str | None = None, index: Index | None = None) -> Image:
    """Return a layer's pixels, or a part of them, with all that is known of their place.

    Parameters
    ----------
    data, attributes
        As in a layer data tuple. Of a multiscale layer the finest level is taken; only the part that is
        asked for is computed or read.
    axes
        Names of the data's dimensions, colour samples included, where the user gave them.
    index
        The part, one slice per dimension.

    Raises
    ------
    ImageError
        If the data cannot be an image, or the axes do not fit.
    """
    finest = data[0] if attributes.get("multiscale") else data
    whole = grid_of(data, attributes, axes)
    index = (slice(None),) * len(whole.shape) if index is None else index
    return part(whole, index, np.asarray(finest[index]))


def grid_of(data: Any, attributes: Mapping[str, Any], axes: str | None = None) -> Image:
    """Return all of a layer's image but its pixels, which are read as 0; arguments as for `image_of`."""
    finest = data[0] if attributes.get("multiscale") else data
    shape = tuple(int(n) for n in finest.shape)
    origin = origin_of(attributes, shape)
    letters = axes or axes_of(attributes, shape)
    if len(letters) != len(shape):
        raise ImageError(f"The axes {letters!r} name {len(letters)} of the layer's {len(shape)} dimensions, {shape}.")
    empty = np.broadcast_to(np.zeros((), np.dtype(finest.dtype)), shape)
    if origin is not None and letters == origin.like.axes and _same_scale(attributes, origin):
        return dataclasses.replace(origin.like, array=empty)
    spacing, units = _measured(attributes, letters)
    # A name per axis that is not the file's any more: what the file said of its axes no longer holds.
    source = Source("array" if origin is None else origin.like.source.format)
    return Image(empty, letters, spacing, units, source=source)


def part(image: Image, index: Index, array: NDArray[Any]) -> Image:
    """Return a part of an image, in its place; `array` holds its pixels."""
    if array.shape == image.shape:
        return image.with_array(array)
    starts = {a: s.indices(n)[0] for a, s, n in zip(image.axes, index, image.shape, strict=True)}
    affine = image.affine
    if affine is not None:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [starts.get(a, 0) for a in "XYZ"]
    # A part of a series or of a file's array is no longer what its header describes.
    source = Source(image.source.format, notes=image.source.notes)
    valid = None if image.valid is None else image.valid[index]
    return dataclasses.replace(image, array=array, affine=affine, valid=valid, source=source)


def origin_of(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Origin | None:
    """Return what a layer's file said of it, if its data still has that shape."""
    origin = attributes.get("metadata", {}).get(KEY)
    return origin if isinstance(origin, Origin) and origin.like.shape == shape else None


def axes_of(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    """Return one letter per dimension: the file's, or the layer's labels, or the usual ones.

    Raises
    ------
    ImageError
        If there are more dimensions than names.
    """
    origin = origin_of(attributes, shape)
    if origin is not None:
        return origin.like.axes
    rgb = bool(attributes.get("rgb"))
    n = len(shape) - rgb
    labels = "".join(str(label)[:1].upper() for label in attributes.get("axis_labels", ()))
    single = all(len(str(label)) == 1 for label in attributes.get("axis_labels", ()))
    if not (single and len(labels) == n and set(labels) <= set(AXES) - {"S"} and {"Y", "X"} <= set(labels)):
        if n not in USUAL:
            raise ImageError(f"A layer of {n} dimensions cannot be restored: give the axes, out of T, C, Z, Y and X.")
        labels = USUAL[n]
    if len(set(labels)) != n:
        raise ImageError(f"The layer's axis labels {labels!r} name a dimension twice; rename them.")
    return labels + "S" * rgb


def geometry(layer: Layer, start: Sequence[int] | None = None, finer: Sequence[int] = ()) -> dict[str, Any]:
    """Return the keywords that put another layer where this one is.

    Parameters
    ----------
    layer
        The one to copy from.
    start
        First voxel of the part that the other layer holds, one number per dimension of the layer.
    finer
        How many voxels of the other layer lie in one of this one, along each dimension: the corners of the field of
        view stay where they are.
    """
    keywords = {name: getattr(layer, name) for name in GEOMETRY}
    factors = np.asarray(finer or (1,) * layer.ndim, float)
    # The middle of the first of some smaller voxels lies nearer to the corner.
    first = np.zeros(layer.ndim) if start is None else np.asarray(start, float)
    first = first + (1 / factors - 1) / 2
    if first.any():
        keywords["translate"] = layer.affine.inverse(np.asarray(layer.data_to_world(first)))
        keywords["scale"] = layer.scale / factors
    return keywords


def look(layer: Layer) -> dict[str, Any]:
    """Return the keywords that make another layer look like this one."""
    return {name: getattr(layer, name) for name in LOOK}


def attributes_of(layer: Layer) -> dict[str, Any]:
    """Return of a layer what `image_of` looks at, as it is now."""
    names = ("scale", "units", "axis_labels", "rgb", "multiscale")
    return {**{name: getattr(layer, name) for name in names}, "metadata": dict(layer.metadata)}


def source_path(attributes: Mapping[str, Any], shape: tuple[int, ...] | None = None) -> str | None:
    """Return the file or folder that a layer came from; with a shape, only if the layer still holds all of it."""
    origin = attributes.get("metadata", {}).get(KEY)
    if not isinstance(origin, Origin) or (shape is not None and origin.like.shape != shape):
        return None
    return origin.like.source.path


def _same_scale(attributes: Mapping[str, Any], origin: Origin) -> bool:
    return bool(np.allclose(attributes.get("scale", origin.scale), origin.scale, rtol=1e-6))


def _measured(attributes: Mapping[str, Any], axes: str) -> tuple[tuple[float | None, ...], tuple[str | None, ...]]:
    """Return spacing and units as the layer's transforms tell them."""
    n = len(axes) - ("S" in axes and bool(attributes.get("rgb")))
    scale = list(attributes.get("scale", (1.0,) * n))
    units = [str(u) for u in attributes.get("units") or ("pixel",) * n]
    spacing: list[float | None] = []
    named: list[str | None] = []
    for axis, step, unit in zip(axes, [*scale, 1.0][: len(axes)], [*units, "pixel"][: len(axes)], strict=True):
        known = axis not in "CS" and not (step == 1 and unit in ("pixel", "dimensionless"))
        spacing.append(abs(float(step)) if known else None)
        named.append(unit if known and unit not in ("pixel", "dimensionless") else None)
    return tuple(spacing), tuple(named)


def _unit(image: Image, axis: str) -> str:
    import pint

    unit = image.units[image.axes.index(axis)]
    if unit is None:
        return "pixel"
    try:
        return str(pint.Unit(unit))
    except (pint.UndefinedUnitError, ValueError):
        return "pixel"


def _samples_placed(image: Image) -> tuple[Image, bool]:
    """Return the image with its colour samples last where napari can show them, else first."""
    if "S" not in image.axes:
        return image, False
    rgb = image.size_of("S") in (3, 4)
    rest = image.axes.replace("S", "")
    axes = rest + "S" if rgb else "S" + rest
    if axes == image.axes:
        return image, rgb
    order = [image.axes.index(a) for a in axes]
    valid = None if image.valid is None else image.valid.transpose(order)
    spacing, units = tuple(image.spacing[i] for i in order), tuple(image.units[i] for i in order)
    array = image.array.transpose(order)
    return dataclasses.replace(image, array=array, axes=axes, spacing=spacing, units=units, valid=valid), rgb


def _start(image: Image, axis: str) -> float:
    """Return where the file puts the first voxel, for formats that say so per axis."""
    grid = image.source.header.get("grid", {})
    return float(grid[axis][1]) if axis in grid else 0.0


def _world(image: Image, axes: str) -> NDArray[np.float64]:
    """Return the matrix that, after the scale, takes a layer's axes to where the patient is.

    The world is the patient's: left, posterior and superior, as in DICOM, so that an axial plane lies on the
    screen as radiologists look at it. napari slices along world axes only, so that the world axis nearest to
    each of the image's is put in its place; sagittal and coronal images are upright, too: their vertical axis
    points down, to inferior.
    """
    assert image.affine is not None
    lps = np.diag([-1.0, -1.0, 1.0]) @ image.affine[:3]
    spatial = [a for a in "XYZ" if a in axes]
    nearest = _nearest_axes(lps[:, :3])
    rows = np.array([lps[nearest["XYZ".index(a)]] for a in spatial])
    if nearest[1] == 2:
        rows[spatial.index("Y")] *= -1
    # The affine is in millimetres, the layer in the image's own unit.
    unit = image.units[image.axes.index("X")]
    rows *= METRES["millimeter"] / METRES.get(unit or "millimeter", METRES["millimeter"])
    n = len(axes)
    matrix = np.eye(n + 1)
    place = [axes.index(a) for a in spatial]
    for row, at in zip(rows, place, strict=True):
        for column, a in zip(place, spatial, strict=True):
            matrix[at, column] = row["XYZ".index(a)] / (image.spacing_of(a) or 1.0)
        matrix[at, n] = row[3]
    return matrix


def _nearest_axes(directions: NDArray[np.float64]) -> list[int]:
    """Return for each of the image's axes (x, y, z) the world's axis that it runs along, each one once."""
    strength = np.abs(directions / np.linalg.norm(directions, axis=0).clip(1e-12))
    found = [0, 0, 0]
    for _ in range(3):
        world, own = np.unravel_index(int(strength.argmax()), (3, 3))
        found[int(own)] = int(world)
        strength[world, :] = -1
        strength[:, own] = -1
    return found


def spatial_of(axes: str) -> str:
    """Return the spatial axes among some, in their order."""
    return "".join(a for a in axes if a in SPATIAL)
