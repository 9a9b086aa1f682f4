"""The file that a Deep Decoder leaves of an image: its weights, and what they need to become that image again."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from dip_sci.errors import ReadError

SUFFIX = ".npz"
Stored = Literal["int8", "float16", "float32"]
"""Type in which weights are kept."""

ABSURD = 10_000
"""No file stands for an image of more than so many times its size: such a claim is an attack, or damage."""

MOST_HEADER = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Header(BaseModel):
    """What the weights are of. No name, date or text of the scan is among it, but for the channels' names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_by: Literal["dip-sci deep decoder 1"] = "dip-sci deep decoder 1"
    axes: Annotated[str, Field(pattern=r"^[TCZYXS]{2,6}$")]
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    dtype: Annotated[str, Field(pattern=r"^(u?int(8|16|32|64)|float(16|32|64))$")]
    spacing: tuple[Positive | None, ...]
    units: tuple[str | None, ...]
    affine: tuple[tuple[Finite, Finite, Finite, Finite], ...] | None
    value_range: tuple[Finite, Finite] | None
    channels: tuple[str, ...]
    spatial: Literal["YX", "ZYX"]
    width: Annotated[int, Field(ge=1, le=4096)]
    layers: Annotated[int, Field(ge=2, le=12)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    centre: tuple[Finite, ...]
    scale: tuple[Positive, ...]
    filling: Finite | None
    """Value of the voxels that were not measured, where there are any; ``None``: not a number."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A file's content.

    Attributes
    ----------
    header
        See `Header`.
    weights
        All weights of the network, one after another; float16, float32, or codes of 8 bits.
    steps
        What a code of 1 stands for, tensor by tensor, float32; ``None`` where the weights are no codes.
    unmeasured
        Boolean, of the image's shape: voxels without a measurement; ``None`` for none.
    """

    header: Header
    weights: NDArray[Any]
    steps: NDArray[np.float32] | None
    unmeasured: NDArray[np.bool_] | None

    def to_bytes(self) -> bytes:
        """Return the content of an .npz file, the same for the same weights."""
        parts: dict[str, NDArray[Any]] = {
            "header": np.frombuffer(self.header.model_dump_json().encode(), np.uint8),
            "weights": self.weights,
        }
        if self.steps is not None:
            parts["steps"] = self.steps
        if self.unmeasured is not None:
            parts["unmeasured"] = np.packbits(self.unmeasured)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, part in parts.items():
                info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w") as file:
                    np.lib.format.write_array(file, part, allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Packed:
        """Check and take apart the content of a file; nothing in it is ever executed.

        Raises
        ------
        ReadError
            If it is damaged, something else, or claims what cannot be true.
        """
        try:
            parts = _parts(content)
            header = Header.model_validate(json.loads(parts["header"].astype(np.uint8).tobytes()))
            weights = parts["weights"]
        except Exception as error:
            # Damage makes a parser fail in any way it likes.
            raise ReadError(
                "This is no file of dip-sci compress, or it is damaged: copy it again, or compress the scan again."
            ) from error
        steps, unmeasured = parts.get("steps"), parts.get("unmeasured")
        _check(header, weights, steps, len(content))
        if unmeasured is None:
            return cls(header, weights, steps, None)
        count = int(np.prod(header.shape, dtype=object))
        if (
            unmeasured.dtype != np.uint8
            or unmeasured.shape != (-(-count // 8),)
            or (header.filling is None and "int" in header.dtype)
        ):
            raise ReadError("The file's mask of unmeasured voxels does not fit its image: the file is damaged.")
        return cls(header, weights, steps, np.unpackbits(unmeasured, count=count).astype(bool).reshape(header.shape))


def _parts(content: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file, none of them larger than deflate could have packed into it."""
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            limit = MOST_HEADER if name == "header" else ABSURD * len(content)
            if name not in ("header", "weights", "steps", "unmeasured") or name in found or info.file_size > limit:
                raise ValueError(name)
            with archive.open(info) as file:
                raw = io.BytesIO(file.read(info.file_size))
            # The size first: numpy would take the memory that the array's own header asks for.
            version = np.lib.format.read_magic(raw)
            shape, _, dtype = (
                np.lib.format.read_array_header_1_0(raw)
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0(raw)
            )
            if dtype.hasobject or int(np.prod(shape, dtype=object)) * dtype.itemsize != info.file_size - raw.tell():
                raise ValueError(name)
            found[name] = np.frombuffer(raw.read(), dtype).reshape(shape)
    return found


def _check(header: Header, weights: NDArray[Any], steps: NDArray[Any] | None, size: int) -> None:
    sizes = dict(zip(header.axes, header.shape, strict=False))
    spatial = {"Y", "X"} | ({"Z"} if header.spatial == "ZYX" else set())
    groups = sizes.get("C", 1) * sizes.get("S", 1)
    fits = (
        len(header.shape) == len(header.axes) == len(sizes) == len(header.spacing) == len(header.units)
        and spatial <= set(sizes)
        and (header.affine is None or len(header.affine) == 4)
        and len(header.centre) == len(header.scale) == groups
    )
    stored = (np.float16, np.float32) if steps is None else (np.int8,)
    if not fits or weights.ndim != 1 or weights.dtype not in stored:
        raise ReadError("The file's description of its image contradicts itself: the file is damaged.")
    if steps is not None and (steps.ndim != 1 or steps.dtype != np.float32):
        raise ReadError("The file's steps of its codes are no row of numbers: the file is damaged.")
    if not (np.isfinite(weights).all() and (steps is None or np.isfinite(steps).all())):
        raise ReadError("The file holds weights that are no numbers: it is damaged.")
    claimed = int(np.prod(header.shape, dtype=object)) * np.dtype(header.dtype).itemsize
    if claimed > ABSURD * size:
        raise ReadError(
            f"The file of {size} bytes claims to stand for an image of {claimed} bytes, more than {ABSURD} times as much: "
            "it is damaged."
        )
