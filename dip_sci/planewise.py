"""What is taken out of an image plane by plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

Found = TypeVar("Found")


def take_out(
    planes: Array, seen: NDArray[np.bool_], smallest: int, without: Callable[[Array], tuple[list[Found], Array]]
) -> tuple[Array, list[Found]]:
    """Replace planes ``(*batch, Y, X)`` by what is left of them, and collect what was found.

    Planes with holes are left alone, and all that have an edge below `smallest`. Where nothing is found it is the very array
    that was given.
    """
    found: list[Found] = []
    cleaned = planes
    if min(planes.shape[-2:]) < smallest:
        return cleaned, found
    for at in np.ndindex(planes.shape[:-2]):
        if not seen[at].all():
            continue
        here, rest = without(planes[at].astype(np.float64))
        if here:
            cleaned = planes.copy() if cleaned is planes else cleaned
            cleaned[at] = rest
            found += here
    return cleaned, found
