"""Logs: what happened, one event a line; silent unless someone listens; no file names, no contents of headers."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dip_sci.errors import WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger("dip_sci")
logger.addHandler(logging.NullHandler())


def event(name: str, *, level: int = logging.INFO, **facts: Any) -> None:
    """Log that something happened.

    Parameters
    ----------
    name
        What happened, in a word or two.
    level
        As in `logging`.
    facts
        JSON values; no name of a file and nothing that a header says of a person.
    """
    logger.log(level, name, extra={"facts": facts})


class Lines(logging.Formatter):
    """One JSON object a line: time, level, event, and the event's facts."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts = getattr(record, "facts", {})
        return json.dumps({"at": moment, "level": record.levelname, "event": record.getMessage(), **facts})


class _Screen(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self.show = show

    def emit(self, record: logging.LogRecord) -> None:
        facts = getattr(record, "facts", {})
        said = ", ".join(f"{name} {_short(value)}" for name, value in facts.items())
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        self.show(f"{moment} {record.getMessage()}" + (f": {said}" if said else ""))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def shown(show: Callable[[str], None], *, wanted: bool = True) -> Iterator[None]:
    """Pass each event as a line of text to a function while the block lasts."""
    if not wanted:
        yield
        return
    with _attached(_Screen(show)):
        yield


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Append each event to a file of JSON lines while the block lasts.

    Raises
    ------
    WriteError
        If the file cannot be opened.
    """
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise WriteError(f"The log {path} cannot be written: {error.strerror}.") from None
    handler.setFormatter(Lines())
    # A log that cannot be written (a full disk) must not end the work that it is about.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    with _attached(handler):
        yield


@contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()
