"""Which scans a pattern or a folder stands for, and where their results go."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dicom_files import ct_slice, save

from dip_sci.batch import plan
from dip_sci.batch.manifest import opened
from dip_sci.errors import ReadError, WriteError
from dip_sci.io.find import find
from dip_sci.job import Job

RNG = np.random.default_rng(0)


def names(found):
    return [f.name.as_posix() for f in found]


def places(found, folder, recipe):
    tasks, refused = plan.make(found, folder, Job(Path(), folder, recipe))
    return sorted(t.name for t in tasks), sorted(t.shown for t, _ in refused)


def series(folder, uid, number, count=2):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        stored = RNG.integers(0, 900, (24, 28)).astype(np.uint16)
        slice_ = ct_slice(stored, series=uid, position=(0, 0, 3.0 * i), number=i, SeriesNumber=number)
        save(slice_, folder / f"{uid}_{i}")


@pytest.fixture
def dataset(tmp_path, scan):
    """A BIDS dataset of two subjects with what else lies in one."""
    root = tmp_path / "study"
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "study", "BIDSVersion": "1.10.0"}))
    for path in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/func/sub-02_task-rest_bold.nii.gz",
        "sub-02/fmap/sub-02_phasediff.nii.gz",
        "sub-02/anat/sub-02_part-phase_T2starw.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_desc-x_T1w.nii.gz",
        "sourcedata/sub-01/sub-01_T1w.nii.gz",
    ):
        scan(root / path, shape=(20, 20, 9))
    (root / "sub-01/anat/sub-01_T1w.json").write_text("{}")
    (root / "participants.tsv").write_text("participant_id\nsub-01\n")
    return root


def test_a_pattern_keeps_the_names_below_its_beginning(scans, tmp_path, recipe):
    found = find([str(scans / "**" / "*.tif")])
    assert names(found) == ["a.tif", "b.tif", "deep/c.tif"]
    assert places(found, tmp_path / "out", recipe) == (["a.tif", "b.tif", "deep/c.tif"], [])


def test_a_relative_pattern_is_the_same(scans, monkeypatch):
    monkeypatch.chdir(scans.parent)
    assert names(find(["in/**/*.tif"])) == ["a.tif", "b.tif", "deep/c.tif"]
    monkeypatch.chdir(scans)
    assert names(find(["*.tif"])) == ["a.tif", "b.tif"]


def test_files_of_several_places_keep_the_folders_in_which_they_differ(scans):
    found = find([scans / "a.tif", scans / "deep" / "c.tif"])
    assert names(found) == ["a.tif", "deep/c.tif"]


def test_a_folder_stands_for_its_images_but_for_the_results(scans, scan):
    scan(scans / "clean" / "a.tif")
    (scans / "notes.txt").write_text("nothing")
    (scans / ".hidden.tif").write_text("nothing")
    assert names(find([scans], without=scans / "clean")) == ["a.tif", "b.tif", "deep/c.tif"]
    assert names(find([str(scans / "**" / "*.tif")], without=scans / "clean")) == ["a.tif", "b.tif", "deep/c.tif"]


def test_results_above_the_scans_hide_none(scans):
    assert len(find([scans], without=scans.parent)) == 3


@pytest.mark.parametrize(
    ("source", "words"), [("*.nii.gz", "matches the pattern"), ("nowhere.tif", "no such file"), ("empty", "no image")]
)
def test_what_stands_for_nothing_is_named(tmp_path, source, words):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match=words):
        find([str(tmp_path / source)])


def test_two_inputs_of_one_output_are_both_refused(scan, tmp_path, recipe):
    for name in ("x.png", "x.tif", "y.tif"):
        scan(tmp_path / "in" / name)
    tasks, refused = plan.make(find([tmp_path / "in"]), tmp_path / "out", Job(Path(), tmp_path, recipe))
    assert [t.name for t in tasks] == ["y.tif"]
    assert len(refused) == 2
    assert all("x.json" in why for _, why in refused)
    assert "x.tif" in refused[0][1]


def test_what_cannot_be_written_gets_the_format_that_can(scan, tmp_path, recipe):
    from PIL import Image

    (tmp_path / "in").mkdir()
    Image.fromarray(RNG.integers(0, 255, (30, 30), np.uint8)).save(tmp_path / "in" / "photo.jpg")
    assert places(find([tmp_path / "in"]), tmp_path / "out", recipe)[0] == ["photo.png"]


def test_a_dataset_stands_for_the_scans_of_its_subjects(dataset, recipe):
    found = find([dataset])
    assert names(found) == ["sub-01/anat/sub-01_T1w.nii.gz", "sub-02/func/sub-02_task-rest_bold.nii.gz"]
    out = dataset / "derivatives" / "dip_sci"
    assert places(found, out, recipe)[0] == [
        "sub-01/anat/sub-01_desc-denoised_T1w.nii.gz",
        "sub-02/func/sub-02_task-rest_desc-denoised_bold.nii.gz",
    ]


def test_results_among_raw_data_are_refused(dataset, recipe):
    with pytest.raises(WriteError, match="derivatives"):
        places(find([dataset]), dataset / "sub-01", recipe)


def test_a_dicom_tree_becomes_a_tree_of_series(tmp_path, recipe):
    tree = tmp_path / "tree"
    series(tree / "p1" / "s1" / "ct", "1.5", 5)
    series(tree / "p2", "1.6", 6)
    series(tree / "p2", "1.7", 7)
    found = find([tree])
    assert [(f.path.relative_to(tree).as_posix(), f.series, len(f.files)) for f in found] == [
        ("p1/s1/ct", None, 2),
        ("p2", "#1", 2),
        ("p2", "#2", 2),
    ]
    assert places(found, tmp_path / "out", recipe)[0] == ["p1/s1/ct", "p2/series_001", "p2/series_002"]
    assert places(find([tree / "p1" / "s1" / "ct"]), tmp_path / "out", recipe)[0] == ["ct"]


def test_a_series_in_a_folder_with_another_below_does_not_take_its_place(tmp_path, recipe):
    tree = tmp_path / "tree"
    series(tree / "a", "1.5", 5)
    series(tree / "a" / "b" / "c" / "d", "1.6", 6)
    assert places(find([tree]), tmp_path / "out", recipe)[0] == ["a/b/c/d", "a/series_001"]


def test_a_damaged_series_is_a_scan_that_fails(tmp_path):
    series(tmp_path / "tree" / "good", "1.5", 5)
    (tmp_path / "tree" / "bad").mkdir()
    (tmp_path / "tree" / "bad" / "x.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"garbage" * 20)
    assert names(find([tmp_path / "tree"])) == ["bad", "good"]


def test_what_is_unchanged_is_done_and_what_changed_is_not(scans, tmp_path, recipe):
    out = tmp_path / "out"
    tasks, _ = plan.make(find([scans]), out, Job(Path(), out, recipe))
    for task in tasks:
        place = task.job.output
        place.file.parent.mkdir(parents=True, exist_ok=True)
        place.file.write_text("")
        place.record.write_text("")

    def left(found, options="o"):
        tasks, _ = plan.make(found, out, Job(Path(), out, recipe))
        with opened(out) as manifest:
            made = plan.compare(tasks, [], out, manifest, options, overwrite=False)
        return [t.name for t in made.todo], [t.name for t, _ in made.refused]

    assert left(find([scans])) == ([], ["a.tif", "b.tif", "deep/c.tif"]), "no batch has made them"
    with opened(out) as manifest:
        for task in tasks:
            manifest.add("running", task.name, **task.facts(), options="o")
            digest = plan.provenance.digest(task.job.source)
            manifest.add("done", task.name, **task.facts(), options="o", sha256=digest)
    assert left(find([scans])) == ([], [])
    assert left(find([scans]), "other options")[0] == ["a.tif", "b.tif", "deep/c.tif"]
    os.utime(scans / "a.tif")
    assert left(find([scans])) == ([], []), "another date, the same contents"
    data = bytearray((scans / "a.tif").read_bytes())
    data[-1] ^= 1
    (scans / "a.tif").write_bytes(data)
    (out / "b.tif").unlink()
    assert left(find([scans])) == (["a.tif", "b.tif"], [])
