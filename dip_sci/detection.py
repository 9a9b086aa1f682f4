"""Detection: an operator that acts on light, behind a detector whose noise is stabilised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dip_sci.noise import PoissonGaussian
from dip_sci.operators import Guess

if TYPE_CHECKING:
    from dip_sci.operators import Operator
    from dip_sci.scaling import Scaling


class Detected:
    """Light through an operator, then through the generalised Anscombe transform to the network's range.

    An image is light on a range of its own, ``(light - centre) / width``; an observation is stabilised and scaled. The
    noise of ``A x`` is that of the photons that arrive, not of those that set out.

    Parameters
    ----------
    operator
        A, on light; a constant image stays what it is.
    model
        Gain, offset and read noise.
    light, stable
        How light and stabilised values were scaled, for one group of images: they broadcast against ``(C, *spatial)``.
    """

    def __init__(self, operator: Operator, model: PoissonGaussian, light: Scaling, stable: Scaling) -> None:
        self.operator, self.model, self.reach = operator, model, operator.reach
        self._light, self._stable = light, stable

    def forward(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        centre, width = _like(x, self._light)
        light = self.operator.forward(x) * width + centre
        centre, width = _like(x, self._stable)
        return (self._stabilise(light) - centre) / width

    def finer(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return self.operator.finer(y)

    def features(self, channels: int) -> int:
        """See `Operator`: those of light, and what was observed."""
        return self.operator.features(channels) + channels

    def guess(self, y: Tensor, visible: Tensor) -> Guess:
        """See `Operator`: of light, as an operator's inverse knows no other; but stabilised noise is even."""
        found = self.operator.guess(self.light(y), visible)
        return found._replace(features=torch.cat([found.features, y * visible], dim=1))

    def evened(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return self.operator.evened(y)

    def light(self, y: Tensor) -> Tensor:
        """Return the light of an observation, on light's range."""
        centre, width = _like(y, self._stable)
        g = self.model.gain
        photons = (g * (y * width + centre).clamp_min(0) / 2).square() - 0.375 * g**2 - self.model.read_noise**2
        return self._scaled(photons / g + self.model.offset)

    def variance(self, light: Tensor) -> Tensor:
        """Return the variance of the noise in light on its range, never 0."""
        centre, width = _like(light, self._light)
        arriving = (self.model.gain * (light * width + centre - self.model.offset)).clamp_min(0)
        return (arriving + 0.375 * self.model.gain**2 + self.model.read_noise**2) / width.square()

    @property
    def dark(self) -> Tensor:
        """What there is without any light, on its range."""
        return self._scaled(torch.tensor(self.model.offset))

    def _scaled(self, light: Tensor) -> Tensor:
        centre, width = _like(light, self._light)
        return (light - centre) / width

    def _stabilise(self, light: Tensor) -> Tensor:
        """As `PoissonGaussian.stabilise`, but straight on where there is hardly light: a slope of 0 would teach nothing."""
        g = self.model.gain
        inside = g * (light - self.model.offset) + 0.375 * g**2 + self.model.read_noise**2
        least = (0.375 * g**2 + self.model.read_noise**2) / 2
        root = inside.clamp_min(least).sqrt() + (inside - least).clamp_max(0) / (2 * least**0.5)
        stable: Tensor = 2 / g * root
        return stable


def _like(x: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
    centre, width = (torch.from_numpy(part).to(x.device, x.dtype) for part in (scaling.centre, scaling.width))
    return centre, width
