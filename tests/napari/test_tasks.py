"""What needs more than an image: finer voxels, a guide, a point spread function."""

import itertools
import json
import shlex

import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from qtpy.QtWidgets import QApplication
from scenes import noisy, scene

import dip_sci
from dip_sci import cli, io
from dip_sci.image import Image
from napari_plugin import _choice, _reader, _worker
from napari_plugin._given import Guide
from napari_plugin._layers import geometry

UM = "micrometer"


def corners(layer):
    """The corners of a layer's field of view, in the world."""
    n = layer.ndim
    ends = [(-0.5, size - 0.5) for size in layer.data.shape[:n]]
    return np.array([layer.data_to_world(at) for at in itertools.product(*ends)])


def errors(told):
    return [line for line in told() if line.startswith("error")]


@pytest.fixture
def asked(widget):
    """Choose a task and what it needs."""

    def choose(layer, task, given=None):
        widget.choice.layer_box.value = layer
        widget.choice.task_box.value = task
        if given is not None:
            widget.choice.given.fields[widget.choice.task.needs].value = given

    return choose


@pytest.fixture
def opened(viewer, tmp_path):
    """Write an image and open it as napari would."""

    def put(image, name):
        path = io.write(tmp_path / name, image)
        data, keywords, _ = _reader.get_reader(str(path))(str(path))[0]
        return viewer.add_image(data, **keywords)

    return put


def psf():
    """A point, blurred along X, whose sum is not 1."""
    values = np.zeros((3, 5), np.float32)
    values[1] = (1, 3, 4, 3, 1)
    return Image(values, "YX")


def scans():
    """By task: the scan's file, the scan, what is given, and what is given in a file."""
    grid = {"spacing": (0.5, 0.25), "units": (UM, UM), "dtype": "uint16"}
    affine = np.array([[-2.0, 0, 0, 5], [0, 0, -3, 6], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    mm = ("millimeter",) * 3
    volume = {"axes": "ZYX", "spacing": (3.0, 1.5, 2.0), "units": mm, "affine": affine}
    other = affine @ np.diag([0.5, 0.5, 1, 1])
    guide = Image(scene(9, 48, 44).astype(np.float32), "ZYX", (3.0, 0.75, 1.0), mm, other)
    return {
        "one factor": ("super_resolve", "a.ome.tif", noisy(40, 44, **grid), "2", None),
        "a factor per axis": ("super_resolve", "a.nii.gz", noisy(9, 24, 22, **volume), "3, 1,1", None),
        "a guide on the same grid": ("fuse", "a.ome.tif", noisy(40, 44, **grid), None, noisy(40, 44, seed=5, **grid)),
        "a guide on another grid": ("fuse", "a.nii.gz", noisy(9, 24, 22, **volume), None, guide),
        "a point spread function": ("deconvolve", "a.ome.tif", noisy(40, 44, **grid), None, psf()),
    }


@pytest.mark.parametrize("case", scans())
def test_the_same_result_from_all_three(case, widget, asked, opened, finished, tmp_path, qtbot, monkeypatch, told):
    task, name, scan, factor, other = scans()[case]
    given = factor if other is None else opened(other, f"b{name[1:]}")
    asked(opened(scan, name), task, given)
    layer = finished()
    assert errors(told) == []
    suffix = name[1:]
    widget.results.save_to(tmp_path / f"by hand{suffix}")
    qtbot.waitUntil((tmp_path / "by hand.json").exists, timeout=10_000)
    monkeypatch.chdir(tmp_path)
    widget.as_python.native.click()
    # In this process, for speed: the same calls.
    exec(compile(QApplication.clipboard().text(), "copied", "exec"), {})
    done = f"a_{widget.choice.task.done}"
    (tmp_path / f"{done}{suffix}").rename(tmp_path / f"python{suffix}")
    widget.as_command.native.click()
    with pytest.raises(SystemExit) as end:
        cli.main([*shlex.split(QApplication.clipboard().text())[1:], "--json"])
    assert end.value.code == 0
    by_hand, *others = (io.read(tmp_path / f"{stem}{suffix}") for stem in ("by hand", "python", done))
    assert np.array_equal(by_hand.array, layer.data)
    for one in others:
        assert np.array_equal(by_hand.array, one.array)
        assert (by_hand.dtype, by_hand.axes, by_hand.spacing, by_hand.units) == (
            one.dtype,
            one.axes,
            one.spacing,
            one.units,
        )
        assert by_hand.affine is None or np.array_equal(by_hand.affine, one.affine)
    records = [json.loads((tmp_path / f"{stem}.json").read_text()) for stem in ("by hand", done)]
    for record in records:
        for varying in ("seconds", "memory_bytes"):
            record.pop(varying)
    assert records[0] == records[1]


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"scale": (2, 0.5), "translate": (7, -3)},
        {"rotate": 30, "shear": [0.2], "scale": (2, 1), "translate": (3, 4)},
    ],
)
def test_finer_voxels_lie_in_the_same_field_of_view(place, widget, viewer, asked, finished, monkeypatch):
    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    source = ImageLayer(noisy(32, 36).array, name="coarse", **place)
    viewer.add_layer(source)
    asked(source, "super_resolve", "2,3")
    layer = finished()
    assert layer.name == "coarse super-resolved"
    assert layer.data.shape == (64, 108)
    assert np.allclose(corners(layer), corners(source))
    # Every state that can be gone back to lies there, too.
    assert {state.array.shape for state in widget.live.states} == {(64, 108)}
    assert len(widget.live.states) > 1


