"""Noise models, in detector units: sampling, stabilisation, splitting in two, likelihood.

A pointwise model says how one voxel scatters; `Structured` adds what neighbours share (a spatial
correlation) and what differs from place to place (a map of standard deviations). `CutOff` is what the ends of a range
leave of stabilised noise.
"""

from __future__ import annotations

from dip_sci.noise.cut_off import CutOff
from dip_sci.noise.gaussian import Gaussian
from dip_sci.noise.poisson import Poisson, PoissonGaussian
from dip_sci.noise.protocol import NoiseModel, Normal, Pointwise
from dip_sci.noise.rician import Rician
from dip_sci.noise.speckle import Speckle
from dip_sci.noise.structured import Structured, correlated_normal

__all__ = [
    "CutOff",
    "Gaussian",
    "NoiseModel",
    "Normal",
    "Pointwise",
    "Poisson",
    "PoissonGaussian",
    "Rician",
    "Speckle",
    "Structured",
    "correlated_normal",
]
