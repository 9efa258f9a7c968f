"""LZW and PackBits as two encoders of TIFF write them (FORMAT.md, "Strips of TIFF").

The rules are theirs, the loops our own, in the native core: no version of a library decides about
the bytes of a file.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

from archiver.native import library
from archiver.native.arrays import address
from archiver.sources.bit_packing import Bytes

_CODES = 4096  # of LZW


def lzw(rows: Bytes, *, libtiff: bool) -> bytes:
    """Return the codes of rows (R, bytes) together, as imagecodecs or libtiff writes them."""
    data = np.ascontiguousarray(rows).reshape(-1)
    table = np.zeros((_CODES, 256), np.int32)
    out = np.empty(2 * data.size + 64, np.uint8)  # 12 bits a byte at most, and what clears
    size = _core().archiver_lzw(
        *(address(data, np.uint8), data.size, libtiff),
        *(address(table, np.int32), address(out, np.uint8)),
    )
    return out[:size].tobytes()


def pack_bits(rows: Bytes, *, libtiff: bool) -> bytes:
    """Return the packets of rows (R, bytes), each by itself, by imagecodecs' rule or libtiff's."""
    rows = np.ascontiguousarray(rows)
    n_rows, n = rows.shape
    out = np.empty(2 * rows.size + 2 * n_rows, np.uint8)
    size = _core().archiver_packbits(
        address(rows, np.uint8), n_rows, n, libtiff, address(out, np.uint8)
    )
    return out[:size].tobytes()


@cache
def _core() -> ctypes.CDLL:
    core = library.required()
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    core.archiver_lzw.argtypes = (pointer, number, ctypes.c_int, pointer, pointer)
    core.archiver_packbits.argtypes = (pointer, number, number, ctypes.c_int, pointer)
    for function in (core.archiver_lzw, core.archiver_packbits):
        function.restype = number
    return core
