"""The Deep Decoder (Heckel & Hand, ICLR 2019): no convolution wider than one voxel, and so few weights that it compresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from dip_sci.generators.layers import Conv, enlarge, grids, norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.generators.layers import Grid


def coarsest(shape: Sequence[int], spacing: Sequence[float], layers: int) -> Grid:
    """Return the grid of the input of a network with so many layers: the image's, halved once per layer but the last."""
    return grids(shape, spacing, layers - 1)[-1]


class DeepDecoder(nn.Module):
    """Pixel-wise combinations of channels, ReLU, normalisation and twofold interpolation, from coarse to fine.

    Parameters
    ----------
    ndim
        2 or 3.
    inside, outside
        Channels of the input and of the image.
    channels
        Channels per layer, coarsest first; each layer but the last is followed by an enlargement.
    shape, spacing
        Spatial shape and voxel spacing of the image.
    upsample
        How each layer but the last is enlarged.
    normalisation
        ``"batch"``, ``"instance"`` or ``"none"``, after the ReLU.
    sigmoid
        End in a sigmoid.

    Notes
    -----
    ``B_{i+1} = cn(relu(U_i B_i C_i))``, ``x = sigmoid(B_d C_d)`` (their equation 1), with the convolution before the
    enlargement, which changes nothing but the work: both are linear, and one mixes channels only.
    """

    def __init__(
        self,
        ndim: int,
        inside: int,
        outside: int,
        *,
        channels: Sequence[int],
        shape: Sequence[int],
        spacing: Sequence[float],
        upsample: Sequence[Literal["nearest", "linear"]],
        normalisation: str,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        self.sizes = [*reversed(grids(shape, spacing, len(channels) - 1)[:-1]), tuple(shape)]
        self.upsample = list(upsample)
        before = (inside, *channels[:-1])
        self.mix = nn.ModuleList(Conv(ndim, a, b, 1, bias=False) for a, b in zip(before, channels, strict=True))
        self.norms = nn.ModuleList(norm(normalisation, ndim, c) for c in channels)
        self.head = Conv(ndim, channels[-1], outside, 1, bias=False)
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Map ``(B, inside, *coarsest)`` to ``(B, outside, *shape)``."""
        x = z
        # The last size twice: the last layer enlarges nothing.
        for k, size in enumerate(self.sizes):
            x = self.mix[k](x)
            if k < len(self.upsample):
                x = enlarge(x, size, self.upsample[k])
            x = self.norms[k](torch.relu(x))
        out: Tensor = self.last(self.head(x).float())
        return out
