"""Scaling owns its inverse, and the cast to a stored type never wraps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dip_sci.scaling import Scaling, cast

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
# Sixteenths: all the sizes of a scan's values, and none so small that dividing by it overflows.
VALUES = st.integers(-(2**24), 2**24).map(lambda n: n / 16)
STACKS = arrays(np.float32, (2, 2, 3, 4), elements=VALUES)


@given(STACKS, arrays(bool, (2, 2, 3, 4)), st.booleans())
def test_the_inverse_undoes_the_scaling(values, measured, unit_range):
    scaling = Scaling.fit(values, measured, unit_range=unit_range)
    again = scaling.inverse(scaling.forward(values))
    size = np.abs(values).max() + np.abs(scaling.centre)
    assert np.all(np.abs(again - values) <= 1e-6 * size)


@given(STACKS, arrays(bool, (2, 2, 3, 4)), st.booleans())
def test_measured_values_are_brought_to_the_networks_range(values, measured, unit_range):
    scaled = Scaling.fit(values, measured, unit_range=unit_range).forward(values)
    assert np.isfinite(scaled).all()
    for index in np.ndindex(2, 2):
        raw, seen = values[index][measured[index]].astype(float), scaled[index][measured[index]]
        if raw.size < 2 or np.ptp(raw) <= 1e-2 * np.abs(raw).max():
            continue
        if unit_range:
            assert seen.min() == pytest.approx(0, abs=1e-4)
            assert seen.max() == pytest.approx(1, abs=1e-4)
        else:
            assert seen.mean() == pytest.approx(0, abs=1e-3)
            assert seen.std() == pytest.approx(1, abs=1e-3)


@given(STACKS, arrays(bool, (2, 2, 3, 4)), st.floats(-1e6, 1e6))
def test_unmeasured_values_do_not_count(values, measured, other):
    changed = np.where(measured, values, np.float32(other))
    a, b = Scaling.fit(values, measured), Scaling.fit(changed, measured)
    np.testing.assert_array_equal(a.centre, b.centre)
    np.testing.assert_array_equal(a.width, b.width)


@given(st.sampled_from(INTEGERS), st.data())
def test_whole_numbers_in_range_are_kept(kind, data):
    info = np.iinfo(kind)
    limit = 2**53  # float64 holds whole numbers exactly up to here
    whole = st.integers(max(info.min, -limit), min(info.max, limit))
    stored = np.array(data.draw(st.lists(whole, min_size=1)), kind)
    array, clipped = cast(stored.astype(np.float64), kind)
    assert array.dtype == kind
    assert clipped == 0
    np.testing.assert_array_equal(array, stored)


@given(st.sampled_from(INTEGERS), st.lists(st.floats(-1e25, 1e25), min_size=1))
def test_a_cast_never_wraps_and_counts_what_it_clips(kind, values):
    info = np.iinfo(kind)
    array, clipped = cast(np.array(values), kind)
    expected = [min(max(int(np.rint(v)), info.min), info.max) for v in values]
    # The largest float64 below 2**63 or 2**64 may stand in for the type's own largest value.
    for got, want in zip(array.tolist(), expected, strict=True):
        assert abs(got - want) <= (2048 if info.bits == 64 else 0)
    assert clipped == sum(not info.min <= int(np.rint(v)) <= info.max for v in values)


@given(arrays(np.float64, 10, elements=st.floats(-1e5, 1e5)), st.sampled_from(["u2", "i2"]))
def test_a_cast_keeps_to_the_stored_range(values, kind):
    array, clipped = cast(values, kind, (0, 4095))
    assert array.min() >= 0
    assert array.max() <= 4095
    assert clipped == np.count_nonzero((np.rint(values) < 0) | (np.rint(values) > 4095))


@given(arrays(np.float64, 10, elements=st.floats(-1e30, 1e30)), st.sampled_from(["f4", "f8"]))
def test_a_cast_leaves_floats_alone(values, kind):
    array, clipped = cast(values, kind, (0, 1))
    np.testing.assert_array_equal(array, values.astype(kind))
    assert clipped == 0


def test_a_cast_rounds_to_the_nearest():
    array, clipped = cast(np.array([0.4, 0.6, 1.49, 254.6, -0.4, 255.4, 255.6, -0.6]), np.uint8)
    assert array.tolist() == [0, 1, 1, 255, 0, 255, 255, 0]
    assert clipped == 2


@pytest.mark.parametrize("kind", INTEGERS)
def test_the_first_number_out_of_range_is_clipped_and_counted(kind):
    info = np.iinfo(kind)
    above = float(int(info.max) + 1)
    array, clipped = cast(np.array([above]), kind)
    assert clipped == 1
    assert array[0] == (info.max if info.bits < 64 else int(np.nextafter(above, 0)))


def test_a_stored_range_wider_than_the_type_does_not_count():
    array, clipped = cast(np.array([300.0, -2.0, 7.0]), "u1", (-100, 4095))
    assert array.tolist() == [255, 0, 7]
    assert clipped == 2


@pytest.mark.parametrize(("kind", "value"), [("f2", 1e5), ("f4", 1e39)])
def test_floats_beyond_the_type_are_clipped_and_counted(kind, value):
    largest = np.finfo(kind).max
    array, clipped = cast(np.array([value, -value, 1.0, np.nan, np.inf]), kind)
    np.testing.assert_array_equal(array, np.array([largest, -largest, 1, np.nan, np.inf], kind))
    assert clipped == 2
