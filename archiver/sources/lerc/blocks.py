"""The blocks of a LERC blob: what the rule says of one, what it states, and its bytes.

A block is a head (mode, offset, number of bits and of samples, a table of values) and what follows
from it and the samples.  The rule is what Esri's encoder does with integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.lerc.bits import (
    F4,
    F8,
    I1,
    I2,
    I4,
    U1,
    U2,
    U4,
    Bytes,
    get,
    n_bits,
    put,
    size_of,
    stuff,
    unstuff,
)

Values = NDArray[np.float64]
_RAW, _STUFFED, _ZERO, _FLAT = 0, 1, 2, 3
_TABLE = 32  # flag of the byte that states the number of bits
_MAX_TABLE, _MANY = 255, 4
HEAD_BYTES = 2 * _MAX_TABLE * 4  # more than any head has
_WITH_DIFFERENCES = 5  # version
# columns of what all blocks of a blob share
VERSION, KIND, BLOCK = 0, 1, 2


@compiled
def reduced(z: float, kind: int) -> Any:
    """Return the code of the smallest type that holds an offset, and that type."""
    whole = z == np.floor(z)
    byte = whole and 0 <= z <= 255
    short = whole and -32768 <= z <= 32767
    if kind == I2:
        return (2, I1) if whole and -128 <= z <= 127 else (1, U1) if byte else (0, kind)
    if kind == U2:
        return (1, U1) if byte else (0, kind)
    if kind == I4:
        word = whole and 0 <= z <= 65535
        return (3, U1) if byte else (2, I2) if short else (1, U2) if word else (0, kind)
    if kind == U4:
        return (2, U1) if byte else (1, U2) if whole and 0 <= z <= 65535 else (0, kind)
    if kind == F4:
        return (2, U1) if byte else (1, I2) if short else (0, kind)
    if kind == F8:
        if short:
            return 3, I2
        if whole and -2147483648 <= z <= 2147483647:
            return 2, I4
        return (1, F4) if np.float64(np.float32(z)) == z else (0, kind)
    return 0, kind


@compiled
def used(kind: int, code: int) -> Any:
    """Return the type of an offset by its code."""
    if kind in (I2, I4):
        return kind - code
    if kind in (U2, U4):
        return kind - 2 * code
    if kind == F4:
        return kind if code == 0 else I2 if code == 1 else U1
    if kind == F8:
        return kind if code == 0 else kind - 2 * code + 1
    return kind


@compiled
def _count(n: int, out: Bytes, at: int, flags: int) -> Any:
    """Write a number of bits with flags, and the number of samples; return where they end."""
    size = 1 if n < 256 else 2 if n < 65536 else 4
    out[at] = flags | (0 if size == 4 else 3 - size) << 6
    return put(np.float64(n), U1 if size == 1 else U2 if size == 2 else U4, out, at + 1)


@compiled
def _table_of(numbers: NDArray[np.int64], n: int) -> Any:
    """Return the values of a block but 0, ascending."""
    values = np.sort(numbers[:n])
    kept = 0
    for i in range(n):
        if values[i] != (0 if kept == 0 else values[kept - 1]):
            values[kept] = values[i]
            kept += 1
    return values[:kept]


@compiled
def _quantised(values: Values, n: int, offset: float, error: float, out: NDArray[np.int64]) -> Any:
    scale = 1 / (2 * error) if error > 0 else 1.0
    for i in range(n):
        out[i] = np.int64((values[i] - offset) * scale + 0.5)


@compiled
def predicted(
    values: Values,
    n: int,
    same: int,
    check: int,
    how: NDArray[np.int64],
    error: float,
    numbers: NDArray[np.int64],
    out: Bytes,
) -> Any:
    """Write the head that the rule gives the block of ``n`` values; return its length."""
    kind = how[KIND]
    out[0] = check
    if n == 0:
        out[0] |= _ZERO
        return 1
    low, high = values[:n].min(), values[:n].max()
    if low == 0 and high == 0:
        out[0] |= _ZERO
        return 1
    if (error == 0 and high > low) or not np.isfinite(high - low):
        return 1
    scaled = (high - low) * (1 / (2 * error)) if error > 0 else 0.0
    if scaled > (32767 if kind <= U2 else 1073741823):
        return 1
    code, offset_kind = reduced(low, kind)
    out[0] |= code << 6
    at = put(low, offset_kind, out, 1)
    most = int(scaled + 0.5)
    if most == 0:
        out[0] |= _FLAT
        return at if at < 1 + n * size_of(kind) else _raw(check, out)
    out[0] |= _STUFFED
    bits = n_bits(most)
    end = _count(n, out, at, bits)
    size = end + (n * bits + 7) // 8
    if n > _MANY and high > low + 3 * error and 2 * same > n:
        _quantised(values, n, low, error, numbers)
        table = _table_of(numbers, n)
        index_bits = n_bits(table.size)
        with_table = end + 1 + (table.size * bits + 7) // 8 + (n * index_bits + 7) // 8
        if with_table < size and table.size < _MAX_TABLE:
            size = with_table
            end = _count(n, out, at, bits | _TABLE)
            out[end] = table.size + 1
            end = stuff(table, table.size, bits, out, end + 1)
    return end if size < 1 + n * size_of(kind) else _raw(check, out)


@compiled
def _raw(check: int, out: Bytes) -> Any:
    out[0] = check
    return 1


@compiled
def head_size(data: Bytes, at: int, how: NDArray[np.int64]) -> Any:
    """Return the length of the head at ``at``, -1 if there is none."""
    if at >= data.size or (how[VERSION] >= _WITH_DIFFERENCES and data[at] & 4):
        return -1
    mode = data[at] & 3
    if mode in (_RAW, _ZERO):
        return 1
    code = data[at] >> 6
    end = at + 1 + size_of(used(how[KIND], code))
    if mode == _FLAT or end >= data.size:
        return end - at if end <= data.size else -1
    bits, wide = data[end] & 31, data[end] >> 6
    table = data[end] & _TABLE
    end += 1 + (4 if wide == 0 else 3 - wide)
    if table and end < data.size:
        end += 1 + ((np.int64(data[end]) - 1) * bits + 7) // 8
    return end - at if at < end <= data.size and end - at < HEAD_BYTES else -1


@compiled
def body(
    head: Bytes,
    values: Values,
    plain: Bytes,
    n: int,
    how: NDArray[np.int64],
    error: float,
    numbers: NDArray[np.int64],
    out: Bytes,
) -> Any:
    """Write what follows the head of a block; return its length, -1 if the head is not of it.

    ``plain`` are the bytes of its values.
    """
    mode, kind = head[0] & 3, how[KIND]
    if mode in (_ZERO, _FLAT):
        return 0
    if mode == _RAW:
        out[: plain.size] = plain
        return plain.size
    offset_kind = used(kind, head[0] >> 6)
    at = 1 + size_of(offset_kind)
    bits, table = head[at] & 31, head[at] & _TABLE
    wide = head[at] >> 6
    size = 4 if wide == 0 else 3 - wide
    if (
        size < 1
        or get(head, U1 if size == 1 else U2 if size == 2 else U4, at + 1) != n
        or error <= 0
    ):
        return -1
    _quantised(values, n, get(head, offset_kind, 1), error, numbers)
    for i in range(n):
        if numbers[i] < 0 or numbers[i] >> bits:
            return -1
    if not table:
        return stuff(numbers, n, bits, out, 0)
    return _indexed(head, at + 1 + size, bits, n, numbers, out)


@compiled
def _indexed(
    head: Bytes, at: int, bits: int, n: int, numbers: NDArray[np.int64], out: Bytes
) -> Any:
    """Write places in the table of a head; -1 if it lacks a value."""
    known = np.zeros(_MAX_TABLE + 1, np.int64)
    count = int(head[at]) - 1
    if count < 1 or unstuff(head, at + 1, count, bits, known[1:]) < 0:
        return -1
    for i in range(n):
        place = 0
        while place <= count and known[place] != numbers[i]:
            place += 1
        if place > count:
            return -1
        numbers[i] = place
    return stuff(numbers, n, n_bits(count), out, 0)
