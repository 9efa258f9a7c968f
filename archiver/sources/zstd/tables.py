"""The tables of FSE codes (RFC 8878, 4.1): read from their description, and spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.contract import Unsupported
from archiver.sources.zstd.bits import Bytes, bits_at

# columns of a table: symbol, number of bits, first of the next states
Table = NDArray[np.int64]
SYMBOL, BITS, BASE = 0, 1, 2
_LEAST_LOG = 5


def described(data: Bytes, most_log: int, most_symbol: int) -> tuple[Table, int]:
    """Return the table that the start of ``data`` describes, and the bytes of its description."""
    counts = np.zeros(most_symbol + 1, np.int64)
    log, used = _read_counts(data, most_log, counts)
    if used < 0 or used > data.size:
        raise Unsupported("a table of an FSE code that is none")
    return spread(counts, log), used


@compiled
def _read_counts(data: Bytes, most_log: int, counts: NDArray[np.int64]) -> Any:
    """Fill in the normalised counts; return the log of their sum, and the bytes (-1: wrong)."""
    log = bits_at(data, 0, 4) + _LEAST_LOG
    at, left, symbol, threshold, n = 4, (1 << log) + 1, 0, 1 << log, log + 1
    if log > most_log:
        return log, -1
    while left > 1:
        if symbol >= counts.size or at > 8 * data.size:
            return log, -1
        spare = 2 * threshold - 1 - left
        value = bits_at(data, at, n)
        if value & threshold - 1 < spare:
            value, at = value & threshold - 1, at + n - 1
        else:
            value, at = value - spare if value >= threshold else value, at + n
        counts[symbol] = value - 1
        left -= abs(value - 1)
        symbol += 1
        repeats = 3 if value == 1 else 0
        while repeats == 3:
            repeats = bits_at(data, at, 2)
            symbol, at = symbol + repeats, at + 2
            if at > 8 * data.size:
                return log, -1
        while left < threshold:
            threshold, n = threshold >> 1, n - 1
            if threshold == 0:
                return log, (at + 7) >> 3 if left == 1 else -1
    return log, (at + 7) >> 3 if left == 1 else -1


@compiled
def spread(counts: NDArray[np.int64], log: int) -> Any:
    """Return the table of normalised counts, -1 for "less than one"."""
    size = 1 << log
    table = np.zeros((size, 3), np.int64)
    high, following = size - 1, np.zeros(counts.size, np.int64)
    for symbol in range(counts.size):
        following[symbol] = abs(counts[symbol])
        if counts[symbol] == -1:
            table[high, 0] = symbol
            high -= 1
    at, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol in range(counts.size):
        for _ in range(counts[symbol]):
            table[at, 0] = symbol
            at = (at + step) & (size - 1)
            while at > high:
                at = (at + step) & (size - 1)
    for state in range(size):
        symbol = table[state, 0]
        now = following[symbol]
        following[symbol] += 1
        n = log
        while now << n >= 2 * size:
            n -= 1
        table[state, 1], table[state, 2] = n, (now << n) - size
    return table


def single(symbol: int) -> Table:
    """Return the table of one symbol that takes no bits."""
    return np.array([[symbol, 0, 0]], np.int64)
