"""A batch on real dask workers: everything good is done, everything bad is named, nothing is done twice."""

import json
import shutil
import sys

import numpy as np
import pydicom
import pytest
import tifffile
from dicom_files import ct_slice, save

import dip_sci
from dip_sci import batch, cli
from dip_sci.errors import BatchError

pytest.importorskip("distributed", reason="a batch needs dask")


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with one worker, which all tests of this module share."""
    from distributed import Nanny, Scheduler, SpecCluster

    worker = {"cls": Nanny, "options": {"nthreads": 1, "memory_limit": 0, "dashboard": False}}
    boss = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1", "port": 0}}
    with SpecCluster(workers={0: worker}, scheduler=boss) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def command(capsys, scheduler, flags):
    """Run `dip-sci batch` on the shared worker: exit code, standard output, standard error on one line."""

    def call(*arguments, use=flags):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["batch", *map(str, arguments), "--scheduler", scheduler, *use])
        out, err = capsys.readouterr()
        return stopped.value.code, out, " ".join(err.split())

    return call


def states(folder):
    return {name: entry["state"] for name, entry in batch.status(folder).items()}


def test_the_bad_ones_are_named_and_the_good_ones_done(command, scans, scan, tmp_path):
    (scans / "b_text.tif").write_text("this is no picture")
    scan(scans / "b_wrong_shape.tif", shape=(4, 4))
    out = tmp_path / "out"
    code, _, err = command(scans, "-o", out)
    assert code == 1
    assert "3 done, 0 done before, 2 failed, 0 left, of 5" in err
    found = batch.status(out)
    assert states(out) == {
        "a.tif": "done",
        "b.tif": "done",
        "deep/c.tif": "done",
        "b_text.tif": "failed",
        "b_wrong_shape.tif": "failed",
    }
    assert "holds text" in found["b_text.tif"]["error"]
    assert "too small" in found["b_wrong_shape.tif"]["error"]
    done = found["deep/c.tif"]
    assert done["stop_reason"] == "STEPS"
    assert done["sha256"] == json.loads((out / "deep" / "c.json").read_text())["input"]["sha256"]
    assert {"input", "options", "began", "at", "seconds"} <= set(done)
    written = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    results = ["a.json", "a.tif", "b.json", "b.tif", "deep/c.json", "deep/c.tif"]
    assert written == sorted([*results, ".manifest.lock", "batch.log", "manifest.jsonl"])


def test_a_result_is_that_of_the_api(command, scans, recipe, tmp_path):
    assert command(scans / "a.tif", "-o", tmp_path / "out")[0] == 0
    alone = dip_sci.denoise(dip_sci.read(scans / "a.tif"), recipe).image.array
    assert np.array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), alone)


def test_run_again_it_does_what_is_left_or_changed(command, scans, scan, flags, tmp_path):
    out = tmp_path / "out"
    broken = scans / "d.tif"
    broken.write_text("not yet copied")
    assert command(scans, "-o", out)[0] == 1
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.tif")}
    scan(broken, seed=8)
    scan(scans / "a.tif", seed=9)
    code, _, err = command(scans, "-o", out)
    assert code == 0, err
    assert "2 done, 2 done before, 0 failed" in err
    changed = {p.name for p in out.rglob("*.tif") if times.get(p) != p.stat().st_mtime_ns}
    assert changed == {"a.tif", "d.tif"}
    assert "0 done, 4 done before" in command(scans, "-o", out)[2]
    assert "4 done, 0 done before" in command(scans, "-o", out, use=[*flags, "--seed", "3"])[2]


def test_a_recipe_that_does_not_fit_one_scan_fails_that_one(command, scans, scan, flags, tmp_path):
    scan(scans / "volume.nii.gz", shape=(20, 20, 9))
    code, _, err = command(scans, "-o", tmp_path / "out", use=[*flags, "--generator.ndim", "3d"])
    assert code == 1, err
    found = states(tmp_path / "out")
    assert found.pop("volume.nii.gz") == "done"
    assert set(found.values()) == {"failed"}
    assert "generator.ndim" in batch.status(tmp_path / "out")["a.tif"]["error"]


def test_what_no_batch_has_made_is_not_replaced(command, scans, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.tif").write_text("mine")
    code, _, err = command(scans, "-o", out)
    assert code == 1
    assert "a.tif exists already" in err
    assert (out / "a.tif").read_text() == "mine"
    assert states(out) == {"a.tif": "failed", "b.tif": "done", "deep/c.tif": "done"}
    # Having failed on it does not make it the batch's own.
    assert command(scans, "-o", out)[0] == 1
    assert (out / "a.tif").read_text() == "mine"
    assert command(scans, "-o", out, "--overwrite")[0] == 0
    assert tifffile.imread(out / "a.tif").shape == (40, 48)


def test_what_a_killed_run_left_is_replaced_and_its_leftovers_removed(command, scans, tmp_path):
    out = tmp_path / "out"
    assert command(scans / "a.tif", "-o", out)[0] == 0
    lines = (out / "manifest.jsonl").read_text().splitlines(keepends=True)
    (out / "manifest.jsonl").write_text("".join(line for line in lines if '"done"' not in line))
    (out / "a.tif").write_text("half of a resu")
    (out / ".a.0123abcd.tif").write_text("half")
    (out / ".b.0123abcd.tif").write_text("of something else")
    assert states(out) == {"a.tif": "interrupted"}
    assert command(scans / "a.tif", "-o", out)[0] == 0
    assert tifffile.imread(out / "a.tif").shape == (40, 48)
    assert sorted(p.name for p in out.glob(".*.tif")) == [".b.0123abcd.tif"]


def test_a_dataset_becomes_a_derivative_dataset(command, scan, tmp_path):
    study = tmp_path / "study"
    scan(study / "sub-01" / "anat" / "sub-01_T1w.nii.gz", shape=(20, 20, 9), dtype=np.int16)
    (study / "dataset_description.json").write_text(json.dumps({"Name": "study", "BIDSVersion": "1.10.0"}))
    out = study / "derivatives" / "dip.sci"
    assert command(study, "-o", out)[0] == 0
    assert (out / "sub-01" / "anat" / "sub-01_desc-denoised_T1w.nii.gz").is_file()
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    assert "manifest.jsonl" in (out / ".bidsignore").read_text()


def test_a_dicom_tree_becomes_a_derived_tree(command, tmp_path):
    for name, uid in (("p1", "1.5"), ("p2", "1.6")):
        (tmp_path / "in" / name / "ct").mkdir(parents=True)
        for i in range(3):
            stored = np.random.default_rng(i).integers(900, 1100, (24, 28)).astype(np.uint16)
            slice_ = ct_slice(stored, series=uid, position=(0, 0, 3.0 * i), number=i)
            save(slice_, tmp_path / "in" / name / "ct" / f"{i}.dcm")
    assert command(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    for name in ("p1", "p2"):
        derived = [pydicom.dcmread(p) for p in sorted((tmp_path / "out" / name / "ct").iterdir())]
        assert len(derived) == 3
        assert "DERIVED" in derived[0].ImageType
    told = (tmp_path / "out" / "manifest.jsonl").read_text() + (tmp_path / "out" / "batch.log").read_text()
    assert "Roe" not in told
    assert "xyzzy" not in told
    assert "0 done, 2 done before" in command(tmp_path / "in", "-o", tmp_path / "out")[2]


def test_the_log_is_of_lines_that_name_no_file(command, scans, tmp_path):
    (scans / "doe^john.tif").write_text("no picture")
    command(scans, "-o", tmp_path / "out")
    text = (tmp_path / "out" / "batch.log").read_text()
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert events[0] == "batch begins"
    assert events[-1] == "batch ends"
    assert events.count("job done") == 3
    assert events.count("job failed") == 1
    assert "doe" not in text
    assert str(tmp_path) not in text


def test_verbose_says_what_happens_and_otherwise_it_is_quiet(command, scans, tmp_path):
    assert "job done" in command(scans / "a.tif", "-o", tmp_path / "out", "-v")[2]
    assert "job done" not in command(scans / "b.tif", "-o", tmp_path / "out")[2]


def test_reports_are_drawn_and_compared(command, scans, tmp_path):
    out = tmp_path / "out"
    (scans / "d.tif").write_text("no picture")
    assert command(scans, "-o", out, "--report")[0] == 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index("d.tif") < page.index("a.tif"), "what failed comes first"
    assert 'href="deep/c.html"' in page
    assert (out / "deep" / "c.html").is_file()
    (scans / "d.tif").unlink()
    (out / "b.html").unlink()
    assert "1 done, 2 done before" in command(scans, "-o", out, "--report")[2], "a report is missing"


def test_status_and_json_say_the_same(command, scans, tmp_path, run):
    code, out, err = command(scans, "-o", tmp_path / "out", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert set(told) == {"a.tif", "b.tif", "deep/c.tif"}
    code, out, _ = run("batch", "--status", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out) == told
    assert "3 done" in run("batch", "--status", tmp_path / "out")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{in}/*.nii.gz", "-o", "{out}"], 1, "no file matches"),
        (["{in}"], 2, "-o OUT"),
        (["-o", "{out}"], 2, "-o OUT"),
        (["{in}", "-o", "{in}/a.tif"], 1, "cannot be made"),
        (["{in}", "-o", "{out}", "--workers", "0"], 2, "workers"),
        (["{in}", "-o", "{out}", "--fit.steps", "many"], 2, "fit.steps"),
        (["{in}", "-o", "{out}", "--scheduler", "nonsense"], 1, "No dask scheduler"),
        (["{in}", "-o", "{out}", "--slurm", "gpu"], 1, "name=value"),
        (["--status", "{in}"], 1, "no batch has been run"),
    ],
)
def test_what_cannot_begin_says_why_and_leaves_nothing(run, scans, tmp_path, arguments, code, words):
    places = {"in": scans, "out": tmp_path / "out"}
    found, _, err = run("batch", *(a.format(**places) for a in arguments))
    assert found == code
    assert words in err
    assert "Traceback" not in err
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_without_dask_the_extra_is_named(run, scans, tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "distributed" or n.startswith("dip_sci.batch.loop")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, _, err = run("batch", scans, "-o", tmp_path / "out")
    assert code == 1
    assert "pip install 'dip-sci[batch]'" in err


def test_a_worker_of_another_version_is_told(scans, scheduler, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("dip_sci.batch.loop.__version__", "99.0")
    end = batch.run([scans / "a.tif"], tmp_path / "out", recipe, scheduler=scheduler)
    assert "the batch 99.0" in end.failed["a.tif"]


def test_the_output_folder_is_not_taken_for_a_scan_twice(command, scans):
    assert command(scans, "-o", scans / "clean")[0] == 0
    assert "0 done, 3 done before, 0 failed, 0 left, of 3" in command(scans, "-o", scans / "clean")[2]


def test_a_batch_that_moved_goes_on(command, scans, tmp_path):
    assert command(scans, "-o", tmp_path / "out")[0] == 0
    shutil.move(tmp_path / "in", tmp_path / "elsewhere")
    shutil.move(tmp_path / "out", tmp_path / "results")
    assert "0 done, 3 done before" in command(tmp_path / "elsewhere", "-o", tmp_path / "results")[2]


def test_a_scheduler_that_is_not_there_is_named(recipe, scans, tmp_path, monkeypatch):
    monkeypatch.setattr("dip_sci.batch.cluster.PATIENCE", 1)
    with pytest.raises(BatchError, match="No dask scheduler answers"):
        batch.run([scans], tmp_path / "out", recipe, scheduler="tcp://127.0.0.1:1")
