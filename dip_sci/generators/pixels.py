"""No prior: the image itself is what is fitted, voxel by voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Pixels(nn.Module):
    """An image whose voxels are the parameters: the baseline that shows what a network adds.

    It starts at the middle of its range, is deaf to its input, and leaves all prior knowledge to the regulariser.

    Parameters
    ----------
    outside
        Channels of the image.
    shape
        Its spatial shape.
    sigmoid
        End in a sigmoid.
    """

    def __init__(self, outside: int, *, shape: Sequence[int], sigmoid: bool) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros(1, outside, *shape))
        self.last = nn.Sigmoid() if sigmoid else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """Return ``(B, outside, *shape)``; of the input, only the batch's size counts."""
        out: Tensor = self.last(self.image).expand(len(z), *self.image.shape[1:])
        return out
