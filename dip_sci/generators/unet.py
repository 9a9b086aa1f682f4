"""A light U-Net without normalisation, for recorrupted supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from dip_sci.generators.layers import Conv, Dropout, enlarge, norm, pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.generators.layers import Strides

SLOPE = 0.1


class UNet(nn.Module):
    """U-Net whose last layer starts at zero: at first it returns exactly the first guess it is added to.

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
    downsample
        ``"max"``, ``"average"`` or ``"stride"``.
    upsample
        How each level is left upwards.
    kernel_down, kernel_up
        Kernel sizes per level.
    normalisation
        ``"batch"``, ``"instance"`` or ``"none"``.
    dropout
        Share of activations dropped before each convolution on the way up but the first.
    """

    def __init__(
        self,
        ndim: int,
        inside: int,
        outside: int,
        *,
        channels: Sequence[int],
        strides: Sequence[Strides],
        downsample: Literal["stride", "average", "max"],
        upsample: Sequence[Literal["nearest", "linear"]],
        kernel_down: Sequence[int],
        kernel_up: Sequence[int],
        normalisation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.strides, self.downsample, self.upsample = list(strides), downsample, list(upsample)
        widths = list(channels)
        levels = range(len(strides))

        def unit(before: int, after: int, kernel: int, stride: Strides | None = None) -> nn.Module:
            return nn.Sequential(
                Conv(ndim, before, after, kernel, stride), norm(normalisation, ndim, after), nn.LeakyReLU(SLOPE)
            )

        self.first = unit(inside, widths[0], kernel_down[0])
        self.down = nn.ModuleList(unit(widths[k], widths[k], kernel_down[k]) for k in levels)
        self.shrink = nn.ModuleList(
            unit(widths[k], widths[k + 1], kernel_down[k], strides[k] if downsample == "stride" else None)
            for k in levels
        )
        self.join = nn.ModuleList(unit(widths[k + 1] + widths[k], widths[k], kernel_up[k]) for k in levels)
        self.up = nn.ModuleList(unit(widths[k], widths[k], kernel_up[k]) for k in levels)
        self.drop = Dropout(dropout)
        self.head = Conv(ndim, widths[0], outside, 1)
        self._start()

    def _start(self) -> None:
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, a=SLOPE)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.zeros_(self.head.get_parameter("conv.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, outside, *spatial)``."""
        x = self.first(x)
        passed: list[Tensor] = []
        for k, (down, shrink) in enumerate(zip(self.down, self.shrink, strict=True)):
            x = down(x)
            passed.append(x)
            x = shrink(x if self.downsample == "stride" else pool(x, self.strides[k], self.downsample))
        for k in reversed(range(len(passed))):
            x = enlarge(x, passed[k].shape[2:], self.upsample[k])
            x = self.join[k](torch.cat([x, passed[k]], dim=1))
            x = self.up[k](self.drop(x))
        out: Tensor = self.head(self.drop(x)).float()
        return out
