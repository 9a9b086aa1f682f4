"""What a command leaves besides its result: a report, no checkpoint, and words only where they are asked for."""

import json

import numpy as np
import pytest
import tifffile

from dip_sci import checkpoint

TINY = ["--fit.steps", "6", "--generator.channels", "8", "8", "--supervision.passes", "1", "--output.classical", "none"]


@pytest.fixture
def scan(tmp_path):
    """A noisy picture."""
    values = np.random.default_rng(0).normal(100, 10, (32, 40)).astype(np.float32)
    tifffile.imwrite(tmp_path / "roe^jane.tif", values, photometric="minisblack")
    return tmp_path / "roe^jane.tif"


def test_a_report_lies_beside_the_result_and_names_no_file(run, scan, tmp_path):
    code, _, err = run("denoise", scan, "-o", tmp_path / "clean.tif", "--report", *TINY)
    assert code == 0, err
    page = (tmp_path / "clean.html").read_text(encoding="utf-8")
    assert "Before and after" in page
    assert "roe" not in page
    assert str(tmp_path) not in page


@pytest.mark.parametrize("command", [["inpaint"], ["super-resolve", "--factor", "2"]])
def test_every_task_has_a_report(run, scan, tmp_path, command):
    values = tifffile.imread(scan)
    if command == ["inpaint"]:
        values[4:6, 4:6] = np.nan
        tifffile.imwrite(scan, values, photometric="minisblack")
    name, *flags = command
    code, _, err = run(name, scan, "-o", tmp_path / "clean.tif", "--report", *flags, *TINY)
    assert code == 0, err
    assert "Values kept" in (tmp_path / "clean.html").read_text(encoding="utf-8")


def test_a_checkpoint_is_gone_on_from_and_gone_with_the_result(run, scan, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(self, state):
        save(self, state)
        raise Killed

    save = checkpoint.Checkpoint.save
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", kill)
    flags = ["-o", tmp_path / "clean.tif", "--checkpoint", tmp_path / "run.npz", *TINY]
    with pytest.raises(Killed):
        run("denoise", scan, *flags)
    monkeypatch.undo()
    assert (tmp_path / "run.npz").exists()
    code, out, err = run("denoise", scan, *flags, "--json")
    assert code == 0, err
    assert any("went on from a checkpoint, at step 1 of 6" in note for note in json.loads(out)["notes"])
    assert not (tmp_path / "run.npz").exists()


def test_it_is_quiet_unless_asked(run, scan, tmp_path):
    assert "decided" not in run("denoise", scan, "-o", tmp_path / "a.tif", *TINY)[2]
    said = run("denoise", scan, "-o", tmp_path / "b.tif", "-v", *TINY)[2]
    assert "read: format tiff" in said
    assert "decided: option" in said
    assert "written: sha256" in said
