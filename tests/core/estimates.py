"""What the tests of noise estimates share."""

import numpy as np

from dip_sci.noise_estimate import estimate
from dip_sci.recipe import NoiseOptions

AUTO = NoiseOptions()


def ramp(edge=128):
    y, x = np.mgrid[:edge, :edge] / edge
    return 200 + 300 * x + 100 * np.sin(3 * y)


def found(values, measured=None, *, volume=False, **options):
    seen = np.ones(values.shape, bool) if measured is None else measured
    return estimate(values, seen, NoiseOptions(**options), volume=volume)


def lamps(edge=192):
    """Some bright disks, more of them at the right."""
    y, x = np.mgrid[:edge, :edge]
    places = [(30, 160, 25), (110, 120, 20), (90, 50, 14), (160, 150, 22)]
    return 40.0 + 120 * sum(np.hypot(y - v, x - u) < r for v, u, r in places)
