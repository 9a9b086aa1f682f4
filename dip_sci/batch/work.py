"""What a worker does with one scan."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dip_sci import io
from dip_sci.batch.manifest import now
from dip_sci.errors import DipSciError, WriteError
from dip_sci.io.files import remove_leftovers
from dip_sci.io.target import Target
from dip_sci.job import Opened

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from dip_sci.job import Job
    from dip_sci.progress import Progress

T = TypeVar("T")

ONE_AT_A_TIME = threading.Lock()
"""torch's threads and random state belong to the process: a worker with several threads still does one job."""

ASK_EVERY = 2.0
"""Seconds between two looks whether the batch was abandoned."""

LEARNED = 0.3
"""Share of the work on a large image that is done when it has been learned from: for the eye."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    error
        Why there is no result, in a sentence; ``None`` where there is one.
    facts
        What the manifest says of it.
    notes
        Sentences for the log.
    tiles
        How many tiles a large image has, of which others may do their share now; ``None`` where the job is done.
    """

    error: str | None
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    tiles: int | None = None


class Abandoned(Exception):
    """Nobody waits for the result any more."""


def work(
    job: Job,
    threads: int | None = None,
    tell: Callable[[float], None] = lambda share: None,
    is_abandoned: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Do one job, whatever comes: an error becomes part of the outcome.

    Parameters
    ----------
    job
        What to do.
    threads
        Threads that it may use; by default as many as the process is set to.
    tell
        Is told the share of the work that is done, now and then.
    is_abandoned
        Is asked now and then whether to give up.

    Raises
    ------
    Abandoned
        If so.
    """
    with ONE_AT_A_TIME:
        started = time.monotonic()
        facts: dict[str, Any] = {"began": now(), "host": socket.gethostname(), "pid": os.getpid()}
        try:
            facts |= _result(job, threads, tell, is_abandoned)
            error = None
        except DipSciError as failure:
            error = str(failure)
        except MemoryError:
            error = f"There is not enough memory for {job.source} here; use fewer workers, or a larger machine."
        except OSError as failure:
            error = f"{job.source} could not be restored: {failure.strerror or type(failure).__name__}."
        except Abandoned:
            raise
        except Exception as failure:  # noqa: BLE001
            # Its own words may quote a header.
            error = f"{job.source} could not be restored ({type(failure).__name__}); please report this."
        notes, tiles = facts.pop("notes", ()), facts.pop("tiles", None)
        return Outcome(error, {**facts, "seconds": round(time.monotonic() - started, 2)}, tuple(notes), tiles)


def _result(
    job: Job, threads: int | None, tell: Callable[[float], None], is_abandoned: Callable[[], bool]
) -> dict[str, Any]:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    _make_room(job)
    opened = Opened(job)
    if opened.is_shared():
        return {"tiles": _driven(opened.make_tiles(), tell, is_abandoned)}
    record = opened.write(_driven(opened.restore(), tell, is_abandoned))
    kept = ("stop_reason", "complete", "steps", "best_step", "device", "notes")
    return {"sha256": record["input"]["sha256"], **{name: record[name] for name in kept}}


def _make_room(job: Job) -> None:
    """Make the folders that are written to, and remove what a killed process has left there."""
    target = job.output
    assert isinstance(target, Target)
    assert job.checkpoint is not None
    try:
        target.file.parent.mkdir(parents=True, exist_ok=True)
        job.checkpoint.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(f"The folder {target.file.parent} cannot be made: {error.strerror}.") from None
    for place in (target.file, target.record, target.report, job.checkpoint):
        remove_leftovers(place, io.full_suffix(place))


def _driven(
    run: Generator[Progress[Any], None, T], tell: Callable[[float], None], is_abandoned: Callable[[], bool]
) -> T:
    """Run to the end, and return what comes of it."""
    asked = time.monotonic()
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.monotonic() - asked > ASK_EVERY:
            asked = time.monotonic()
            # What is told is for the eye: a connection that fails says so elsewhere.
            with suppress(OSError):
                tell(_share(progress))
            if is_abandoned():
                run.close()
                raise Abandoned


def _share(progress: Progress[Any]) -> float:
    if progress.tiles is not None:
        return LEARNED + (1 - LEARNED) * progress.tiles
    return progress.step / max(progress.steps, 1)
