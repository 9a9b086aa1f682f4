"""The widget's flows: run, watch, stop, cancel, go back, compare, save."""

import itertools
import threading
import time

import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from scenes import TINY, noisy

import dip_sci
from dip_sci.recipe import Recipe
from napari_plugin import _choice, _settings, _worker
from napari_plugin._layers import GEOMETRY, RECORD
from napari_plugin._widget import Restore

LONG = {"fit": {"steps": 100_000}}


def start(widget, qtbot, steps=3):
    """Begin a run that would take hours, and wait until it has done some steps."""
    widget.how.show_recipe(Recipe.parse(TINY).merged(LONG))
    widget.run_button.native.click()
    qtbot.waitUntil(lambda: len(widget.running.data_terms) >= steps, timeout=30_000)
    return widget.running


def test_a_run_gives_a_layer_in_the_same_place(widget, plane, finished, viewer):
    layer = finished()
    assert [x.name for x in viewer.layers] == ["plane", "plane denoised"]
    for name in GEOMETRY:
        assert np.array_equal(np.asarray(getattr(layer, name), str), np.asarray(getattr(plane, name), str)), name
    assert layer.data.dtype == plane.data.dtype
    assert np.array_equal(layer.contrast_limits, plane.contrast_limits)
    assert "All steps were done" in widget.status.value


def test_the_result_is_that_of_the_engine(widget, plane, finished):
    image = noisy(40, 48, dtype="uint16", spacing=(0.5, 0.25), units=("micrometer",) * 2)
    expected = dip_sci.denoise(image, widget.how.recipe())
    np.testing.assert_array_equal(finished().data, expected.image.array)


def test_previews_do_not_change_the_result(widget, plane, finished, monkeypatch):
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    shown = finished().data
    assert len(widget.live.states) > 1
    widget.results.leave()
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: False)
    np.testing.assert_array_equal(finished().data, shown)


def test_previews_of_a_large_image_lie_where_it_lies(widget, add, finished, monkeypatch):
    from dip_sci import large, sample

    monkeypatch.setattr(sample, "LARGE", 1000)
    monkeypatch.setattr(sample, "VOXELS", 2 * 64 * 64)
    monkeypatch.setattr(sample, "EDGES", {"2d": {"Y": 64, "X": 64}, "3d": {}})
    monkeypatch.setattr(large, "EDGE", {"2d": 100, "3d": 40})
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    source = add(noisy(160, 200, dtype="uint16"), "large")
    widget.choice.layer_box.value = source
    # The model's own noise, that all parts are judged alike.
    widget.how.form["noise.sigma"].value = "8"
    layer = finished()
    assert {state.array.shape for state in widget.live.states} == {source.data.shape}
    assert len(widget.live.states) > 1
    assert (layer.data != source.data).mean() > 0.8
    first = widget.live.states[0].array != source.data
    assert 0.1 < first.mean() < 0.4


def test_it_can_be_stopped_and_kept(widget, plane, viewer, qtbot):
    start(widget, qtbot)
    widget.stop_button.native.click()
    qtbot.waitUntil(lambda: widget.running is None, timeout=20_000)
    assert "Stopped by the user" in widget.status.value
    layer = viewer.layers["plane denoised"]
    assert np.std(layer.data.astype(float) - plane.data) > 0
    assert layer.metadata[RECORD]["record"]["complete"] is False


def test_cancel_ends_the_computation_within_a_step(widget, plane, viewer, qtbot, monkeypatch):
    ended = threading.Event()
    steps = itertools.count()
    original = widget.choice.task.start

    def watched(*arguments):
        engine = original(*arguments)
        try:
            while True:
                progress = next(engine)
                next(steps)
                yield progress
        finally:
            engine.close()
            ended.set()

    monkeypatch.setattr(type(widget.choice), "task", _task(widget, watched))
    start(widget, qtbot)
    done = next(steps)
    widget.cancel_button.native.click()
    assert ended.wait(5)
    assert next(steps) - done <= 3
    qtbot.waitUntil(lambda: widget.running is None, timeout=5000)
    assert [layer.name for layer in viewer.layers] == ["plane"]
    assert "nothing was kept" in widget.status.value


def _task(widget, engine):
    import dataclasses

    return dataclasses.replace(widget.choice.task, start=engine)


def test_a_second_run_is_refused_while_one_goes_on(widget, plane, qtbot, told):
    run = start(widget, qtbot)
    assert not widget.run_button.enabled
    assert not widget.try_button.enabled
    widget.run()
    assert widget.running is run
    assert any("is running" in line for line in told())


