"""The plan of a batch: where each result goes, and what is left to do."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dip_sci import provenance
from dip_sci.batch import manifest as states
from dip_sci.errors import DipSciError
from dip_sci.io import bids, registry
from dip_sci.io.target import Target
from dip_sci.job import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.batch.manifest import Manifest
    from dip_sci.io.find import Found
    from dip_sci.recipe import Recipe


SAVED = ".checkpoints"
"""Folder of the states of runs under way."""


@dataclass(frozen=True)
class Task:
    """One scan of a batch.

    Attributes
    ----------
    name
        The result's place below the output folder, by which the manifest knows it.
    shown
        The scan as the user named it.
    job
        What to do.
    size, changed
        Bytes of the scan's files, and when the last of them was changed, in nanoseconds.
    """

    name: str
    shown: str
    job: Job
    size: int
    changed: int

    @property
    def report(self) -> str | None:
        """The report's place below the output folder, where one is drawn."""
        assert isinstance(self.job.output, Target)
        return self.name.removesuffix(Path(self.name).name) + self.job.output.report.name if self.job.report else None

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the scan before it is read."""
        series = {} if self.job.series is None else {"series": self.job.series}
        return {"input": self.shown, **series, "size": self.size, "changed_ns": self.changed}


@dataclass(frozen=True)
class Plan:
    """What is left to do: tasks to run (the largest first), those done already, and those refused, with the reason."""

    todo: list[Task]
    done: list[Task]
    refused: list[tuple[Task, str]]


def make(found: Sequence[Found], folder: Path, like: Job) -> tuple[list[Task], list[tuple[Task, str]]]:
    """Give each scan a place for its result.

    Parameters
    ----------
    found
        The scans.
    folder
        The output folder.
    like
        A job with the options for all.

    Returns
    -------
    tasks, refused
        Those that have a place of their own; those that have not, with the reason.
    """
    tasks: list[Task] = []
    refused: list[tuple[Task, str]] = []
    many = {f.path for f in found if f.series is not None}
    for scan in found:
        alone = scan.path not in many and not any(scan.path in other.path.parents for other in found)
        tasks.append(_task(scan, folder, _target(scan, folder, alone=alone), like))
    claims: dict[Path, list[Task]] = defaultdict(list)
    for task in tasks:
        for place in _places(task):
            claims[place].append(task)
    free = []
    for task in tasks:
        others = {other.shown: place for place in _places(task) for other in claims[place] if other is not task}
        if others:
            name, place = next(iter(others.items()))
            refused.append((task, f"{name} would be written to {place}, too; rename one, or give each a folder."))
        else:
            free.append(task)
    return free, refused


def compare(
    tasks: Sequence[Task],
    refused: list[tuple[Task, str]],
    folder: Path,
    manifest: Manifest,
    options: str,
    *,
    overwrite: bool,
) -> Plan:
    """Compare the tasks with what the manifest says was done.

    Parameters
    ----------
    tasks, refused
        From `make`.
    folder
        The output folder.
    manifest
        Of earlier batches into that folder.
    options
        Hash of the recipe and the other options.
    overwrite
        Whether results that no batch has made may be replaced.
    """
    todo, done, refused = [], [], list(refused)
    for task in tasks:
        if _is_done(task, folder, manifest.last.get(task.name), options):
            done.append(task)
        elif task.name not in manifest.owned and not overwrite and (place := _in_the_way(task)) is not None:
            refused.append((task, f"{place} exists already, and no batch has made it; allow --overwrite, or move it."))
        else:
            todo.append(replace(task, job=replace(task.job, overwrite=True)))
    return Plan(sorted(todo, key=lambda t: -t.size), done, refused)


def hash_of(recipe: Recipe, **more: Any) -> str:
    """Return the hash of all options that the results depend on."""
    text = json.dumps({"recipe": recipe.model_dump(mode="json"), **more}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _task(scan: Found, folder: Path, target: Target, like: Job) -> Task:
    files = tuple(file.absolute() for file in scan.files)
    stats = [file.stat() for file in files if file.exists()]
    output = replace(target, file=target.file.absolute())
    name = Path(os.path.relpath(target.file.absolute(), folder.absolute())).as_posix()
    saved = folder.absolute() / SAVED / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npz"
    job = replace(like, source=scan.path.absolute(), series=scan.series, files=files, output=output, checkpoint=saved)
    changed = max((s.st_mtime_ns for s in stats), default=0)
    return Task(name, str(scan.path), job, sum(s.st_size for s in stats), changed)


def _target(scan: Found, folder: Path, *, alone: bool) -> Target:
    suffix = _suffix(scan.path)
    if suffix and bids.dataset_of(scan.path) is not None:
        source = scan.path.absolute()
        return Target(bids.derivative(source, folder.absolute(), suffix), source, folder.absolute())
    if scan.path.is_dir() and not suffix:
        # A derived series replaces its whole folder: it shares it with nothing.
        within = folder / scan.name
        series = (scan.series or "#1").removeprefix("#")
        return Target(within if alone and within != folder else within / f"series_{int(series):03d}")
    name = scan.path.name
    return Target(folder / scan.name.parent / (name[: len(name) - len(registry.full_suffix(scan.path))] + suffix))


def _suffix(path: Path) -> str:
    """Return the suffix of a scan's result: its own where that can be written; none for a folder of DICOM files."""
    try:
        form = registry.recognise(path)
    except DipSciError:
        # Reading it says what is wrong with it.
        return registry.full_suffix(path)
    return registry.own_suffix(form.name, path) or ("" if path.is_dir() else registry.DICOM_SUFFIXES[0])


def _places(task: Task) -> set[Path]:
    target = task.job.output
    assert isinstance(target, Target)
    return {target.file, target.record, *([target.report] if task.job.report else [])}


def _in_the_way(task: Task) -> Path | None:
    target = task.job.output
    assert isinstance(target, Target)
    return next((place for place in (target.file, target.record) if os.path.lexists(place)), None)


def _is_done(task: Task, folder: Path, entry: dict[str, Any] | None, options: str) -> bool:
    if entry is None or entry["state"] != states.DONE or entry.get("options") != options:
        return False
    target = task.job.output
    assert isinstance(target, Target)
    if not all(place.exists() for place in _places(task)):
        return False
    if (entry.get("size"), entry.get("changed_ns")) == (task.size, task.changed):
        return True
    # A copy has another date and the same contents.
    return bool(entry.get("size") == task.size and entry.get("sha256") == _digest(task))


def _digest(task: Task) -> str | None:
    try:
        return provenance.digest(task.job.source, task.job.files)
    except OSError:
        return None
