"""Forward operators: how the image we want becomes what was observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from dip_sci.resampling import resample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dip_sci.resampling import Kernel


class Guess(NamedTuple):
    """A first guess on the image's grid.

    Attributes
    ----------
    base
        The guess that the network's output is added to, ``(B, C, *spatial)``.
    features
        What the network sees of it, ``(B, F, *spatial)``.
    filled
        The observation with its hidden voxels filled by the finest guess.
    """

    base: Tensor
    features: Tensor
    filled: Tensor


class Operator(Protocol):
    """A forward operator A."""

    @property
    def reach(self) -> tuple[int, ...]:
        """How far, along each spatial axis, a voxel of the observation sees the image; empty for no further than itself."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Apply A to images ``(B, C, *spatial)``."""
        ...

    def finer(self, y: Tensor) -> Tensor:
        """Interpolate observations ``(..., *spatial)`` to the image's grid."""
        ...

    def features(self, channels: int) -> int:
        """How many feature channels `guess` returns for images of so many channels."""
        ...

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """Make a first image out of the visible part of an observation."""
        ...

    def evened(self, y: Tensor) -> Tensor:
        """Bring up what is faint in observations ``(..., *spatial)`` for the operator's sake, by a linear filter."""
        ...


class Identity:
    """The observation is the image itself, plus noise.

    Parameters
    ----------
    spacing
        Voxel spacing along each spatial axis, in one unit: the guess smooths over equal distances.
    base
        Which of the widths the network's output is added to: a wide one where voxels are noisy, the finest where
        they are not.
    """

    reach: tuple[int, ...] = ()

    # Standard deviations of the smoothing, in voxels of the finest spacing (methods.md section 4).
    widths = (1.0, 2.5, 6.0)

    def __init__(self, spacing: Sequence[float], base: int = 1) -> None:
        self._base = base
        self._ratios = [min(spacing) / s for s in spacing]
        self._kernels: dict[tuple[int, float, torch.device], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        return x

    def finer(self, y: Tensor) -> Tensor:
        """See `Operator`: it is the observation's."""
        return y

    def features(self, channels: int) -> int:
        """See `Operator`."""
        return channels * (1 + len(self.widths)) + 1

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """Fill hidden voxels by normalised convolutions of the visible ones at three widths.

        Parameters
        ----------
        y
            Observation, ``(B, C, *spatial)``.
        visible
            1 where the network may look, else 0; ``(B, 1, *spatial)``.

        Returns
        -------
        Guess
            One width as base; as features the observation with its hidden voxels filled,
            the visibility, and the three smooth images.
        """
        axes = tuple(range(1, y.ndim))
        shown = y * visible
        coarser = shown.sum(axes, keepdim=True) / (visible.sum(axes, keepdim=True) * y.shape[1]).clamp_min(1)
        smooth: list[Tensor] = []
        for width in reversed(self.widths):
            value, weight = self._smooth(shown, width), self._smooth(visible, width)
            # Where hardly anything is visible at this width, the coarser image takes over.
            coarser = (value + 1e-3 * coarser) / (weight + 1e-3)
            smooth.insert(0, coarser)
        filled = torch.where(visible > 0, y, smooth[0])
        return Guess(smooth[self._base], torch.cat([filled, visible - 0.5, *smooth], dim=1), filled)

    def evened(self, y: Tensor) -> Tensor:
        """See `Operator`: nothing is."""
        return y

    def _smooth(self, x: Tensor, width: float) -> Tensor:
        """Gaussian smoothing as one matrix product per axis; beyond the border there is nothing."""
        for axis, ratio in enumerate(self._ratios, start=2):
            kernel = self._kernel(x.shape[axis], width * ratio, x.device)
            x = torch.movedim(torch.movedim(x, axis, -1) @ kernel, -1, axis)
        return x

    def _kernel(self, size: int, width: float, device: torch.device) -> Tensor:
        key = (size, width, device)
        if key not in self._kernels:
            at = torch.arange(size, device=device, dtype=torch.float32)
            kernel = torch.exp(-0.5 * ((at[:, None] - at[None, :]) / max(width, 1e-3)) ** 2)
            self._kernels[key] = kernel / kernel.sum(dim=0).max()
        return self._kernels[key]


class Downsample:
    """The observation is a coarser view of the image.

    Parameters
    ----------
    factors
        Voxels of the image in one of the observation, along each spatial axis.
    kernel
        How they are weighed.
    spacing
        Voxel spacing of the observation along each spatial axis, in one unit.
    """

    # Lessons and observations are whole images, or patches that count as such.
    reach: tuple[int, ...] = ()

    def __init__(self, factors: Sequence[int], kernel: Kernel, spacing: Sequence[float]) -> None:
        self.factors, self.kernel = tuple(factors), kernel
        self._fill = Identity(spacing, base=0)

    def forward(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        spatial = x.shape[x.ndim - len(self.factors) :]
        return resample(x, [n // f for n, f in zip(spatial, self.factors, strict=True)], self.kernel)

    def finer(self, y: Tensor) -> Tensor:
        """See `Operator`: cubic."""
        spatial = y.shape[y.ndim - len(self.factors) :]
        return resample(y, [n * f for n, f in zip(spatial, self.factors, strict=True)], "cubic")

    def features(self, channels: int) -> int:
        """See `Operator`: the interpolated observation."""
        return channels

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """Interpolate an observation ``(B, C, *spatial)``, whose hidden voxels are filled from close by first."""
        finer = self.finer(self.fill(y, visible))
        return Guess(finer, finer, finer)

    def evened(self, y: Tensor) -> Tensor:
        """See `Operator`: nothing is."""
        return y

    def fill(self, y: Tensor, visible: Tensor) -> Tensor:
        """Fill hidden voxels of an observation from close by."""
        return y if bool((visible > 0).all()) else self._fill.guess(y, visible).filled


class Evened:
    """An operator after which comes what brings up the faint.

    A fit's gradient hardly knows what an operator all but takes away; noise that has nothing to do with what the network
    has seen may be filtered in any way.

    Parameters
    ----------
    operator
        The operator.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator, self.reach = operator, operator.reach

    def forward(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        return self.evened(self.operator.forward(x))

    def finer(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return self.operator.finer(y)

    def features(self, channels: int) -> int:
        """See `Operator`."""
        return self.operator.features(channels)

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """See `Operator`."""
        return self.operator.guess(y, visible)

    def evened(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return self.operator.evened(y)
