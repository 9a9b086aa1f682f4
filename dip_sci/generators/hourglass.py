"""The skip network of the deep image prior (Ulyanov, Vedaldi & Lempitsky, CVPR 2018, supplement)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import Tensor, nn

from dip_sci.errors import RecipeError
from dip_sci.generators.layers import Conv, enlarge, norm, pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.generators.layers import Strides

T = TypeVar("T")


def per_scale(values: Sequence[T], scales: int, name: str) -> tuple[T, ...]:
    """Spread one value over all scales, or check that there is one per scale."""
    if len(values) == 1:
        return tuple(values) * scales
    if len(values) != scales:
        raise RecipeError(f"{name} holds {len(values)} values for {scales} scales: give one, or one per scale.")
    return tuple(values)


class _Unit(nn.Sequential):
    """Convolution, normalisation, LeakyReLU 0.2."""

    def __init__(
        self, ndim: int, inside: int, outside: int, kernel: int, kind: str, stride: Strides | None = None
    ) -> None:
        super().__init__(Conv(ndim, inside, outside, kernel, stride), norm(kind, ndim, outside), nn.LeakyReLU(0.2))


class _Scale(nn.Module):
    """One scale: the way down to the next one, that one, the way up, beside a skip branch."""

    def __init__(
        self,
        ndim: int,
        inside: int,
        down: int,
        deeper: _Scale | None,
        deeper_out: int,
        *,
        up: int,
        skip: int,
        kernels: tuple[int, int],
        stride: Strides,
        downsample: Literal["stride", "average", "max"],
        upsample: Literal["nearest", "linear"],
        pointwise: bool,
        kind: str,
    ) -> None:
        super().__init__()
        kernel_down, kernel_up = kernels
        self.skip = _Unit(ndim, inside, skip, 1, kind) if skip else None
        self.stride, self.downsample, self.upsample = stride, downsample, upsample
        self.enter = _Unit(ndim, inside, down, kernel_down, kind, stride if downsample == "stride" else None)
        self.within = _Unit(ndim, down, down, kernel_down, kind)
        self.deeper = deeper
        self.join = norm(kind, ndim, skip + deeper_out)
        self.leave = _Unit(ndim, skip + deeper_out, up, kernel_up, kind)
        self.mix = _Unit(ndim, up, up, 1, kind) if pointwise else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, up, *spatial)``."""
        inner = self.enter(x)
        if self.downsample != "stride":
            inner = pool(inner, self.stride, self.downsample)
        inner = self.within(inner)
        if self.deeper is not None:
            inner = self.deeper(inner)
        inner = enlarge(inner, x.shape[2:], self.upsample)
        if self.skip is not None:
            inner = torch.cat([self.skip(x), inner], dim=1)
        out: Tensor = self.mix(self.leave(self.join(inner)))
        return out


class Hourglass(nn.Module):
    """Encoder-decoder with narrow skip connections.

    Parameters
    ----------
    ndim
        2 or 3.
    inside, outside
        Channels of the input and of the image.
    down, up, skip
        Channels per scale, finest first; a skip of 0 leaves the branch out.
    kernel_down, kernel_up
        Kernel sizes per scale.
    strides
        Per scale, one stride per spatial axis.
    downsample, upsample
        How scales are entered (all alike) and left (per scale).
    pointwise
        Follow the convolution on the way up by a 1x1 one.
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
        down: Sequence[int],
        up: Sequence[int],
        skip: Sequence[int],
        kernel_down: Sequence[int],
        kernel_up: Sequence[int],
        strides: Sequence[Strides],
        downsample: Literal["stride", "average", "max"],
        upsample: Sequence[Literal["nearest", "linear"]],
        pointwise: bool,
        normalisation: str,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        scale: _Scale | None = None
        # The deepest scale has no deeper one: its own way down leads straight up.
        deeper_out = down[-1]
        for k in reversed(range(len(down))):
            scale = _Scale(
                ndim,
                down[k - 1] if k else inside,
                down[k],
                scale,
                deeper_out,
                up=up[k],
                skip=skip[k],
                kernels=(kernel_down[k], kernel_up[k]),
                stride=strides[k],
                downsample=downsample,
                upsample=upsample[k],
                pointwise=pointwise,
                kind=normalisation,
            )
            deeper_out = up[k]
        assert scale is not None
        self.body = scale
        self.head = Conv(ndim, up[0], outside, 1)
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, outside, *spatial)``."""
        out: Tensor = self.last(self.head(self.body(x)).float())
        return out
