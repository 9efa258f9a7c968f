"""The walk over all blocks of a LERC blob: compared with what the rule says, and written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.lerc.bits import Bytes, size_of
from archiver.sources.lerc.blob import Mask
from archiver.sources.lerc.blocks import (
    BLOCK,
    HEAD_BYTES,
    KIND,
    VERSION,
    Values,
    body,
    head_size,
    predicted,
)

Numbers = NDArray[np.int64]
# values (height, width, bands), and the bytes of each; which pixels are valid, whether not all are
Samples = tuple[Values, Bytes, Mask, bool]
_MANY_BITS, _FEW_BITS = 15, 7  # of a block's column, which its head repeats: version below 5, above


@compiled
def _gather(
    samples: Samples, row: int, column: int, band: int, side: int, values: Values, plain: Bytes
) -> Any:
    """Collect the values of a block; return their number, and how many equal the one before."""
    every, raw, valid, masked = samples
    size = raw.shape[3]
    n, same, before = 0, 0, 0.0
    for i in range(row, min(row + side, every.shape[0])):
        for j in range(column, min(column + side, every.shape[1])):
            if valid[i, j]:
                values[n] = every[i, j, band]
                plain[n * size : (n + 1) * size] = raw[i, j, band]
                same += values[n] == before and not (masked and n == 0)
                before, n = values[n], n + 1
    return n, same


@compiled
def _check(column: int, version: int) -> Any:
    """Return the bits of a head that repeat the column of its block."""
    return (column >> 3 & 15) << 2 if version < 5 else (column >> 3 & 14) << 2


@compiled
def compare(stream: Bytes, samples: Samples, how: Numbers, error: float, odd: Numbers) -> Any:
    """Fill in number, start and length of the heads that the rule does not give.

    Return how many they are, and where the blocks end; -1 for bytes that no rule gives.
    """
    every, side = samples[0], how[BLOCK]
    size = samples[1].shape[3]
    values, numbers = np.empty(side * side, np.float64), np.empty(side * side, np.int64)
    plain = np.empty(side * side * size, np.uint8)
    head, out = np.empty(HEAD_BYTES, np.uint8), np.empty(8 * side * side + 8, np.uint8)
    at = count = number = 0
    for row in range(0, every.shape[0], side):
        for column in range(0, every.shape[1], side):
            for band in range(every.shape[2]):
                n, same = _gather(samples, row, column, band, side, values, plain)
                check = _check(column, how[VERSION])
                n_head = predicted(values, n, same, check, how, error, numbers, head)
                if not _equal(stream, at, head, n_head):
                    n_head = -1
                else:
                    n_body = body(
                        head[:n_head], values, plain[: n * size], n, how, error, numbers, out
                    )
                    if n_body < 0 or not _equal(stream, at + n_head, out, n_body):
                        n_head = -1
                if n_head < 0:
                    n_head = head_size(stream, at, how)
                    if n_head < 0 or count >= odd.shape[0]:
                        return -1, at
                    head[:n_head] = stream[at : at + n_head]
                    n_body = body(
                        head[:n_head], values, plain[: n * size], n, how, error, numbers, out
                    )
                    if n_body < 0 or not _equal(stream, at + n_head, out, n_body):
                        return -1, at
                    odd[count, 0], odd[count, 1], odd[count, 2] = number, at, n_head
                    count += 1
                at += n_head + n_body
                number += 1
    return count, at


@compiled
def expand(
    samples: Samples, how: Numbers, error: float, odd: Numbers, heads: Bytes, out: Bytes
) -> Any:
    """Write all blocks; return their length, -1 if a head is of no block.

    ``odd`` are number, start and length in ``heads`` of those that the rule does not give.
    """
    every, side = samples[0], how[BLOCK]
    size = samples[1].shape[3]
    values, numbers = np.empty(side * side, np.float64), np.empty(side * side, np.int64)
    plain = np.empty(side * side * size, np.uint8)
    head, bits = np.empty(HEAD_BYTES, np.uint8), np.empty(8 * side * side + 8, np.uint8)
    at = k = number = 0
    for row in range(0, every.shape[0], side):
        for column in range(0, every.shape[1], side):
            for band in range(every.shape[2]):
                n, same = _gather(samples, row, column, band, side, values, plain)
                check = _check(column, how[VERSION])
                n_head = predicted(values, n, same, check, how, error, numbers, head)
                if k < odd.shape[0] and odd[k, 0] == number:
                    n_head = odd[k, 2]
                    stated = heads[odd[k, 1] : odd[k, 1] + n_head]
                    if n_head >= HEAD_BYTES or head_size(stated, 0, how) != n_head:
                        return -1
                    head[:n_head] = stated
                    k += 1
                n_body = body(
                    head[:n_head], values, plain[: n * size], n, how, error, numbers, bits
                )
                if n_body < 0 or at + n_head + n_body > out.size:
                    return -1
                out[at : at + n_head] = head[:n_head]
                out[at + n_head : at + n_head + n_body] = bits[:n_body]
                at += n_head + n_body
                number += 1
    return at if k == odd.shape[0] else -1


@compiled
def _equal(stream: Bytes, at: int, piece: Bytes, n: int) -> Any:
    if at + n > stream.size:
        return False
    same = 0
    while same < n and stream[at + same] == piece[same]:
        same += 1
    return same == n


@compiled
def most_bytes(shape: tuple[int, int, int], side: int, kind: int) -> Any:
    """Return a length that the blocks of so many samples do not exceed."""
    blocks = -(-shape[0] // side) * -(-shape[1] // side) * shape[2]
    return blocks * HEAD_BYTES + shape[0] * shape[1] * shape[2] * max(4, size_of(kind))


__all__ = ["KIND", "compare", "expand", "most_bytes"]
