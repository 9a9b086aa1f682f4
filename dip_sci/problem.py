"""Problem: what was observed, through which operator, with which noise and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from dip_sci.operators import Operator


@dataclass(frozen=True)
class Problem:
    """The inverse problem of one image or of a stack of like ones, on the network's range.

    Attributes
    ----------
    observation
        ``(N, C, *spatial)``, float32; noise stabilised, then scaled. Unmeasured voxels hold 0.
    measured
        1 where there is a measurement, else 0; ``(N, 1, *spatial)``.
    weights
        Weight of each voxel in the data term, 0 where unmeasured; ``(N, 1, *spatial)``.
    sigma
        Standard deviation of the noise on the network's range, ``(N, C, 1, ...)``.
    operator
        The forward operator.
    """

    observation: Tensor
    measured: Tensor
    weights: Tensor
    sigma: Tensor
    operator: Operator

    def data_term(self, image: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean square of ``A x - y``: on the stabilised scale, the Gaussian -log p up to a constant.

        Parameters
        ----------
        image
            Restored images x, ``(..., C, *spatial)``.
        target
            Observations y to compare ``A x`` with.
        weights
            Broadcasts against `target`.

        Returns
        -------
        Tensor
            A scalar.
        """
        square = (self.operator.forward(image) - target).square()
        total = weights.sum() * (square.numel() / weights.numel())
        return (square * weights).sum() / total.clamp_min(1e-12)

    def without(self, held_out: Tensor) -> Problem:
        """Return the same problem with some voxels (1 in `held_out`) taken out of the data term."""
        return replace(self, weights=self.weights * (1 - held_out))

    def only(self, n: int) -> Problem:
        """Return the problem of one image of the stack."""
        return self._mapped(lambda part: part[n : n + 1])

    def to(self, device: torch.device) -> Problem:
        """Return the same problem on another device."""
        return self._mapped(lambda part: part.to(device))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Problem:
        return replace(
            self,
            observation=change(self.observation),
            measured=change(self.measured),
            weights=change(self.weights),
            sigma=change(self.sigma),
        )
