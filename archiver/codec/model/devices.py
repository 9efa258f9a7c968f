"""The questions which accelerators this machine has, and how it trains best."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h
_LARGEST = 2**31 - 1
_DEFAULT = 128 << 10


def n_gpus() -> int:
    """Return how many CUDA devices this process may use; opens none of them.

    Without a driver there is none, and torch, which takes seconds to import, is not asked.
    """
    if not _has_driver():
        return 0
    import torch

    return int(torch.cuda.device_count()) if torch.version.cuda else 0


def _has_driver() -> bool:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_bfloat16(device: str) -> bool:
    """Whether products of bfloat16 are faster than those of float32 there.

    Without the instructions torch converts every number: on a CPU with AVX2 alone such a product
    takes ten times as long.
    """
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(able.get(name) for name in ("avx512_bw", "amx_bf16", "bf16"))


def can_compile(device: str) -> bool:
    """Whether torch.compile finds the compiler that it needs for ``device``."""
    if device.startswith("cuda"):
        return True  # Triton comes with torch's CUDA builds
    return any(shutil.which(name) for name in ("g++", "c++", "clang++"))


@contextmanager
def training(threads: int | None) -> Iterator[None]:
    """Train inside with that many threads (None: as they are); leave the process as it was."""
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _give_back_memory()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed: a step of training frees and takes gigabytes."""
    _set_allocator(_LARGEST)


def _give_back_memory() -> None:
    _set_allocator(_DEFAULT)
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _set_allocator(threshold: int) -> None:
    """Set from which size on memory is mapped, or trimmed, block by block."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(option, threshold)
