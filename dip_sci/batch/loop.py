"""The run of a batch: jobs go out, lines come into the manifest."""

from __future__ import annotations

import hashlib
import itertools
import logging
import queue
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distributed

from dip_sci import __version__, logs, sample
from dip_sci.batch import manifest as states
from dip_sci.batch import plan, remote, reports
from dip_sci.batch.cluster import crew
from dip_sci.batch.manifest import Manifest, opened
from dip_sci.errors import BatchError
from dip_sci.io.find import find
from dip_sci.job import Job
from dip_sci.logs import event
from dip_sci.recipe import Recipe

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from distributed import Client, Future

    from dip_sci.batch.cluster import Crew
    from dip_sci.batch.plan import Plan, Task
    from dip_sci.batch.work import Outcome

LOG = "batch.log"

COUNT_EVERY = 2.0
"""Seconds between two looks at how many workers there are."""

LOST_AFTER = 10.0
"""Seconds without the scheduler after which it is taken to be gone."""

LEARN = slice(0, 0)
"""None of a large image's tiles: only to learn from it."""

SCHEDULER_GONE = "The dask scheduler was gone before it was done."


@dataclass(frozen=True)
class _Piece:
    """A job that is out: a scan, or of a large one the learning (`LEARN`) or some of its tiles."""

    task: Task
    future: Future
    tiles: slice | None


@dataclass
class _Sharing:
    """A large scan that several workers are at: since when, how many, and the share that each has done."""

    facts: dict[str, Any]
    since: float
    done: dict[str, float]


@dataclass
class Standing:
    """Where a batch stands.

    Attributes
    ----------
    total
        Scans in all.
    skipped
        Those that were done before and have not changed.
    done, failed
        Results' places below the output folder; for the failed with the reason.
    running
        Those at work, with the share done.
    stopped
        Whether no more jobs are begun.
    workers
        Jobs that can run at once.
    """

    total: int
    skipped: int = 0
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    abandoned: list[str] = field(default_factory=list)
    stopped: bool = False
    workers: int = 0

    @property
    def left(self) -> int:
        """How many were neither done nor tried."""
        return self.total - self.skipped - len(self.done) - len(self.failed)


def run(
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    report: bool = False,
    stop: threading.Event | None = None,
    abandon: threading.Event | None = None,
    show: Callable[[Standing], None] = lambda standing: None,
) -> Standing:
    """Restore many scans, each on its own; what an earlier batch into the same folder has done stays done.

    Parameters
    ----------
    sources
        Files, patterns and folders, as `dip_sci.io.find.find` takes them.
    output
        Folder of the results, which get their scans' names; for scans of a BIDS dataset, of the derivative dataset.
        It also holds ``manifest.jsonl`` and ``batch.log``.
    recipe
        Options of all runs.
    workers, threads, scheduler, slurm
        As for `dip_sci.batch.cluster.crew`.
    axes
        Meaning of the scans' dimensions, where their files do not say.
    overwrite
        Replace results that no batch has made.
    report
        Draw a report beside each result, and ``report.html`` of all of them.
    stop
        When set, no more jobs are begun and those at work are finished.
    abandon
        When set, those at work are given up, too.
    show
        Is called now and then.

    Returns
    -------
    Standing
        At the end.

    Raises
    ------
    BatchError
        If the batch cannot begin, or its workers are lost for good.
    ReadError
        If a source stands for no scan.
    """
    folder, recipe = Path(output), recipe or Recipe()
    found = find(sources, without=folder)
    like = Job(Path(), folder, recipe, axes=axes, report=report)
    tasks, refused = plan.make(found, folder, like)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BatchError(f"The folder {folder} cannot be made: {error.strerror}. Choose another one.") from None
    options = plan.hash_of(recipe, axes=axes)
    with opened(folder) as manifest, logs.kept(folder / LOG):
        todo = plan.compare(tasks, refused, folder, manifest, options, overwrite=overwrite)
        manifest.add(states.BATCH, version=__version__, options=options, recipe=recipe.model_dump(mode="json"))
        batch = _Batch(manifest, todo, options, stop or threading.Event(), abandon or threading.Event(), show)
        if todo.todo:
            with crew(
                recipe,
                len(todo.todo),
                shared=_may_be_shared(todo, recipe),
                workers=workers,
                threads=threads,
                scheduler=scheduler,
                slurm=slurm,
            ) as hands:
                batch.work(hands)
        batch.end()
        if report:
            reports.write_overview(folder, manifest.last)
        with suppress(OSError):
            (folder.absolute() / plan.SAVED).rmdir()
        return batch.standing


