"""What an observation implies of the image before a blur, and whether that can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dip_sci.blur import transfer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LEVELS = tuple(10.0 ** (-k / 2) for k in range(2, 9))
"""Amplitudes that a blur leaves of a frequency: between each and the next, frequencies are taken together."""

LOBE = 5
"""Frequencies over which a window spreads each of them: what a blur leaves there is what it leaves of the clearest."""

CLEAR, TIMES = 3.0, 1.0
"""Power in excess of the noise's, over its standard error and over the noise's own, from which on it is content."""

RISE = 3.0
"""How much more power, over that at frequencies which the blur leaves clearer, no image has: spectra fall."""

FEWEST = 20
"""Frequencies that tell how strong they are."""


def too_wide(plane: Array, psf: Array, variance: float) -> bool:
    """Whether an observation holds detail that a point spread function would have taken away.

    The power of an observation, less that of its noise, over the square of the blur's transfer function is the power of the
    image before it. That falls towards fine detail, or stays; where it is said to rise, less was taken away.

    Parameters
    ----------
    plane
        All of it measured, ``(Y, X)`` or ``(Z, Y, X)``.
    psf
        Of as many axes, its middle in the middle.
    variance
        Of the noise, independent from voxel to voxel; on average.
    """
    from scipy import fft
    from scipy.ndimage import maximum_filter

    window = np.ones(())
    for n in plane.shape:
        window = np.multiply.outer(window, np.hanning(n + 2)[1:-1])
    power = np.abs(fft.rfftn((plane - plane.mean()) * window)) ** 2 / np.square(window).sum()
    clear = np.abs(transfer(torch.from_numpy(psf.astype(np.float32)), plane.shape).numpy())
    left = maximum_filter(clear, LOBE, mode=(*["wrap"] * (plane.ndim - 1), "mirror"))
    alike = np.square(window).sum() ** 2 / (window**4).sum() / plane.size
    least = np.inf
    for most, fewest in zip((1.0, *LEVELS), (*LEVELS, 0.0), strict=True):
        here = (left <= most) & (left > fewest)
        count = alike * here.sum()
        if count < FEWEST:
            continue
        excess = float(power[here].mean()) - variance
        implied = excess / float(np.square(left[here]).mean())
        content = excess > max(CLEAR * float(power[here].std()) / np.sqrt(count), TIMES * variance)
        if content and implied > RISE * least:
            return True
        least = min(least, max(implied, 0.0)) if content else least
    return False
