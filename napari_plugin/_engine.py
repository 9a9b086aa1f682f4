"""Loads the engine's libraries beside the window, not in its way."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("libtorch.so", "libtorch.dylib")
"""What needs all others of torch that know nothing of Python."""

TO_MEASURE = ("torch", "dip_sci.preparation", "scipy.ndimage")
TO_FIT = (*TO_MEASURE, "dip_sci.cost", "torch._dynamo", "skimage.restoration", "scipy.stats")
"""What measuring noise and fitting import on their way: torch's optimisers, for one, at their first step."""

_lock = threading.Lock()


def load(names: tuple[str, ...]) -> None:
    """Load a part of the engine, in a thread, without stopping the others.

    An import keeps all threads waiting while the system loads a library, which takes torch's a fifth of a second on
    the CPU and longer with a GPU's. A foreign function lets them go on, and then the libraries are there already.
    """
    with _lock:
        if "torch" not in sys.modules:
            _libraries()
        if not set(names) <= set(sys.modules):
            with _unswept():
                for name in names:
                    importlib.import_module(name)


@contextlib.contextmanager
def _unswept() -> Iterator[None]:
    """Keep the garbage collector away from a great many objects that are made to stay.

    It stops all threads while it looks through all that a large program holds, again and again as that grows. Freezing
    and thawing puts what is new among the old without a look; what is garbage of it is found when the old is swept.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def _libraries() -> None:
    """Load torch's libraries where the system has the call for it; where that fails, the import says why."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None or not hasattr(os, "RTLD_LAZY"):
        return
    folder = Path(found.origin).parent / "lib"
    dlopen = getattr(ctypes.CDLL(None), "dlopen", None)
    for name in LIBRARIES:
        if dlopen is not None and (folder / name).is_file():
            dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
            dlopen(os.fsencode(folder / name), os.RTLD_LAZY | os.RTLD_LOCAL)
