"""The command line: read, restore with a bar, write."""

from __future__ import annotations

from dip_sci.cli import camera, files, many, restoring, sample, weights
from dip_sci.cli.program import app, main

__all__ = ["app", "camera", "files", "main", "many", "restoring", "sample", "weights"]
