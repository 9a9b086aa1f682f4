"""What goes wrong is told, once, with what to do; the viewer stays usable."""

import dataclasses

import numpy as np
import pytest
import torch
from napari.layers import Image as ImageLayer
from scenes import noisy

from dip_sci.errors import FitError
from napari_plugin import _worker
from napari_plugin._choice import Choice


@pytest.fixture
def usable(widget, add, finished):
    """Check that the next image is restored as if nothing had happened."""

    def check():
        assert widget.running is None
        widget.choice.region.value = None
        widget.choice.layer_box.value = add(noisy(32, 32), "another")
        assert finished().name == "another denoised"

    return check


def errors(told):
    return [line for line in told() if line.startswith("error")]


def test_no_layer(widget, told, usable):
    assert "Open Sample" in widget.how.noise.value or widget.choice.error()
    for press in (widget.run, widget.try_crop, lambda: widget._copy("python")):
        press()
    assert len(errors(told)) == 3
    assert all("There is no image layer" in line for line in errors(told))
    usable()


def test_a_colour_image_is_restored_as_one(widget, add, finished, told):
    widget.choice.layer_box.value = add(noisy(32, 32, 3, axes="YXS", dtype="uint8"))
    layer = finished()
    assert (layer.rgb, layer.data.dtype, layer.data.shape) == (True, np.uint8, (32, 32, 3))
    assert errors(told) == []


def test_labels_of_another_shape(widget, plane, finished, viewer, told, usable):
    viewer.add_labels(np.ones((20, 20), int), name="other", scale=plane.scale, units=plane.units)
    widget.choice.region.value = viewer.layers["other"]
    result = finished().data
    warnings = [line for line in told() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "(20, 20)" in warnings[0]
    assert "(40, 48)" in warnings[0]
    assert np.array_equal(result[20:], plane.data[20:])
    usable()


def test_an_empty_region(widget, plane, finished, viewer, told, usable):
    viewer.add_labels(np.zeros(plane.data.shape, int), name="nothing", scale=plane.scale, units=plane.units)
    widget.choice.region.value = viewer.layers["nothing"]
    finished()
    assert len(errors(told)) == 1
    assert "'nothing' is empty" in errors(told)[0]
    assert "Paint or draw" in errors(told)[0]
    usable()


def test_a_turned_layer_gives_a_turned_result(widget, viewer, finished, told):
    source = ImageLayer(noisy(32, 36).array, name="turned", rotate=30, shear=[0.1], translate=(3, 4), scale=(2, 1))
    viewer.add_layer(source)
    widget.choice.layer_box.value = source
    layer = finished()
    for voxel in ((0, 0), (31, 5), (7, 35)):
        assert np.allclose(layer.data_to_world(voxel), source.data_to_world(voxel))
    assert errors(told) == []


def test_five_dimensions(widget, viewer, finished, told):
    source = ImageLayer(np.random.default_rng(0).normal(size=(2, 2, 3, 24, 24)).astype(np.float32), name="5D")
    viewer.add_layer(source)
    widget.choice.layer_box.value = source
    assert widget.choice.letters == "TCZYX"
    widget.choice.times.value = widget.choice.channels.value = "0"
    assert finished().data.shape == (1, 1, 3, 24, 24)
    assert errors(told) == []


def test_six_dimensions(widget, viewer, told, usable):
    viewer.add_image(np.zeros((1, 1, 1, 1, 9, 9)), name="6D")
    widget.choice.layer_box.value = viewer.layers["6D"]
    widget.run()
    assert "6 dimensions" in errors(told)[0]
    usable()


@pytest.mark.parametrize("axes", ["YX", "ZZX", "ABC", "", "ZYXX"])
def test_axes_that_name_no_dimensions(widget, add, told, axes):
    widget.choice.layer_box.value = add(noisy(3, 16, 16, axes="ZYX"))
    widget.choice.axes.value = axes
    widget.run()
    assert "one letter for each" in errors(told)[0]


def test_time_points_that_are_not_there(widget, add, told):
    widget.choice.layer_box.value = add(noisy(3, 16, 16, axes="TYX"))
    widget.choice.times.value = "7"
    widget.run()
    assert "none of the 3 time points" in errors(told)[0]


def test_two_pixels(widget, viewer, finished, told, usable):
    viewer.add_image(np.ones((1, 2), np.float32), name="tiny")
    widget.choice.layer_box.value = viewer.layers["tiny"]
    finished()
    assert len(errors(told)) == 1
    assert "too small" in errors(told)[0]
    usable()


def test_nan(widget, viewer, finished, told, usable):
    viewer.add_image(np.full((32, 32), np.nan, np.float32), name="nothing", contrast_limits=(0, 1))
    widget.choice.layer_box.value = viewer.layers["nothing"]
    finished()
    assert "no finite" in errors(told)[0]
    usable()


def test_some_nan_stay_where_they_are(widget, viewer, finished, told):
    values = noisy(32, 32).array
    values[5:9, 5:9] = np.nan
    viewer.add_image(values, name="holes")
    widget.choice.layer_box.value = viewer.layers["holes"]
    result = finished().data
    assert np.array_equal(np.isnan(result), np.isnan(values))
    assert errors(told) == []


def test_a_wrong_option(widget, plane, told, usable):
    widget.how.form["fit.rate"].value = "-1"
    widget.run()
    assert "fit.rate" in errors(told)[0]
    assert "fit.rate" in widget.status.value
    widget.how.form["fit.rate"].value = ""
    usable()


def test_a_device_that_is_not_there(widget, plane, finished, told):
    widget.how.form["device"].value = "cuda:63"
    finished()
    assert "'cuda:63' is not available here" in errors(told)[0]


def failing(widget, monkeypatch, error, after=3):
    """Let the engine fail in mid-run."""
    task = widget.choice.task

    def start(*arguments):
        engine = task.start(*arguments)
        for _, progress in zip(range(after), engine, strict=False):
            yield progress
        raise error

    monkeypatch.setattr(Choice, "task", dataclasses.replace(task, start=start))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_in_mid_run_keeps_the_best(widget, plane, finished, told, viewer, monkeypatch, error):
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    failing(widget, monkeypatch, error)
    layer = finished()
    assert len(errors(told)) == 1
    assert "not enough memory" in errors(told)[0]
    assert "preset fast" in errors(told)[0]
    assert layer.data.dtype == plane.data.dtype
    assert not np.array_equal(layer.data, plane.data)
    monkeypatch.undo()
    assert finished() is not layer


def test_out_of_memory_keeps_what_nobody_has_seen(widget, plane, finished, told, monkeypatch):
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: False)
    failing(widget, monkeypatch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))
    layer = finished()
    assert "the best until then has been kept" in errors(told)[0]
    assert not np.array_equal(layer.data, plane.data)
    # The network is let go, and its memory with it.
    assert widget.results.run.last is None


