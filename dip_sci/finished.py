"""Finished: the tiles of a large image that are done, each in a file of its own, so that nobody does them again."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import numpy as np

from dip_sci.errors import WriteError
from dip_sci.io.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIX = ".npy"


class Finished:
    """Arrays by what they were made from: whoever makes one from the same finds it there, in whatever process.

    Parameters
    ----------
    folder
        Where they are; it is made with the first of them.
    of
        Hash of all that every one of them depends on.
    """

    def __init__(self, folder: Path, of: str) -> None:
        self.folder, self.of = folder, of

    def name(self, place: str, parts: Iterable[NDArray[np.generic] | None]) -> str:
        """Return the name of what is made at one place from these values."""
        total = hashlib.sha256(f"{self.of} {place}".encode())
        for part in parts:
            if part is not None:
                total.update(f"{part.dtype} {part.shape}".encode())
                total.update(np.ascontiguousarray(part).data)
        return total.hexdigest()[:32]

    def find(self, name: str) -> NDArray[np.float32] | None:
        """Return what was kept, or ``None``; what is damaged is as good as not there."""
        try:
            found: NDArray[np.float32] = np.load(self.folder / f"{name}{SUFFIX}", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found

    def keep(self, name: str, values: NDArray[np.float32]) -> None:
        """Keep an array, whole or not at all.

        Raises
        ------
        WriteError
            If that cannot be done.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            with replacing(self.folder / f"{name}{SUFFIX}", SUFFIX) as temporary, temporary.open("wb") as file:
                np.save(file, values)
        except OSError as error:
            why = error.strerror or f"{error} (is the disk full?)"
            raise WriteError(f"A tile that is done could not be kept in {self.folder}: {why}.") from None


def folder_of(checkpoint: Path) -> Path:
    """Return where the tiles are that belong to a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.tiles")


def first_of(checkpoint: Path) -> Path:
    """Return where the state is of a run that comes before the one that a checkpoint is of."""
    return checkpoint.with_name(f"{checkpoint.name}.first")


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint and what belongs to it, of a run whose result is safe."""
    for saved in (checkpoint, first_of(checkpoint)):
        saved.unlink(missing_ok=True)
        shutil.rmtree(folder_of(saved), ignore_errors=True)
