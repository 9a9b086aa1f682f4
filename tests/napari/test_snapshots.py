"""Earlier states are kept within bounds, evenly spread; previews cost no more than they may."""

import types

import numpy as np
import pytest

from napari_plugin import _worker
from napari_plugin._curve import Curve, thinned
from napari_plugin._scope import frames
from napari_plugin._snapshots import Snapshots


def kept(most, budget, steps, size=100):
    snapshots = Snapshots(most, budget)
    for step in steps:
        snapshots.add(step, np.zeros(size, np.uint8))
    return [s.step for s in snapshots.kept]


@pytest.mark.parametrize("steps", [range(1, 1000), range(1, 40, 7), range(1, 100_000, 13)])
@pytest.mark.parametrize("most", [1, 2, 5, 24])
def test_they_are_few_and_evenly_spread(steps, most):
    found = kept(most, 10**9, steps)
    assert 1 <= len(found) <= most
    assert found == sorted(set(found))
    if most == 24 and len(steps) > 24:
        assert len(found) >= 8
        gaps = np.diff(found)
        assert gaps.max() <= 2.5 * gaps.min()


def test_they_take_no_more_memory_than_they_may():
    assert len(kept(24, 550, range(1, 500))) <= 5
    assert kept(24, 99, range(9)) == []
    assert kept(0, 10**9, range(9)) == []


def test_previews_take_a_small_share_of_the_time(monkeypatch):
    clock = [0.0]
    # Not time.monotonic itself: others live by it.
    monkeypatch.setattr(_worker, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    for step, cost in ((0.01, 0.5), (0.2, 0.05), (1.0, 20.0)):
        clock[0] = 0.0
        pace, spent, shown = _worker._Pace(), 0.0, 0
        for i in range(2000):
            clock[0] += step
            if pace.preview_due(types.SimpleNamespace(eta=step * (2000 - i))):

                def look(cost=cost):
                    clock[0] += cost

                pace.timed(look)
                spent, shown = spent + cost, shown + 1
        assert shown > 0
        assert spent <= 0.1 * clock[0], (step, cost)


def test_the_curve_stays_short_and_is_drawn(qtbot):
    points = [(i, 1 / i) for i in range(1, 5000)]
    assert len(thinned(points)) <= 400
    assert thinned(points)[-1][0] == 4999
    curve = Curve()
    qtbot.addWidget(curve)
    curve.resize(300, 110)
    curve.show_run(points, points[::100], 5000, chosen=2500)
    picture = curve.grab().toImage()
    colours = {picture.pixelColor(x, y).name() for x in range(300) for y in range(110)}
    assert {"#7ec27e"} <= colours
    assert len(colours) > 10


@pytest.mark.parametrize(
    ("words", "expected"), [("all", (0, 9)), ("current", (4, 5)), ("3", (3, 4)), (" 2 - 5 ", (2, 6))]
)
def test_frames_are_counted_from_0(words, expected):
    found = frames(words, 4, 9, "time points")
    assert (found.start, found.stop) == expected


@pytest.mark.parametrize("words", ["9", "5-2", "", "some", "-1"])
def test_frames_that_are_not_there_are_refused(words):
    with pytest.raises(_worker.DipSciError, match="9 time points"):
        frames(words, 4, 9, "time points")
