"""Which series of a folder or a medium is read."""

import shutil

import numpy as np
import pydicom
import pytest
from dicom_files import ct_slice, enhanced, save
from pydicom.data import get_testdata_file
from pydicom.uid import MediaStorageDirectoryStorage

from dip_sci.errors import ReadError, WriteError
from dip_sci.image import Image
from dip_sci.io import read, write


@pytest.fixture
def two(series, stored):
    """A folder with series 7 of six CT slices and, below it, series 9 of one MR slice."""
    folder = series(lambda i: {"SeriesDescription": "Roe^Jane head"})
    (folder / "other").mkdir()
    save(ct_slice(stored[0], series="1.9", SeriesNumber=9, Modality="MR"), folder / "other" / "a")
    return folder


@pytest.mark.parametrize(
    ("wanted", "axes"), [(7, "ZYX"), ("7", "ZYX"), ("#1", "ZYX"), ("1.2.3.4", "ZYX"), (9, "YX"), ("#2", "YX")]
)
def test_one_of_several_is_chosen(two, wanted, axes):
    assert read(two, series=wanted).axes == axes


def test_the_message_names_what_there_is_and_how_to_choose(two):
    with pytest.raises(ReadError, match=r"#1 number 7 \(CT, 6 files\).*series='7' \(--series 7\)") as refused:
        read(two)
    assert "Roe" not in str(refused.value)
    with pytest.raises(ReadError, match="no series '8', but 2 series"):
        read(two, series=8)


def test_numbers_that_repeat_are_told_apart_by_place(series, stored):
    folder = series()
    save(ct_slice(stored[0], series="1.9", SeriesNumber=7), folder / "zzz")
    with pytest.raises(ReadError, match=r"--series '#1'"):
        read(folder)
    with pytest.raises(ReadError, match="holds 2 series '7'"):
        read(folder, series=7)
    assert read(folder, series="#2").axes == "YX"


def test_a_single_series_may_be_named_or_not(series):
    folder = series()
    assert read(folder, series=7).shape == read(folder).shape
    with pytest.raises(ReadError, match="no series '8'"):
        read(folder, series=8)


def test_other_formats_have_no_series(tmp_path, stored):
    path = write(tmp_path / "x.nii", Image(stored, "ZYX"))
    with pytest.raises(ReadError, match="no series to choose from"):
        read(path, series=1)


@pytest.fixture
def medium(series, tmp_path):
    """A medium as burnt: a DICOMDIR, and the slices four folders below it."""
    deep = tmp_path / "medium" / "pat" / "stu" / "ser" / "img"
    deep.mkdir(parents=True)
    listing = ct_slice(np.zeros((1, 1), np.uint8), Rows=None, Columns=None, PixelData=None)
    listing.file_meta.MediaStorageSOPClassUID = listing.SOPClassUID = MediaStorageDirectoryStorage
    listing.DirectoryRecordSequence = [pydicom.Dataset()]
    listing.DirectoryRecordSequence[0].DirectoryRecordType = "PATIENT"
    for i, file in enumerate(sorted(series().iterdir())):
        shutil.copy(file, deep / f"i{i}")
        record = pydicom.Dataset()
        record.DirectoryRecordType = "IMAGE"
        # As on the medium; the copy has its names in lower case.
        record.ReferencedFileID = ["PAT", "STU", "SER", "IMG", f"I{i}"]
        listing.DirectoryRecordSequence.append(record)
    save(listing, tmp_path / "medium" / "DICOMDIR")
    return tmp_path / "medium"


def test_a_medium_is_read_by_its_list(medium, tmp_path):
    image = read(tmp_path / "series")
    for path in (medium, medium / "DICOMDIR"):
        assert (read(path).array == image.array).all()
    write(tmp_path / "clean", read(medium / "DICOMDIR"))
    assert (read(tmp_path / "clean").array == image.array).all()


