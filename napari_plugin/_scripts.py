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

LAYERS = {"guide": "guide", "psf": "point spread function"}
"""What can be given as a layer, and what to call it."""


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
    needed
        What the task needs besides the image: a factor, or the file of a layer, ``None`` where it came from none.
    part
        Whether only some time points or channels are restored.
    series
        Which one of those that the scan's file or folder holds.
    """

    task: Task
    given: dict[str, Any]
    source: str | None
    axes: str | None = None
    region: bool = False
    needed: str | None = None
    part: bool = False
    series: str | None = None

    @property
    def missing(self) -> str:
        """What the user has to do before the script runs; empty where nothing is."""
        what = "time points and channels that are restored" if self.part else "image layer"
        todo = [] if self.source else [f"save the {what} as scan.tif"]
        todo += ["save the region, as a Labels layer, as region.tif"] if self.region else []
        if self.task.needs and self.needed is None:
            todo.append(f"save the {LAYERS[self.task.needs]} as {self._needed}")
        return f"Before it runs: {' and '.join(todo)}." if todo else ""

    def command(self) -> str:
        """Return the command line."""
        words = ["dip-sci", self.task.command, self._source, "--output", self._target]
        words += [f"--{self.task.needs}", self._needed] if self.task.needs else []
        words += ["--normalise"] if self.task.needs == "psf" else []
        words += ["--axes", self.axes] if self.axes else []
        words += ["--series", self.series] if self.series else []
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
        read += f", series={self.series!r}" if self.series else ""
        region = f', {self.task.mask}=dip_sci.read("region.tif")' if self.region else ""
        more = "from dip_sci.tasks import normalised\n" if self.task.needs == "psf" else ""
        return (
            f"import dip_sci\n{more}\n"
            f"image = dip_sci.read({read})\n"
            f"recipe = dip_sci.Recipe.parse({self.given!r})\n"
            f"result = dip_sci.{self.task.name}(image{self._argument}, recipe=recipe{region})\n"
            f"dip_sci.write({self._target!r}, result.image)\n"
        )

    @property
    def _source(self) -> str:
        return self.source or "scan.tif"

    @property
    def _needed(self) -> str:
        return self.needed or f"{self.task.needs}.tif"

    @property
    def _argument(self) -> str:
        """What the function is given besides the image."""
        read = f"dip_sci.read({self._needed!r})"
        match self.task.needs:
            case "factor":
                return f", {self._needed}" if self._needed.isdigit() else f", ({self._needed})"
            case "psf":
                return f", normalised({read})"
            case "guide":
                return f", {read}"
            case _:
                return ""

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
