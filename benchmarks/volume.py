"""A volume larger than most: ``python -m benchmarks.volume [--depths 64,256] [--preset fast] [--fit]``.

Makes an int16 NIfTI of 512 x 512 slices (a CT's values: tissues with soft borders, white noise of 20 HU), denoises it in a
process of its own, and prints how long reading and fitting took, how long in all, the largest resident memory, and the
error before and after. With ``--fit`` it ends when the network is fitted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmarks.classical import row

EDGE, SIGMA = 512, 20.0
OURS = """
import json, re, sys, time
from pathlib import Path
from dip_sci.job import Job, Opened
from dip_sci.recipe import Recipe

def main():
    source, output, preset = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    began, fitted = time.perf_counter(), None
    opened = Opened(Job(source, output, Recipe.parse({"preset": preset})))
    run = opened.restore()
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            opened.write(end.value)
            break
        if fitted is None and progress.step == progress.steps:
            fitted = time.perf_counter() - began
            if sys.argv[4] == "fit":
                break
    # Not getrusage: it counts what the process that started this one used, too.
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    print(json.dumps({"fit": fitted, "all": time.perf_counter() - began, "mb": peak / 1024}))

main()
"""


def slab(first: int, count: int) -> NDArray[np.float32]:
    """Return some slices of the truth, ``(X, Y, Z)``."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, EDGE, dtype=np.float32),) * 2, indexing="ij")
    planes = []
    for z in range(first, first + count):
        body = _soft(x**2 / 0.7 + y**2 / 0.5 - 1, 40)
        organs = sum(
            h * _soft((x - a - 0.1 * np.sin(z / 20 + k)) ** 2 + (y - b) ** 2 - r**2, 400)
            for k, (a, b, r, h) in enumerate(((0.3, 0.1, 0.2, 60), (-0.3, -0.1, 0.25, 120), (0, 0.4, 0.1, 700)))
        )
        texture = 15 * np.sin(40 * x + z / 7) * np.sin(55 * y)
        planes.append(-1000 + body * (1040 + organs + texture))
    return np.stack(planes, axis=-1).astype(np.float32)


def _soft(outside: NDArray[np.float32], steep: float) -> NDArray[np.float32]:
    return 1 / (1 + np.exp(np.clip(outside * steep, -50, 50)))


def main() -> None:
    """Print a row per depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", default="64,256", help="numbers of slices, separated by commas")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--fit", action="store_true", help="end when the network is fitted")
    options = parser.parse_args()
    heads = [
        "slices",
        "read and fit, s",
        *([] if options.fit else ["in all, s", "resident, MB", "RMSE before", "after"]),
    ]
    print(row(heads))
    print(row(["---"] * len(heads)))
    for depth in map(int, options.depths.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder) / "in.nii", Path(folder) / "out.nii"
            rng, stored = np.random.default_rng(0), np.empty((EDGE, EDGE, depth), np.int16, order="F")
            for z in range(depth):
                noise = rng.normal(0, SIGMA, (EDGE, EDGE))
                stored[..., z] = np.rint(slab(z, 1)[..., 0] + noise)
            nib.save(nib.Nifti1Image(stored, np.diag([0.7, 0.7, 1.0, 1.0])), source)  # type: ignore[attr-defined,no-untyped-call]
            command = [sys.executable, "-c", OURS, str(source), str(output), options.preset]
            command.append("fit" if options.fit else "all")
            told = json.loads(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            )
            if options.fit:
                print(row([str(depth), f"{told['fit']:.1f}"]), flush=True)
                continue
            after = nib.load(output).dataobj  # type: ignore[attr-defined]
            errors = [(float(np.square(after[..., z] - slab(z, 1)[..., 0]).mean())) for z in range(0, depth, 7)]
            cells = [f"{told['fit']:.0f}", f"{told['all']:.0f}", f"{told['mb']:.0f}", f"{SIGMA:.1f}"]
            print(row([str(depth), *cells, f"{np.mean(errors) ** 0.5:.1f}"]), flush=True)


if __name__ == "__main__":
    main()