def test_a_list_without_its_files(medium, tmp_path):
    (tmp_path / "DICOMDIR").write_bytes((medium / "DICOMDIR").read_bytes())
    with pytest.raises(ReadError, match="not beside it"):
        read(tmp_path / "DICOMDIR")


def test_a_list_leads_to_no_file_outside_its_folder(medium, tmp_path, stored):
    save(ct_slice(stored[0], series="6.6"), tmp_path / "secret")
    ds = pydicom.dcmread(medium / "DICOMDIR")
    records = [r for r in ds.DirectoryRecordSequence if "ReferencedFileID" in r]
    (medium / "link").symlink_to(tmp_path / "secret")
    with pydicom.config.disable_value_validation():
        records[0].ReferencedFileID = ["..", "secret"]
        records[1].ReferencedFileID = ["../secret"]
        records[2].ReferencedFileID = ["LINK"]
        ds.save_as(medium / "DICOMDIR")
    with pytest.raises(ReadError, match="is not a regular volume"):
        read(medium / "DICOMDIR")
    assert read(medium / "DICOMDIR", axes="TYX").shape == (3, 8, 10)


def test_pydicoms_medium_lists_its_series():
    with pytest.raises(ReadError, match=r"holds \d+ series: #1 number"):
        read(get_testdata_file("DICOMDIR"))


def test_echoes_are_chosen_one_by_one(series, stored, tmp_path):
    folder = series(lambda i: {"EchoTime": 4.6 + 5 * (i % 2)}, places=[0, 0, 2.5, 2.5, 5, 5])
    with pytest.raises(ReadError, match=r"2 series: #1 number 7, echo time 4.6 ms \(CT, 3 files\); #2 .* 9.6 ms"):
        read(folder)
    with pytest.raises(ReadError, match="2 series '7'"):
        read(folder, series=7)
    for choice, first in (("#1", 0), ("#2", 1)):
        image = read(folder, series=choice)
        np.testing.assert_array_equal(image.array, stored[first::2].astype(int) - 1024)
        again = read(write(tmp_path / f"out{first}", image))
        np.testing.assert_array_equal(again.array, image.array)
    # All of them, as they are numbered.
    assert read(folder, axes="TYX").shape == (6, 8, 10)


def test_b_values_and_their_gradients_are_told_apart(series):
    gradients = [None, [1, 0, 0], [0, 1, 0]]
    b_values = [0, 1000, 1000]
    folder = series(
        lambda i: {
            "DiffusionBValue": float(b_values[i % 3]),
            **({"DiffusionGradientOrientation": gradients[i % 3]} if i % 3 else {}),
        },
        places=[0, 0, 0, 2.5, 2.5, 2.5],
    )
    with pytest.raises(ReadError) as refused:
        read(folder)
    assert "b-value 0 s/mm2 (" in str(refused.value)
    assert "b-value 1000 s/mm2, gradient [1" in str(refused.value)
    assert {read(folder, series=f"#{n}").shape for n in (1, 2, 3)} == {(2, 8, 10)}


def test_what_differs_from_slice_to_slice_makes_no_series(series):
    assert read(series(lambda i: {"AcquisitionNumber": i, "TriggerTime": 30.0 * i})).axes == "ZYX"


def test_echoes_of_one_file_are_chosen_one_by_one(stored, tmp_path):
    ds = enhanced(stored, [0, 0, 1, 1, 2, 2], [1.0] * 6)
    ds.PixelData = stored.tobytes()
    for i, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = [pydicom.Dataset()]
        frame.MREchoSequence[0].EffectiveEchoTime = 5.0 + 10 * (i % 2)
    path = save(ds, tmp_path / "x.dcm")
    with pytest.raises(ReadError, match=r"2 images of the same places: #1 echo time 5 ms \(3 frames\)"):
        read(path)
    image = read(path, series="#2")
    np.testing.assert_array_equal(image.array, stored[1::2])
    with pytest.raises(WriteError, match="3 of the 6 frames"):
        write(tmp_path / "y.dcm", image)
    assert read(path, axes="TYX").shape == (6, 8, 10)
