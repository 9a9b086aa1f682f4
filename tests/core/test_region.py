"""A mask on the image's grid, and on none other unless asked."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dip_sci.errors import ImageError
from dip_sci.image import Image
from dip_sci.region import on_grid, region_array

MM = ("millimeter",) * 3


def _image(shape=(4, 6, 8), spacing=(2.0, 1.0, 1.0), affine=None):
    return Image(np.arange(np.prod(shape), dtype=float).reshape(shape), "ZYX", spacing, MM, affine)


def test_a_mask_without_geometry_counts_by_its_shape():
    image = _image()
    mask = Image(np.ones((4, 6, 8), np.uint8), "ZYX")
    assert on_grid(image, mask).shape == image.shape
    with pytest.raises(ImageError, match="8 X voxels of 2 x 1 x 1 millimeter"):
        on_grid(image, Image(np.ones((4, 6, 7), np.uint8), "ZYX"))


def test_axes_of_length_one_and_their_order_do_not_matter():
    image = Image(np.zeros((3, 6, 8)), "TYX", (1.0, 1.0, 1.0), ("second", *MM[:2]))
    mask = Image(np.eye(8, 6, dtype=np.uint8).reshape(1, 1, 8, 6), "CZXY", (None, 2.0, 1.0, 1.0), (None, *MM))
    np.testing.assert_array_equal(on_grid(image, mask).array, np.eye(6, 8))
    assert region_array(image, mask).shape == image.shape


def test_other_spacing_is_refused_in_the_api_too():
    with pytest.raises(ImageError, match="another grid"):
        region_array(_image(), _image(spacing=(2.0, 1.5, 1.0)))
    with pytest.raises(ImageError, match="has the axes"):
        on_grid(_image(), Image(np.ones((3, 4, 6, 8)), "CZYX"))


@given(
    st.permutations([0, 1, 2]),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(-100, 100)] * 3),
)
def test_a_grid_turned_and_flipped_gives_the_same_voxels(order, signs, offset):
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    affine[:3, 3] = offset
    image = _image(spacing=(2.0, 1.5, 1.0), affine=affine)
    # The same voxels stored in another order: columns of the affine go with the axes, x first.
    array = image.array.T.transpose(order)
    turned = affine.copy()
    for to, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        turned[:3, to] = affine[:3, axis] * sign
        if sign < 0:
            array = np.flip(array, to)
            turned[:3, 3] += affine[:3, axis] * (array.shape[to] - 1)
    mask = Image(array.T, "ZYX", (1.0,) * 3, MM, turned)
    np.testing.assert_array_equal(on_grid(image, mask, resample=True).array, image.array)


@given(st.permutations("ZYX"), st.permutations("ZYX"))
def test_axes_go_by_their_names_where_a_mask_is_resampled(stored, given):
    """The image's axes in one order, those of the mask in another."""
    mask = _image((2, 3, 4), (4.0, 2.0, 2.0))
    wanted = on_grid(_image(), mask, resample=True).array

    def turned(image, order):
        at = [image.axes.index(a) for a in order]
        return Image(image.array.transpose(at), "".join(order), tuple(image.spacing[k] for k in at), MM)

    found = on_grid(turned(_image(), stored), turned(mask, given), resample=True)
    assert found.axes == "".join(stored)
    np.testing.assert_array_equal(found.array, wanted.transpose(["ZYX".index(a) for a in stored]))


def test_outside_the_mask_is_nothing():
    affine = np.eye(4)
    affine[0, 3] = 3
    moved = dataclasses.replace(_image(affine=affine), array=np.ones((4, 6, 8)))
    found = on_grid(_image(affine=np.eye(4)), moved, resample=True).array
    assert not found[..., :3].any()
    assert found[..., 3:].all()


def test_what_has_no_known_size_is_not_resampled():
    with pytest.raises(ImageError, match="not known"):
        on_grid(_image(), Image(np.ones((4, 6, 7)), "ZYX"), resample=True)
