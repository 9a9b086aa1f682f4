"""Files as such: sizes that fit the memory, and targets that appear whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dip_sci.errors import ReadError, WriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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


def refuse_target(
    path: Path, inputs: Iterable[Path], *, overwrite: bool, is_own: Callable[[Path], bool] | None = None
) -> None:
    """Raise a `WriteError` where nothing can or may be written to `path`.

    Parameters
    ----------
    path
        The target.
    inputs
        Files and folders that are never replaced.
    overwrite
        Whether what is there may be replaced.
    is_own
        Whether a folder is of the format that would replace it; `None` for a format of single files.
    """
    folder = path.parent
    if not folder.exists():
        raise WriteError(f"The folder {folder} does not exist; create it, or choose another one.")
    if not folder.is_dir():
        raise WriteError(f"{folder} is a file, not a folder; choose another place for {path.name}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError(f"The folder {folder} is read-only; choose another one.")
    if path.is_dir() and is_own is None:
        raise WriteError(f"{path} is a folder; give the name of a file.")
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    inputs = list(inputs)
    if any(_same(path, kept) for kept in inputs):
        raise WriteError(f"{path} is the input itself, which is never overwritten; choose another name.")
    if any(_same(path, parent) for kept in inputs for parent in kept.absolute().parents):
        raise WriteError(f"{path} holds the input, which is never overwritten; choose another name.")
    if is_own is not None and not path.is_dir():
        raise WriteError(f"{path} is a file, and a folder is to be written; choose another name.")
    if is_own is not None and not is_own(path):
        raise WriteError(f"{path} is a folder with something else in it; choose another name.")
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
        The file or folder to make or replace.
    suffix
        Its full suffix, kept by the temporary name: writers look at it.

    Yields
    ------
    Path
        The name to write to. Whatever ends the block early, an interrupt too, removes it.
    """
    # In lower case, which every writer knows; nibabel would change ".Nii" by itself.
    temporary = target.with_name(f"{_hidden(target, suffix)}{secrets.token_hex(4)}{suffix.lower()}")
    try:
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _to_disk(written)
        _replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            _remove(temporary)
        raise
    if os.name == "posix":
        # A few network file systems refuse to sync a folder; the file itself is safe by then.
        with suppress(OSError):
            _to_disk(target.parent)


def remove_leftovers(target: Path, suffix: str) -> None:
    """Remove what a process that was killed while it wrote `target` has left; nobody may be writing it now."""
    name = re.compile(re.escape(_hidden(target, suffix)) + r"[0-9a-f]{8}" + re.escape(suffix.lower()) + r"(\.old)?")
    with suppress(OSError):
        for place in target.parent.iterdir():
            if name.fullmatch(place.name):
                _remove(place)


def _hidden(target: Path, suffix: str) -> str:
    return f".{target.name[: len(target.name) - len(suffix)][:80]}."


def _replace(temporary: Path, target: Path) -> None:
    if not target.is_dir() or target.is_symlink():
        temporary.replace(target)
        return
    # No system replaces a folder that holds something: the old one steps aside, and back if need be.
    old = temporary.with_name(f"{temporary.name}.old")
    target.replace(old)
    try:
        temporary.replace(target)
    except BaseException:
        old.replace(target)
        raise
    shutil.rmtree(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    # Windows syncs only what is open for writing, posix lets no folder be opened for writing.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
