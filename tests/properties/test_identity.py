"""With no steps to do, every image comes back bit for bit, whatever its type, axes and shape."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dip_sci.image import Image
from dip_sci.recipe import Recipe
from dip_sci.restore import denoise
from dip_sci.stopping import StopReason

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">i4", ">u8", ">f4"]
NONE = Recipe.parse({"device": "cpu", "fit": {"steps": 0}})


def values(kind):
    kind = np.dtype(kind)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return st.integers(int(info.min), int(info.max))
    # Values as scans hold them: their squares are finite, and those of their differences are not zero.
    whole = st.integers(-2047, 2047).map(lambda n: n / 16)
    return st.one_of(whole, st.sampled_from([np.nan, np.inf, -np.inf, -0.0]))


@st.composite
def images(draw):
    others = draw(st.sets(st.sampled_from("TCZS"), max_size=2))
    axes = "".join(draw(st.permutations(sorted({"Y", "X"} | others))))
    shape = tuple(draw(st.integers(8, 12) if a in "YX" else st.integers(1, 4)) for a in axes)
    kind = draw(st.sampled_from(TYPES))
    array = draw(arrays(kind, shape, elements=values(kind)))
    valid = draw(st.one_of(st.none(), arrays(bool, shape)))
    # One plane, sample or channel may hold no measured voxel at all.
    across = draw(st.sampled_from([None, *sorted(others)]))
    if across is not None:
        at = axes.index(across)
        blank = tuple(slice(1, 2) if k == at else slice(None) for k in range(len(axes)))
        if array.dtype.kind == "f":
            array[blank] = np.nan
        else:
            valid = np.ones(shape, bool) if valid is None else valid
            valid[blank] = False
    # One voxel of the image is measured, whatever else is not.
    array.flat[0] = 1
    if valid is not None:
        valid.flat[0] = True
    return Image(array, axes, valid=valid)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(images())
def test_no_steps_change_no_bit(image):
    result = denoise(image, NONE)
    assert result.report.reason is StopReason.NOTHING
    assert result.report.clipped == 0
    assert result.image.array.dtype == image.array.dtype
    assert result.image.array.tobytes() == image.array.tobytes()
    assert result.image.axes == image.axes
