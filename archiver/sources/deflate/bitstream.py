"""The bits of a deflate stream (RFC 1951): read into blocks of tokens, and written from them.

A token is a literal, of length 0 here, or a match of 3 to 258 bytes at a distance.  A block is a
row of :data:`COLUMNS`.  Bits of headers are kept one in a byte.  The loops are in the native core.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from archiver.native import library
from archiver.native.arrays import address

Bytes = NDArray[np.uint8]
Tokens = tuple[NDArray[np.uint16], NDArray[np.uint16]]  # lengths, distances
STORED, FIXED, DYNAMIC = 0, 1, 2
TYPE, LAST, COUNT, HEADER = 0, 1, 2, 3  # columns of a block; COUNT: tokens, or bytes if stored
COLUMNS = 4  # HEADER: bits of the header that are stored, 0 if it is the predicted one
_N_SYMBOLS, _N_LENGTHS, _MAX_LENGTH_BITS = 286 + 30, 19, 7
MAX_HEADER_BITS = 14 + 3 * _N_LENGTHS + (_MAX_LENGTH_BITS + 7) * _N_SYMBOLS
MAX_BLOCK_BITS = 64 + MAX_HEADER_BITS  # of a block, beside its tokens
_NOTHING: Bytes = np.zeros(0, np.uint8)


class Stream(ctypes.Structure):
    """A stream as the core takes it (deflate.h): addresses, and how many items there are."""

    _fields_ = (
        *(("data", ctypes.c_void_p), ("n_data", ctypes.c_int64)),
        *(("raw", ctypes.c_void_p), ("n_raw", ctypes.c_int64)),
        *(("lengths", ctypes.c_void_p), ("distances", ctypes.c_void_p)),
        ("n_tokens", ctypes.c_int64),
        *(("blocks", ctypes.c_void_p), ("n_blocks", ctypes.c_int64)),
        *(("headers", ctypes.c_void_p), ("n_headers", ctypes.c_int64)),
    )

    @classmethod
    def of(
        cls,
        raw: Bytes,
        tokens: Tokens,
        blocks: NDArray[np.int64],
        data: Bytes = _NOTHING,
        headers: Bytes = _NOTHING,
    ) -> Stream:
        """Say where arrays are, which the caller keeps; tokens are as many as the fewer of both."""
        if blocks.ndim != 2 or blocks.shape[1] != COLUMNS:
            raise TypeError(f"blocks have {COLUMNS} columns, not {blocks.shape}")
        lengths, distances = tokens
        return cls(
            *(address(data, np.uint8), data.size),
            *(address(raw, np.uint8), raw.size),
            *(address(lengths, np.uint16), address(distances, np.uint16)),
            min(lengths.size, distances.size),
            *(address(blocks, np.int64), len(blocks)),
            *(address(headers, np.uint8), headers.size),
        )


def read(
    data: Bytes, raw: Bytes, tokens: Tokens, blocks: NDArray[np.int64], headers: Bytes
) -> tuple[int, int, int, int]:
    """Read a whole stream of ``raw``: fill tokens, rows of blocks, and bits of odd headers.

    Return the numbers of tokens and blocks, of bits of headers and of bits of the stream; -1 as
    the first if it is damaged or says something in a way that :func:`write` does not.
    """
    found = (ctypes.c_int64 * 3)()
    stream = Stream.of(raw, tokens, blocks, data, headers)
    n_tokens: int = _core().archiver_deflate_read(ctypes.byref(stream), found)
    n_blocks, n_headers, end = found
    return n_tokens, n_blocks, n_headers, end


def write(raw: Bytes, tokens: Tokens, blocks: NDArray[np.int64], headers: Bytes, out: Bytes) -> int:
    """Write blocks of tokens into zeros; return the bytes written, -1 if they do not fit."""
    stream = Stream.of(raw, tokens, blocks, out, headers)
    n_bytes: int = _core().archiver_deflate_write(ctypes.byref(stream))
    return n_bytes


@cache
def _core() -> ctypes.CDLL:
    core = library.required()
    stream = ctypes.POINTER(Stream)
    core.archiver_deflate_read.argtypes = (stream, ctypes.POINTER(ctypes.c_int64))
    core.archiver_deflate_read.restype = ctypes.c_int64
    core.archiver_deflate_write.argtypes = (stream,)
    core.archiver_deflate_write.restype = ctypes.c_int64
    return core
