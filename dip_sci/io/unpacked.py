"""Values of a packed file, unpacked into a temporary one, of which parts can be read."""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import IO, TYPE_CHECKING

import psutil

from dip_sci.errors import ReadError
from dip_sci.io.files import human

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LARGE = 2**29
"""Bytes from which a packed file is not read into memory, however much there is."""


def is_large(nbytes: int) -> bool:
    """Whether an image is rather kept in a file: it is large, or takes an eighth of the free memory."""
    return nbytes > min(LARGE, psutil.virtual_memory().available // 8)


class Unpacked:
    """Bytes in a file without a name, which is gone with the last reference to it.

    Parameters
    ----------
    blocks
        The bytes, in order.
    nbytes
        How many they are.
    path
        What is unpacked.

    Raises
    ------
    ReadError
        If there is no room for it.
    """

    def __init__(self, blocks: Iterable[bytes | memoryview], nbytes: int, path: Path) -> None:
        place = tempfile.gettempdir()
        try:
            self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self.file.close)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.file.fileno(), 0, max(nbytes, 1))
            for block in blocks:
                self.file.write(block)
            self.file.flush()
        except OSError as error:
            raise ReadError(
                f"{path} holds {human(nbytes)} of pixels, which {place} cannot take while they are worked on "
                f"({error.strerror}): free some room there, or name another place in TMPDIR."
            ) from None
