"""A run in a thread of its own: what it tells the window, and how it is stopped."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dip_sci.errors import DipSciError
from napari_plugin import _engine
from napari_plugin._snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.progress import Progress
    from dip_sci.recipe import Recipe
    from dip_sci.restoration import Restoration
    from dip_sci.tasks import Task as Asked
    from napari_plugin._tasks import Task

# Threads that spin while they wait take the processor from the window.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

PREVIEWS = 0.08
"""Share of a run's time that previews may take."""

FIRST_PREVIEW, LATEST_FIRST = 0.04, 3.0
"""Share of a run's expected time, and seconds at most, before the first preview, whose cost nobody knows yet."""

SELDOM = 0.5
"""Seconds between two previews at least."""

TOLD = 0.1
"""Seconds between two messages to the window at least."""

PATIENCE = 1.0
"""Seconds for which a run waits at most until the window shows its first preview."""

NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes
    ----------
    image, region
        Called in the run's thread: the first reads or computes the pixels, the second the mask on them.
    task, recipe
        What to do, and how.
    given
        Called in the run's thread: reads what the task is given besides the image.
    """

    image: Callable[[], Image]
    region: Callable[[Image], NDArray[Any] | None]
    task: Task
    recipe: Recipe
    given: Callable[[], Any] = lambda: None

    def asked(self, image: Image, region: NDArray[Any] | None) -> Asked:
        """Return the engine's task for the image.

        Raises
        ------
        ImageError
            If what is given does not fit.
        """
        return self.task.bind(image, region, self.given())


@dataclass(frozen=True, eq=False)
class Update:
    """What the window hears while a run goes on; `preview` is there now and then."""

    step: int
    steps: int
    eta: float | None
    sentence: str
    preview: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    image
        What was restored; ``None`` where the run failed before that was known.
    asked
        The engine's task; ``None`` where the run failed before that was known.
    restoration
        The result; ``None`` where there is none.
    rescued
        The best state that is left of a run that failed.
    error
        What went wrong, and what to do about it.
    record, description
        How the result came about, for the file beside it and for formats that keep a line.
    """

    image: Image | None = None
    asked: Asked | None = None
    restoration: Restoration | None = None
    rescued: Image | None = None
    error: str = ""
    record: dict[str, Any] | None = None
    description: str = ""


