"""Noise that neighbours share comes out as it was found."""

import numpy as np
import pytest
import torch
from scenes import rng

from dip_sci.texture import Texture


def ringing():
    """An autocorrelation as of reconstructed CT: neighbours alike, the next ones opposite."""
    line = np.array([-0.08, 0.35, 1.0, 0.35, -0.08])
    return np.outer(line, line)


def lag(field, dy, dx):
    return float((field * field.roll((dy, dx), (-2, -1))).mean())


def test_a_field_has_the_kernels_correlation():
    field = Texture(ringing()).draw((8, 128, 160), rng())
    assert float(field.var()) == pytest.approx(1, rel=0.02)
    for (dy, dx), value in (((0, 1), 0.35), ((1, 0), 0.35), ((0, 2), -0.08), ((1, 1), 0.35**2), ((0, 4), 0.0)):
        assert lag(field, dy, dx) == pytest.approx(value, abs=0.02)


def test_without_a_kernel_voxels_are_independent():
    texture = Texture()
    assert texture.independent
    field = texture.draw((4, 128, 128), rng())
    assert lag(field, 0, 1) == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 1, 64), (3, 7, 7)])
def test_small_and_odd_images(shape):
    field = Texture(ringing()).draw(shape, rng())
    assert field.shape == shape
    assert bool(torch.isfinite(field).all())


def test_volumes():
    kernel = np.stack([0.3 * ringing(), ringing(), 0.3 * ringing()])
    field = Texture(kernel).draw((2, 40, 48, 56), rng())
    assert float((field * field.roll(1, -3)).mean()) == pytest.approx(0.3, abs=0.02)
    assert lag(field, 0, 1) == pytest.approx(0.35, abs=0.02)


def test_the_same_seed_draws_the_same():
    texture = Texture(ringing())
    torch.testing.assert_close(texture.draw((16, 16), rng(3)), texture.draw((16, 16), rng(3)), rtol=0, atol=0)


def test_each_sample_has_its_own():
    white = np.zeros((5, 5))
    white[2, 2] = 1
    texture = Texture(np.stack([ringing(), white]), each=True)
    assert not texture.independent
    field = texture.draw((4, 2, 128, 160), rng())
    assert lag(field[:, 0], 0, 1) == pytest.approx(0.35, abs=0.02)
    assert lag(field[:, 1], 0, 1) == pytest.approx(0, abs=0.015)
    np.testing.assert_allclose(field.var(dim=(0, 2, 3)), 1, rtol=0.03)
