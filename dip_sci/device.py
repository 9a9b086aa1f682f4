"""Where and how the arithmetic runs: device, precision, determinism, memory in use."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Literal

import psutil
import torch

from dip_sci.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator


def pick(wanted: str) -> torch.device:
    """Turn a recipe's device into a torch device.

    Raises
    ------
    RecipeError
        If the device is not there; the message says what is.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    kind, _, index = wanted.partition(":")
    if not there[kind] or (index and int(index) >= torch.cuda.device_count()):
        found = ", ".join(name for name, ok in there.items() if ok)
        raise RecipeError(f"The device {wanted!r} is not available here (there is: {found}).")
    return torch.device(wanted)


def describe(device: torch.device) -> str:
    """Name a device for the user."""
    if device.type == "cuda":
        return f"GPU: {torch.cuda.get_device_name(device)}"
    return "GPU: Apple" if device.type == "mps" else f"CPU, {torch.get_num_threads()} threads"


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is faster than float32 on a device (CUDA >= 8.0, AVX512-BF16, AMX)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        able = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        return able and _cpu_has("avx512_bf16", "amx_bf16")
    return False


def _cpu_has(*names: str) -> bool:
    # torch tells this under private names that moved between releases; the kernel's own list does not move.
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:  # noqa: PTH123
            flags = next((line.split() for line in info if line.startswith("flags")), [])
    except OSError:
        return False
    return any(name in flags for name in names)


@contextlib.contextmanager
def arithmetic(device: torch.device, precision: Literal["float32", "bfloat16"]) -> Iterator[None]:
    """Run network passes in a precision; the weights stay float32."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let the allocator keep freed memory for the duration of a run, then give it back.

    A fit frees and takes the same large blocks at each step. By default the C library returns them
    to the system every time and faults them in again, page by page: about six times as many faults,
    and three times the time spent in the kernel. Linux with glibc only; elsewhere this does nothing.
    """
    trim, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    mallopt(mmap_max, 0)
    mallopt(trim, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(mmap_max, 65536)
        mallopt(trim, 2**27)
        malloc_trim(0)


def memory_in_use(device: torch.device) -> int:
    """Bytes held by this process: on the GPU where one is used, else in RAM."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    return int(psutil.Process().memory_info().rss)


def free_memory(device: torch.device) -> int:
    """Bytes that are free where a network runs."""
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)
