"""Own what this machine offers to compute with: accelerators, compilers, memory that stays."""

from __future__ import annotations

import ctypes
import shutil
import sys

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h
_LARGEST = 2**31 - 1


def n_gpus() -> int:
    """Return how many CUDA devices this process may use; opens none of them."""
    import torch

    return int(torch.cuda.device_count()) if torch.version.cuda else 0


def can_compile(device: str) -> bool:
    """Whether torch.compile finds the compiler that it needs for ``device``."""
    if device.startswith("cuda"):
        return True  # Triton comes with torch's CUDA builds
    return any(shutil.which(name) for name in ("g++", "c++", "clang++"))


def keep_freed_memory() -> None:
    """Let the process keep what it frees.

    Each step of training frees and takes gigabytes: what the process keeps needs no page faults.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(option, _LARGEST)
