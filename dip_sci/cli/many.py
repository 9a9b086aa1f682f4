"""The command that restores many scans, and says where such a batch stands."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators
from rich.console import Console

from dip_sci import logs
from dip_sci.cli.program import (
    EXIT_ABORTED,
    EXIT_ERROR,
    EXIT_OK,
    EXIT_STOPPED,
    AsJson,
    Options,
    RecipeFile,
    Switch,
    Verbose,
    app,
    recipe_of,
)
from dip_sci.cli.screen import ctrl_c, say, screen
from dip_sci.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dip_sci.batch.loop import Standing

AT_LEAST_ONE = validators.Number(gte=1)

STOPPING = "Stopping; the scans at work are finished first. Ctrl-C again abandons them."


@app.command
def batch(
    *sources: str,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    status: Path | None = None,
    recipe: RecipeFile = None,
    workers: Annotated[int | None, Parameter(validator=AT_LEAST_ONE)] = None,
    threads: Annotated[int | None, Parameter(validator=AT_LEAST_ONE)] = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    axes: str | None = None,
    report: Switch = False,
    overwrite: bool = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
    options: Options = None,
) -> int:
    """Remove the noise of many scans, each on its own; what is done stays done when it is run again.

    Parameters
    ----------
    sources
        Files, patterns in quotes ('IN/**/*.nii.gz') and folders: of a BIDS dataset its scans, of any other folder all
        images in it, DICOM files series by series.
    output
        Folder of the results, which get their scans' names; for scans of a BIDS dataset, of the derivative dataset.
        It also holds manifest.jsonl (what became of each scan) and batch.log.
    status
        Say where the batch with this output folder stands, and do nothing.
    recipe
        YAML or JSON file with options; those given here win.
    workers
        Scans that are restored at once; by default one per GPU, or as many as the cores and the memory allow.
    threads
        Threads for each of them; by default an equal share of the cores.
    scheduler
        Address of a running dask scheduler (tcp://host:8786) whose workers do the work.
    slurm
        Let SLURM jobs do the work: partition=gpu,cores=8,memory=32GB,walltime=08:00:00,gres=gpu:1
    axes
        Meaning of the scans' dimensions (for instance TYX), where their files do not say.
    report
        Draw a report beside each result, and report.html of all.
    overwrite
        Replace results that no batch has made.
    verbose
        Say what happens.
    as_json
        Print what became of each scan, and nothing else.
    """
    from dip_sci import batch as batches

    if status is not None:
        return _show_status(batches.status(status), as_json=as_json)
    if output is None or not sources:
        raise RecipeError("Give the scans and a folder for the results: dip-sci batch 'IN/**/*.nii.gz' -o OUT.")
    chosen = recipe_of(recipe, options)
    stop, abandon = threading.Event(), threading.Event()
    with logs.shown(say, wanted=verbose), ctrl_c(stop, abandon, STOPPING), _batch_bar(as_json) as show:
        end = batches.run(
            sources,
            output,
            chosen,
            workers=workers,
            threads=threads,
            scheduler=scheduler,
            slurm=slurm,
            axes=axes,
            overwrite=overwrite,
            report=report,
            stop=stop,
            abandon=abandon,
            show=show,
        )
    if as_json:
        print(json.dumps(batches.status(output), indent=1))  # noqa: T201
    else:
        _tell_batch(end, output)
    if abandon.is_set():
        return EXIT_ABORTED
    return EXIT_STOPPED if end.left else EXIT_ERROR if end.failed else EXIT_OK


@contextmanager
def _batch_bar(quiet: bool) -> Iterator[Callable[[Standing], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    if quiet:
        yield lambda standing: None
        return
    columns = (
        TextColumn("restoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=screen, transient=not screen.is_terminal) as bar:
        task = bar.add_task("", note="starting")

        def show(standing: Standing) -> None:
            note = f"{len(standing.running)} at work" if standing.workers else "waiting for workers"
            note += f", {len(standing.failed)} failed" if standing.failed else ""
            under_way = standing.total - standing.left + sum(standing.running.values())
            bar.update(task, total=standing.total, completed=under_way, note=note)

        yield show


def _tell_batch(end: Standing, output: Path) -> None:
    for name, why in sorted(end.failed.items()):
        say(f"Failed: {name}: {why}")
    said = (
        f"{len(end.done)} done, {end.skipped} done before, {len(end.failed)} failed, {end.left} left, of {end.total}."
    )
    say(f"{said} Results, manifest.jsonl and batch.log are in {output}.")
    if end.left or end.failed:
        say("The same command goes on where this one ended, and tries again what failed.")


def _show_status(found: dict[str, dict[str, Any]], *, as_json: bool) -> int:
    """Print where a batch stands: an exit code that says whether anything failed."""
    failed = [entry for entry in found.values() if entry["state"] == "failed"]
    if as_json:
        print(json.dumps(found, indent=1))  # noqa: T201
        return EXIT_ERROR if failed else EXIT_OK
    out = Console()
    for name, entry in sorted(found.items()):
        more = entry.get("error") or entry.get("stop_reason") or ""
        out.print(f"{entry['state']:<12}{name}  {more}", highlight=False, markup=False, soft_wrap=True)
    counts = Counter(entry["state"] for entry in found.values())
    out.print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())), highlight=False)
    return EXIT_ERROR if failed else EXIT_OK
