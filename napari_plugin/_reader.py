"""Reader: whatever `dip_sci.io` knows, by content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from napari.utils.notifications import show_warning

from dip_sci import io
from dip_sci.errors import DipSciError, ReadError
from dip_sci.io import registry
from napari_plugin._layers import layer_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from dip_sci.io.dicom_series import Entry
    from napari_plugin._layers import LayerData

DICOM = "DICOM"
"""What layers of DICOM are called. Names of files and folders often are patients'; layers' are in every screenshot."""

MOST, ROOM = 16, 1 / 4
"""Series of one folder that are opened at most, and the share of the free memory that they may take together."""


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
    if form.name == "dicom":
        return read_dicom
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
    return [layer_data(io.read(place), name)]


def read_dicom(path: str) -> list[LayerData]:
    """Read each series of a DICOM folder or DICOMDIR, and each part of a file, as a layer of its own.

    A series that is no image on a regular grid is left out, with a warning that says why.

    Raises
    ------
    ReadError
        If none of them can be read, or they are too many or too large to be opened at once; napari shows its sentence.
    """
    from dip_sci.io import dicom

    place = Path(path)
    try:
        found = dicom.contents(place)
    except DipSciError:
        found = []
    if len(found) < 2:
        # Alone, it says itself what is wrong with it.
        return [layer_data(io.read(place), DICOM)]
    _refuse_many(place, found)
    layers, failed = [], []
    for entry in found:
        try:
            layers.append(layer_data(io.read(place, series=entry.place), f"{DICOM} {entry.words}", series=entry.place))
        except DipSciError as error:
            failed.append(f"{entry.place} {entry.words}: {error}")
    if not layers:
        raise ReadError(f"None of the {len(found)} series can be read. {failed[0]}")
    if failed:
        show_warning(f"{len(layers)} of {len(found)} series were opened. " + "\n".join(failed))
    return layers


def _refuse_many(place: Path, found: list[Entry]) -> None:
    size = sum(entry.nbytes for entry in found)
    if len(found) <= MOST and size <= ROOM * psutil.virtual_memory().available:
        return
    lines = [f"{entry.place} {entry.words}" for entry in found[:MOST]]
    more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
    raise ReadError(
        f"{place} holds {len(found)} series of together {size / 2**30:.1f} GB, too much to open at once: {'; '.join(lines)}"
        f"{more}. Open the folder of one, or take one out with: dip-sci convert FOLDER scan.nii.gz --series '#1'"
    )