def test_its_maps_lie_in_the_same_field_of_view(widget, plane, asked, finished, viewer, qtbot):
    asked(plane, "super_resolve", "2")
    layer = finished()
    widget.results.residual.native.click()
    widget.results.noise.native.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=20_000)
    residual, noise = (viewer.layers[f"plane super-resolved: {what}"] for what in ("residual", "noise"))
    assert residual.data.shape == layer.data.shape
    assert noise.data.shape == plane.data.shape
    for found in (residual, noise):
        assert np.allclose(corners(found), corners(plane))


def test_a_finer_crop_lies_in_its_place(widget, add, asked, finished, viewer, monkeypatch):
    monkeypatch.setattr(_choice, "TRIAL_SECONDS", 1.0)
    source = add(noisy(60, 64, spacing=(0.5, 0.25), units=(UM, UM)), "whole")
    box = viewer.add_shapes([[[10, 4], [10, 45], [49, 45], [49, 4]]], scale=source.scale, units=source.units)
    asked(source, "super_resolve", "2")
    widget.choice.region.value = box
    layer = finished("try")
    assert layer.data.shape == (80, 84)
    part = ImageLayer(source.data[10:50, 4:46], **geometry(source, (10, 4)))
    assert np.allclose(corners(layer), corners(part))
    # The crop's voxels are those of the source in that place.
    coarse = layer.data.reshape(40, 2, 42, 2).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), part.data.ravel())[0, 1] > 0.9


def test_colours_become_finer_as_one(widget, add, asked, finished):
    source = add(noisy(24, 24, 3, axes="YXS", dtype="uint8"), "colours")
    asked(source, "super_resolve", "2")
    layer = finished()
    assert (layer.rgb, layer.data.shape) == (True, (48, 48, 3))
    assert np.allclose(corners(layer), corners(source))


def test_a_region_is_made_finer_and_the_rest_interpolated(widget, plane, asked, finished, viewer):
    mask = np.zeros(plane.data.shape, int)
    mask[10:30, 12:30] = 1
    labels = viewer.add_labels(mask, scale=plane.scale, units=plane.units)
    asked(plane, "super_resolve", "2")
    widget.choice.region.value = labels
    result = finished().data
    outside = np.kron(mask, np.ones((2, 2))) == 0
    image = _choice.image_of(plane.data, _choice.attributes_of(plane))
    canvas = dip_sci.tasks.SuperResolve.of(image, 2).canvas(image)
    assert np.array_equal(result[outside], canvas.array[outside])


@pytest.mark.parametrize(
    ("words", "why"),
    [("", "no whole number"), ("2.5", "no whole number"), ("1", "nothing to make finer"), ("2,2,2", "spatial axes YX")],
)
def test_a_factor_that_is_none_is_refused(words, why, plane, asked, widget, told):
    asked(plane, "super_resolve", words)
    widget.run()
    assert why in errors(told)[0]
    assert widget.running is None


def test_memory_that_is_short_keeps_the_best_on_the_finer_grid(plane, asked, widget, finished, told, monkeypatch):
    import dataclasses

    monkeypatch.setattr(_worker._Pace, "preview_due", lambda *_: True)
    asked(plane, "super_resolve", "2")
    task = widget.choice.task

    def start(*arguments):
        yield from itertools.islice(task.start(*arguments), 3)
        raise MemoryError

    monkeypatch.setattr(_choice.Choice, "task", dataclasses.replace(task, start=start))
    layer = finished()
    assert "not enough memory" in errors(told)[0]
    assert layer.data.shape == (80, 96)
    assert np.allclose(corners(layer), corners(plane))
    assert _choice.image_of(layer.data, _choice.attributes_of(layer)).spacing == (0.25, 0.125)


