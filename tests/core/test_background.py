"""Where the user says that nothing but noise varies, the noise is measured."""

import re

import numpy as np
import pytest
from scenes import scene, tiny

from dip_sci.errors import ImageError
from dip_sci.image import Image
from dip_sci.restore import denoise


def two_halves():
    """Noise of SD 4 on the left, of SD 16 on the right."""
    sd = np.where(np.arange(96) < 48, 4.0, 16.0)
    noise = np.random.default_rng(0).normal(0, 1, (96, 96)) * sd
    return Image((scene(96, 96) + noise).astype(np.float32), "YX")


def sigma(background):
    report = denoise(two_halves(), tiny(noise={"model": "gaussian"}), background=background).report
    return float(re.search(r"standard deviation ([\d.]+)", report.noise[0]).group(1))


def test_the_noise_is_that_of_the_background():
    left = np.zeros((96, 96), bool)
    left[:, :44] = True
    assert sigma(left) == pytest.approx(4, rel=0.15)
    right = np.zeros((96, 96), bool)
    right[:, 52:] = True
    assert sigma(right) == pytest.approx(16, rel=0.15)


def test_everything_is_restored_all_the_same():
    image = two_halves()
    left = np.zeros((96, 96), bool)
    left[:, :44] = True
    out = denoise(image, tiny(), background=left).image.array
    assert not np.array_equal(out[:, 60:], image.array[:, 60:])


@pytest.mark.parametrize(
    ("background", "hint"),
    [
        (np.zeros((96, 96), bool), "background region is empty"),
        (np.eye(96, dtype=bool), "96 measured voxels"),
        (np.ones((5, 5), bool), "background region's shape"),
    ],
)
def test_backgrounds_that_cannot_be(background, hint):
    with pytest.raises(ImageError, match=hint):
        denoise(two_halves(), tiny(), background=background)
