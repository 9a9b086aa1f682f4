"""Image: parts that do not fit each other are refused, and the geometry travels along."""

import numpy as np
import pytest

from dip_sci.errors import ImageError
from dip_sci.image import Image, Source

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


@pytest.mark.parametrize(
    ("shape", "axes", "parts", "says"),
    [
        ((4, 4), "ZYX", {}, "needs 2 axes"),
        ((4, 4), "YY", {}, "name each dimension once"),
        ((4, 4), "YZ", {}, "with Y and X"),
        ((4, 4, 4), "QYX", {}, "out of TCZYXS"),
        ((4, 4), "yx", {}, "out of TCZYXS"),
        ((4, 0), "YX", {}, r"empty: its shape is \(4, 0\)"),
        ((4, 4), "YX", {"spacing": (1.0,)}, "spacing has 1 entries"),
        ((4, 4), "YX", {"units": (None,) * 3}, "units has 3 entries"),
        ((4, 4), "YX", {"spacing": (1.0, 0.0)}, "positive and finite"),
        ((4, 4), "YX", {"spacing": (-1.0, 1.0)}, "positive and finite"),
        ((4, 4), "YX", {"spacing": (float("nan"), 1.0)}, "positive and finite"),
        ((4, 4), "YX", {"spacing": (float("inf"), 1.0)}, "positive and finite"),
        ((4, 4), "YX", {"valid": np.ones((4, 5), bool)}, r"mask's shape \(4, 5\)"),
        ((4, 4), "YX", {"affine": np.eye(3)}, r"affine's shape is \(3, 3\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(shape, axes, parts, says):
    with pytest.raises(ImageError, match=says):
        Image(np.zeros(shape), axes, **parts)


def test_other_values_keep_the_rest():
    image = Image(
        np.zeros((2, 3, 4), np.uint8),
        "ZYX",
        (5.0, 1.0, 2.0),
        ("millimeter",) * 3,
        AFFINE,
        np.ones((2, 3, 4), bool),
        (0, 100),
        Source("nifti", "a.nii", notes=("n",)),
    )
    other = image.with_array(np.ones((2, 3, 4), np.float32))
    assert other.array.sum() == 24
    assert other.dtype == np.float32
    for name in ("axes", "spacing", "units", "value_range", "source"):
        assert getattr(other, name) == getattr(image, name)
    assert other.affine is image.affine
    assert other.valid is image.valid
    with pytest.raises(ImageError, match=r"needs shape \(2, 3, 4\), got \(2, 4, 3\)"):
        image.with_array(np.ones((2, 4, 3)))


def test_notes_are_added_to_a_new_image():
    image = Image(np.zeros((2, 2)), "YX", source=Source(notes=("a",)))
    assert image.with_notes("b", "c").source.notes == ("a", "b", "c")
    assert image.source.notes == ("a",)


def test_axes_are_asked_by_name():
    image = Image(np.zeros((2, 3, 4, 5)), "CYXZ", (None, 1.0, 2.0, 3.0))
    assert image.spatial_axes == "YXZ"
    assert (image.size_of("Z"), image.size_of("T")) == (5, 1)
    assert (image.spacing_of("X"), image.spacing_of("C"), image.spacing_of("T")) == (2.0, None, None)


def test_measured_voxels_are_finite_and_not_padding():
    array = np.array([[1.0, np.nan], [np.inf, -np.inf], [2.0, 3.0]])
    valid = np.array([[True, True], [True, True], [False, True]])
    image = Image(array, "YX")
    assert image.measured().tolist() == [[True, False], [False, False], [True, True]]
    image = Image(array, "YX", valid=valid)
    assert image.measured().tolist() == [[True, False], [False, False], [False, True]]
    assert Image(np.zeros((2, 2), np.uint8), "YX").measured().all()
