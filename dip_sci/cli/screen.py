"""What a person sees while a command runs: bars, sentences, and what Ctrl-C does."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

if TYPE_CHECKING:
    import threading
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from dip_sci.progress import Progress
    from dip_sci.restoration import Restoration

T = TypeVar("T")

STOPPING = "Stopping; the best result so far will be written. Ctrl-C again abandons it."

screen = Console(stderr=True)


def watch(run: Generator[Progress[Any], None, T], cancel: threading.Event, *, quiet: bool) -> T:
    """Go through a run with a bar, and return what it returns."""
    with ctrl_c(cancel, None, STOPPING), _bar(quiet) as show:
        while True:
            try:
                show(next(run))
            except StopIteration as end:
                result: T = end.value
                return result


@contextmanager
def ctrl_c(first: threading.Event, second: threading.Event | None, words: str) -> Iterator[None]:
    """Let the first Ctrl-C stop in good order, and the second set its event or, without one, interrupt."""

    def handle(number: int, frame: object) -> None:
        if first.is_set():
            if second is None:
                raise KeyboardInterrupt
            second.set()
            return
        first.set()
        screen.print(words)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    if quiet:
        yield lambda progress: None
        return
    columns = TextColumn("fitting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
    with Bar(*columns, console=screen, transient=not screen.is_terminal) as bar:
        task = bar.add_task("", note="starting")

        def show(progress: Progress[Any]) -> None:
            note = f"data term {progress.data_term:.4f}, {duration(progress.eta)} left"
            bar.update(task, total=progress.steps, completed=progress.step, note=note)

        yield show


def tell(result: Restoration, output: Path) -> None:
    """Say what became of a scan, and where it is."""
    report = result.report
    screen.print(report.reason.value, highlight=False)
    made_of = [f"Made of {report.reasons['output.classical']}."] if len(report.weights) > 1 else []
    for line in (*report.noise[:4], *made_of, *report.notes):
        screen.print(line, highlight=False, soft_wrap=True)
    screen.print(f"Wrote {output} after {duration(report.seconds)} ({report.device}).", highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Show a line as it is."""
    screen.print(line, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Put a time into words."""
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"
