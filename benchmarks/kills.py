"""Kill a batch, and a long run on one large volume, at random moments (kill -9), and run them to their end.

    python -m benchmarks.kills [--times 20] [--seed 0] [--only batch|volume]

Moments are drawn from the whole length of an undisturbed run; of the kills, every fourth waits for tiles and every fourth
for the writing of a result (in the batch, two of four for writing), which would hardly be met by chance. Half of them
take the workers down with the batch, the others leave them behind. What is killed is begun again where it stood; what
has reached its end is compared and begun anew in another folder.

After each kill: every result that is there is bit-equal to that of the undisturbed run, and every line of the manifest can
be read but perhaps the last. At each end: all results are there and bit-equal, nothing else is left. States are saved
each second.
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
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np

FLAGS = ["--device", "cpu", "--fit.precision", "float32", "--generator.channels", "8", "8", "--supervision.passes", "2"]
FLAGS += ["--workers", "1", "--threads", "1", "--generator.ndim", "2d", "--output.classical", "none"]
LARGE = ["--fit.steps", "60", "--output.tile", "128"]
SMALL = ["--fit.steps", "60"]
PRELOAD = "import dip_sci.checkpoint\n\n\ndef dask_setup(worker):\n    dip_sci.checkpoint.EVERY = 1.0\n"
PATIENCE = 120


def scans(folder: Path, count: int, shape: tuple[int, ...]) -> Path:
    folder.mkdir()
    for n in range(count):
        values = np.random.default_rng(n).normal(100, 10, shape).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"scan_{n}.nii.gz")
    return folder


def environment(root: Path) -> dict[str, str]:
    """Let the workers save each second: dask's settings for this run, in a folder of its own."""
    (root / "often.py").write_text(PRELOAD)
    return {**os.environ, "PYTHONPATH": str(root), "DASK_DISTRIBUTED__WORKER__PRELOAD": '["often"]'}


def stage(out: Path) -> str:
    """Say what a batch is at, by what lies in its folder."""
    if any(out.glob(".scan_*")):
        return "writing"
    if any(out.glob(".checkpoints/*.tiles/*")):
        return "tiles"
    if any(out.glob(".checkpoints/*")):
        return "fit, saved before"
    return "before the first saving" if (out / "manifest.jsonl").exists() else "before the batch begins"


def results(out: Path) -> list[Path]:
    """Return the results that are there under their own names."""
    return [p for p in out.glob("*.nii.gz") if not p.name.startswith(".")]


@dataclass
class Trial:
    """One kind of run, killed again and again."""

    name: str
    source: Path
    flags: list[str]
    aims: tuple[str, ...]
    root: Path
    rng: random.Random
    met: Counter[str] = field(default_factory=Counter)
    torn: int = 0
    ends: int = 0
    wrong: list[str] = field(default_factory=list)

    def command(self, out: Path) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "dip_sci.cli", "batch", str(self.source), "-o", str(out), *self.flags, *FLAGS]

    def start(self, out: Path) -> subprocess.Popen[bytes]:
        """Begin it, or go on with it."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.command(out), env=environment(self.root), start_new_session=True, **quiet)

    def run(self, times: int) -> float:
        """Kill it so many times, and return the seconds that it takes undisturbed."""
        whole, began = self.root / f"{self.name}_whole", time.monotonic()
        assert self.start(whole).wait() == 0
        self.whole = {p.name: p.read_bytes() for p in results(whole)}
        alone = time.monotonic() - began
        print(f"{self.name}: {alone:.0f} s undisturbed", file=sys.stderr)
        folder = kills = 0
        while kills < times:
            out = self.root / f"{self.name}_{folder}"
            process = self.start(out)
            self.wait(process, out, self.aims[kills % len(self.aims)], alone)
            # One that came after the end is none.
            if process.poll() is None:
                self.met[stage(out)] += 1
                (os.killpg if kills % 4 > 1 else os.kill)(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                self.look(out)
                print(f"{self.name}: kill {kills} of {times}: {dict(self.met)}", file=sys.stderr)
                if kills < times:
                    continue
            self.finish(out)
            folder += 1
        return alone

    def wait(self, process: subprocess.Popen[bytes], out: Path, aim: str, alone: float) -> None:
        """Wait for a random moment or, where one is aimed at, until it is at a stage and a little longer."""
        end = time.monotonic() + (self.rng.uniform(0, alone) if aim == "any" else PATIENCE)
        while process.poll() is None and time.monotonic() < end:
            if stage(out) == aim:
                time.sleep(self.rng.uniform(0, 0.002 if aim == "writing" else 2))
                return
            time.sleep(0 if aim == "writing" else 0.02)

    def look(self, out: Path) -> None:
        """Note what is not as it must be after a kill."""
        for path in results(out):
            if path.read_bytes() != self.whole[path.name]:
                self.wrong.append(f"{path.name} is not whole")
        lines = (out / "manifest.jsonl").read_bytes().split(b"\n") if (out / "manifest.jsonl").exists() else []
        for n, line in enumerate(lines):
            try:
                json.loads(line or b"{}")
            except ValueError:
                self.torn += 1
                self.wrong += [] if n == len(lines) - 1 else ["a line in the middle is torn"]

    def finish(self, out: Path) -> None:
        """Run it to its end, and note what is not as it must be then."""
        self.ends += 1
        if self.start(out).wait() != 0:
            self.wrong.append("it did not end well")
        if {p.name: p.read_bytes() for p in results(out)} != self.whole:
            self.wrong.append("its results are others")
        left = [p.name for p in out.iterdir() if p.name.startswith(".") and p.name != ".manifest.lock"]
        self.wrong += [f"{name} was left" for name in left]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("batch", "volume"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        root, rng = Path(place), random.Random(options.seed)
        batch = scans(root / "batch", 6, (64, 64, 4))
        volume = scans(root / "volume", 1, (200, 200, 16))
        trials = [
            Trial("batch", batch, SMALL, ("any", "any", "writing", "writing"), root, rng),
            Trial("volume", volume, LARGE, ("any", "any", "tiles", "writing"), root, rng),
        ]
        print("| run | undisturbed | kills | where they met it | run to the end | torn last lines | wrong |")
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for trial in trials:
            if options.only not in (None, trial.name):
                continue
            alone = trial.run(options.times)
            where = ", ".join(f"{count} {name}" for name, count in trial.met.most_common())
            wrong = "; ".join(trial.wrong) or "nothing"
            print(
                f"| {trial.name} | {alone:.0f} s | {options.times} | {where} | {trial.ends} times, all equal "
                f"| {trial.torn} | {wrong} |".replace("all equal", "all equal" if not trial.wrong else "see there"),
                flush=True,
            )


if __name__ == "__main__":
    main()
