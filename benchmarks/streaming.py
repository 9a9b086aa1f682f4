"""How much memory streaming takes: ``python -m benchmarks.streaming [--gigabytes 8] [--task convert|copy|denoise]``.

Makes an OME-Zarr (``denoise`` and ``copy`` are the command ``denoise``, with its default steps and with none), sends it
through the command line in a process of its own, and prints that process's largest resident memory. ``--slope`` does so
for half of the size as well, and prints what each further gigabyte adds. ``--source`` and ``--target`` name other formats
(``.nii``, ``.nii.gz``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from dip_sci import io

PLANE = 2048
OURS = """
import atexit, re, sys
from pathlib import Path
from dip_sci.cli import main

def largest():
    # Not getrusage: it counts what the process that started this one used, too.
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

atexit.register(largest)
main(sys.argv[1:])
"""


def made(path: Path, gigabytes: float, plane: int = PLANE) -> tuple[int, ...]:
    """Write a uint16 volume of smooth shapes and noise, chunk by chunk, and return its shape."""
    shape = (max(round(gigabytes * 2**30 / 2 / plane**2), 8), plane, plane)
    group = zarr.create_group(store=str(path), zarr_format=3)
    scale = [{"type": "scale", "scale": [0.4, 0.2, 0.2]}]
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    described = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.update_attributes({"ome": {"version": "0.5", "multiscales": [described]}})
    array = group.create_array("0", shape=shape, chunks=(16, 256, 256), dtype="uint16", dimension_names=list("zyx"))
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:plane, :plane].astype(np.float32) / 50
    for z in range(0, shape[0], 16):
        depth = min(16, shape[0] - z)
        slab = np.empty((depth, plane, plane), np.uint16)
        for k in range(depth):
            smooth = 1000 + 400 * np.sin(x + (z + k) / 9) * np.cos(y - (z + k) / 15)
            slab[k] = smooth + 60 * rng.standard_normal((plane, plane), np.float32)
        array[z : z + depth] = slab
    return shape


def measure(task: str, gigabytes: float, plane: int, folder: Path, kinds: tuple[str, str], options: list[str]) -> int:
    """Print and return the largest resident memory, in bytes, of one task."""
    first, (source, target) = (
        folder / "made.ome.zarr",
        (folder / f"{name}{k}" for name, k in zip("ab", kinds, strict=True)),
    )
    shape = made(first, gigabytes, plane)
    if kinds[0] == ".ome.zarr":
        first.rename(source)
    else:
        io.write(source, io.read(first, lazy=True))
    arguments = {
        "convert": ["convert", str(source), str(target)],
        "copy": ["denoise", str(source), "-o", str(target), "--fit.steps", "0"],
        "denoise": ["denoise", str(source), "-o", str(target)],
    }[task]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", OURS, *arguments, *options], stdout=subprocess.PIPE, text=True, check=True
    )
    peak = int(done.stdout.rpartition("PEAK ")[2]) * 1024
    took = time.monotonic() - began
    same = "equal" if task == "denoise" or equal(source, target) else "DIFFERENT"
    size = int(np.prod(shape)) * 2
    print(
        f"{task}, {' to '.join(kinds)}: {shape} uint16, {size / 2**30:.2f} GB: {peak / 2**30:.2f} GB resident, {took:.0f} s, {same}"
    )
    return peak


def equal(source: Path, target: Path) -> bool:
    a, b = (io.read(p, lazy=True).array for p in (source, target))
    return all(np.array_equal(a[z : z + 16], b[z : z + 16]) for z in range(0, a.shape[0], 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--plane", type=int, default=PLANE, help="rows and columns")
    parser.add_argument("--task", choices=("convert", "copy", "denoise"), default="convert")
    parser.add_argument("--source", default=".ome.zarr", help="suffix")
    parser.add_argument("--target", default=".ome.zarr", help="suffix")
    parser.add_argument("--slope", action="store_true", help="measure half of the size, too")
    parser.add_argument("--folder", help="where the images are made, and removed")
    given, options = parser.parse_known_args()
    peaks = []
    for size in [given.gigabytes / 2, given.gigabytes] if given.slope else [given.gigabytes]:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            peaks.append(measure(given.task, size, given.plane, Path(folder), (given.source, given.target), options))
    if given.slope:
        print(f"each further GB of image adds {(peaks[1] - peaks[0]) / (given.gigabytes / 2) / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
