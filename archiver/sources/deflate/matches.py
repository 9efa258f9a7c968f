"""The guess at every token: what an encoder takes is a function of the matches it can find.

At each position the longest match among the latest candidates is looked for, there, one further on
(lazy matching, as zlib) and where it ends (could that one have begun earlier?  zlib-ng).  Lengths,
and little else, are the *context*; a table says for each context whether this encoder took the
match or a literal.  Tokens that differ are exceptions.  The loops are in the native core.
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from archiver.native import library
from archiver.native.arrays import address
from archiver.sources.deflate.bitstream import Bytes, Stream, Tokens

# candidates looked at, least bytes of a match, bytes that are enough, longest match whose inside
# is put into the chains, largest distance
Effort = tuple[int, int, int, int, int]
# numbers of tokens, their lengths, their distances
Exceptions = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
LITERAL, MATCH, OTHER = 0, 1, 2  # what a token is, beside the match that was found
MAX_MATCH = 258
_HASH_BITS = 16
_MOST_WORK, _WORK_PER_BYTE = 1 << 30, 512  # comparisons: more is given up
_BUCKETS = 14  # of lengths
_AHEAD = 4  # how the next position's match compares
N_CONTEXTS = _BUCKETS * _AHEAD * 2 * 2 * 2


class _Exceptions(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("numbers", "lengths", "distances")),
        ("n", ctypes.c_int64),
    )


def compare(
    raw: Bytes,
    tokens: Tokens,
    blocks: NDArray[np.int64],
    effort: Effort,
    contexts: NDArray[np.uint16],
    kinds: Bytes,
    most: int,
) -> int:
    """Fill in the context of every token, and what it is beside the match found there.

    Return how many comparisons that took, -1 if more than ``most``: some bytes match everywhere.
    """
    if min(contexts.size, kinds.size) < min(tokens[0].size, tokens[1].size):
        raise ValueError("fewer contexts or kinds than tokens")
    heads, before = _room(raw)
    work: int = _core().archiver_deflate_compare(
        Stream.of(raw, tokens, blocks),
        (ctypes.c_int64 * 5)(*effort),
        *(address(heads, np.int32), address(before, np.int32)),
        *(address(contexts, np.uint16), address(kinds, np.uint8)),
        most,
    )
    return work


def expand(
    raw: Bytes,
    blocks: NDArray[np.int64],
    effort: Effort,
    table: Bytes,
    exceptions: Exceptions,
    tokens: Tokens,
) -> int:
    """Fill in the tokens that ``table`` and ``exceptions`` make; return where they end.

    ``exceptions``: number of the token, length, distance; -1 is returned if one is impossible.
    """
    if table.size < N_CONTEXTS:
        raise ValueError(f"a table of {table.size} contexts, expected {N_CONTEXTS}")
    heads, before = _room(raw)
    odd = _Exceptions(
        *(address(column, np.int64) for column in exceptions),
        min(column.size for column in exceptions),
    )
    end: int = _core().archiver_deflate_expand(
        Stream.of(raw, tokens, blocks),
        (ctypes.c_int64 * 5)(*effort),
        *(address(heads, np.int32), address(before, np.int32)),
        address(table, np.uint8),
        odd,
        _MOST_WORK + _WORK_PER_BYTE * raw.size,
    )
    return end


def _room(raw: Bytes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return room for chains: the latest position of each hash, and the one before each."""
    return np.empty(1 << _HASH_BITS, np.int32), np.empty(raw.size, np.int32)


@cache
def _core() -> ctypes.CDLL:
    core = library.required()
    pointer, stream = ctypes.c_void_p, ctypes.POINTER(Stream)
    head = (stream, ctypes.POINTER(ctypes.c_int64), pointer, pointer, pointer)
    core.archiver_deflate_compare.argtypes = (*head, pointer, ctypes.c_int64)
    core.archiver_deflate_expand.argtypes = (*head, ctypes.POINTER(_Exceptions), ctypes.c_int64)
    for function in (core.archiver_deflate_compare, core.archiver_deflate_expand):
        function.restype = ctypes.c_int64
    return core
