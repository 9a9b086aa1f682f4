"""Files as such: sizes that fit the memory, and targets that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dip_sci.errors import ReadError, WriteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES = 256 * 2**30
"""No single image may claim more than this, whatever the memory."""

DEFLATE_RATIO = 1032
"""What deflate can reach at most: a larger claim cannot be true."""


def refuse_beyond_memory(nbytes: int, path: Path) -> None:
    """Raise a `ReadError` where an image of `nbytes` cannot be held, before anything is allocated."""
    available = psutil.virtual_memory().available
    if nbytes > min(available, MAX_BYTES):
        raise ReadError(
            f"{path} claims an image of {human(nbytes)}, and {human(min(available, MAX_BYTES))} of memory can be used: "
            "crop it, or check that the file is not damaged."
        )


def refuse_beyond_file(nbytes: int, path: Path, found: int) -> None:
    """Raise a `ReadError` where a file is shorter than the image that its header announces."""
    if nbytes > found:
        raise ReadError(
            f"{path} is truncated or its header is wrong: the header announces {human(nbytes)} of pixels, "
            f"the file holds {human(found)}. Copy or export it again."
        )


def human(nbytes: int) -> str:
    """Return a size as people write it.

    Examples
    --------
    >>> human(3_000_000)
    '3.0 MB'
    """
    size = float(nbytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def refuse_target(path: Path, inputs: Iterable[Path], *, overwrite: bool, as_folder: bool = False) -> None:
    """Raise a `WriteError` where nothing can or may be written to `path`."""
    inputs = list(inputs)
    folder = path.parent
    if not folder.exists():
        raise WriteError(f"The folder {folder} does not exist; create it, or choose another one.")
    if not folder.is_dir():
        raise WriteError(f"{folder} is a file, not a folder; choose another place for {path.name}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"The folder {folder} is read-only; choose another one.")
    if path.is_dir() and not as_folder:
        raise WriteError(f"{path} is a folder; give the name of a file.")
    if not os.path.lexists(path) or (as_folder and path.is_dir() and not any(path.iterdir())):
        return
    if any(_same(path, kept) for kept in inputs):
        raise WriteError(f"{path} is the input itself, which is never overwritten; choose another name.")
    if as_folder and any(path.resolve() in kept.resolve().parents for kept in inputs):
        raise WriteError(f"{path} holds the input, which is never overwritten; choose another folder.")
    if as_folder and not path.is_dir():
        raise WriteError(f"{path} is a file, and a folder is to be written; choose another name.")
    if not overwrite:
        raise WriteError(f"{path} exists already; choose another name, or allow overwriting (--overwrite).")


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


@contextmanager
def replacing(target: Path, suffix: str) -> Iterator[Path]:
    """Give a temporary name beside `target` that becomes `target` when the block ends well.

    Parameters
    ----------
    target
        The file to make or replace.
    suffix
        Its full suffix, kept by the temporary name: writers look at it.

    Yields
    ------
    Path
        The name to write to. Whatever ends the block early, an interrupt too, removes it.
    """
    # In lower case, which every writer knows; nibabel would change ".Nii" by itself.
    temporary = target.with_name(
        f".{target.name[: len(target.name) - len(suffix)][:80]}.{secrets.token_hex(4)}{suffix.lower()}"
    )
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _remember(target)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that becomes `target` when the block ends well.

    Yields
    ------
    Path
        An empty folder. Whatever ends the block early, an interrupt too, removes it; a folder that was
        there before stays until the new one can take its place.
    """
    temporary, before = (
        target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.{what}") for what in ("new", "old")
    )
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            _to_disk(file)
        if target.exists():
            target.rename(before)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if before.exists() and not target.exists():
            before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)
    _remember(target)


def _remember(target: Path) -> None:
    if os.name == "posix":
        # A few network file systems refuse to sync a folder; the file itself is safe by then.
        with suppress(OSError):
            _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    # Windows syncs only what is open for writing, posix lets no folder be opened for writing.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
