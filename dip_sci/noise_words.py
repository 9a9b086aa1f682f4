"""What was found of the noise, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dip_sci.noise import Gaussian, Poisson, PoissonGaussian, Rician, Speckle

if TYPE_CHECKING:
    from dip_sci.noise import Pointwise
    from dip_sci.noise_structure import Structure


def describe(model: Pointwise) -> str:
    """Name a model and its numbers."""
    if isinstance(model, PoissonGaussian):
        gain = f"{model.gain:.4g}"
        words = f"{gain} grey level{'s' * (gain != '1')} per photon, offset {model.offset:.4g}"
        if isinstance(model, Poisson):
            return f"Poisson noise: {words}"
        return f"Poisson-Gaussian noise: {words}, read noise {model.read_noise:.4g}"
    if isinstance(model, Speckle):
        return f"Speckle of {model.looks:.4g} looks ({model.looks**-0.5:.1%} of the signal), read noise {model.read_noise:.4g}"
    assert isinstance(model, Gaussian | Rician)
    return f"{model.name.capitalize()} noise of standard deviation {model.sigma:.4g}"


def spread_out(found: Structure | None) -> str:
    """Put into words how the noise is spread."""
    if found is None:
        return ""
    words = ""
    if found.correlated:
        words = ", correlated between neighbours (lag-1 autocorrelation {:.2f} along X, {:.2f} along Y)".format(
            *found.lags
        )
    if found.hidden > 1:
        axis, lag = max(zip("XY", found.lags, strict=True), key=lambda each: each[1])
        words = f", hardly correlated between neighbours (lag-1 autocorrelation {lag:.2f} along {axis})"
    if found.sd_map is not None:
        low, high = np.quantile(found.sd_map, (0.05, 0.95))
        words += f", between {low:.1f} and {high:.1f} times as strong from place to place"
    return words
