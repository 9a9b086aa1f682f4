"""Reader: whatever `dip_sci.io` knows, by content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dip_sci import io
from dip_sci.errors import DipSciError
from dip_sci.io import registry
from napari_plugin._layers import layer_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_plugin._layers import LayerData


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return a reader for a file or folder that `dip_sci.io` can read, else ``None``.

    Photographs (PNG, JPEG) are left to napari's own reader, and so are lists of files to be stacked.
    """
    if not isinstance(path, str):
        return None
    try:
        form = registry.recognise(Path(path))
    except (DipSciError, OSError):
        return None
    return None if form.name == "raster" else read


def read(path: str) -> list[LayerData]:
    """Read one image as one layer; OME-Zarr stays on the disk until it is looked at.

    Raises
    ------
    ReadError
        As `dip_sci.io.read` does; napari shows its sentence.
    """
    place = Path(path)
    name = place.name.removesuffix(io.full_suffix(place)) or place.name
    levels = io.open_levels(place)
    if levels:
        finest, *coarser = levels
        return [layer_data(finest, name, [level.array for level in coarser])]
    image = io.read(place)
    # Names of DICOM files and folders often are patients'; layers' names are in every screenshot.
    return [layer_data(image, "DICOM" if image.source.format == "dicom" else name)]
