"""Writer: a layer back into a file of the format that its name asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dip_sci import io
from dip_sci.io.target import Target
from napari_plugin._layers import RECORD, image_of


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write one image layer with its geometry and its source's metadata; for a result, the record beside it.

    Raises
    ------
    WriteError
        As `dip_sci.io.write` does; napari shows its sentence. napari has asked before a file is replaced.
    """
    return [str(p) for p in save(Path(path), data, attributes)]


def save(path: Path, data: Any, attributes: dict[str, Any]) -> list[Path]:
    """Write a layer; return the files written, the image first."""
    image = image_of(data, attributes)
    record = attributes.get("metadata", {}).get(RECORD)
    if record is None:
        return [io.write(path, image, overwrite=True)]
    target = Target(io.completed(path, image))
    said = {**record["record"], "notes": [*record["record"]["notes"], *io.not_kept(target.file, image)]}
    target.write(image, said, overwrite=True, description=record["description"])
    return [target.file, target.record]