def test_closing_the_widget_ends_the_run(viewer, add, qtbot):
    add(noisy(40, 48))
    widget = Restore(viewer)
    run = start(widget, qtbot)
    widget.native.deleteLater()
    qtbot.waitUntil(run.abandon.is_set, timeout=5000)
    # The thread is at rest: no step is added any more.
    qtbot.wait(300)
    steps = len(run.data_terms)
    qtbot.wait(300)
    assert len(run.data_terms) == steps


def test_progress_shows_in_the_widget_and_in_the_activity_dock(widget, plane, qtbot):
    from napari.utils import progress

    start(widget, qtbot)
    qtbot.waitUntil(lambda: widget.bar.value > 0, timeout=10_000)
    assert widget.bar.max == 100_000
    assert any("plane" in bar.desc and bar.n > 0 for bar in progress._all_instances)
    assert "of 100000" in widget.status.value
    widget.cancel()
    qtbot.waitUntil(lambda: widget.running is None, timeout=10_000)
    assert not any("plane" in (bar.desc or "") for bar in progress._all_instances)


def test_one_can_go_back_through_earlier_states(widget, plane, finished, monkeypatch):
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    result = finished()
    last = result.data.copy()
    kept = widget.live.states
    assert [state.step for state in kept] == sorted({state.step for state in kept})
    widget.results.state.value = 0
    assert np.array_equal(result.data, kept[0].array)
    assert not np.array_equal(result.data, last)
    assert f"step {kept[0].step}" in widget.results.caption.value
    assert widget.curve.chosen == kept[0].step
    assert "chosen by hand" in result.metadata[RECORD]["record"]["notes"][-1]
    widget.results.state.value = widget.results.state.max
    assert np.array_equal(result.data, last)
    assert not any("by hand" in note for note in result.metadata[RECORD]["record"]["notes"])


def test_before_and_after_can_be_blinked(widget, plane, finished, qtbot, monkeypatch):
    layer = finished()
    widget.results._timer.setInterval(20)
    widget.results.blink.value = True
    seen = set()
    qtbot.waitUntil(lambda: seen.add(layer.visible) or seen == {True, False}, timeout=3000)
    widget.results.blink.value = False
    assert layer.visible
    widget.results.before.value = True
    assert (layer.visible, plane.visible) == (False, True)


def test_maps_lie_where_the_result_lies(widget, plane, finished, viewer, qtbot):
    widget.how.show_recipe(Recipe.parse(TINY).merged({"fit": {"seeds": 2}}))
    layer = finished()
    for button in (widget.results.residual, widget.results.spread, widget.results.noise):
        button.native.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 5, timeout=20_000)
    residual, spread, noise = (viewer.layers[f"plane denoised: {what}"] for what in ("residual", "spread", "noise"))
    np.testing.assert_array_equal(residual.data, plane.data.astype(float) - layer.data)
    assert spread.data.min() >= 0 < spread.data.max()
    # The scene's noise has a standard deviation of 8.
    assert 5 < float(np.median(noise.data)) < 12
    for found in (residual, spread, noise):
        assert np.array_equal(found.scale, plane.scale)
        assert found.units == plane.units


def test_a_single_network_has_no_spread(widget, plane, finished):
    finished()
    assert not widget.results.spread.enabled


def test_the_noise_and_the_device_are_shown_unasked(widget, plane, qtbot):
    qtbot.waitUntil(lambda: "," in widget.device.value, timeout=30_000)
    assert "noise of standard deviation" in widget.how.noise.value
    assert widget.device.value.startswith(("CPU, about", "GPU: "))
    assert "GB" in widget.device.value
    assert float(widget.how.form["noise.sigma"].native.placeholderText()) == pytest.approx(8, rel=0.5)


def test_what_the_user_knows_of_the_noise_wins(widget, plane, finished):
    widget.how.form["noise.sigma"].value = "20"
    record = finished().metadata[RECORD]["record"]
    assert record["recipe"]["noise"]["sigma"] == 20
    assert "as given" in record["noise"][0]


@pytest.fixture
def quick(monkeypatch):
    """Trials of a second."""
    monkeypatch.setattr(_choice, "TRIAL_SECONDS", 1.0)


def test_a_crop_is_tried_and_the_whole_is_foretold(widget, add, finished, qtbot, viewer, quick):
    source = add(noisy(300, 320, spacing=(0.5, 0.25), units=("micrometer",) * 2), "large")
    widget.choice.layer_box.value = source
    layer = finished("try")
    assert layer.name == "large trial"
    assert max(layer.data.shape) <= 192
    start = np.rint(np.asarray(source.world_to_data(layer.data_to_world((0, 0))))).astype(int)
    inside = tuple(slice(a, a + n) for a, n in zip(start, layer.data.shape, strict=True))
    assert np.corrcoef(layer.data.ravel(), source.data[inside].ravel())[0, 1] > 0.5
    qtbot.waitUntil(lambda: "The whole image: about" in widget.status.value, timeout=30_000)
    assert widget.how.recipe().stop.max_seconds is None


