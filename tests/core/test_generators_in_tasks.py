"""Every generator serves every task that it can: those that no image can be shown to under full supervision."""

import numpy as np
import pytest
from scenes import noisy, tiny

from dip_sci.errors import RecipeError
from dip_sci.functions import fuse, inpaint, super_resolve
from dip_sci.recipe import DEAF

KINDS = ["classic_unet", "resnet", *DEAF]


def recipe(kind):
    channels = None if kind == "pixels" else (4, 4)
    return tiny(generator={"kind": kind, "channels": channels}, fit={"steps": 3})


@pytest.mark.parametrize("kind", KINDS)
def test_holes_are_filled(kind):
    image = noisy(16, 18)
    missing = np.zeros((16, 18), bool)
    missing[4:9, 5:9] = True
    result = inpaint(image, missing, recipe(kind))
    assert np.isfinite(result.image.array).all()
    assert (result.report.recipe.supervision.kind == "full") == (kind in DEAF)


@pytest.mark.parametrize("kind", DEAF)
def test_voxels_become_finer(kind):
    result = super_resolve(noisy(16, 18), 2, recipe(kind))
    assert result.image.shape == (32, 36)
    assert result.report.recipe.supervision.kind == "full"


@pytest.mark.parametrize("kind", DEAF)
def test_a_guide_needs_a_network_that_sees_it(kind):
    image = noisy(16, 18)
    with pytest.raises(RecipeError, match="cannot be shown a guide"):
        fuse(image, image.array, recipe(kind))


def test_total_variation_serves_every_task():
    image, missing = noisy(16, 16, sigma=1.0), np.zeros((16, 16), bool)
    missing[1:5, 10:14] = True

    def found(tv):
        fit = {"steps": 150, "rate": 0.03, "averaging": 0.5, "tv": tv}
        return inpaint(image, missing, recipe("pixels").merged({"fit": fit})).image.array[missing]

    bare, smooth = found(0.0), found(0.05)
    truth = image.array[missing]
    # Without any prior nothing says what is in a hole: its pixels stay where they began.
    assert np.ptp(bare) < 0.01 * np.ptp(image.array)
    assert np.square(smooth - truth).mean() < 0.5 * np.square(bare - truth).mean()
