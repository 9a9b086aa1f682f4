"""A batch's efficiency and overhead: 24 small volumes by one worker and by two.

    python -m benchmarks.batch [--scans 24] [--steps 40]

Efficiency is the time of one worker over twice that of two, from the first job's begin to the last one's end; each worker has
one thread, so that the two do the same work. Overhead is what a job costs beside its work: the time between
one job's end and the next one's begin on the same worker, and the time to bring a line of the manifest to the disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np

from dip_sci import batch
from dip_sci.batch.manifest import lines, opened
from dip_sci.recipe import Recipe


def scans(folder: Path, count: int) -> None:
    truth = 100 + 40 * np.sin(np.arange(48) / 5)[:, None, None] * np.cos(np.arange(48) / 7)[None, :, None]
    for n in range(count):
        noisy = truth + np.random.default_rng(n).normal(0, 10, (48, 48, 12))
        nibabel.save(nibabel.Nifti1Image(np.rint(noisy).astype(np.int16), np.eye(4)), folder / f"scan_{n:02d}.nii.gz")


def run(folder: Path, out: Path, workers: int, recipe: Recipe) -> tuple[float, list[float], list[float]]:
    """Time from the first job's begin to the last one's end, each job's own time, and the gaps between jobs."""
    end = batch.run([folder], out, recipe, workers=workers, threads=1)
    assert not end.failed, end.failed
    done = [line for line in lines(out) if line["state"] == "done"]
    spans: dict[int, list[tuple[float, float]]] = {}
    for line in done:
        began = datetime.fromisoformat(line["began"]).timestamp()
        spans.setdefault(line["pid"], []).append((began, began + line["seconds"]))
    gaps = []
    for of_worker in spans.values():
        of_worker.sort()
        gaps += [b[0] - a[1] for a, b in itertools.pairwise(of_worker)]
    ends = [span for of_worker in spans.values() for span in of_worker]
    return max(e for _, e in ends) - min(b for b, _ in ends), [line["seconds"] for line in done], gaps


def manifest_line(folder: Path) -> float:
    folder.mkdir()
    with opened(folder) as manifest:
        began = time.perf_counter()
        for n in range(200):
            manifest.add("running", f"job {n}", input="x" * 80, options="0" * 64)
        return (time.perf_counter() - began) / 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    recipe = Recipe.parse({"preset": "fast", "device": "cpu", "fit": {"steps": options.steps, "precision": "float32"}})
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "in").mkdir()
        scans(root / "in", options.scans)
        one, each, gaps = run(root / "in", root / "one", 1, recipe)
        two, both, more = run(root / "in", root / "two", 2, recipe)
        same = all(
            (root / "one" / p.name).read_bytes() == p.read_bytes() for p in sorted((root / "two").glob("*.nii.gz"))
        )
        gap = float(np.median(gaps + more))
        line = manifest_line(root / "lines")
    print(
        json.dumps(
            {
                "scans": options.scans,
                "seconds_one_worker": round(one, 1),
                "seconds_two_workers": round(two, 1),
                "efficiency": round(one / (2 * two), 3),
                "job_seconds_one_worker": round(float(np.median(each)), 2),
                "job_seconds_two_workers": round(float(np.median(both)), 2),
                "gap_between_jobs_seconds": round(gap, 4),
                "manifest_line_seconds": round(line, 5),
                "overhead_of_a_30_s_job": f"{(gap + 2 * line) / 30:.3%}",
                "same_outputs": same,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
