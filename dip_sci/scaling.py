"""Scaling: from intensities to the network's range and back, and the cast to the stored type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Scaling:
    """An affine map ``(values - centre) / width``, one per image and colour sample, that owns its inverse.

    Attributes
    ----------
    centre, width
        Arrays that broadcast against ``(N, C, *spatial)``.
    """

    centre: NDArray[np.float64]
    width: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[Any], measured: NDArray[np.bool_], *, unit_range: bool = False) -> Scaling:
        """Measure centre and width of each image of a stack.

        Parameters
        ----------
        values
            Intensities, shape ``(N, C, *spatial)``.
        measured
            Boolean, same shape: the voxels that count.
        unit_range
            Map the observed range to 0..1 (for a network that ends in a sigmoid) instead of to
            zero mean and unit standard deviation.
        """
        shape = (*values.shape[:2], *(1,) * (values.ndim - 2))
        centre, width = np.zeros(shape), np.ones(shape)
        for index in np.ndindex(*values.shape[:2]):
            seen = values[index][measured[index]].astype(np.float64)
            if seen.size == 0:
                continue
            low, spread = (seen.min(), np.ptp(seen)) if unit_range else (seen.mean(), seen.std())
            centre[index], width[index] = low, spread if spread > 0 else 1.0
        return cls(centre, width)

    def together(self, units: NDArray[np.float64]) -> Scaling:
        """Return the same map with one width for all samples of an image, in units of each that broadcast to `width`."""
        common = np.sqrt(np.square(self.width * units).mean(axis=1, keepdims=True))
        return Scaling(self.centre, common / units)

    def forward(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Intensities to network range."""
        kind = np.result_type(values.dtype, np.float32)
        scaled: NDArray[Any] = (values - self.centre.astype(kind)) / self.width.astype(kind)
        return scaled.astype(np.float32)

    def inverse(self, values: NDArray[Any], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Network range to intensities, computed in a floating-point type."""
        intensities: NDArray[Any] = values.astype(dtype) * self.width.astype(dtype) + self.centre.astype(dtype)
        return intensities


def cast(
    values: NDArray[Any], dtype: DTypeLike, value_range: tuple[float, float] | None = None
) -> tuple[NDArray[Any], int]:
    """Convert values to a stored type: integers are rounded and clipped, never wrapped.

    Parameters
    ----------
    values
        Finite values wherever the type is an integer.
    dtype
        The stored type.
    value_range
        Smallest and largest storable value, where narrower than the type's own.

    Returns
    -------
    array, clipped
        The values as `dtype`, and how many of them had to be clipped.
    """
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        largest = np.finfo(kind).max
        over = np.isfinite(values) & (np.abs(values) > largest)
        return np.where(over, np.copysign(largest, values), values).astype(kind), int(np.count_nonzero(over))
    info = np.iinfo(kind)
    # float64 cannot hold the largest int64: one step above what it can hold, the cast would wrap.
    low, high = float(info.min), float(info.max) if kind.itemsize < 8 else np.nextafter(float(info.max), 0)
    if value_range is not None:
        low, high = max(low, value_range[0]), min(high, value_range[1])
    rounded = np.rint(values.astype(np.float64))
    clipped = int(np.count_nonzero((rounded < low) | (rounded > high)))
    return np.clip(rounded, low, high).astype(kind), clipped
