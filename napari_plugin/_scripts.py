"""The same run elsewhere: as a command, and as lines of Python."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dip_sci import io

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_plugin._tasks import Task


@dataclass(frozen=True)
class Script:
    """What a run is made of, by name.

    Attributes
    ----------
    task, given
        What to do, and the options set by hand, in nested dictionaries.
    source
        The scan's file or folder; ``None`` for a layer that came from none.
    axes
        The axes, where the user gave them.
    region
        Whether there is one: a layer has no file, so that the script names one that has to be saved first.
    """

    task: Task
    given: dict[str, Any]
    source: str | None
    axes: str | None = None
    region: bool = False

    @property
    def missing(self) -> str:
        """What the user has to do before the script runs; empty where nothing is."""
        todo = [] if self.source else ["save the image layer as scan.tif"]
        todo += ["save the region, as a Labels layer, as region.tif"] if self.region else []
        return f"Before it runs: {' and '.join(todo)}." if todo else ""

    def command(self) -> str:
        """Return the command line."""
        words = ["dip-sci", self.task.name, self._source, "--output", self._target]
        words += ["--axes", self.axes] if self.axes else []
        words += [f"--{self.task.mask}", "region.tif"] if self.region else []
        for name, value in _flat(self.given):
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--{_no(flag)}")
            else:
                words += [f"--{flag}", *map(_word, value if isinstance(value, list | tuple) else [value])]
        return shlex.join(words)

    def python(self) -> str:
        """Return lines of Python."""
        read = f"{self._source!r}" + (f", axes={self.axes!r}" if self.axes else "")
        region = f', {self.task.mask}=dip_sci.read("region.tif")' if self.region else ""
        return (
            "import dip_sci\n\n"
            f"image = dip_sci.read({read})\n"
            f"recipe = dip_sci.Recipe.parse({self.given!r})\n"
            f"result = dip_sci.{self.task.name}(image, recipe=recipe{region})\n"
            f"dip_sci.write({self._target!r}, result.image)\n"
        )

    @property
    def _source(self) -> str:
        return self.source or "scan.tif"

    @property
    def _target(self) -> str:
        path = Path(self._source)
        suffix = io.full_suffix(path) if path.suffix else ""
        stem = path.name.removesuffix(suffix)
        # What cannot be written in its own format goes into one that keeps most.
        writable = {"": "", ".nd2": ".ome.tif", ".lif": ".ome.tif", ".czi": ".ome.tif"}
        return f"{stem}_{self.task.done}{writable.get(suffix.lower(), suffix)}"


def _flat(given: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _no(flag: str) -> str:
    group, _, last = flag.rpartition(".")
    return f"{group}.no-{last}" if group else f"no-{last}"


def _word(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)
