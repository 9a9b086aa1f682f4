"""The ConvDecoder (Darestani & Heckel, IEEE TCI 2021): 3x3 convolutions on a ladder of grids of any shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from dip_sci.generators.layers import Conv, enlarge, norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.generators.layers import Grid

COARSE, COARSEST = 8, 4
"""Length of the longest and of any other axis of the input's grid (shorter axes are not enlarged)."""


def ladder(shape: Sequence[int], layers: int) -> list[Grid]:
    """Return the grids of all layers, coarsest first: each axis grows by the same factor from layer to layer.

    Parameters
    ----------
    shape
        Spatial shape of the image.
    layers
        Number of grids; the last one is the image's own.
    """
    longest = max(shape)
    start = [min(n, max(COARSEST, round(COARSE * n / longest))) for n in shape]
    last = max(layers - 1, 1)
    middle = [
        tuple(round(a * (n / a) ** (k / last)) for a, n in zip(start, shape, strict=True)) for k in range(layers - 1)
    ]
    return [*middle, tuple(shape)]


class ConvDecoder(nn.Module):
    """Per layer: nearest-neighbour enlargement to a given size, convolution, ReLU, normalisation.

    Parameters
    ----------
    ndim
        2 or 3.
    inside, outside
        Channels of the input and of the image.
    channels
        Channels per layer, coarsest first.
    shape
        Spatial shape of the image.
    kernel
        Kernel size per layer.
    upsample
        How each layer's input is enlarged.
    normalisation
        ``"batch"``, ``"instance"`` or ``"none"``, after the ReLU.
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
        shape: Sequence[int],
        kernel: Sequence[int],
        upsample: Sequence[Literal["nearest", "linear"]],
        normalisation: str,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        self.sizes, self.upsample = ladder(shape, len(channels)), list(upsample)
        before = (inside, *channels[:-1])
        self.convs = nn.ModuleList(Conv(ndim, a, b, k) for a, b, k in zip(before, channels, kernel, strict=True))
        self.norms = nn.ModuleList(norm(normalisation, ndim, c) for c in channels)
        self.head = Conv(ndim, channels[-1], outside, 1)
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(B, inside, *coarsest)`` to ``(B, outside, *shape)``."""
        x = z
        for k, size in enumerate(self.sizes):
            x = self.norms[k](torch.relu(self.convs[k](enlarge(x, size, self.upsample[k]))))
        out: Tensor = self.last(self.head(x).float())
        return out
