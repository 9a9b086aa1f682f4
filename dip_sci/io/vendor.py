"""Microscopes' own files, in only: Nikon ND2, Leica LIF and Zeiss CZI, each by a library of its own (an extra)."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image, Source
from dip_sci.io.axes import renamed
from dip_sci.io.files import refuse_beyond_file, refuse_beyond_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LIF = b"\x70\0\0\0"
KEEPS: frozenset[str] = frozenset()
LISTED = 10


class _Found(NamedTuple):
    """What a library reads: values by named dimensions, spacing in micrometres and seconds."""

    array: NDArray[Any]
    axes: str
    steps: Mapping[str, float | None]
    channels: tuple[str, ...]


def read(path: Path, axes: str | None = None, series: str | None = None) -> Image:
    """Read one image of an ND2, LIF or CZI file; see `dip_sci.io.read`."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == LIF:
        # Its library reads as many letters as the file says it has.
        refuse_beyond_file(2 * int.from_bytes(head[9:13], "little"), path, path.stat().st_size)
        refuse_beyond_file(int.from_bytes(head[4:8], "little"), path, path.stat().st_size)
    title, module, extra, reader = (
        ("a Zeiss CZI image", "pylibCZIrw.czi", "czi", _czi)
        if head.startswith(b"ZISRAWFILE")
        else ("a Nikon ND2 image", "nd2", "vendor", _nd2)
        if head.startswith(b"\xda\xce\xbe\x0a")
        else ("a Leica LIF image", "liffile", "vendor", _lif)
    )
    found = _by(reader, module, extra, title, path, series)
    keep = [i for i, (a, n) in enumerate(zip(found.axes, found.array.shape, strict=True)) if n > 1 or a in "YX"]
    letters = "".join(found.axes[i] for i in keep)
    array = np.squeeze(found.array, tuple(i for i in range(found.array.ndim) if i not in keep))
    if "S" in letters:
        array = np.moveaxis(array, letters.index("S"), -1)
        letters = f"{letters.replace('S', '')}S"
    notes: tuple[str, ...] = ()
    if "Y" not in letters and "Z" in letters:
        letters, notes = letters.replace("Z", "Y"), ("The image is a section along Z; its Z is called Y here.",)
        found = found._replace(steps={**found.steps, "Y": found.steps.get("Z")})
    if array.dtype.kind not in "iuf" or not set(letters) <= set("TCZYXS"):
        raise ReadError(f"{path} holds values of type {array.dtype} along {letters!r}; export it as OME-TIFF.")
    spacing = tuple(found.steps.get(a) or None for a in letters)
    units = tuple(
        (("second" if a == "T" else "micrometer") if s else None) for a, s in zip(letters, spacing, strict=True)
    )
    channels = found.channels if "C" in letters and len(found.channels) == array.shape[letters.index("C")] else ()
    header = MappingProxyType({"own": (), "lost": ("the microscope's own metadata (objective, exposure, dates)",)})
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    source = Source("vendor", str(path), header, notes, channels)
    return renamed(Image(array, letters, spacing, units, source=source), axes, path)


