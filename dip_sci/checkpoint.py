"""Checkpoint: a long run's state in a file, from which a killed run goes on as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci import __version__
from dip_sci.errors import WriteError
from dip_sci.io.files import replacing
from dip_sci.logs import event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dip_sci.image import Image
    from dip_sci.recipe import Recipe

EVERY = 30.0
"""Seconds between two savings, at least."""

SHARE = 0.05
"""Share of the time that savings may take: a large state is saved less often."""

HEADER = "dip_sci"


class Checkpoint:
    """The state of a run, kept in one file: arrays and JSON, nothing that executes.

    A state is a tree of dictionaries, lists, tuples, tensors, strings, numbers and ``None``. Tensors come back with the
    strides that they had: the order of the values in memory decides which arithmetic is used, and so the last digits.

    Parameters
    ----------
    path
        The file, ``.npz``. One of another run is left out of account, and replaced.
    of
        What the run is of, from `identity`.
    read_only
        Never save: others may be reading it, too.

    Attributes
    ----------
    state
        What was saved last, by an earlier process or this one; ``None`` if nothing was.
    failed
        Whether the last saving did.
    note
        A sentence on what became of the file that was there, or ``None``.

    Raises
    ------
    WriteError
        If there is a file which is no checkpoint.
    """

    def __init__(self, path: Path, of: str, *, read_only: bool = False) -> None:
        self.path, self.of, self.read_only = path, of, read_only
        self.note: str | None = None
        self.failed = False
        self.state = self._load()
        self._next = time.monotonic() + EVERY

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next and not self.read_only

    def save(self, state: dict[str, Any]) -> None:
        """Save a state in place of the one before; where that fails, the run goes on without."""
        if self.read_only:
            return
        began = time.monotonic()
        arrays: list[NDArray[Any]] = []
        header = {"version": __version__, "of": self.of, "state": _packed(state, arrays)}
        named = {HEADER: np.frombuffer(json.dumps(header).encode(), np.uint8)}
        named |= {f"a{n}": array for n, array in enumerate(arrays)}
        self.failed = False
        try:
            with replacing(self.path, self.path.suffix) as temporary, temporary.open("wb") as file:
                np.savez(file, **named)  # type: ignore[arg-type]
        except OSError as error:
            self.failed = True
            self.note = f"The run could not be saved on the way: {error.strerror or error}."
        took = time.monotonic() - began
        event("checkpoint", seconds=took, saved=not self.failed)
        self._next = time.monotonic() + max(EVERY, took / SHARE)

    def _load(self) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        with suppress(zipfile.BadZipFile, EOFError), self._read() as found:
            header = _header(found)
            if header is None:
                raise WriteError(f"{self.path} is no checkpoint; choose another name for it.")
            if (header.get("version"), header.get("of")) != (__version__, self.of):
                self.note = "The checkpoint is of another image, recipe or version: the run began anew."
                return None
            state: dict[str, Any] = _unpacked(header["state"], found)
            return state
        self.note = "The checkpoint is damaged: the run began anew."
        return None

    @contextmanager
    def _read(self) -> Iterator[Any]:
        try:
            with self.path.open("rb") as file:
                if file.read(4) != b"PK\x03\x04":
                    raise WriteError(f"{self.path} is no checkpoint; choose another name for it.")
                file.seek(0)
                yield np.load(file, allow_pickle=False)
        except OSError as error:
            raise WriteError(f"The checkpoint {self.path} cannot be read: {error.strerror}.") from None


def _header(found: Any) -> dict[str, Any] | None:
    """Return what a checkpoint says of itself; nothing where the arrays are somebody else's."""
    try:
        header = json.loads(found[HEADER].tobytes())
    except (KeyError, ValueError):
        return None
    return header if isinstance(header, dict) else None


def identity(image: Image, recipe: Recipe, device: torch.device, *masks: NDArray[Any] | None, asked: Any = None) -> str:
    """Return the hash of all that a run depends on.

    Parameters
    ----------
    image, recipe, device
        What is restored, how (every option decided), and on what.
    masks
        Arrays that the run goes by besides.
    asked
        What else it was asked, in JSON values.
    """
    total = hashlib.sha256()
    arrays = [image.array, image.valid, *masks]
    facts = {
        "axes": image.axes,
        "spacing": image.spacing,
        "units": image.units,
        "range": image.value_range,
        "arrays": [None if a is None else (str(a.dtype), a.shape) for a in arrays],
        "recipe": recipe.model_dump(mode="json"),
        "asked": asked,
        "device": device.type,
        "torch": torch.__version__,
    }
    total.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for array in arrays:
        if array is not None:
            total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _packed(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Turn a tree into JSON values, with its tensors moved to `arrays`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        kind = str(plain.dtype).removeprefix("torch.")
        whole = plain.contiguous()
        # numpy has no bfloat16.
        arrays.append((whole.view(torch.int16) if kind == "bfloat16" else whole).numpy())
        # Kept by torch where no two values share a place and none is between them.
        stride = list(plain.stride()) if torch.empty_like(plain).stride() == plain.stride() else None
        return {"tensor": len(arrays) - 1, "type": kind, "stride": stride, "device": value.device.type}
    if isinstance(value, dict):
        return {"dict": [[_packed(k, arrays), _packed(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_packed(v, arrays) for v in value]}
    raise TypeError(f"{type(value).__name__} is not part of a state")


def _unpacked(value: Any, arrays: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        whole = torch.from_numpy(np.array(arrays[f"a{value['tensor']}"]))
        tensor = whole.view(torch.bfloat16) if value["type"] == "bfloat16" else whole
        if value["stride"] is not None and list(tensor.stride()) != value["stride"]:
            tensor = torch.empty_strided(tensor.shape, value["stride"], dtype=tensor.dtype).copy_(tensor)
        return tensor if value["device"] == "cpu" else tensor.to(value["device"])
    if "dict" in value:
        return {_unpacked(k, arrays): _unpacked(v, arrays) for k, v in value["dict"]}
    items = [_unpacked(v, arrays) for v in value["list" if "list" in value else "tuple"]]
    return tuple(items) if "tuple" in value else items
