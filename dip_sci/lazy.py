"""Lazy: an array that stays in its file until parts of it are asked for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import DTypeLike, NDArray

    Box = tuple[slice, ...]

PART = 2**25
"""Bytes that are read at once where all of an array is looked at part by part."""


class Lazy:
    """An array of known shape and type whose values are read when they are indexed.

    NumPy's functions take it as an array, and read all of it then.

    Parameters
    ----------
    shape, dtype
        Of the array; the type is in the machine's own byte order.
    read
        Returns the values of a box, given by one slice per dimension with both ends set.
    chunks
        Shape of the parts that the file keeps together; ``None`` where any part is as cheap to read.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        read: Callable[[Box], NDArray[Any]],
        chunks: tuple[int, ...] | None = None,
    ) -> None:
        self.shape, self.dtype, self.chunks = tuple(shape), np.dtype(dtype), chunks
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        # Python's integers do not overflow.
        total = 1
        for n in self.shape:
            total *= n
        return total

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read a part: whole numbers, and slices of step 1, one per dimension or ``...`` for those left out."""
        index = index if isinstance(index, tuple) else (index,)
        if any(i is Ellipsis for i in index):
            at = next(k for k, i in enumerate(index) if i is Ellipsis)
            index = (*index[:at], *[slice(None)] * (self.ndim - len(index) + 1), *index[at + 1 :])
        index = (*index, *[slice(None)] * (self.ndim - len(index)))
        if len(index) != self.ndim:
            raise IndexError(f"{len(index)} indices for {self.ndim} dimensions")
        box: list[slice] = []
        for i, n in zip(index, self.shape, strict=True):
            start, stop, step = i.indices(n) if isinstance(i, slice) else (*_one(int(i), n), 1)
            if step != 1:
                raise IndexError("only slices of step 1 can be read")
            box.append(slice(start, max(start, stop)))
        found = np.asarray(self._read(tuple(box)))
        return found[tuple(slice(None) if isinstance(i, slice) else 0 for i in index)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def astype(self, dtype: DTypeLike) -> Lazy:
        """Return the same array, its values converted when they are read."""
        return Lazy(self.shape, dtype, lambda box: self._read(box).astype(dtype), self.chunks)

    def min(self) -> Any:
        """Smallest value, part by part."""
        return min(self[box].min() for box in self.boxes())

    def max(self) -> Any:
        """Largest value, part by part."""
        return max(self[box].max() for box in self.boxes())

    def boxes(self, nbytes: int = PART) -> Iterator[Box]:
        """Yield boxes that cover the array, of about `nbytes` each and aligned to its chunks."""
        return boxes(self.shape, self._part(nbytes))

    def _part(self, nbytes: int) -> tuple[int, ...]:
        part = list(self.chunks or (1,) * self.ndim)
        room = max(nbytes // self.dtype.itemsize, 1)
        for axis in reversed(range(self.ndim)):
            others = int(np.prod(part, dtype=object)) // part[axis]
            times = max(room // max(others * part[axis], 1), 1)
            part[axis] = min(part[axis] * times, self.shape[axis])
        return tuple(part)


def _one(index: int, length: int) -> tuple[int, int]:
    place = index + length if index < 0 else index
    if not 0 <= place < length:
        raise IndexError(f"index {index} is outside of {length}")
    return place, place + 1


def boxes(shape: tuple[int, ...], part: tuple[int, ...]) -> Iterator[Box]:
    """Yield boxes of shape `part` that cover `shape`, those at the far ends cut off; the last dimension fastest."""
    starts = (range(0, n, max(p, 1)) for n, p in zip(shape, part, strict=True))
    for at in itertools.product(*starts):
        yield tuple(slice(a, min(a + p, n)) for a, p, n in zip(at, part, shape, strict=True))