def _by(
    reader: Callable[[Any, Path, str | None], _Found],
    module: str,
    extra: str,
    title: str,
    path: Path,
    series: str | None,
) -> _Found:
    try:
        library = import_module(module)
    except ImportError as error:
        raise ReadError(
            f"{path} is {title}, which needs another library: pip install 'dip-sci[{extra}]', or export it as OME-TIFF."
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return reader(library, path, series)


def _chosen(shapes: Sequence[str], wanted: str | None, path: Path) -> int:
    """Return which of a file's images is meant, by its place in the list, as ``"#2"`` or ``"2"``.

    Raises
    ------
    ReadError
        If there are several and none of them is named: the message lists them, without their names, which may be
        those of patients.
    """
    places = {name: i for i in range(len(shapes)) for name in (f"#{i + 1}", str(i + 1))}
    if wanted in places:
        return places[wanted]
    if wanted is None and len(shapes) == 1:
        return 0
    lines = [f"#{i} {shape}" for i, shape in enumerate(shapes[:LISTED], 1)]
    more = f"; and {len(shapes) - LISTED} more" if len(shapes) > LISTED else ""
    raise ReadError(
        f"{path} holds {len(shapes)} images: {'; '.join(lines)}{more}. Choose one: for instance series='1' (--series 1) "
        "reads the first."
    )


def _sizes(axes: Iterable[str], shape: Iterable[int]) -> str:
    return " x ".join(f"{n} {a}" for a, n in zip(axes, shape, strict=True) if n > 1 or a in "YX")


def _nd2(library: Any, path: Path, series: str | None) -> _Found:
    with library.ND2File(path) as file:
        sizes = dict(file.sizes)
        refuse_beyond_memory(int(np.prod(list(sizes.values()))) * file.dtype.itemsize, path)
        inner = {a: n for a, n in sizes.items() if a != "P"}
        place = _chosen([_sizes(inner, inner.values())] * sizes.get("P", 1), series, path)
        array = file.asarray()
        if "P" in sizes:
            array = np.take(array, place, axis=list(sizes).index("P"))
        voxel = file.voxel_size()
        names = tuple(str(c.channel.name) for c in getattr(file.metadata, "channels", None) or ())
        periods = [
            loop.parameters.periodMs / 1000 for loop in file.experiment if getattr(loop, "type", "") == "TimeLoop"
        ]
    steps = {"X": voxel.x, "Y": voxel.y, "Z": voxel.z, "T": periods[0] if periods else None}
    return _Found(array, "".join(inner), steps, names)


def _lif(library: Any, path: Path, series: str | None) -> _Found:
    with library.LifFile(path) as file:
        images = file.images
        if not len(images):
            raise ReadError(f"{path} is a LIF file without an image in it.")
        image = images[_chosen([_sizes((str(d)[:1] for d in i.dims), i.shape) for i in images], series, path)]
        refuse_beyond_memory(int(image.nbytes), path)
        array, axes = np.asarray(image.asarray()), "".join(str(d)[:1] for d in image.dims)
        steps = {a: _step(image.coords.get(a), 1.0 if a == "T" else 1e6) for a in "TZYX"}
        return _Found(array, axes, steps, ())


def _step(places: Any, factor: float) -> float | None:
    """Return the distance between the first places along a dimension, positive or not known."""
    if places is None or len(places) < 2:
        return None
    step = abs(float(places[1]) - float(places[0])) * factor
    return step if np.isfinite(step) and step > 0 else None


def _czi(library: Any, path: Path, series: str | None) -> _Found:
    with library.open_czi(str(path)) as file:
        box = file.total_bounding_box
        length = {a: box[a][1] - box[a][0] for a in "TCZ" if a in box}
        rectangle = file.scenes_bounding_rectangle
        scenes = sorted(rectangle)
        others = [length.get(a, 1) for a in "TCZ"]
        shapes = [_sizes("TCZYX", (*others, rectangle[s].h, rectangle[s].w)) for s in scenes]
        scene = scenes[_chosen(shapes, series, path)] if scenes else None
        if not scenes:
            _chosen([""], series, path)
        planes = [
            file.read(plane={"T": t, "C": c, "Z": z}, scene=scene)
            for t in range(length.get("T", 1))
            for c in range(length.get("C", 1))
            for z in range(length.get("Z", 1))
        ]
        refuse_beyond_memory(2 * sum(p.nbytes for p in planes), path)
        shape = (length.get("T", 1), length.get("C", 1), length.get("Z", 1), *planes[0].shape)
        array = np.stack(planes).reshape(shape)
        # Colours are stored blue first.
        array = array[..., ::-1] if array.shape[-1] == 3 else array
        return _Found(array, "TCZYXS", _czi_steps(file.metadata), _czi_channels(file.metadata))


def _czi_channels(metadata: Any) -> tuple[str, ...]:
    try:
        channels = metadata["ImageDocument"]["Metadata"]["Information"]["Image"]["Dimensions"]["Channels"]["Channel"]
        return tuple(str(c["@Name"]) for c in (channels if isinstance(channels, list) else [channels]))
    except (KeyError, TypeError):
        return ()


def _czi_steps(metadata: Any) -> dict[str, float | None]:
    try:
        items = metadata["ImageDocument"]["Metadata"]["Scaling"]["Items"]["Distance"]
        return {str(i["@Id"]): float(i["Value"]) * 1e6 for i in (items if isinstance(items, list) else [items])}
    except (KeyError, TypeError, ValueError):
        return {}


def check(path: Path, image: Image) -> None:
    """Refuse: these formats are only read."""
    raise WriteError(f"{path} cannot be written: microscopes' own formats are only read; write .ome.tif or .ome.zarr.")
