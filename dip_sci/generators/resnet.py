"""The ResNet of the deep image prior's comparison of architectures (Ulyanov, Vedaldi & Lempitsky, IJCV 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from dip_sci.generators.layers import Conv, norm

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, ndim: int, width: int, kernel: int, kind: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Conv(ndim, width, width, kernel, bias=False),
            norm(kind, ndim, width),
            nn.LeakyReLU(0.2),
            Conv(ndim, width, width, kernel, bias=False),
            norm(kind, ndim, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, width, *spatial)`` to the same shape."""
        out: Tensor = x + self.body(x)
        return out


class ResNet(nn.Module):
    """Residual blocks at full resolution: it sees a few dozen voxels around each, and no scale but the finest.

    Parameters
    ----------
    ndim
        2 or 3.
    inside, outside
        Channels of the input and of the image.
    width
        Channels of every block.
    kernels
        Kernel size per block.
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
        width: int,
        kernels: Sequence[int],
        normalisation: str,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(Conv(ndim, inside, width, 3), nn.LeakyReLU(0.2))
        self.blocks = nn.Sequential(*(_Block(ndim, width, kernel, normalisation) for kernel in kernels))
        self.after = nn.Sequential(Conv(ndim, width, width, 3), norm(normalisation, ndim, width))
        self.head = Conv(ndim, width, outside, 3)
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, outside, *spatial)``."""
        out: Tensor = self.last(self.head(self.after(self.blocks(self.first(x)))).float())
        return out