@dataclass
class Run:
    """One run, from the button to its outcome.

    Attributes
    ----------
    stop
        Set to end after the current step with the best so far.
    abandon
        Set to end after the current step with nothing.
    data_terms, stop_curve
        ``(step, value)`` so far, for the curve.
    """

    job: Job
    snapshots: Snapshots = field(default_factory=Snapshots)
    previews: bool = True
    stop: threading.Event = field(default_factory=threading.Event)
    abandon: threading.Event = field(default_factory=threading.Event)
    data_terms: list[tuple[int, float]] = field(default_factory=list)
    stop_curve: list[tuple[int, float]] = field(default_factory=list)
    told: bool = False
    """Whether the user knows that the preview is gone."""
    shown: threading.Event = field(default_factory=threading.Event)
    """Set once there is a layer to show the run in."""
    last: Progress[NDArray[Any]] | None = None
    """Where the run stands, while it goes on: it holds the network, and with it memory."""

    def steps(self) -> Generator[Update, None, Outcome]:
        """Run to the end; every failure becomes an `Outcome` that says what to do."""
        try:
            return (yield from self._steps())
        finally:
            self.last = None

    def _steps(self) -> Generator[Update, None, Outcome]:
        image: Image | None = None
        asked: Asked | None = None
        latest: list[NDArray[Any]] = []
        try:
            yield Update(0, 0, None, "Reading the image")
            image = self.job.image()
            _engine.load(_engine.TO_FIT)
            region = self.job.region(image)
            asked = self.job.asked(image, region)
            yield Update(0, 0, None, "Measuring the noise")
            result = yield from self._fit(image, asked, region, latest)
        except DipSciError as error:
            return Outcome(image, error=str(error))
        except Exception as error:  # noqa: BLE001
            if not _is_memory(error):
                return Outcome(image, error=f"{type(error).__name__}: {error}")
            # It still holds what was in memory.
            error.with_traceback(None)
        else:
            return _told(image, asked, result)
        kept = self._rescued(image, asked, latest)
        return Outcome(image, asked, rescued=kept, error=_no_memory(kept is not None))

    def _rescued(self, image: Image | None, asked: Asked | None, latest: list[NDArray[Any]]) -> Image | None:
        """Return where the run stood when memory became short, or else what it showed last; give back the memory."""
        if image is None or asked is None:
            return None
        from dip_sci.tasks import on_finer

        _give_back()
        if self.last is not None:
            with contextlib.suppress(MemoryError, RuntimeError):
                latest[:] = [self._look(image, self.last)]
            self.last = None
            _give_back()
        return on_finer(image, asked.finer(image.axes), latest[-1]) if latest else None

    def _fit(
        self, image: Image, asked: Asked, region: NDArray[Any] | None, latest: list[NDArray[Any]]
    ) -> Generator[Update, None, Restoration | None]:
        # A mask of holes is the task's own.
        inside = region if self.job.task.mask == "region" else None
        engine = self.job.task.start(image, self.job.recipe, asked, inside, self.stop)
        pace = _Pace()
        try:
            while not self.abandon.is_set():
                try:
                    progress = next(engine)
                except StopIteration as end:
                    result: Restoration = end.value
                    return result
                self._note(progress)
                preview = None
                if self.previews and pace.preview_due(progress):
                    preview = pace.timed(lambda progress=progress: self._look(image, progress))  # type: ignore[misc]
                    latest[:] = [preview]
                if preview is not None or pace.message_due():
                    yield Update(progress.step, progress.steps, progress.eta, _sentence(progress), preview)
                if preview is not None:
                    # A window that makes a layer would have to fight for the processor.
                    self.shown.wait(PATIENCE)
        finally:
            engine.close()
        return None

    def _note(self, progress: Progress[NDArray[Any]]) -> None:
        self.last = progress
        if not self.data_terms or self.data_terms[-1][0] != progress.step:
            self.data_terms.append((progress.step, progress.data_term))
        if progress.stop_value is not None:
            self.stop_curve.append((progress.step, progress.stop_value))

    def _look(self, image: Image, progress: Progress[NDArray[Any]]) -> NDArray[Any]:
        """Compute the current state in the type of the result, and keep it where there is room."""
        from dip_sci.scaling import cast

        same = self.job.recipe.output.dtype == "same"
        state, _ = cast(progress.preview(), image.dtype if same else "float32", image.value_range if same else None)
        self.snapshots.add(progress.step, state)
        return state


class _Pace:
    """Says when it is time to tell the window something, so that telling stays cheap."""

    def __init__(self) -> None:
        self.started = self.told = self.shown = time.monotonic()
        self.spent, self.cost = 0.0, 0.0

    def message_due(self) -> bool:
        now = time.monotonic()
        if now - self.told < TOLD:
            return False
        self.told = now
        return True

    def preview_due(self, progress: Progress[NDArray[Any]]) -> bool:
        now = time.monotonic()
        if now - self.shown < SELDOM:
            return False
        spent, whole = now - self.started, now - self.started + progress.eta
        if not self.cost:
            return spent >= min(FIRST_PREVIEW * whole, LATEST_FIRST)
        return self.spent + self.cost <= PREVIEWS * spent

    def timed(self, preview: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        began = time.monotonic()
        state = preview()
        self.shown = self.told = time.monotonic()
        self.cost = self.shown - began
        self.spent += self.cost
        return state


def _told(image: Image, asked: Asked, result: Restoration | None) -> Outcome:
    if result is None:
        return Outcome(image, asked)
    from pathlib import Path

    from dip_sci import provenance

    path = image.source.path
    digest = provenance.digest(Path(path)) if path is not None and Path(path).exists() else None
    record = provenance.record(image, result.report, digest=digest)
    return Outcome(image, asked, result, record=record, description=provenance.summary(result.report))


def _sentence(progress: Progress[NDArray[Any]]) -> str:
    return f"Step {progress.step} of {progress.steps}, {in_words(progress.eta)} left"


def in_words(seconds: float) -> str:
    """Say a time as people do.

    Examples
    --------
    >>> in_words(41.2), in_words(119), in_words(7300)
    ('41 s', '2 min', '2 h 02 min')
    """
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _give_back() -> None:
    """Give back what nothing holds any more, of the GPU's memory, too."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)


def _no_memory(kept: bool) -> str:
    first = "There was not enough memory to go on" + (
        "; the best until then has been kept." if kept else ", and nothing could be kept."
    )
    return f"{first} Restore a region or fewer time points, choose the preset fast, or set the device to cpu."
