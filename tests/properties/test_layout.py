"""Any order of axes becomes a stack of like images, and comes back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dip_sci.image import Image
from dip_sci.layout import Layout, spacings


@st.composite
def arrays_with_axes(draw):
    others = draw(st.sets(st.sampled_from("TCZS")))
    axes = "".join(draw(st.permutations(sorted({"Y", "X"} | others))))
    shape = tuple(draw(st.integers(1, 4)) for _ in axes)
    spatial = draw(st.sampled_from(["YX", "ZYX"] if "Z" in axes else ["YX"]))
    return np.arange(np.prod(shape)).reshape(shape), axes, spatial


@given(arrays_with_axes(), st.booleans())
def test_a_stack_comes_back(drawn, joint):
    array, axes, spatial = drawn
    layout = Layout(axes, spatial, joint)
    assert not joint or len(layout.stack(array)) == 1
    again = layout.unstack(layout.stack(array), array.shape)
    np.testing.assert_array_equal(again, array)
    assert again.flags.c_contiguous


@given(arrays_with_axes())
def test_a_stack_keeps_each_image_whole(drawn):
    array, axes, spatial = drawn
    sizes = dict(zip(axes, array.shape, strict=True))
    stack = Layout(axes, spatial).stack(array)
    shared = [a for a in "TZ" if a in axes and a not in spatial]
    assert stack.shape == (
        sizes.get("C", 1),
        sizes.get("S", 1),
        int(np.prod([sizes[a] for a in shared])),
        *(sizes[a] for a in spatial),
    )
    # The very last image: last channel, last sample, last time point and plane.
    at = {a: sizes[a] - 1 for a in axes if a not in spatial}
    last = array[tuple(at.get(a, slice(None)) for a in axes)]
    order = [a for a in axes if a in spatial]
    np.testing.assert_array_equal(stack[-1, -1, -1], last.transpose([order.index(a) for a in spatial]))


@given(st.lists(st.one_of(st.none(), st.floats(0.1, 10)), min_size=3, max_size=3))
def test_spacings_count_only_when_all_are_known(found):
    image = Image(np.zeros((2, 2, 2)), "XZY", tuple(found))
    x, z, y = found
    expected = (z, y, x) if None not in found else (1.0,) * 3
    assert spacings(image, "ZYX") == expected
