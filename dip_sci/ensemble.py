"""Ensemble: networks that are fitted side by side, and their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Ensemble(nn.Module):
    """K networks side by side, which share nothing but the step."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(K, B, inside, *spatial)`` to ``(K, B, C, *spatial)``."""
        layout = torch.channels_last if x.ndim == 5 else torch.channels_last_3d
        outputs = [net(one.contiguous(memory_format=layout)) for net, one in zip(self.networks, x, strict=True)]
        return torch.stack(outputs)


def fresh(make_network: Callable[[], nn.Module], count: int, seed: int, device: torch.device) -> Ensemble:
    """Make networks whose weights depend on the seed alone, with torch's own random state left as it was."""
    networks = []
    with torch.random.fork_rng(devices=[]):
        for k in range(count):
            torch.manual_seed(seed + 7919 * k)
            networks.append(make_network())
    ensemble = Ensemble(networks).to(device)
    dims = {p.ndim for p in ensemble.parameters()}
    layout = torch.channels_last_3d if 5 in dims else torch.channels_last
    for p in ensemble.parameters():
        if p.ndim >= 4:
            p.data = p.data.contiguous(memory_format=layout)
    return ensemble.train()


def weights_of(networks: nn.Module) -> Tensor:
    """Return all weights in one row."""
    return torch.cat([p.detach().reshape(-1).float() for p in networks.parameters()])


def begin_with(networks: nn.Module, weights: Tensor) -> None:
    """Copy weights into networks, unless they are of others."""
    parameters = list(networks.parameters())
    if weights.numel() != sum(p.numel() for p in parameters):
        return
    for p, values in zip(parameters, torch.split(weights, [p.numel() for p in parameters]), strict=True):
        p.data.copy_(values.view(p.shape))
