"""The manifest: what is in it is on the disk, whatever happened while it was written."""

import errno
import json
import os

import pytest

from dip_sci.batch import status
from dip_sci.batch.manifest import NAME, lines, opened
from dip_sci.errors import BatchError


def test_lines_come_together_by_job(tmp_path):
    with opened(tmp_path) as manifest:
        manifest.add("batch")
        manifest.add("running", "a", size=3)
        manifest.add("failed", "a", error="why")
        manifest.add("running", "a")
        manifest.add("done", "a", seconds=2)
        manifest.add("running", "b")
    found = status(tmp_path)
    assert found["a"]["state"] == "done"
    assert (found["a"]["size"], found["a"]["seconds"]) == (3, 2)
    assert "error" not in found["a"]
    assert found["b"]["state"] == "interrupted"


def test_a_line_cut_off_by_a_crash_costs_that_line_only(tmp_path):
    with opened(tmp_path) as manifest:
        manifest.add("done", "a")
        manifest.add("done", "b")
    text = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(text[:-10])
    assert set(status(tmp_path)) == {"a"}
    with opened(tmp_path) as manifest:
        assert set(manifest.last) == {"a"}
        manifest.add("done", "c")
    assert set(status(tmp_path)) == {"a", "c"}


def test_nothing_is_ever_taken_out(tmp_path):
    before = b""
    for n in range(3):
        with opened(tmp_path) as manifest:
            manifest.add("done", f"job {n}")
        after = (tmp_path / NAME).read_bytes()
        assert after.startswith(before)
        assert len(after) > len(before)
        before = after


def test_two_batches_do_not_share_a_folder(tmp_path):
    with opened(tmp_path) as manifest:
        manifest.add("running", "a")
        assert status(tmp_path)["a"]["state"] == "running"
        with pytest.raises(BatchError, match="Another batch"), opened(tmp_path):
            pass


def test_a_full_disk_delays_lines_and_loses_none(tmp_path, monkeypatch):
    write, full = os.write, [False]

    def limited(handle, data):
        if full[0]:
            if len(data) > 5:
                return write(handle, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    with opened(tmp_path) as manifest:
        manifest.add("done", "a")
        monkeypatch.setattr(os, "write", limited)
        full[0] = True
        manifest.add("done", "b")
        assert [line["job"] for line in lines(tmp_path)] == ["a"]
        full[0] = False
        manifest.add("done", "c")
    assert [line["job"] for line in lines(tmp_path)] == ["a", "b", "c"]
    assert [json.loads(line)["job"] for line in (tmp_path / NAME).read_text().splitlines()] == ["a", "b", "c"]


def test_a_disk_that_stays_full_is_said(tmp_path, monkeypatch):
    def refuse(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill():
        with opened(tmp_path) as manifest:
            monkeypatch.setattr(os, "write", refuse)
            manifest.add("done", "a")

    with pytest.raises(BatchError, match="is the disk full"):
        fill()


def test_a_folder_without_a_batch_has_no_status(tmp_path):
    with pytest.raises(BatchError, match="no batch"):
        status(tmp_path)
