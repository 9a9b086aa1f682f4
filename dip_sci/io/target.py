"""Where a result goes: the file, its record beside it, and the BIDS dataset around them where there is one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dip_sci import io
from dip_sci.errors import WriteError
from dip_sci.io import bids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.image import Image


@dataclass(frozen=True)
class Target:
    """A result's place.

    Attributes
    ----------
    file
        The result, with its suffix.
    source, dataset
        The scan in a BIDS dataset, and the root of the derivative dataset; ``None`` elsewhere.
    """

    file: Path
    source: Path | None = None
    dataset: Path | None = None

    @classmethod
    def of(cls, source: Path, output: Path, image: Image, done: str = bids.DESC) -> Target:
        """Return the place that an output stands for: without a suffix, in the format of the scan.

        Parameters
        ----------
        source
            Where the scan was read.
        output
            As the user gave it; without a suffix, for a scan in a BIDS dataset, the derivative dataset's folder.
        image
            The scan.
        done
            What was done to it, in one word, for the names of BIDS.
        """
        if output.suffix or bids.dataset_of(source) is None:
            return cls(io.completed(output, image))
        suffix = io.full_suffix(io.completed(source.with_name("x"), image))
        return cls(bids.derivative(source, output, suffix, done), source, output)

    @property
    def record(self) -> Path:
        """The record's file."""
        name = self.file.name
        return self.file.with_name(name[: len(name) - len(io.full_suffix(self.file))] + ".json")

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.record.with_name(self.record.name.removesuffix(".json") + ".html")

    def refuse(self, image: Image, version: str, *, overwrite: bool, inputs: Sequence[Path]) -> None:
        """Raise a `WriteError` where nothing can be written, before the work; make a derivative dataset's folders."""
        if self.source is not None and self.dataset is not None:
            bids.prepare(self.source, self.dataset, self.file, version)
        io.check_target(self.file, image, overwrite=overwrite, inputs=inputs)
        if self.record.exists() and (not overwrite or any(self.record.samefile(i) for i in inputs)):
            raise WriteError(f"The record {self.record} exists already; give --overwrite to replace it.")

    def write(self, image: Image, record: dict[str, Any], *, overwrite: bool, description: str = "") -> None:
        """Write the result and its record, which in a BIDS dataset is part of the sidecar."""
        io.write(self.file, image, overwrite=overwrite, description=description)
        described = record if self.source is None else {**bids.sidecar(self.source), "DipSciRecord": record}
        io.write_text(self.record, json.dumps(described, indent=1) + "\n")
