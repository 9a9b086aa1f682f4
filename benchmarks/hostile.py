"""Read many damaged and malicious files of each format: ``python -m benchmarks.hostile [--count 10000] [FORMAT ...]``.

What ``tests/properties/test_hostile.py`` does with 500 mutations of each format, with as many as wanted. Each
batch runs in a process of its own, so that a crash of a decoder ends that batch alone and is named.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JUDGE = Path(__file__).parent.parent / "tests" / "properties" / "judge_hostile.py"
FORMATS = ("bombs", "dicom", "nifti", "tiff", "png", "jpeg", "nrrd", "zarr", "vendor")
BATCH = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("formats", nargs="*", default=FORMATS, metavar="FORMAT", help=f"of {', '.join(FORMATS)}")
    parser.add_argument("--count", type=int, default=10_000, help="mutations of each format")
    given = parser.parse_args()
    crashes = 0
    for form in given.formats:
        began = time.monotonic()
        for first in range(0, 1 if form == "bombs" else given.count, BATCH):
            crashes += not batch(form, first, min(BATCH, given.count - first))
        print(f"{form}: {given.count} in {time.monotonic() - began:.0f} s", flush=True)
    return crashes > 0


def batch(form: str, first: int, count: int) -> bool:
    """Judge one batch, print what went wrong, and return whether nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(JUDGE), form, str(first), str(count), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return True
        print(done.stdout, done.stderr[-500:])
        if done.returncode != 1:
            print(f"{form}: the process ended with {done.returncode} at {(Path(folder) / 'now').read_text()}")
    return False


if __name__ == "__main__":
    sys.exit(main())
