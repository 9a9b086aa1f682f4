"""Resampling along single axes: finer and coarser grids that share their corners, as one matrix product per axis."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Kernel = Literal["lanczos2", "lanczos3", "box", "gaussian", "cubic"]

REACH: dict[str, float] = {"lanczos2": 2.0, "lanczos3": 3.0, "box": 0.5, "gaussian": 1.5, "cubic": 2.0}
"""Half-widths, in voxels of the coarser grid."""

FWHM = 2 * math.sqrt(2 * math.log(2))


def resample(x: Tensor, sizes: Sequence[int], kernel: Kernel) -> Tensor:
    """Bring images onto a finer or coarser grid with the same corners.

    Parameters
    ----------
    x
        Images ``(..., *spatial)``, as many spatial axes as there are `sizes`.
    sizes
        New length of each spatial axis.
    kernel
        ``"lanczos2"``, ``"lanczos3"``; ``"box"``: the mean over a voxel; ``"gaussian"``, as wide at half its height
        as a voxel of the coarser grid; ``"cubic"`` (Keys 1981, a = -1/2), to interpolate.

    Returns
    -------
    Tensor
        ``(..., *sizes)``. Beyond a border, the image goes on as at it.
    """
    first = x.ndim - len(sizes)
    for axis, size in enumerate(sizes, start=first):
        if size != x.shape[axis]:
            weights = matrix(x.shape[axis], size, kernel).to(x.device, x.dtype)
            x = torch.movedim(torch.movedim(x, axis, -1) @ weights, -1, axis)
    return x


@lru_cache(maxsize=256)
def matrix(before: int, after: int, kernel: Kernel) -> Tensor:
    """Return the weights of all samples in each new one, ``(before, after)``; each column sums to one.

    The centre of new sample j lies at ``(j + 1/2) before / after - 1/2`` of the old ones. To a coarser grid the kernel
    is stretched to its voxels: for an even factor f and ``lanczos2`` these are the 4 f taps of Ulyanov et al. 2018,
    ``2 sin(pi d) sin(pi d / 2) / (pi d)^2`` at ``d = 1/(2 f), 3/(2 f), ...``, beside which borders are repeated.
    """
    step = before / after
    stretch = max(step, 1.0)
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) * step - 0.5
    reach = math.ceil(REACH[kernel] * stretch) + 1
    taps = centres.round()[:, None] + torch.arange(-reach, reach + 1, dtype=torch.float64)
    values = _kernel((taps - centres[:, None]).abs() / stretch, kernel)
    values /= values.sum(dim=1, keepdim=True)
    weights = torch.zeros(after, before, dtype=torch.float64)
    weights.scatter_add_(1, taps.long().clamp(0, before - 1), values)
    return weights.T.float().contiguous()


def _kernel(d: Tensor, kernel: Kernel) -> Tensor:
    inside = d < REACH[kernel] - 1e-9
    if kernel == "box":
        # A sample on the border of two boxes belongs to both by halves.
        return inside.double() + 0.5 * ((d - 0.5).abs() <= 1e-9).double()
    if kernel == "gaussian":
        return torch.exp(-0.5 * (d * FWHM).square()) * inside
    if kernel == "cubic":
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return torch.where(d <= 1, near, far) * inside
    return torch.sinc(d) * torch.sinc(d / REACH[kernel]) * inside
