"""BIDS: what a derivative's sidecar takes over from those of its scan."""

import json

import pytest

from dip_sci.io import bids


@pytest.fixture
def scan(tmp_path):
    place = tmp_path / "sub-01" / "ses-a" / "func"
    place.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    path = place / "sub-01_ses-a_task-rest_bold.nii.gz"
    path.touch()
    return path


def _says(folder, name, **fields):
    (folder / name).write_text(json.dumps(fields))


def test_sidecars_above_a_scan_hold_for_it_and_those_below_win(scan, tmp_path):
    _says(tmp_path, "bold.json", EchoTime=0.01, FlipAngle=80)
    _says(tmp_path, "task-rest_bold.json", RepetitionTime=2.0, TaskName="rest", EchoTime=0.02)
    _says(tmp_path / "sub-01", "sub-01_task-rest_bold.json", EchoTime=0.03)
    _says(scan.parent, "sub-01_ses-a_task-rest_bold.json", EchoTime=0.04)
    # Neither another task's nor another suffix's, and nothing that is not still true.
    _says(tmp_path, "task-other_bold.json", FlipAngle=1)
    _says(tmp_path, "task-rest_events.json", FlipAngle=2)
    _says(tmp_path, "task-rest_run-2_bold.json", FlipAngle=3)
    found = bids.sidecar(scan)
    assert {k: found[k] for k in ("EchoTime", "FlipAngle", "RepetitionTime", "TaskName")} == {
        "EchoTime": 0.04,
        "FlipAngle": 80,
        "RepetitionTime": 2.0,
        "TaskName": "rest",
    }


def test_without_sidecars_there_is_only_where_it_came_from(scan):
    assert set(bids.sidecar(scan)) == {"Sources", "SpatialReference", "SkullStripped"}
