"""Python, the command line and the widget: the same recipe, the same result; files come and go as napari's own."""

import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
from scenes import TINY, noisy
from test_recipe import OTHER, nested

import dip_sci
from dip_sci import cli, io, samples
from dip_sci.recipe import Recipe, options
from napari_plugin import _reader, _sample_data
from napari_plugin._layers import RECORD
from napari_plugin._scripts import Script
from napari_plugin._tasks import TASKS


def parsed(command):
    """The recipe that the command line makes of a command."""
    words = shlex.split(command)
    assert words[0] == "dip-sci"
    _, bound, *_ = cli.app.parse_args(words[1:], exit_on_error=False, print_error=False)
    return bound.arguments


@pytest.mark.parametrize("name", options())
def test_every_option_reaches_the_command_line(name):
    recipe = Recipe.parse(nested(name, OTHER[name]))
    script = Script(TASKS["denoise"], recipe.model_dump(exclude_unset=True), "a b.tif", axes="YX")
    found = parsed(script.command())
    assert Recipe().merged(found["options"].model_dump(exclude_unset=True)) == recipe
    assert (str(found["source"]), found["common"].axes) == ("a b.tif", "YX")


@pytest.fixture
def scan(tmp_path):
    um = "micrometer"
    return io.write(tmp_path / "a scan.ome.tif", noisy(40, 44, dtype="uint16", spacing=(0.5, 0.25), units=(um, um)))


@pytest.fixture
def opened(viewer, widget, scan):
    data, keywords, _ = _reader.get_reader(str(scan))(str(scan))[0]
    widget.choice.layer_box.value = viewer.add_image(data, **keywords)
    return widget


def copied(widget, what):
    getattr(widget, f"as_{what}").native.click()
    return QApplication.clipboard().text()


def test_the_same_result_from_all_three(opened, finished, scan, tmp_path, qtbot, monkeypatch):
    layer = finished()
    opened.results.save_to(tmp_path / "by hand.ome.tif")
    qtbot.waitUntil((tmp_path / "by hand.json").exists, timeout=10_000)
    monkeypatch.chdir(tmp_path)
    python = copied(opened, "python")
    command = shlex.split(copied(opened, "command"))
    # In this process, for speed: the same calls.
    exec(compile(python, "copied", "exec"), {})
    (tmp_path / "a scan_denoised.ome.tif").rename(tmp_path / "python.ome.tif")
    with pytest.raises(SystemExit) as end:
        cli.main([*command[1:], "--json"])
    assert end.value.code == 0
    by_hand, by_python, by_command = (
        io.read(tmp_path / name) for name in ("by hand.ome.tif", "python.ome.tif", "a scan_denoised.ome.tif")
    )
    assert np.array_equal(by_hand.array, layer.data)
    for other in (by_python, by_command):
        assert np.array_equal(by_hand.array, other.array)
        assert (by_hand.dtype, by_hand.spacing, by_hand.units, by_hand.axes) == (
            other.dtype,
            other.spacing,
            other.units,
            other.axes,
        )
    records = [json.loads((tmp_path / name).read_text()) for name in ("by hand.json", "a scan_denoised.json")]
    for record in records:
        for varying in ("seconds", "memory_bytes"):
            record.pop(varying)
    assert records[0] == records[1]


def test_a_script_names_what_has_to_be_saved_first(widget, plane, viewer, told):
    widget.choice.region.value = viewer.add_labels(np.ones((40, 48), int), name="here")
    assert "--region region.tif" in copied(widget, "command")
    assert 'region=dip_sci.read("region.tif")' in copied(widget, "python")
    assert any("save the region" in line and "scan.tif" in line for line in told())
    compile(copied(widget, "python"), "copied", "exec")


def test_a_recipe_is_saved_and_loaded(widget, tmp_path, told):
    recipe = Recipe.parse(TINY).merged({"noise": {"sigma": 3.0}, "generator": {"ndim": "3d"}})
    widget.how.show_recipe(recipe)
    widget.how.save_to(tmp_path / "r")
    assert Recipe.load(tmp_path / "r.yaml") == recipe
    widget.how.show_recipe(Recipe())
    widget.how.load_from(tmp_path / "r.yaml")
    assert widget.how.recipe() == recipe
    assert widget.how.planes.value == "3D, a volume"


def test_a_dicom_series_goes_out_as_a_derived_series(viewer, widget, finished, tmp_path, qtbot):
    import pydicom

    source = samples.folder() / "ct_series"
    data, keywords, _ = _reader.get_reader(str(source))(str(source))[0]
    layer = viewer.add_image(data, **keywords)
    widget.choice.layer_box.value = layer
    # A folder may be called after a patient.
    assert layer.name == "DICOM"
    widget.how.show_recipe(Recipe.parse(TINY).merged({"fit": {"steps": 2}, "generator": {"ndim": "2d"}}))
    result = finished()
    widget.results.save_to(tmp_path / "derived")
    qtbot.waitUntil((tmp_path / "derived.json").exists, timeout=30_000)
    again, before = io.read(tmp_path / "derived"), io.read(source)
    assert np.array_equal(again.array, result.data)
    assert np.array_equal(again.affine, before.affine)
    made = pydicom.dcmread(next((tmp_path / "derived").iterdir()), stop_before_pixels=True)
    first = pydicom.dcmread(next(source.iterdir()), stop_before_pixels=True)
    assert made.ImageType[0] == "DERIVED"
    assert made.StudyInstanceUID == first.StudyInstanceUID
    assert made.SeriesInstanceUID != first.SeriesInstanceUID


def test_napari_opens_and_saves_through_the_manifest(scan, tmp_path, qapp):
    viewer = ViewerModel()
    [layer] = viewer.open(str(scan), plugin="dip-sci")
    assert (layer.name, tuple(layer.scale)) == ("a scan", (0.5, 0.25))
    for name in ("b.ome.tif", "b.nii.gz", "b.ome.zarr"):
        assert layer.save(str(tmp_path / name), plugin="dip-sci") == [str(tmp_path / name)]
        [again] = viewer.open(str(tmp_path / name), plugin="dip-sci")
        found = again.data[0] if again.multiscale else again.data
        assert np.array_equal(np.asarray(found[...]), layer.data)
        assert again.units == layer.units or name == "b.nii.gz"


# napari says that it draws the neck, which lies oblique, without the part of its rotation that leaves the plane.
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
@pytest.mark.parametrize("sample", ["cells", "cells_mean", "nuclear_envelope", "nuclei", "ct", "spine", "neck"])
def test_a_sample_opens(sample, qapp):
    viewer = ViewerModel()
    [layer] = viewer.open_sample("dip-sci", sample)
    assert layer.data.ndim in (2, 3)
    assert RECORD not in layer.metadata


def test_what_is_no_scan_is_left_to_others(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "folder").mkdir()
    io.write(tmp_path / "a.png", noisy(16, 16, dtype="uint8"))
    for name in ("a.txt", "folder", "none.nii", "a.png"):
        assert _reader.get_reader(str(tmp_path / name)) is None
    assert _reader.get_reader([str(tmp_path / "a.png")]) is None


def test_the_engine_needs_no_napari():
    code = "import sys, dip_sci.cli, dip_sci.restore; print({'napari', 'qtpy', 'magicgui'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_samples_are_those_of_the_package():
    assert dip_sci.__version__
    assert _sample_data.cells()[0][2] == "image"