def test_a_box_can_be_tried(widget, plane, finished, viewer):
    box = viewer.add_shapes([[[2, 4], [2, 40], [36, 40], [36, 4]]], scale=plane.scale, units=plane.units, name="box")
    widget.choice.region.value = box
    layer = finished("try")
    assert layer.data.shape == (35, 37)
    assert np.allclose(layer.translate, (2 * 0.5, 4 * 0.25))


def test_options_are_remembered(widget, plane, finished, viewer):
    widget.how.form["preset"].value = "fast"
    widget.how.form["noise.sigma"].value = "5"
    finished()
    again = Restore(viewer)
    assert again.how.recipe().preset == "fast"
    # What belongs to one image is not.
    assert again.how.recipe().noise.sigma is None
    again.life.end()


def test_settings_that_are_no_recipe_any_more_are_left(monkeypatch):
    _settings._group().options = '{"gone": 1}'
    assert _settings.last_recipe() == Recipe()


def test_previews_can_be_switched_off(widget, plane, finished, monkeypatch):
    _settings._group().preview = False
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    finished()
    assert len(widget.live.states) == 1


def test_a_stack_is_treated_as_asked(widget, add, finished):
    widget.choice.layer_box.value = add(noisy(4, 40, 40, axes="ZYX"), "stack")
    widget.how.planes.value = "3D, a volume"
    assert widget.how.recipe().generator.ndim == "3d"
    widget.how.planes.value = "a stack of unrelated planes"
    assert (widget.how.recipe().generator.ndim, widget.how.recipe().generator.neighbours) == ("2d", 0)
    assert finished().metadata[RECORD]["record"]["recipe"]["generator"]["ndim"] == "2d"


def test_time_points_and_channels_are_chosen(widget, add, finished, viewer):
    axes, n = "TCYX", (5, 2, 32, 32)
    source = add(
        noisy(*n, axes=axes, spacing=(2.0, None, 0.5, 0.5), units=("second", None, "micrometer", "micrometer"))
    )
    widget.choice.layer_box.value = source
    viewer.dims.set_current_step(0, 3)
    layer = finished()
    # The current time point, all channels, in its place in time.
    assert layer.data.shape == (1, 2, 32, 32)
    assert layer.translate[0] == 6.0
    widget.choice.times.value, widget.choice.channels.value = "1-2", "1"
    layer = finished()
    assert layer.data.shape == (2, 1, 32, 32)
    assert tuple(layer.translate[:2]) == (2.0, 1.0)
    widget.choice.times.value, widget.choice.channels.value = "all", "all"
    assert finished().data.shape == n


class Counted:
    """A lazy array that counts the voxels that were asked for."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.size, self.most = array.size, 0

    def __getitem__(self, index):
        found = self.array[index]
        self.most = max(self.most, found.size)
        return found


def test_a_lazy_layer_is_not_loaded_whole_for_a_crop(widget, viewer, finished, qtbot, quick):
    data = Counted(noisy(6, 600, 500, axes="TYX").array)
    layer = ImageLayer(data, name="lazy", axis_labels=("t", "y", "x"), contrast_limits=(0, 200))
    viewer.add_layer(layer)
    widget.choice.layer_box.value = layer
    data.most = 0
    widget.measure()
    qtbot.waitUntil(lambda: "noise of" in widget.how.noise.value, timeout=30_000)
    trial = finished("try")
    assert trial.data.shape == (1, 192, 192)
    # napari itself looks at one plane.
    assert data.most <= 600 * 500


def test_the_window_is_told_no_more_often_than_it_can_bear(widget, plane, qtbot, monkeypatch):
    heard = []
    original = Restore._heard

    def listen(self, run, update):
        heard.append(time.monotonic())
        original(self, run, update)

    monkeypatch.setattr(Restore, "_heard", listen)
    monkeypatch.setattr(_worker, "TOLD", 0.5)
    run = start(widget, qtbot, steps=20)
    widget.cancel()
    qtbot.waitUntil(lambda: widget.running is None, timeout=10_000)
    # Two messages before the first step, some previews, and not one for each step.
    assert len(heard) <= (heard[-1] - heard[0]) / 0.5 + 4 + len(run.snapshots)
