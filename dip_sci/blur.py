"""Blur: a forward operator that spreads every point, and how far what it left can be made sharp again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from dip_sci.operators import Guess, Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

REGULARISED = (6.0, 0.6, 0.06)
"""Weights of the roughness in first guesses, in standard deviations of the noise over that of the image; the middle one is the
base."""

FAINTEST = 0.1
"""Power left by a blur below which it is not brought up any further."""

AGREED = 1e-6
"""Share of the first step's descent from which on none is worth it."""

SOLVED = 20
"""Steps towards an image that agrees with its observation."""


class Blur:
    """The observation is the image, blurred.

    Parameters
    ----------
    psf
        Point spread function of odd sizes and sum 1, along the last spatial axes.
    spacing
        Voxel spacing along each spatial axis, in one unit.
    noise
        Standard deviation of the observation's noise, over that of the image.
    """

    def __init__(self, psf: NDArray[np.float32], spacing: Sequence[float], noise: float) -> None:
        self._guess = Identity(spacing, base=0)
        self._psf = torch.from_numpy(psf.reshape((1,) * (len(spacing) - psf.ndim) + psf.shape))
        self._noise = noise
        self.reach = tuple(n // 2 for n in self._psf.shape)
        self._axes = tuple(range(-len(self.reach), 0))
        self._spectra: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """See `Operator`; beyond a border, the image goes on as at it."""
        padded = self._padded(x.float(), self.reach)
        return self._cut(self._filtered(padded, self._spectrum(padded)), self.reach)

    def finer(self, y: Tensor) -> Tensor:
        """See `Operator`: it is the observation's."""
        return y

    def features(self, channels: int) -> int:
        """See `Operator`: what a hidden voxel is filled with, and what was made sharp."""
        return self._guess.features(channels) + len(REGULARISED) * channels

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """Make an observation ``(B, C, *spatial)`` sharp by regularised inverses; see `Operator`.

        Each has the least of ``|A x - y|^2 + w |L x|^2``, with the Laplacian L and the noise times one of `REGULARISED` as w
        (Tikhonov & Arsenin 1977).
        """
        _, features, filled = self._guess.guess(y, visible)
        sharp = self.inverses(filled, REGULARISED)
        return Guess(sharp[len(sharp) // 2], torch.cat([features, *sharp], dim=1), filled)

    def evened(self, y: Tensor) -> Tensor:
        """See `Operator`: the square root of a regularised inverse."""
        transfer = self._spectrum(y)
        return self._filtered(y.float(), ((1 + FAINTEST) / (transfer.abs().square() + FAINTEST)).sqrt())

    def agreeing(self, x: Tensor, y: Tensor, precision: Tensor, pull: Tensor) -> Tensor:
        """Return the image next to another that agrees with an observation.

        Parameters
        ----------
        x, y
            The other image and the observation, ``(C, *spatial)``.
        precision
            Weight of each voxel of the observation; 0 where there is none.
        pull
            Weight of the image that it is to be next to, more than 0.

        Returns
        -------
        Tensor
            The least of ``precision (A z - y)^2 + pull (z - x)^2`` over z, by conjugate gradients. Beyond a border the
            observation says nothing, and z stays next to the border's voxels.
        """
        first, pull = self._padded(x, self.reach), self._padded(pull.expand_as(x), self.reach)
        ends = [end for reach in reversed(self.reach) for end in (reach, reach)]
        precision = functional.pad(precision.expand_as(x), ends)
        transfer = self._spectrum(first)
        # Where photons are few, both weights are large: over the one that is even, the other hardly changes.
        scale = pull.rsqrt()
        ratio = (precision / pull)[precision > 0].mean() if bool((precision > 0).any()) else pull.new_zeros(())
        inverse = 1 / (ratio * transfer.abs().square() + 1)

        def eased(residual: Tensor) -> Tensor:
            return scale * self._filtered(scale * residual, inverse)

        found = first
        residual = self._filtered(
            precision * (functional.pad(y, ends) - self._filtered(first, transfer)), transfer.conj()
        )
        direction = eased(residual)
        descent = least = (residual * direction).sum()
        for _ in range(SOLVED):
            # Where the observation is agreed with already, there is no way to go.
            if not bool(descent > AGREED * least):
                break
            image = self._filtered(precision * self._filtered(direction, transfer), transfer.conj()) + pull * direction
            length = descent / (direction * image).sum()
            found, residual = found + length * direction, residual - length * image
            better = eased(residual)
            before, descent = descent, (residual * better).sum()
            direction = better + descent / before * direction
        return self._cut(found, self.reach)

    def inverses(self, y: Tensor, weights: Sequence[float]) -> list[Tensor]:
        """Return the images ``(B, C, *spatial)`` of the least ``|A x - y|^2 + w n |L x|^2`` for some weights w, with the noise n."""
        border = tuple(2 * r + 1 for r in self.reach)
        padded = self._padded(y, border)
        # What is taken for periodic must not jump from one end to the other.
        mean = y.mean(dim=self._axes, keepdim=True)
        for axis, width in zip(self._axes, border, strict=True):
            n = padded.shape[axis]
            at = torch.arange(1, n + 1, device=y.device)
            fade = (torch.minimum(at, n + 1 - at) / width).clamp_max(1.0)
            padded = mean + (padded - mean) * fade.reshape(-1, *(1,) * (-1 - axis))
        transfer, rough = self._spectrum(padded), self._roughness(padded)
        power = transfer.abs().square()
        seen = torch.fft.rfftn(padded, dim=self._axes) * transfer.conj()
        size = padded.shape[padded.ndim - len(border) :]
        found = [seen / (power + weight * self._noise * rough + 1e-6) for weight in weights]
        return [self._cut(torch.fft.irfftn(one, s=size, dim=self._axes), border) for one in found]

    def _padded(self, x: Tensor, border: Sequence[int]) -> Tensor:
        spatial = x.shape[x.ndim - len(border) :]
        ends = [end for n in reversed(border) for end in (n, n)]
        padded = functional.pad(x.reshape(-1, 1, *spatial), ends, mode="replicate")
        return padded.reshape(*x.shape[: x.ndim - len(border)], *padded.shape[2:])

    def _cut(self, x: Tensor, border: Sequence[int]) -> Tensor:
        cut: Tensor = x[(..., *(slice(n, -n or None) for n in border))]
        return cut

    def _filtered(self, x: Tensor, spectrum: Tensor) -> Tensor:
        size = x.shape[x.ndim - len(self._axes) :]
        found: Tensor = torch.fft.irfftn(torch.fft.rfftn(x, dim=self._axes) * spectrum, s=size, dim=self._axes)
        return found

    def _spectrum(self, like: Tensor) -> Tensor:
        shape = tuple(like.shape[like.ndim - len(self._axes) :])
        if (shape, like.device) not in self._spectra:
            self._spectra[shape, like.device] = transfer(self._psf, shape).to(like.device)
        return self._spectra[shape, like.device]

    def _roughness(self, like: Tensor) -> Tensor:
        """Return the square of the Laplacian's transfer function."""
        spatial = like.shape[like.ndim - len(self._axes) :]
        total = like.new_zeros(())
        for axis, n in zip(self._axes, spatial, strict=True):
            frequency = (torch.fft.rfftfreq if axis == -1 else torch.fft.fftfreq)(n, device=like.device)
            total = total + (2 - 2 * torch.cos(2 * torch.pi * frequency)).reshape(-1, *(1,) * (-1 - axis))
        return total.square()


def transfer(psf: Tensor, shape: Sequence[int]) -> Tensor:
    """Return what a blur does to each frequency of a periodic grid, the last axis of half its length.

    Parameters
    ----------
    psf
        Point spread function of odd sizes: its middle comes to voxel 0, and what is larger than the grid goes round.
    shape
        Of the grid, with as many axes.
    """
    places = [(torch.arange(n) - n // 2) % size for n, size in zip(psf.shape, shape, strict=True)]
    centred = torch.zeros(tuple(shape))
    centred.index_put_(torch.meshgrid(*places, indexing="ij"), psf, accumulate=True)
    found: Tensor = torch.fft.rfftn(centred)
    return found