def test_out_of_memory_in_a_preview_keeps_the_one_before(widget, plane, finished, told, monkeypatch):
    looks = []
    original = _worker.Run._look

    def look(self, *arguments):
        if len(looks) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        looks.append(original(self, *arguments))
        return looks[-1]

    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    monkeypatch.setattr(_worker.Run, "_look", look)
    layer = finished()
    assert "the best until then has been kept" in errors(told)[0]
    assert np.array_equal(layer.data, looks[-1])


def test_out_of_memory_before_there_is_anything(widget, plane, finished, told, viewer, monkeypatch):
    failing(widget, monkeypatch, MemoryError(), after=0)
    finished()
    assert "nothing could be kept" in errors(told)[0]
    assert [layer.name for layer in viewer.layers] == ["plane"]


@pytest.mark.parametrize("error", [FitError("The fit diverged. Set fit.rate to 1e-4 or less."), ValueError("odd")])
def test_a_failure_in_mid_run_is_told(widget, plane, finished, told, viewer, monkeypatch, error):
    failing(widget, monkeypatch, error)
    finished()
    assert len(errors(told)) == 1
    assert str(error) in errors(told)[0]
    assert [layer.name for layer in viewer.layers] == ["plane"]


def test_a_layer_deleted_during_the_run(widget, plane, viewer, qtbot, told, usable):
    place = plane.scale.copy()
    widget.how.form["fit.steps"].value = "60"
    widget.run()
    qtbot.waitUntil(lambda: len(widget.running.data_terms) > 2, timeout=20_000)
    viewer.layers.remove(plane)
    qtbot.waitUntil(lambda: widget.running is None, timeout=60_000)
    assert np.array_equal(viewer.layers["plane denoised"].scale, place)
    assert errors(told) == []
    widget.how.form["fit.steps"].value = "5"
    usable()


def test_a_preview_deleted_during_the_run(widget, plane, viewer, qtbot, told, monkeypatch):
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    widget.how.form["fit.steps"].value = "60"
    widget.run()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=20_000)
    viewer.layers.remove(widget.live.layer)
    qtbot.waitUntil(lambda: widget.running is None, timeout=60_000)
    assert len([line for line in told() if "preview was removed" in line]) == 1
    assert [layer.name for layer in viewer.layers] == ["plane", "plane denoised"]


def test_a_result_that_is_gone_cannot_be_saved(widget, plane, finished, viewer, told):
    viewer.layers.remove(finished())
    widget.results.ask_and_save()
    assert "nothing to save" in errors(told)[0]


def test_a_place_that_cannot_be_written(widget, plane, finished, qtbot, told, tmp_path):
    finished()
    widget.results.save_to(tmp_path / "gone" / "a.tif")
    qtbot.waitUntil(lambda: len(errors(told)) == 1, timeout=10_000)
    widget.results.save_to(tmp_path / "a.xyz")
    qtbot.waitUntil(lambda: len(errors(told)) == 2, timeout=10_000)
    assert "'.xyz' is not known" in errors(told)[1]
    assert not list(tmp_path.glob("a*"))


def test_a_recipe_that_is_none(widget, told, tmp_path):
    (tmp_path / "a.yaml").write_text("fit: {stepz: 3}")
    widget.how.load_from(tmp_path / "a.yaml")
    widget.how.load_from(tmp_path / "none.yaml")
    assert "did you mean 'fit.steps'" in errors(told)[0]
    assert "cannot be read" in errors(told)[1]
