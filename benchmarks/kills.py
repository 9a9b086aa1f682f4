"""Kill a batch and a long fit at random moments (kill -9), look at what is there, and run them to their end.

    python -m benchmarks.kills [--times 20] [--seed 0]

After each kill of the batch: every result that is there can be read whole, and every line of the manifest but perhaps the last.
At the end: a rerun completes, and all results are bit-equal to those of a batch that was left alone. The long fit
is a single scan of a batch whose state is saved each second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

FLAGS = ["--device", "cpu", "--fit.precision", "float32", "--generator.channels", "8", "8", "--supervision.passes", "2"]
PRELOAD = "import dip_sci.checkpoint\n\n\ndef dask_setup(worker):\n    dip_sci.checkpoint.EVERY = 1.0\n"


def scans(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for n in range(count):
        values = np.random.default_rng(n).normal(100, 10, (size, size)).astype(np.float32)
        tifffile.imwrite(folder / f"scan_{n}.tif", values, photometric="minisblack")


def command(source: Path, out: Path, steps: int) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "dip_sci.cli",
            "batch",
            str(source),
            "-o",
            str(out),
            "--workers",
            "1",
            "--threads",
            "1",
        ),
        *FLAGS,
        *("--fit.steps", str(steps)),
    ]


def environment(root: Path) -> dict[str, str]:
    """Let the workers save each second: dask's settings for this run, in a folder of its own."""
    (root / "often.py").write_text(PRELOAD)
    return {**os.environ, "PYTHONPATH": str(root), "DASK_DISTRIBUTED__WORKER__PRELOAD": '["often"]'}


def check(out: Path) -> tuple[int, int]:
    """Results there, and lines that cannot be read: fails where a result is not whole."""
    found = 0
    for path in out.rglob("*.tif"):
        if not path.name.startswith("."):
            tifffile.imread(path)
            found += 1
    lines = (out / "manifest.jsonl").read_bytes().split(b"\n") if (out / "manifest.jsonl").exists() else []
    torn = 0
    for line in filter(None, lines):
        try:
            json.loads(line)
        except ValueError:
            torn += 1
    return found, torn


def killed(root: Path, name: str, steps: int, times: int, rng: random.Random, longest: float) -> dict[str, object]:
    env, whole, out = environment(root), root / f"{name}_whole", root / f"{name}_killed"
    began = time.monotonic()
    subprocess.run(command(root / name, whole, steps), env=env, check=True, capture_output=True)
    alone = time.monotonic() - began
    seen = []
    for n in range(times):
        process = subprocess.Popen(
            command(root / name, out, steps), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0, longest))
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen.append((*check(out), ended)) if out.exists() else seen.append((0, 0, ended))
        print(f"{name}: kill {n + 1} of {times}, {seen[-1][0]} results whole", file=sys.stderr)
    subprocess.run(command(root / name, out, steps), env=env, check=True, capture_output=True)
    equal = all(
        np.array_equal(tifffile.imread(path), tifffile.imread(out / path.name)) for path in sorted(whole.glob("*.tif"))
    )
    resumed = sum("went on from a checkpoint" in path.read_text() for path in out.glob("*.json"))
    left = [p.name for p in out.rglob(".*") if p.suffix in (".tif", ".npz")]
    return {
        "kills": times,
        "of_them_after_its_end": sum(ended for _, _, ended in seen),
        "seconds_undisturbed": round(alone, 1),
        "lines_torn": max(torn for _, torn, _ in seen),
        "results_went_on_from_a_checkpoint": resumed,
        "left_over": left,
        "all_equal": equal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds after which a run is killed, at most")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        scans(root / "batch", 12, 64)
        scans(root / "fit", 1, 256)
        print(
            json.dumps({"batch": killed(root, "batch", 120, options.times, rng, options.longest)}, indent=1), flush=True
        )
        print(json.dumps({"fit": killed(root, "fit", 600, options.times, rng, options.longest)}, indent=1))


if __name__ == "__main__":
    main()
