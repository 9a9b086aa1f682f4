"""How long a CT series takes to read, and how much memory: ``python -m benchmarks.reading [--slices 300]``.

A series of 512 x 512 slices is made in a temporary folder out of a slice of pydicom's own test files, so that headers are
as long as scanners make them. It is read by pydicom alone (each file's `pixel_array`, stacked, nothing else) and by `dip_sci.read`,
in turns; the smallest of three times counts. Memory is the process's largest, over what it was before, in a
process that does nothing else.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

EDGE = 512
MEMORY = """
import gc, re, sys
from pathlib import Path
from dip_sci import io

def largest():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

folder = Path(sys.argv[1])
io.read(sorted(folder.iterdir())[0])
before = largest()
image = io.read(folder)
print((largest() - before) / image.array.nbytes)
"""


def made(folder: Path, slices: int) -> None:
    """Write a series of `slices` files."""
    head = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    head.Rows = head.Columns = EDGE
    head.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    rng = np.random.default_rng(0)
    for number in range(slices):
        slice_ = copy.deepcopy(head)
        slice_.InstanceNumber = number + 1
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"{head.SOPInstanceUID}.{number}"
        x, y, z = head.ImagePositionPatient
        slice_.ImagePositionPatient = [x, y, float(z) + 2.5 * number]
        slice_.PixelData = rng.integers(0, 4096, (EDGE, EDGE)).astype(np.int16).tobytes()
        slice_.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True, implicit_vr=False, little_endian=True)


def by_pydicom(folder: Path) -> None:
    np.stack([pydicom.dcmread(file).pixel_array for file in sorted(folder.iterdir())])


def by_us(folder: Path) -> None:
    from dip_sci import io

    io.read(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--slices", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder, given.slices)
        seconds: dict[str, list[float]] = {"pydicom": [], "dip_sci": []}
        for _ in range(3):
            for label, read in (("pydicom", by_pydicom), ("dip_sci", by_us)):
                # The processor's time, so that other programs do not count.
                began = time.process_time()
                read(folder)
                seconds[label].append(time.process_time() - began)
        best = {label: min(all_) for label, all_ in seconds.items()}
        done = subprocess.run([sys.executable, "-c", MEMORY, name], stdout=subprocess.PIPE, text=True, check=True)
    print(f"{given.slices} slices of {EDGE} x {EDGE}: pydicom {best['pydicom']:.2f} s, dip_sci {best['dip_sci']:.2f} s")
    print(
        f"time: {best['dip_sci'] / best['pydicom']:.2f} times pydicom's; memory: {float(done.stdout):.2f} times the array's"
    )


if __name__ == "__main__":
    main()
