"""Guided filtering: what an image has in common with a guide, in every part of it."""

from __future__ import annotations

import torch
from torch import Tensor

RADII = (1, 2, 4, 8)
"""Half widths of the windows in which an image is a linear function of its guide."""

FAINT = 1e-12
"""Least variance of an image."""


def guided(y: Tensor, guides: Tensor, sd: Tensor, radius: int) -> Tensor:
    """Filter an image by its guide (He, Sun & Tang 2013), its slopes shrunk by what the noise leaves unsure of them.

    Parameters
    ----------
    y
        Noisy image ``(S, *spatial)``.
    guides
        ``(F, *spatial)``, without noise, of standard deviation about 1.
    sd
        Standard deviation of the noise; broadcasts against ``(S, *spatial)``.
    radius
        Half width of the windows, in voxels.

    Returns
    -------
    Tensor
        ``(S, *spatial)``.

    Notes
    -----
    In each window ``y = a . (g - mean g) + mean y``. Slopes, a priori of the size ``s / 1`` that image and guide have over
    all of it, are found by ridge regression: ``(C + sd^2 / (n s^2) I) a = c``, with the guide's covariances C, those with the
    image c, and n voxels. A voxel has the mean of all the windows that it is in (eq. 8 there).
    """
    spatial = y.shape[1:]
    many = (2 * min(radius, max(spatial))) ** len(spatial)
    mean_g, mean_y = _means(guides, radius), _means(y, radius)
    count = len(guides)
    both = (guides[:, None] * guides[None]).flatten(0, 1)
    covariance = _means(both, radius).view(count, count, *spatial) - mean_g[:, None] * mean_g[None]
    shared = _means((guides[:, None] * y[None]).flatten(0, 1), radius).view(count, *y.shape)
    shared = shared - mean_g[:, None] * mean_y[None]
    noise = sd.square().expand_as(y).flatten(1).mean(dim=1)
    signal = (y.flatten(1).var(dim=1) - noise).clamp_min(FAINT)
    ridge = noise / (many * signal)
    # One small system for every voxel and sample: (S, *spatial, F, F).
    left = covariance.movedim((0, 1), (-2, -1))[None] + ridge.view(-1, *(1,) * (len(spatial) + 2)) * torch.eye(
        count
    ).to(y)
    right = shared.movedim((0, 1), (-1, 0))
    slopes = torch.linalg.solve(left, right[..., None])[..., 0].movedim(-1, 0)
    intercept = mean_y - (slopes * mean_g[:, None]).sum(dim=0)
    sloping = _means(slopes.flatten(0, 1), radius).view_as(slopes)
    return ((sloping * guides[:, None]).sum(dim=0) + _means(intercept, radius)).to(y)


def _means(parts: Tensor, radius: int) -> Tensor:
    """Mean over windows, at the borders over what is in them, ``(N, *spatial)``."""
    for axis in range(1, parts.ndim):
        size = parts.shape[axis]
        near = min(radius, size - 1)
        total = torch.cat([torch.zeros_like(parts.narrow(axis, 0, 1)), parts.double().cumsum(axis)], dim=axis)
        at = torch.arange(size, device=parts.device)
        low, high = (at - near).clamp_min(0), (at + near + 1).clamp_max(size)
        shape = [1] * parts.ndim
        shape[axis] = size
        parts = (total.index_select(axis, high) - total.index_select(axis, low)) / (high - low).view(shape)
    return parts
