"""What becomes of every file of a folder: ``python -m benchmarks.formats [FOLDER ...]``.

Reads each file of ``dicom_edge`` and ``formats`` below DIP_SCI_DATA, or of the folders given, and prints a table for
``docs/formats.md``: axes, shape and type of what was read, or why it was refused. Images that are folders (OME-Zarr) count
as one. Exits with 1 where reading ends in anything but an image or a refusal.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from dip_sci import io
from dip_sci.errors import ReadError

BESIDE = {".txt", ".md", ".tsv", ".csv", ".json", ".pdf", ".xml", ".py", ".yml", ".yaml", ".html", ".url"}
"""Suffixes of what lies beside images."""


def images(folder: Path) -> list[Path]:
    """Return the files of a folder, each OME-Zarr as one."""
    found = []
    for path in sorted(folder.rglob("*")):
        if any(p.name.endswith(".zarr") for p in path.relative_to(folder).parents):
            continue
        if path.name.endswith(".zarr") or (path.is_file() and path.suffix.lower() not in BESIDE):
            found.append(path)
    return found


def verdict(path: Path, folder: Path) -> tuple[str, str]:
    """Return ``read``, ``refused`` or ``CRASHED``, and what was read or why not, without the folder's name."""
    try:
        image = io.read(path)
    except ReadError as error:
        said = re.sub(re.escape(str(path)), "It", str(error)).replace(f"{folder}/", "")
        return "refused", said
    except Exception as error:  # noqa: BLE001
        return "CRASHED", type(error).__name__
    notes = " ".join(image.source.notes)
    return "read", f"{image.axes} {' × '.join(map(str, image.shape))} {image.dtype}{'. ' if notes else ''}{notes}"


def table(folder: Path) -> list[tuple[str, str, str]]:
    """Return name, verdict and reason for each image of a folder."""
    return [(path.relative_to(folder).as_posix(), *verdict(path, folder)) for path in images(folder)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", nargs="*", type=Path)
    given = parser.parse_args()
    data = Path(os.environ.get("DIP_SCI_DATA", "."))
    crashed = 0
    for folder in given.folders or [data / "dicom_edge", data / "formats"]:
        rows = table(folder)
        read = sum(found == "read" for _, found, _ in rows)
        print(f"\n## {folder.name}: {read} of {len(rows)} read\n\n| file | | |\n| --- | --- | --- |")
        for name, found, why in rows:
            print(f"| {name} | {found} | {why.replace('|', '/')} |")
            crashed += found == "CRASHED"
    return crashed > 0


if __name__ == "__main__":
    sys.exit(main())
