"""What a function is given that is not what it needs: a sentence that says so, and what to do."""

import numpy as np
import pytest
import torch
from scenes import noisy, tiny

import dip_sci
from dip_sci.errors import DipSciError
from dip_sci.functions import deconvolve, fuse, inpaint, super_resolve
from dip_sci.inversion import pre_image

IMAGE = noisy(32, 32)
NETWORK = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
CASES = {
    "an array for an image": (lambda: dip_sci.denoise(IMAGE.array, tiny()), "An Image is needed, not ndarray"),
    "a path for an image": (lambda: inpaint("scan.nii", IMAGE.array, tiny()), "dip_sci.read reads a file"),
    "an array to enlarge": (lambda: super_resolve(IMAGE.array, 2, tiny()), "An Image is needed"),
    "an array to fuse": (lambda: fuse(IMAGE.array, IMAGE, tiny()), "An Image is needed"),
    "an array to sharpen": (lambda: deconvolve(IMAGE.array, np.ones((3, 3)) / 9, tiny()), "An Image is needed"),
    "an array to write": (lambda: dip_sci.write("scan.nii", IMAGE.array), "An Image is needed"),
    "options for a recipe": (lambda: dip_sci.denoise(IMAGE, {"preset": "fast"}), "A Recipe is needed, not dict"),
    "a preset for a recipe": (lambda: inpaint(IMAGE, np.eye(32), "fast"), "A Recipe is needed, not str"),
    "a path for a region": (lambda: dip_sci.denoise(IMAGE, tiny(), region="mask.nii"), "not str"),
    "a path for a mask": (lambda: inpaint(IMAGE, "mask.nii", tiny()), "mask of missing voxels is to be an array"),
    "a number for a layer": (lambda: pre_image(NETWORK, 1, IMAGE), "has no layer 1; near ones are '1'"),
    "no module": (lambda: pre_image(None, "0", IMAGE), "A torch module is needed, not NoneType"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_said_what_is_needed(case):
    call, expected = CASES[case]
    with pytest.raises(DipSciError, match=expected):
        call()
