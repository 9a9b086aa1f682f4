"""A plain stack of convolutions at full resolution, for what is to be sharpened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from dip_sci.generators.layers import Conv, norm

if TYPE_CHECKING:
    from collections.abc import Sequence


class Plain(nn.Module):
    """Convolutions with ReLU, whose last layer starts at zero: at first it returns exactly what it is added to.

    Parameters
    ----------
    ndim
        2 or 3.
    inside, outside
        Channels of the input and of the image.
    channels
        Channels after each convolution but the last.
    kernel
        Kernel size.
    normalisation
        ``"batch"``, ``"instance"`` or ``"none"``.
    """

    def __init__(
        self, ndim: int, inside: int, outside: int, *, channels: Sequence[int], kernel: int, normalisation: str
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in channels:
            layers += [Conv(ndim, inside, width, kernel), norm(normalisation, ndim, width), nn.ReLU()]
            inside = width
        self.body = nn.Sequential(*layers)
        self.head = Conv(ndim, inside, outside, kernel)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.zeros_(self.head.get_parameter("conv.weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, inside, *spatial)`` to ``(B, outside, *spatial)``."""
        out: Tensor = self.head(self.body(x)).float()
        return out
