"""The overview of a batch's reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dip_sci import io, report

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "report.html"


def write_overview(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the page that compares all scans of a batch.

    Parameters
    ----------
    folder
        The output folder.
    entries
        What the manifest says of each result, by its place in the folder.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    return io.write_text(folder / NAME, report.overview(folder, entries))