class _Batch:
    """A batch at work."""

    def __init__(
        self,
        manifest: Manifest,
        todo: Plan,
        options: str,
        stop: threading.Event,
        abandon: threading.Event,
        show: Callable[[Standing], None],
    ) -> None:
        self.manifest, self.options, self.show = manifest, options, show
        self.stop, self.abandon = stop, abandon
        self.waiting = list(reversed(todo.todo))
        self.standing = Standing(len(todo.todo) + len(todo.done) + len(todo.refused), skipped=len(todo.done))
        self.at_work: dict[str, _Piece] = {}
        self.sharing: dict[str, _Sharing] = {}
        self.finished: queue.SimpleQueue[tuple[str, Future]] = queue.SimpleQueue()
        self.lost_at: float | None = None
        event("batch begins", todo=len(todo.todo), done_before=len(todo.done), refused=len(todo.refused))
        for task, why in todo.refused:
            self._failed(task, why)

    def work(self, crew: Crew) -> None:
        """Keep the workers busy until nothing is left, or as long as it is wanted."""
        client, self.crew = crew.client, crew
        client.subscribe_topic(remote.TOPIC, self._told)
        self.flag = f"dip-sci-abandoned-{secrets.token_hex(8)}"
        counted = -COUNT_EVERY
        while self.at_work or (self.waiting and not self.stop.is_set()):
            if time.monotonic() - counted > COUNT_EVERY:
                self._check(client)
                if client.status == "running":
                    self.standing.workers = crew.count()
                counted = time.monotonic()
            self.standing.stopped = self.stop.is_set()
            if client.status == "running" and not self.stop.is_set():
                while self.waiting and len(self.at_work) < self.standing.workers:
                    self._begin(self.waiting.pop())
            if self.abandon.is_set():
                self._give_up(client)
                return
            self.show(self.standing)
            with suppress(queue.Empty):
                self._end(*self.finished.get(timeout=0.2))

    def end(self) -> None:
        """Say what has become of all."""
        standing = self.standing
        standing.stopped = standing.left > 0
        event("batch ends", done=len(standing.done), failed=len(standing.failed), left=standing.left)
        self.show(standing)

    def _begin(self, task: Task) -> None:
        # On the disk before the worker can write anything: what is found there later is this batch's own.
        self.manifest.add(states.RUNNING, task.name, **task.facts(), options=self.options, version=__version__)
        event("job begins", job=log_name(task.name), bytes=task.size)
        self.standing.running[task.name] = 0.0
        # Whether others are idle is known when it has been learned from.
        self._submit(task, None if self.crew.most == 1 else LEARN)

    def _submit(self, task: Task, tiles: slice | None, key: str | None = None) -> None:
        key = key or task.name
        future = self.crew.client.submit(
            remote.work_remotely,
            replace(task.job, tiles=tiles),
            key,
            self.flag,
            __version__,
            resources=self.crew.resources,
            pure=False,
            retries=0,
        )
        self.at_work[key] = _Piece(task, future, tiles)
        future.add_done_callback(lambda ended: self.finished.put((key, ended)))

    def _end(self, key: str, future: Future) -> None:
        piece = self.at_work.pop(key)
        task, outcome = piece.task, future.result() if future.status == "finished" else None
        if task.name in self.sharing and piece.tiles is not None:
            # Whatever became of it: who puts the tiles together does those that are missing, or says why it cannot.
            self.sharing[task.name].done[key] = 1.0
            if not any(other.task is task for other in self.at_work.values()):
                self._submit(task, None)
        elif outcome is not None and outcome.tiles is not None:
            self._share_out(task, outcome)
        else:
            self._ended(task, future, outcome)
        future.release()

    def _share_out(self, task: Task, learned: Outcome) -> None:
        """Give a large scan's tiles to all who have nothing else to do; where that is one, it does the rest alone."""
        free = self.standing.workers - len(self.at_work)
        hands = 1 if self.waiting and not self.stop.is_set() else max(min(free, learned.tiles or 0), 1)
        since = time.monotonic() - learned.facts["seconds"]
        sharing = self.sharing[task.name] = _Sharing({"began": learned.facts["began"], "workers": hands}, since, {})
        event("tiles", job=log_name(task.name), tiles=learned.tiles, workers=hands)
        if hands == 1:
            self._submit(task, None)
            return
        ends = [(learned.tiles or 0) * n // hands for n in range(hands + 1)]
        for n, (a, b) in enumerate(itertools.pairwise(ends), start=1):
            sharing.done[f"{task.name}#{n}"] = 0.0
            self._submit(task, slice(a, b), f"{task.name}#{n}")

    def _ended(self, task: Task, future: Future, outcome: Outcome | None) -> None:
        self.standing.running.pop(task.name)
        sharing = self.sharing.pop(task.name, None)
        if outcome is None:
            self._failed(task, _why(future))
            return
        if sharing is not None:
            seconds = round(time.monotonic() - sharing.since, 2)
            outcome = replace(outcome, facts=outcome.facts | sharing.facts | {"seconds": seconds})
        if outcome.error is None:
            self._done(task, outcome)
        else:
            self._failed(task, outcome.error, outcome.facts)

    def _done(self, task: Task, outcome: Outcome) -> None:
        self.standing.done.append(task.name)
        page = {"report": task.report} if task.report is not None else {}
        self.manifest.add(states.DONE, task.name, **task.facts(), options=self.options, **page, **outcome.facts)
        event("job done", job=log_name(task.name), **outcome.facts, notes=list(outcome.notes))

    def _failed(self, task: Task, why: str, facts: dict[str, Any] | None = None) -> None:
        facts = facts or {}
        self.standing.failed[task.name] = why
        self.manifest.add(states.FAILED, task.name, **task.facts(), options=self.options, **facts, error=why)
        # The reason names the file: it is in the manifest only.
        event("job failed", level=logging.WARNING, job=log_name(task.name), **facts)

    def _told(self, said: tuple[float, dict[str, Any]]) -> None:
        _, what = said
        piece = self.at_work.get(what.get("job", ""))
        if piece is None or piece.task.name not in self.standing.running:
            return
        sharing = self.sharing.get(piece.task.name)
        if sharing is not None and what["job"] in sharing.done:
            sharing.done[what["job"]] = what["share"]
            what = {"share": sum(sharing.done.values()) / len(sharing.done)}
        self.standing.running[piece.task.name] = what["share"]

    def _check(self, client: Client) -> None:
        """Give up where the scheduler is gone."""
        if client.status == "running":
            self.lost_at = None
            return
        self.lost_at = self.lost_at or time.monotonic()
        if client.status == "connecting" and time.monotonic() - self.lost_at < LOST_AFTER:
            return
        for task in self._tasks_at_work():
            self.standing.running.pop(task.name)
            self._failed(task, SCHEDULER_GONE)
        self.at_work.clear()
        event("scheduler lost", level=logging.ERROR)
        raise BatchError(
            f"The dask scheduler is gone: {len(self.standing.done)} scans are done, {self.standing.left} are left. "
            "Start it and run the same command again; what is done stays done."
        )

    def _give_up(self, client: Client) -> None:
        with suppress(OSError):
            distributed.Event(self.flag, client=client).set()
        for piece in self.at_work.values():
            with suppress(OSError):
                piece.future.cancel()
        for task in self._tasks_at_work():
            self.standing.running.pop(task.name)
            self.standing.abandoned.append(task.name)
            self.manifest.add(states.ABANDONED, task.name, **task.facts(), options=self.options)
            event("job abandoned", job=log_name(task.name))
        self.at_work.clear()

    def _tasks_at_work(self) -> list[Task]:
        """Return the scans that are at work, each once, by however many workers."""
        return list({piece.task.name: piece.task for piece in self.at_work.values()}.values())


def _may_be_shared(todo: Plan, recipe: Recipe) -> bool:
    """Whether one of the scans may be so large that several workers can do its tiles; files may be packed."""
    return recipe.output.tile is not None or any(4 * task.size > sample.LARGE for task in todo.todo)


def log_name(name: str) -> str:
    """Return what the log calls a job: names of files may hold names of patients."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _why(future: Future) -> str:
    """Say why a job ended without an outcome."""
    if future.cancelled():
        return SCHEDULER_GONE
    error = future.exception()
    if isinstance(error, distributed.KilledWorker):
        return (
            "The worker that did it was killed, and so was the next one. It may be short of memory: use fewer workers, "
            "or a larger machine."
        )
    return f"The worker could not do it ({type(error).__name__}: {error}); check that dip_sci is installed there."
