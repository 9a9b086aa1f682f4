"""Weights as codes of 8 bits with one step per tensor, and networks that learn to live with that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

LARGEST = 127
"""Of the codes."""


class Rounded(nn.Module):
    """A network that computes with its weights as `encoded` would keep them, and learns the exact ones.

    The gradient passes the rounding as if there were none (the straight-through estimator: Bengio, Leonard & Courville
    2013), so that what rounding one weight breaks is mended by the others.

    Parameters
    ----------
    network
        Any network; its parameters, in their order, are this one's.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        """Do what the network does, with rounded weights."""
        near = {name: w + (_codes(w) * _step(w) - w).detach() for name, w in self.network.named_parameters()}
        out: Tensor = functional_call(self.network, near, (z,))
        return out


def encoded(weights: Iterable[Tensor], largest: int = LARGEST) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return the codes of all tensors, one after another, and the step of each; a smaller `largest` leaves fewer to tell apart."""
    tensors = [w.detach().cpu() for w in weights]
    codes = torch.cat([_codes(w, largest).flatten() for w in tensors]).to(torch.int8)
    return codes.numpy(), torch.stack([_step(w, largest) for w in tensors]).numpy()


def decoded(codes: NDArray[Any], steps: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.float32]:
    """Return the weights that `encoded` was given, rounded; `sizes` are the tensors'."""
    found: NDArray[np.float32] = codes.astype(np.float32) * np.repeat(steps, sizes)
    return found


def _codes(weights: Tensor, largest: int = LARGEST) -> Tensor:
    return torch.round(weights.detach() / _step(weights, largest))


def _step(weights: Tensor, largest: int = LARGEST) -> Tensor:
    # Never 0: a tensor of zeros has codes, too.
    return (weights.detach().abs().max() / largest).clamp_min(torch.finfo(torch.float32).tiny)
