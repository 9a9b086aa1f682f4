"""Read mutations in a process of its own, under a limit of memory: ``judge_hostile.py FORMAT FIRST COUNT FOLDER``.

Prints each crasher (the seed's name and the mutation's number), and how many there were. A mutation that ends
the process is the one named last in ``FOLDER/now``.
"""

from __future__ import annotations

import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import hostile

from dip_sci.errors import DipSciError
from dip_sci.io import read

SECONDS = 10
MEMORY = 2**30


def verdict(path: Path) -> str:
    """Return what is wrong with how a file was read, empty where nothing is."""
    began = time.monotonic()
    try:
        image = read(path)
        found = "" if image.array.size and image.array.dtype.kind in "iuf" else "no image"
        # A right image is one whose parts fit: touch every value.
        np.isfinite(image.array).all()
    except DipSciError as error:
        # A refusal for want of memory is one that came too late: the file's claim was believed.
        late = isinstance(error.__cause__, MemoryError)
        found = f"memory: {error}" if late else "" if path.name in str(error) else f"unnamed: {error}"
    except Exception as error:  # noqa: BLE001
        found = f"{type(error).__name__}: {error}"
    took = time.monotonic() - began
    return found or (f"took {took:.1f} s" if took > SECONDS else "")


def judge(form: str, first: int, count: int, folder: Path) -> int:
    """Read mutations `first` to `first + count` of a format's seeds; return how many went wrong."""
    crashers = 0
    if form == "bombs":
        files = [(p, 0) for p in hostile.bombs(folder)]
    else:
        made = hostile.seeds(form, folder)
        for seed in made:
            if form != "vendor" and (wrong := verdict(seed)):
                raise SystemExit(f"the seed {seed.name} itself: {wrong}")
        files = [(made[n % len(made)], n) for n in range(first, first + count)]
    limit_memory()
    for seed, number in files:
        (folder / "now").write_text(f"{seed.name} {number}")
        path = seed if form == "bombs" else hostile.mutant(seed, number, folder)
        if wrong := verdict(path):
            crashers += 1
            print(f"{seed.name} {number}: {wrong}"[:300], flush=True)
    return crashers


def limit_memory() -> None:
    """Let the process take a gigabyte more than it has: beyond it, allocation fails as where memory is short."""
    if sys.platform != "linux":
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    form, first, count, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    found = judge(form, first, count, folder)
    print(f"{found} crashers")
    sys.exit(found > 0)
