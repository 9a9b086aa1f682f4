"""The first guess: made of visible voxels alone, over equal distances."""

import numpy as np
import pytest
import torch

from dip_sci.operators import Identity

SHAPES = [(24, 20), (6, 16, 15)]


def observation(shape, channels=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(2, channels, *shape, generator=g)
    visible = (torch.rand(2, 1, *shape, generator=g) > 0.4).float()
    return y, visible


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("other", [0.0, 1e6, -3.0])
def test_hidden_voxels_have_no_influence(shape, other):
    identity = Identity((1.0,) * len(shape))
    y, visible = observation(shape)
    changed = torch.where(visible > 0, y, torch.full_like(y, other))
    a, b = identity.guess(y, visible), identity.guess(changed, visible)
    assert torch.equal(a.base, b.base)
    assert torch.equal(a.features, b.features)


@pytest.mark.parametrize("shape", SHAPES)
def test_visible_voxels_are_shown_as_they_are(shape):
    y, visible = observation(shape, channels=1)
    features = Identity((1.0,) * len(shape)).guess(y, visible).features
    seen = visible > 0
    assert torch.equal(features[:, :1][seen], y[seen])
    assert torch.equal(features[:, 1:2], visible - 0.5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_channels_are_those_announced(shape, channels):
    identity = Identity((1.0,) * len(shape))
    guess = identity.guess(*observation(shape, channels))
    assert guess.features.shape == (2, identity.features(channels), *shape)
    assert guess.base.shape == (2, channels, *shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [0.0, 1.5, -20.0])
def test_a_constant_is_guessed_as_that_constant(shape, value):
    _, visible = observation(shape)
    visible[0, :, :, : shape[1] // 2] = 0
    y = torch.full((2, 1, *shape), value)
    guess = Identity((1.0,) * len(shape)).guess(y * visible, visible)
    assert torch.allclose(guess.base, y, atol=1e-4)
    assert torch.allclose(torch.cat([guess.features[:, :1], guess.features[:, 2:]], 1), y, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_rows_and_whole_images_may_be_hidden(shape):
    y, visible = observation(shape)
    visible[0, :, ..., 3:9, :] = 0
    visible[1] = 0
    guess = Identity((1.0,) * len(shape)).guess(y * visible, visible)
    assert torch.isfinite(guess.base).all()
    assert torch.isfinite(guess.features).all()
    limit = y.abs().max()
    assert guess.base.abs().max() <= limit
    assert guess.base[1].abs().max() == 0


def test_a_hidden_voxel_is_filled_from_its_neighbours():
    rows = torch.linspace(-1, 1, 40)[:, None].expand(40, 40)[None, None]
    visible = torch.ones(1, 1, 40, 40)
    visible[..., 10, 20] = visible[..., 30, 20] = 0
    filled = Identity((1, 1)).guess(rows * visible, visible).features[0, 0]
    assert filled[10, 20] == pytest.approx(float(rows[0, 0, 10, 20]), abs=0.02)
    assert filled[30, 20] == pytest.approx(float(rows[0, 0, 30, 20]), abs=0.02)


def test_images_of_a_batch_and_their_channels_do_not_mix():
    y, visible = observation((24, 20))
    identity = Identity((1, 1))
    both = identity.guess(y, visible)
    other = y.clone()
    other[1] = 7
    assert torch.equal(identity.guess(other, visible).base[0], both.base[0])


def test_smoothing_reaches_equal_distances_along_each_axis():
    point = torch.zeros(1, 1, 41, 41, 41)
    point[..., 20, 20, 20] = 1
    base = Identity((4.0, 1.0, 1.0)).guess(point, torch.ones_like(point)).base[0, 0]
    widths = []
    for axis in range(3):
        profile = base.movedim(axis, 0)[:, 20, 20].numpy()
        profile = profile - profile[0]
        widths.append(np.sqrt((profile * (np.arange(41) - 20) ** 2).sum() / profile.sum()))
    assert widths[1] == pytest.approx(2.5, rel=0.1)
    assert widths[2] == pytest.approx(2.5, rel=0.1)
    assert widths[0] < 1.0


def test_the_identity_observes_the_image_itself():
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(Identity((1, 1)).forward(x), x)
