"""Texture: noise that neighbours share, drawn with the autocorrelation that was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Texture:
    """Draws standard normal fields, independent from voxel to voxel or with a stationary autocorrelation.

    Parameters
    ----------
    kernel
        Autocorrelation, one axis per spatial axis, of odd sizes, 1 at its centre; ``None`` for
        independent voxels.
    each
        Whether each sample has its own, on a first axis.
    """

    def __init__(self, kernel: NDArray[Any] | None = None, *, each: bool = False) -> None:
        self._kernel = None if kernel is None else torch.from_numpy(kernel).float()
        self._first = int(each)
        self._gains: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    @property
    def independent(self) -> bool:
        """Whether neighbours share nothing."""
        return self._kernel is None

    @property
    def shared(self) -> Tensor | None:
        """Autocorrelation, the mean over the samples, one axis per spatial axis; ``None`` for independent voxels."""
        return self._kernel.mean(dim=0) if self._kernel is not None and self._first else self._kernel

    def draw(self, shape: Sequence[int], rng: torch.Generator) -> Tensor:
        """Draw a field ``(*batch, samples, *spatial)`` with mean 0 and variance 1; opposite borders are neighbours."""
        white = torch.randn(tuple(shape), generator=rng, device=rng.device)
        if self._kernel is None:
            return white
        axes = tuple(range(self._first - self._kernel.ndim, 0))
        spatial = tuple(shape[axes[0] :])
        gain = self._gain(spatial, rng.device)
        field: Tensor = torch.fft.irfftn(torch.fft.rfftn(white, dim=axes) * gain, s=spatial, dim=axes)
        return field

    def _gain(self, spatial: tuple[int, ...], device: torch.device) -> Tensor:
        assert self._kernel is not None
        key = (spatial, device)
        if key not in self._gains:
            kernel, first = self._kernel, self._first
            wrapped = torch.zeros(*kernel.shape[:first], *spatial)
            axes = tuple(range(first, kernel.ndim))
            for axis, size in enumerate(spatial, start=first):
                # An image smaller than the kernel keeps the nearest lags.
                reach = min(kernel.shape[axis] // 2, (size - 1) // 2)
                kernel = kernel.narrow(axis, kernel.shape[axis] // 2 - reach, 2 * reach + 1)
            wrapped[tuple(slice(n) for n in kernel.shape)] = kernel
            wrapped = wrapped.roll([-(n // 2) for n in kernel.shape[first:]], axes)
            # A cut-off kernel may dip below zero here and there: no power is less than none.
            power = torch.fft.fftn(wrapped, dim=axes).real.clamp_min(0)
            power = power / power.mean(dim=axes, keepdim=True)
            self._gains[key] = power[..., : spatial[-1] // 2 + 1].sqrt().to(device)
        return self._gains[key]
