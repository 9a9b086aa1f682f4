"""The manifest of a batch: what became of each scan, in lines that are only ever added."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from dip_sci.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "manifest.jsonl"
LOCK = ".manifest.lock"

BATCH, RUNNING, DONE, FAILED, ABANDONED = "batch", "running", "done", "failed", "abandoned"


class Manifest:
    """The manifest of one output folder, open for adding lines.

    Each line is a JSON object with ``at`` (time), ``state``, and but for the first line of a batch ``job``, the
    result's place below the folder. A line is on the disk when `add` returns.

    Attributes
    ----------
    last
        By job: what all its lines say together, later ones first.
    owned
        Jobs of which a batch once began the result: what lies in that place is its own.
    """

    def __init__(self, folder: Path, handle: int, lines: list[dict[str, Any]]) -> None:
        self.path = folder / NAME
        self._handle, self._late = handle, b""
        self.last, self.owned = together(lines)

    def add(self, state: str, job: str | None = None, **facts: Any) -> None:
        """Add a line; where the disk is full, keep it for the next attempt."""
        line = {"at": now(), "state": state, **({} if job is None else {"job": job}), **facts}
        if job is not None:
            self.last[job] = self.last.get(job, {}) | line
            if state == RUNNING:
                self.owned.add(job)
        self._late += json.dumps(line).encode() + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Bring all lines to the disk; whether that could be done."""
        try:
            while self._late:
                # What a full disk takes of a line stays there; the rest follows when there is room.
                self._late = self._late[os.write(self._handle, self._late) :]
            os.fsync(self._handle)
        except OSError:
            return False
        return True


@contextmanager
def opened(folder: Path) -> Iterator[Manifest]:
    """Open the manifest of an output folder, which nobody else may have open.

    Raises
    ------
    BatchError
        If another batch is at work there, or the folder cannot be written to.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BatchError(f"Another batch is at work in {folder}; wait for it, or choose another folder.") from None
    except OSError as error:
        raise BatchError(f"Nothing can be written to {folder}: {error.strerror}. Choose another folder.") from None
    try:
        handle = os.open(folder / NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        lock.release()
        raise BatchError(f"The manifest {folder / NAME} cannot be written: {error.strerror}.") from None
    try:
        if _is_torn(handle):
            os.write(handle, b"\n")
        manifest = Manifest(folder, handle, lines(folder))
        yield manifest
        if not manifest.flush():
            raise BatchError(
                f"The manifest {manifest.path} could not be completed (is the disk full?): make room and run the same "
                "command again."
            )
    finally:
        os.close(handle)
        lock.release()


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the manifest's lines; one that a crash cut off is left out."""
    found = []
    try:
        text = (folder / NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BatchError(f"The manifest {folder / NAME} cannot be read: {error.strerror}.") from None
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("state"), str):
            found.append(entry)
    return found


def together(found: list[dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Return what the lines say of each job together, and the jobs that were ever begun."""
    last: dict[str, dict[str, Any]] = {}
    for line in found:
        if isinstance(job := line.get("job"), str):
            before = last.get(job, {})
            # The error of an earlier attempt says nothing about this one.
            last[job] = {k: v for k, v in before.items() if k != "error"} | line
    return last, {line["job"] for line in found if line["state"] == RUNNING and isinstance(line.get("job"), str)}


def status(folder: Path) -> dict[str, dict[str, Any]]:
    """Say where each scan of a batch stands.

    Parameters
    ----------
    folder
        The output folder of the batch.

    Returns
    -------
    dict
        By the result's place in the folder: the newest state (``"running"``, ``"done"``, ``"failed"``,
        ``"abandoned"``, ``"interrupted"`` where a batch ended in the middle of it), with all that the manifest says.

    Raises
    ------
    BatchError
        If there is no manifest.
    """
    if not (folder / NAME).is_file():
        raise BatchError(f"{folder} holds no {NAME}: no batch has been run into it.")
    last, _ = together(lines(folder))
    if not _is_at_work(folder):
        for entry in last.values():
            entry["state"] = "interrupted" if entry["state"] == RUNNING else entry["state"]
    return last


def now() -> str:
    """Return the time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _is_torn(handle: int) -> bool:
    if os.fstat(handle).st_size == 0:
        return False
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1) != b"\n"


def _is_at_work(folder: Path) -> bool:
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
