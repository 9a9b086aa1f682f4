"""Stacks: one network for all planes, frames and channels, and what they know of each other."""

import numpy as np
import pytest
import torch
from scenes import noisy, scene, tiny

from dip_sci.choices import decide
from dip_sci.errors import RecipeError
from dip_sci.image import Image
from dip_sci.preparation import Preparation
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise

LEARN = {
    "generator": {"ndim": "2d", "channels": (16, 16)},
    "fit": {"steps": 120, "precision": "float32"},
    "supervision": {"passes": 4, "flips": "no"},
    "output": {"classical": "none", "dtype": "float32"},
}
"""Whether patches are flipped depends on how many images there are: what is compared here has nothing to do with that."""


def thick(planes=6, size=40, spacing=5.0, sigma=20.0):
    """A stack of thick planes that show the same, each with noise of its own."""
    clean = np.broadcast_to(scene(size, size), (planes, size, size))
    observed = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    return Image(observed.astype(np.float32), "ZYX", (spacing, 1.0, 1.0)), clean


def prepared(image, **generator):
    recipe = decide(tiny(generator=generator), image, fast_bfloat16=False).recipe
    return Preparation(image, recipe, None)


def beside(problem, n):
    return problem.beside((slice(n, n + 1), *(slice(None),) * 3))[0]


def mean_square(a, b):
    return float(np.mean((np.asarray(a, float) - b) ** 2))


def test_noise_that_varies_from_place_to_place_does_so_for_the_network():
    sd = np.linspace(4, 20, 160)
    values = scene(160, 160) + np.random.default_rng(0).normal(0, sd, (160, 160))
    (problem,) = prepared(Image(values.astype(np.float32), "YX")).problems(torch.device("cpu"))
    strength = problem.sigma[0, 0].mean(dim=0)
    assert strength.shape == (160,)
    assert strength[150] / strength[10] == pytest.approx(sd[150] / sd[10], rel=0.15)


def test_thick_planes_see_their_neighbours():
    image, clean = thick()
    alone, both = (
        denoise(image, Recipe.parse(LEARN).merged({"generator": {"neighbours": n}})).image.array for n in (0, 1)
    )
    assert mean_square(both, clean) < 0.85 * mean_square(alone, clean)


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_no_plane_is_its_own_neighbour(reach):
    image, _ = thick()
    (problem,) = prepared(image, ndim="2d", neighbours=reach).problems(torch.device("cpu"))
    assert problem.besides == 2 * reach
    for n, own in enumerate(problem.observation):
        others = beside(problem, n)
        assert len(others) == 2 * reach
        assert not any(torch.equal(own[0], other) for other in others)
    # In the middle: the plane before, the one after, and so on outwards.
    expected = [problem.observation[3 + k, 0] for n in range(1, reach + 1) for k in (-n, n) if 3 + k < 6]
    for plane, other in zip(expected, beside(problem, 3), strict=False):
        torch.testing.assert_close(plane, other)


@pytest.mark.parametrize(("along", "others"), [("Z", [(1, 0), (1, 2)]), ("T", [(0, 1), (2, 1)])])
def test_neighbours_lie_along_one_axis(along, others):
    frames = noisy(3, 4, 24, 24, axes="TZYX", spacing=(None, 9.0, 1.0, 1.0))
    ready = prepared(frames, ndim="2d", neighbours=1, along=along)
    (problem,) = ready.problems(torch.device("cpu"))
    # Where each plane of the stack comes from: by its own values.
    stack = {(t, z): problem.observation[n, 0] for n, (t, z) in enumerate(np.ndindex(3, 4))}
    if along == "T":
        stack = {(t, z): problem.observation[n, 0] for n, (z, t) in enumerate(np.ndindex(4, 3))}
    for at, plane in stack.items():
        own = torch.from_numpy(frames.array[at].astype(np.float32))
        assert torch.corrcoef(torch.stack([plane.flatten(), own.flatten()]))[0, 1] > 0.999
    n = list(stack).index((1, 1))
    for found, at in zip(beside(problem, n), others, strict=True):
        torch.testing.assert_close(found, stack[at])


def test_neighbours_are_asked_where_planes_are_thick():
    thin = noisy(12, 24, 24, axes="ZYX", spacing=(1.0, 1.0, 1.0))
    unknown = noisy(4, 24, 24, axes="ZYX")
    for image, reach in ((thick()[0], 1), (thin, 0), (unknown, 0), (noisy(24, 24), 0)):
        choice = decide(Recipe(), image, fast_bfloat16=False)
        assert choice.recipe.generator.neighbours == reach
        assert ("generator.neighbours" in choice.reasons) == bool(reach)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"generator": {"ndim": "3d", "neighbours": 1}}, "3D network sees all"),
        ({"generator": {"neighbours": 1}, "supervision": {"kind": "full"}}, "sees no image"),
        ({"generator": {"ndim": "2d", "neighbours": 4}}, "3 at most"),
    ],
)
def test_neighbours_that_cannot_be_are_refused(options, hint):
    with pytest.raises(RecipeError, match=hint):
        denoise(thick()[0], tiny(**options))


def channels():
    """Two channels of one scene, in units of their own."""
    clean = np.stack([scene(40, 40), 7 * scene(40, 40) + 1000])
    rng = np.random.default_rng(1)
    observed = clean + rng.normal(0, 1, clean.shape) * np.array([20.0, 140.0])[:, None, None]
    return Image(observed.astype(np.float32), "CYX"), clean


def test_joint_channels_help_each_other():
    image, clean = channels()
    apart, joint = (
        denoise(image, Recipe.parse(LEARN).merged({"generator": {"joint_channels": j}})).image.array
        for j in (False, True)
    )
    scale = np.array([1.0, 7.0])[:, None, None]
    assert mean_square(joint / scale, clean / scale) < 0.9 * mean_square(apart / scale, clean / scale)


def test_joint_channels_keep_their_units_and_noise():
    image, clean = channels()
    result = denoise(image, tiny(generator={"joint_channels": True}))
    assert len(result.report.noise) == 2
    for made, true in zip(result.image.array, clean, strict=True):
        assert made.mean() == pytest.approx(true.mean(), rel=0.05)
