"""Scratch: a sum of overlapping parts that is larger than the memory, kept in a temporary file."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.errors import WriteError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Box = tuple[slice, ...]


class Scratch:
    """Zeros of float32 in a file without a name, which is gone with the last reference to it.

    Parameters
    ----------
    shape
        Of the array.
    folder
        Where the file is; ``None`` for the system's own place for such files.

    Raises
    ------
    WriteError
        If there is no room for it.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path | None = None) -> None:
        self.shape = shape
        nbytes = int(np.prod(shape, dtype=object)) * 4
        place = folder or tempfile.gettempdir()
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            if hasattr(os, "posix_fallocate"):
                # A disk that runs full later, under a map of the file, would end the process.
                os.posix_fallocate(self._file.fileno(), 0, nbytes)
            else:
                self._file.truncate(nbytes)
        except OSError as error:
            why = "no room left" if error.errno == errno.ENOSPC else error.strerror
            raise WriteError(
                f"{place} cannot take {nbytes / 1e9:.1f} GB for the result while it is made ({why}): free some room "
                "there, or name another place in TMPDIR."
            ) from None

    def add(self, box: Box, values: NDArray[Any]) -> None:
        """Add values to a part."""
        mapped = self._mapped("r+")
        mapped[box] += values

    def __getitem__(self, box: Box) -> NDArray[np.float32]:
        """Return a part's values."""
        return np.array(self._mapped("r")[box])

    def _mapped(self, mode: Any) -> np.memmap[Any, np.dtype[np.float32]]:
        # Opened for each part: the system counts the pages of an open map as memory in use.
        return np.memmap(self._file, np.float32, mode, 0, self.shape)
