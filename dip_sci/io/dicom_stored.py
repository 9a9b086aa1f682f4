"""From the modality's values back to what a DICOM file stores: the inverse of `dicom_pixels.modality_values`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dip_sci.io.dicom_pixels import coloured, modality_values

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    from dip_sci.io.dicom_planes import Plane

EXACT = 2**53
"""Integers up to here are doubles."""


def stored_values(
    values: NDArray[Any], plane: Plane, dataset: Dataset, limits: tuple[int, int], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return what to store for the modality's values of one plane, and where it had to be clipped.

    Values that would be stored as padding are moved to the nearest one that is not.

    Parameters
    ----------
    values
        Finite, ``(rows, columns[, samples])``.
    plane
        Whose slope, intercept and padding to use.
    dataset
        Header of the source.
    limits
        Smallest and largest value that may be stored.
    dtype
        Type of the stored values.
    """
    as_read = coloured(dataset) or dataset.get("ModalityLUTSequence")
    slope, intercept = (1.0, 0.0) if as_read else (plane.slope, plane.intercept)
    whole = np.rint((values.astype(np.float64) - intercept) / slope)
    lo, hi = limits
    top = hi if hi < EXACT else np.nextafter(float(hi), 0)
    stored = np.clip(whole, lo, top).astype(dtype)
    if plane.padding is not None:
        stored = _outside(stored, plane.padding, limits)
    return stored, (whole < lo) | (whole > hi)


def same_as_before(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, stored: NDArray[Any], plane: Plane, dataset: Dataset
) -> NDArray[np.bool_]:
    """Return where a plane's bits stay as they are: where its values are those that were read, or it is still padding.

    Parameters
    ----------
    values, valid
        The plane's, and where they are values, not padding; ``None`` where that is not known.
    stored
        What the source holds.
    plane, dataset
        As for `stored_values`.
    """
    read = modality_values(stored[None].copy(), [plane], dataset)[0][0]
    same = np.asarray(values == read)
    if plane.padding is not None and not coloured(dataset):
        padding = (stored >= plane.padding[0]) & (stored <= plane.padding[1])
        same |= padding if valid is None else padding & ~valid
    return same


def _outside(stored: NDArray[Any], padding: tuple[int, int], limits: tuple[int, int]) -> NDArray[Any]:
    """Return the values, those that mean padding moved to the nearest one that does not."""
    lo, hi = padding
    inside = (stored >= lo) & (stored <= hi)
    below, above = max(lo - 1, limits[0]), min(hi + 1, limits[1])
    if below == lo:
        below = above
    if above == hi:
        above = below
    if not inside.any() or lo <= below <= hi:
        return stored
    middle = (lo + hi) / 2
    moved: NDArray[Any] = np.where(inside, np.where(stored < middle, below, above), stored).astype(stored.dtype)
    return moved
