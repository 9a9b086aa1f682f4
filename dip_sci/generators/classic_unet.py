"""The U-Net of the deep image prior's comparison of architectures (Ulyanov, Vedaldi & Lempitsky, IJCV 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dip_sci.generators.layers import Conv, norm, pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.generators.layers import Strides


class _Deconv(nn.Module):
    """Transposed convolution that doubles the axes of a stride, cut to the size of the level it leads to."""

    def __init__(self, ndim: int, inside: int, outside: int, stride: Strides) -> None:
        super().__init__()
        kind: type[Any] = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        # 4 where it doubles, 3 where it does not: sizes come out right, and every voxel is reached equally often.
        kernel = tuple(4 if s == 2 else 3 for s in stride)
        self.conv: nn.Module = kind(inside, outside, kernel, stride=stride, padding=1)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Map ``(B, inside, *coarse)`` to ``(B, outside, *size)``."""
        out: Tensor = self.conv(x)
        for axis, n in enumerate(size, start=2):
            out = out.narrow(axis, 0, n)
        return out


class ClassicUNet(nn.Module):
    """Wide skip connections, maximum pooling on the way down and transposed convolutions on the way up.

    Parameters
    ----------
    ndim
        2 or 3.
    inside, outside
        Channels of the input and of the image.
    channels
        Channels per level, finest first; one level more than there are strides.
    strides
        One stride per spatial axis for each step from a level to the next.
    kernel
        Kernel size per level.
    normalisation
        ``"batch"``, ``"instance"`` or ``"none"``.
    sigmoid
        End in a sigmoid.
    """

    def __init__(
        self,
        ndim: int,
        inside: int,
        outside: int,
        *,
        channels: Sequence[int],
        strides: Sequence[Strides],
        kernel: Sequence[int],
        normalisation: str,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        self.strides = list(strides)
        before = (inside, *channels[:-1])
        below = range(len(strides))

        def level(seen: int, width: int, size: int) -> nn.Sequential:
            units: list[nn.Module] = []
            for inner in (seen, width):
                units += [Conv(ndim, inner, width, size), norm(normalisation, ndim, width), nn.ReLU()]
            return nn.Sequential(*units)

        self.down = nn.ModuleList(level(*sizes) for sizes in zip(before, channels, kernel, strict=True))
        self.rise = nn.ModuleList(_Deconv(ndim, channels[k + 1], channels[k], strides[k]) for k in below)
        self.up = nn.ModuleList(level(2 * channels[k], channels[k], kernel[k]) for k in below)
        self.head = Conv(ndim, channels[0], outside, 1)
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, outside, *spatial)``."""
        x = self.down[0](x)
        passed: list[Tensor] = []
        for stride, down in zip(self.strides, list(self.down)[1:], strict=True):
            passed.append(x)
            x = down(pool(x, stride, "max"))
        for k in reversed(range(len(passed))):
            x = self.up[k](torch.cat([self.rise[k](x, passed[k].shape[2:]), passed[k]], dim=1))
        out: Tensor = self.last(self.head(x).float())
        return out
