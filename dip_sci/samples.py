"""The sample images that travel with the package."""

from __future__ import annotations

from pathlib import Path

from dip_sci.errors import ReadError


def folder() -> Path:
    """Return the folder of the sample images, in an installed package as in a clone.

    Raises
    ------
    ReadError
        If they were not installed.
    """
    here = Path(__file__).parent
    for place in (here / "sample_data", here.parent / "sample_data"):
        if place.is_dir():
            return place
    raise ReadError(f"The sample images are missing: there is no sample_data folder in {here.parent}.")
