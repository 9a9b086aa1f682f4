"""How a batch ends: by Ctrl-C, by a killed process, without its scheduler, on a full disk; and what is there then."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import psutil
import pytest
import tifffile

import dip_sci
from dip_sci import batch

pytest.importorskip("distributed", reason="a batch needs dask")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

PATIENCE = 60
SECONDS = ["--stop.max-seconds", "4"]


@contextmanager
def started(*command, **options):
    """A process in a group of its own, which is gone with the block."""
    process = subprocess.Popen(
        [str(part) for part in command],
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def batch_of(*arguments, **options):
    return started(sys.executable, "-m", "dip_sci.cli", "batch", *arguments, **options)


def until(condition, process=None):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        assert process is None or process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)


def states(folder):
    if not (folder / "manifest.jsonl").exists():
        return {}
    return {name: entry["state"] for name, entry in batch.status(folder).items()}


def results(folder):
    return sorted(p.name for p in folder.rglob("*.tif"))


def end_of(process):
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, " ".join(err.decode().split())


TILES = ["--generator.ndim", "2d", "--output.tile", "128", "--threads", "1"]


@pytest.fixture
def volume(tmp_path, scan):
    """Large where tiles have an edge of 128."""
    return scan(tmp_path / "in" / "volume.nii.gz", shape=(210, 200, 6), dtype=np.int16)


def logged(out, what):
    lines = (out / "batch.log").read_text().splitlines() if (out / "batch.log").exists() else []
    return [entry for entry in map(json.loads, lines) if entry.get("event") == what]


def test_two_workers_share_a_large_volume(tmp_path, volume, flags):
    for workers in (1, 2):
        with batch_of(volume, "-o", tmp_path / f"out{workers}", "--workers", workers, *flags, *TILES) as process:
            code, err = end_of(process)
            assert code == 0, err
    one, two = ((tmp_path / f"out{n}" / "volume.nii.gz").read_bytes() for n in (1, 2))
    assert one == two
    entry = batch.status(tmp_path / "out2")["volume.nii.gz"]
    assert entry["workers"] == 2
    assert logged(tmp_path / "out2", "tiles")
    assert not (tmp_path / "out2" / ".checkpoints").exists()
    assert "workers" not in batch.status(tmp_path / "out1")["volume.nii.gz"]


def test_a_worker_killed_among_its_tiles_is_replaced(tmp_path, volume, flags):
    # More passes: a tile takes long enough to be caught at.
    flags[flags.index("--supervision.passes") + 1] = "24"
    flags, out = [*flags, *TILES], tmp_path / "out"
    with batch_of(volume, "-o", tmp_path / "alone", "--workers", 1, *flags) as process:
        assert end_of(process)[0] == 0
    with batch_of(volume, "-o", out, "--workers", 2, *flags) as process:
        until(lambda: len(list(out.glob(".checkpoints/*.tiles/*.npy"))) > 1, process)
        workers = [p for p in psutil.Process(process.pid).children(recursive=True) if p.cpu_percent(0.2) > 20]
        os.kill(workers[0].pid, signal.SIGKILL)
        code, err = end_of(process)
        assert code == 0, err
    assert (out / "volume.nii.gz").read_bytes() == (tmp_path / "alone" / "volume.nii.gz").read_bytes()


def test_ctrl_c_once_finishes_what_is_at_work(scans, endless, tmp_path):
    out = tmp_path / "out"
    with batch_of(scans, "-o", out, "--workers", 1, *endless, *SECONDS) as process:
        until(lambda: "running" in states(out).values(), process)
        # As a terminal does: to the workers, too.
        os.killpg(process.pid, signal.SIGINT)
        code, err = end_of(process)
    assert code == 3, err
    assert "1 done, 0 done before, 0 failed, 2 left" in err
    assert list(states(out).values()) == ["done"]
    assert len(results(out)) == 1


def test_ctrl_c_twice_abandons_and_leaves_no_result(scans, endless, tmp_path):
    out = tmp_path / "out"
    with batch_of(scans, "-o", out, "--workers", 1, *endless) as process:
        until(lambda: "running" in states(out).values(), process)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.5)
        code, err = end_of(process)
    assert code == 130, err
    assert list(states(out).values()) == ["abandoned"]
    assert results(out) == []


def test_a_killed_batch_takes_its_workers_along_and_is_gone_on_with(scans, flags, endless, run, tmp_path):
    out = tmp_path / "out"
    with batch_of(scans, "-o", out, "--workers", 1, *endless) as process:
        until(lambda: "running" in states(out).values(), process)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        until(lambda: not any(p.is_running() and p.status() != "zombie" for p in workers))
    assert list(states(out).values()) == ["interrupted"]
    assert results(out) == []
    assert run("batch", scans, "-o", out, "--workers", 1, *flags)[0] == 0
    assert set(states(out).values()) == {"done"}


def test_a_killed_worker_costs_no_scan(scans, endless, tmp_path):
    out = tmp_path / "out"
    with batch_of(scans / "a.tif", "-o", out, "--workers", 1, *endless, *SECONDS) as process:
        until(lambda: "running" in states(out).values(), process)
        time.sleep(1)
        for child in psutil.Process(process.pid).children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        code, err = end_of(process)
    assert code == 0, err
    assert states(out) == {"a.tif": "done"}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def two_hosts(tmp_path):
    """A scheduler, and two workers with folders of their own; what they say goes nowhere."""
    address = f"tcp://127.0.0.1:{_free_port()}"
    dask, quiet = [sys.executable, "-m", "dask"], {"stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        port = address.rsplit(":", 1)[1]
        scheduler = ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
        boss = stack.enter_context(_quietly([*dask, *scheduler], tmp_path, **quiet))
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            worker = ["worker", address, "--nthreads", "1", "--name", name, "--no-dashboard", "--resources", "job=1"]
            stack.enter_context(_quietly([*dask, *worker, "--local-directory", "."], tmp_path / name, **quiet))
        yield boss, address


@contextmanager
def _quietly(command, folder, **quiet):
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, **quiet)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_two_workers_elsewhere_do_as_one_here_until_their_scheduler_goes(scans, flags, endless, recipe, run, tmp_path):
    out = tmp_path / "out"
    with two_hosts(tmp_path) as (boss, address):
        code, _, err = run("batch", scans, "-o", out, "--scheduler", address, *flags)
        assert code == 0, err
        for scan in scans.rglob("*.tif"):
            alone = dip_sci.denoise(dip_sci.read(scan), recipe).image.array
            assert np.array_equal(tifffile.imread(out / scan.relative_to(scans)), alone)
        lost = tmp_path / "lost"
        with batch_of(scans, "-o", lost, "--scheduler", address, *endless) as process:
            until(lambda: list(states(lost).values()).count("running") == 2, process)
            boss.kill()
            code, err = end_of(process)
    assert code == 1, err
    assert "scheduler is gone" in err
    assert "Traceback" not in err
    assert [e["error"] for e in batch.status(lost).values()] == ["The dask scheduler was gone before it was done."] * 2
    code, _, err = run("batch", scans, "-o", lost, "--workers", 1, *flags)
    assert code == 0, err


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB, or a skipped test."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_full_disk_fails_what_does_not_fit(scans, scan, flags, run, small_disk):
    # The largest is the first to be done.
    scan(scans / "large.tif", shape=(900, 900))
    out = small_disk / "out"
    assert run("batch", scans, "-o", out, "--workers", 1, *flags)[0] == 1
    found = batch.status(out)
    error = found.pop("large.tif")["error"]
    assert "No space left on device" in error or "is the disk full" in error
    assert {e["state"] for e in found.values()} == {"done"}
    assert results(out) == ["a.tif", "b.tif", "c.tif"]
    assert not list(out.glob(".large*"))


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs")
def test_a_read_only_folder_is_refused_at_once(scans, flags, run, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for folder in (small_disk, small_disk / "out"):
        code, _, err = run("batch", scans, "-o", folder, "--workers", 1, *flags)
        assert code == 1
        assert "Read-only file system" in err


SBATCH = """#!/bin/sh
grep '^#SBATCH' "$1" >> {folder}/directives
cp "$1" {folder}/script
setsid sh {folder}/script > /dev/null 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -9 -"$1"
"""


def test_slurm_jobs_become_workers(scans, flags, tmp_path, monkeypatch, run):
    """With a sbatch that runs the script here instead of queueing it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tools / name).write_text(text.format(folder=tmp_path))
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options = "partition=long,cores=1,memory=2GB,walltime=01:00:00,gres=gpu:1,host=127.0.0.1"
    code, _, err = run("batch", scans, "-o", tmp_path / "out", "--slurm", options, "--workers", 1, *flags)
    assert code == 0, err
    assert results(tmp_path / "out") == ["a.tif", "b.tif", "c.tif"]
    directives = (tmp_path / "directives").read_text()
    for line in ("-p long", "--cpus-per-task=1", "--mem=2G", "-t 01:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in directives
    assert not (tmp_path / "home").exists(), "nothing is written into the user's home"
