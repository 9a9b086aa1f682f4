"""Small images and short recipes that the tests of the engine share."""

import numpy as np
import torch

from dip_sci.image import Image
from dip_sci.operators import Identity
from dip_sci.problem import Problem
from dip_sci.recipe import Recipe

TINY = {
    "device": "cpu",
    "generator": {"channels": (8, 8)},
    "input": {"channels": 4},
    "supervision": {"passes": 2},
    "fit": {"steps": 5, "precision": "float32"},
    "output": {"classical": "none"},
}


def tiny(**changes):
    """A recipe that runs in less than a tenth of a second, with some groups changed."""
    return Recipe.parse(TINY).merged(changes)


def scene(*shape, seed=0):
    """Smooth waves and one sharp step along the last axis, between about 40 and 160."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    waves = sum(np.sin(g / rng.uniform(4, 9) + rng.uniform(0, 6)) for g in grids)
    return 100 + 30 * waves / len(shape) + 30 * (grids[-1] > shape[-1] // 2)


def noisy(*shape, axes="YX", sigma=8.0, seed=0, dtype=np.float32, **parts):
    """An image of the scene with white Gaussian noise."""
    values = scene(*shape, seed=seed) + np.random.default_rng(seed + 1).normal(0, sigma, shape)
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return Image(values.astype(dtype), axes, **parts)


def problem(*shape, channels=1, images=1, sigma=0.2, seed=0):
    """A problem of unit-variance scenes on the network's range, all voxels measured."""
    rng = np.random.default_rng(seed)
    clean = np.stack([scene(*shape, seed=seed + k) for k in range(images * channels)])
    clean = (clean - clean.mean()) / clean.std()
    values = (clean + sigma * rng.normal(size=clean.shape)).reshape(images, channels, *shape)
    ones = torch.ones(images, 1, *shape)
    spread = torch.full((images, channels, *(1,) * len(shape)), sigma)
    spacing = (1.0,) * len(shape)
    return Problem(torch.from_numpy(values.astype(np.float32)), ones, ones.clone(), spread, Identity(spacing))


def rng(seed=0):
    """A torch generator on the CPU."""
    return torch.Generator().manual_seed(seed)
