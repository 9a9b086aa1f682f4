"""Building blocks shared by the generators: one code for 2D and 3D, any size of image."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Strides = tuple[int, ...]
Grid = tuple[int, ...]


def strides_by_scale(shape: Sequence[int], spacing: Sequence[float], scales: int) -> list[Strides]:
    """Choose along which axes each scale is halved.

    An axis is halved when it is long enough and its voxels are at most about as large as the
    smallest ones at that scale: anisotropic volumes shrink in plane until they are near isotropic.

    Parameters
    ----------
    shape
        Spatial shape, for instance ``(Z, Y, X)``.
    spacing
        Distance between voxels along each axis, in one unit.
    scales
        Number of scales.

    Returns
    -------
    list of tuple
        One stride (1 or 2) per axis, for each scale.
    """
    sizes, steps, chosen = list(shape), list(spacing), []
    for _ in range(scales):
        long_enough = [n >= 8 for n in sizes]
        finest = min((s for s, ok in zip(steps, long_enough, strict=True) if ok), default=0.0)
        # 1.5: just above the square root of 2, at which halving brings two axes closest together.
        stride = tuple(2 if ok and s < 1.5 * finest else 1 for s, ok in zip(steps, long_enough, strict=True))
        sizes = [-(-n // k) for n, k in zip(sizes, stride, strict=True)]
        steps = [s * k for s, k in zip(steps, stride, strict=True)]
        chosen.append(stride)
    return chosen


def grids(shape: Sequence[int], spacing: Sequence[float], scales: int) -> list[Grid]:
    """Return the spatial shapes of an image's scales, finest first: its own, then halved by `strides_by_scale`."""
    found = [tuple(shape)]
    for stride in strides_by_scale(shape, spacing, scales):
        found.append(tuple(-(-n // k) for n, k in zip(found[-1], stride, strict=True)))
    return found


class Conv(nn.Module):
    """Convolution with reflecting borders that keeps the size, or divides it by the stride (rounded up)."""

    def __init__(
        self, ndim: int, inside: int, outside: int, kernel: int, stride: Strides | None = None, *, bias: bool = True
    ) -> None:
        super().__init__()
        kind: type[Any] = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.reach = kernel // 2
        self.conv: nn.Module = kind(inside, outside, kernel, stride=stride or 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, outside, *spatial / stride)``."""
        if self.reach:
            x = _pad(x, self.reach)
        out: Tensor = self.conv(x)
        return out


def _pad(x: Tensor, reach: int) -> Tensor:
    both = (reach, reach) * (x.ndim - 2)
    if min(x.shape[2:]) > reach:
        return F.pad(x, both, mode="reflect")
    return F.pad(x, both, mode="replicate")


def pool(x: Tensor, stride: Strides, mode: Literal["average", "max"]) -> Tensor:
    """Shrink ``(B, C, *spatial)`` by pooling; a last odd row or plane is kept."""
    if max(stride) == 1:
        return x
    if mode == "max":
        return (F.max_pool2d if len(stride) == 2 else F.max_pool3d)(x, stride, ceil_mode=True)
    if len(stride) == 2:
        return F.avg_pool2d(x, stride, ceil_mode=True)
    # 3D average pooling has no bfloat16 kernel on the CPU.
    return F.avg_pool3d(x.float(), stride, ceil_mode=True).to(x.dtype)


def enlarge(x: Tensor, size: Sequence[int], mode: Literal["nearest", "linear"]) -> Tensor:
    """Interpolate ``(B, C, *spatial)`` to a spatial size."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if mode == "nearest":
        return F.interpolate(x, size=tuple(size), mode="nearest")
    return F.interpolate(x, size=tuple(size), mode="bilinear" if x.ndim == 4 else "trilinear", align_corners=False)


def norm(kind: str, ndim: int, channels: int) -> nn.Module:
    """Return a normalisation layer that looks at the current image only, in training and afterwards alike."""
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        batch = nn.BatchNorm2d if ndim == 2 else nn.BatchNorm3d
        return batch(channels, track_running_stats=False)
    instance = nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d
    return instance(channels, affine=True)


class Dropout(nn.Module):
    """Element-wise dropout that cuts its masks out of one random pool.

    Drawing a Bernoulli number for each activation costs twice as much as a convolution on a CPU;
    a slice of a pool at a random place costs next to nothing.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.places = random.Random(0)
        self._seed = int(torch.randint(2**31, ()))
        self._pool: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop activations of ``(B, C, *spatial)``, in training only."""
        if not self.training or self.share == 0:
            return x
        count = x.numel()
        if self._pool is None or len(self._pool) < 2 * count or self._pool.device != x.device:
            rng = torch.Generator(x.device).manual_seed(self._seed)
            kept = torch.rand(3 * count, device=x.device, generator=rng) >= self.share
            self._pool = kept.to(x.dtype) / (1 - self.share)
        start = self.places.randrange(len(self._pool) - count + 1)
        mask = self._pool[start : start + count].to(x.dtype)
        # The mask takes the channels-last layout of the activations, else the product is strided and slow.
        return x * mask.view(x.shape[0], *x.shape[2:], x.shape[1]).movedim(-1, 1)


def reseed(module: nn.Module, *key: int) -> None:
    """Set where the dropout masks of a step are cut: a function of the key alone."""
    places = random.Random(hash(key))
    for part in module.modules():
        if isinstance(part, Dropout):
            part.places = random.Random(places.random())
