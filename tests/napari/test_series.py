"""A DICOM folder of several series opens as several layers, whose names tell nothing of a patient."""

import shlex

import numpy as np
import pytest
from dicom_files import ct_slice, enhanced, save
from napari.components import ViewerModel
from pydicom import Dataset
from qtpy.QtWidgets import QApplication

from dip_sci import io
from dip_sci.errors import ReadError
from napari_plugin import _reader
from napari_plugin._layers import attributes_of, image_of

STORED = np.random.default_rng(4).integers(0, 4096, (4, 16, 18)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    """Series 7, a volume of two echoes of two slices, and series 9, a single slice in a folder of its own."""
    place = tmp_path / "Roe_Jane"
    (place / "Roe^Jane").mkdir(parents=True)
    for i, stored in enumerate(STORED):
        ds = ct_slice(
            stored, position=(0, 0, 2.5 * (i // 2)), number=i, EchoTime=5 + 5 * (i % 2), SeriesDescription="Roe"
        )
        save(ds, place / f"{i}.dcm")
    save(ct_slice(STORED[0], series="1.9", SeriesNumber=9, Modality="MR"), place / "Roe^Jane" / "a")
    return place


def test_each_series_is_a_layer(folder, qapp):
    viewer = ViewerModel()
    layers = viewer.open(str(folder), plugin="dip-sci")
    names = [layer.name for layer in layers]
    assert names == [
        "DICOM number 7, echo time 5 ms (CT)",
        "DICOM number 7, echo time 10 ms (CT)",
        "DICOM number 9 (MR)",
    ]
    for n, layer in enumerate(layers, 1):
        image = io.read(folder, series=f"#{n}")
        assert np.array_equal(layer.data, image.array)
        taken = image_of(layer.data, attributes_of(layer))
        assert taken.affine is None or np.array_equal(taken.affine, image.affine)


def test_a_series_is_restored_elsewhere_as_here(folder, viewer, widget):
    for data, keywords, _ in _reader.get_reader(str(folder))(str(folder)):
        viewer.add_image(data, **keywords)
    widget.choice.layer_box.value = viewer.layers[1]
    widget.as_command.native.click()
    words = shlex.split(QApplication.clipboard().text())
    assert words[words.index("--series") + 1] == "#2"
    widget.as_python.native.click()
    assert "series='#2'" in QApplication.clipboard().text()


def test_one_series_is_called_as_ever(tmp_path):
    save(ct_slice(STORED[0]), tmp_path / "a.dcm")
    [(_, keywords, _)] = _reader.get_reader(str(tmp_path))(str(tmp_path))
    assert keywords["name"] == "DICOM"
    [(_, keywords, _)] = _reader.get_reader(str(tmp_path / "a.dcm"))(str(tmp_path / "a.dcm"))
    assert keywords["name"] == "DICOM"


def test_parts_of_one_file_are_layers(tmp_path):
    ds = enhanced(STORED, [0, 0, 1, 1], [1.0] * 4)
    ds.PixelData = STORED.tobytes()
    for i, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = [Dataset()]
        frame.MREchoSequence[0].EffectiveEchoTime = 5.0 + 10 * (i % 2)
    path = save(ds, tmp_path / "x.dcm")
    found = _reader.get_reader(str(path))(str(path))
    assert [keywords["name"] for _, keywords, _ in found] == ["DICOM echo time 5 ms", "DICOM echo time 15 ms"]
    assert np.array_equal(found[1][0], io.read(path, series="#2").array)


def test_a_series_that_cannot_be_read_does_not_hide_the_others(folder, told):
    save(ct_slice(STORED[0], series="1.5", SeriesNumber=5, Modality="RTDOSE"), folder / "dose")
    found = _reader.get_reader(str(folder))(str(folder))
    assert len(found) == 3
    [warning] = [line for line in told() if line.startswith("warning")]
    assert "3 of 4 series were opened" in warning
    assert "number 5 (RTDOSE)" in warning
    assert "computed and not measured" in warning


def test_nothing_but_what_cannot_be_read_is_an_error(tmp_path):
    for number in (1, 2):
        save(ct_slice(STORED[0], series=f"1.{number}", SeriesNumber=number, Modality="SEG"), tmp_path / f"{number}.dcm")
    with pytest.raises(ReadError, match="None of the 2 series can be read"):
        _reader.get_reader(str(tmp_path))(str(tmp_path))


@pytest.mark.parametrize(("name", "value"), [("MOST", 2), ("ROOM", 1e-9)])
def test_too_much_at_once_is_listed_and_refused(folder, monkeypatch, name, value):
    monkeypatch.setattr(_reader, name, value)
    with pytest.raises(ReadError, match=r"3 series.*#1 number 7, echo time 5 ms \(CT\).*convert FOLDER"):
        _reader.get_reader(str(folder))(str(folder))