@pytest.mark.parametrize(("task", "what"), [("fuse", "guide"), ("deconvolve", "point spread function")])
def test_what_is_needed_and_not_there_is_asked_for(task, what, plane, asked, widget, told, qtbot):
    asked(plane, task)
    # The noise is measured all the same.
    qtbot.waitUntil(lambda: "noise of" in widget.how.noise.value, timeout=30_000)
    widget.run()
    assert f"There is no {what}" in errors(told)[0]


def read_guide(widget, parts=None):
    """The guide as a run would read it."""
    choice = widget.choice
    return choice.given.read(choice.task, choice.letters, choice.index_of(parts or {}))()


def test_a_guide_on_the_same_grid_is_cut_with_the_image(widget, add, asked):
    guide = add(noisy(3, 40, 48, axes="CYX", seed=4, spacing=(None, 0.5, 0.25), units=(None, UM, UM)), "guide")
    asked(add(noisy(40, 48, spacing=(0.5, 0.25), units=(UM, UM))), "fuse", guide)
    found = read_guide(widget, {"Y": slice(5, 30), "X": slice(2, 40)})
    assert found.matrix is None
    assert np.array_equal(found.image.array, guide.data[:, 5:30, 2:40])


def test_a_guide_is_found_where_it_lies_in_the_viewer(widget, viewer, asked, finished, told):
    wide = scene(60, 70)
    image = ImageLayer(wide[20:52, 30:66].astype(np.float32), name="image", translate=(20, 30))
    finer = ImageLayer(np.kron(wide, np.ones((2, 2))).astype(np.float32), scale=(0.5, 0.5), translate=(-0.25, -0.25))
    viewer.add_layer(image)
    viewer.add_layer(finer)
    asked(image, "fuse", finer)
    for parts in ({}, {"Y": slice(3, 28), "X": slice(4, 33)}):
        found = read_guide(widget, parts)
        seen = widget.choice.source(parts)()
        (guide,) = widget.choice.task.bind(seen, None, found).guides
        # But for the step, which is not as sharp between two voxels.
        apart = np.abs(guide - (seen.array - seen.array.mean()) / seen.array.std())
        assert np.quantile(apart, 0.9) < 0.1
        assert np.corrcoef(guide.ravel(), seen.array.ravel())[0, 1] > 0.99
    assert finished().name == "image fused"
    assert errors(told) == []


def test_a_guide_elsewhere_is_refused(widget, viewer, asked, finished, told):
    viewer.add_layer(ImageLayer(noisy(32, 32).array, name="image"))
    viewer.add_layer(ImageLayer(noisy(32, 32).array, name="far", translate=(500, 0)))
    asked(viewer.layers["image"], "fuse", viewer.layers["far"])
    assert isinstance(read_guide(widget), Guide)
    finished()
    assert "do not overlap" in errors(told)[0]


def test_the_image_is_not_its_own_guide(widget, plane, add, asked):
    other = add(noisy(8, 8), "other")
    asked(plane, "fuse")
    assert list(widget.choice.given.guide.choices) == [other]
    widget.choice.layer_box.value = other
    assert list(widget.choice.given.guide.choices) == [plane]


def test_only_what_a_task_needs_is_shown(widget, plane, qtbot):
    widget.show()
    fields = widget.choice.given.fields
    for task, shown in (("denoise", None), ("super_resolve", "factor"), ("fuse", "guide"), ("deconvolve", "psf")):
        widget.choice.task_box.value = task
        assert [name for name, field in fields.items() if field.visible] == ([shown] if shown else [])


def test_an_image_without_a_file_is_saved_first(widget, plane, add, asked, told):
    asked(plane, "fuse", add(noisy(40, 48), "other"))
    widget.as_command.native.click()
    assert "--guide guide.tif" in QApplication.clipboard().text()
    assert "save the image layer as scan.tif and save the guide as guide.tif" in told()[-1]


def test_a_part_in_time_has_no_file(widget, opened, told):
    layer = opened(noisy(3, 24, 24, axes="TYX", dtype="uint16"), "series.ome.tif")
    widget.choice.layer_box.value = layer
    widget.choice.times.value = "1"
    widget.as_command.native.click()
    assert QApplication.clipboard().text().startswith("dip-sci denoise scan.tif")
    assert "time points" in told()[-1]
    widget.choice.times.value = "all"
    widget.as_command.native.click()
    assert "series.ome.tif" in QApplication.clipboard().text()
