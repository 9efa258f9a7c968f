"""Numbers of a few bits, the lowest first, and numbers of a stated type, in bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled

Bytes = NDArray[np.uint8]
I1, U1, I2, U2, I4, U4, F4, F8 = range(8)  # types, as blobs count them


@compiled
def n_bits(value: int) -> Any:
    """Return how many bits a number needs."""
    n = 0
    while value >> n:
        n += 1
    return n


@compiled
def stuff(numbers: NDArray[np.int64], n: int, bits: int, out: Bytes, at: int) -> Any:
    """Write ``n`` numbers of so many bits each; return where they end."""
    held, value = 0, np.uint64(0)
    for i in range(n):
        value |= np.uint64(numbers[i]) << np.uint64(held)
        held += bits
        while held >= 8:
            out[at] = np.uint8(value & np.uint64(255))
            value, held, at = value >> np.uint64(8), held - 8, at + 1
    if held:
        out[at] = np.uint8(value & np.uint64(255))
        at += 1
    return at


@compiled
def unstuff(data: Bytes, at: int, n: int, bits: int, numbers: NDArray[np.int64]) -> Any:
    """Read what :func:`stuff` writes; return where it ends, -1 where there are too few bytes."""
    end = at + (n * bits + 7) // 8
    if end > data.size or n > numbers.size:
        return -1
    held, value = 0, np.uint64(0)
    for i in range(n):
        while held < bits:
            value |= np.uint64(data[at]) << np.uint64(held)
            held, at = held + 8, at + 1
        numbers[i] = np.int64(value & ((np.uint64(1) << np.uint64(bits)) - np.uint64(1)))
        value, held = value >> np.uint64(bits), held - bits
    return end


@compiled
def size_of(kind: int) -> Any:
    """Return the bytes of a number of that type."""
    if kind == F8:
        return 8
    return 4 if kind >= I4 else 2 if kind >= I2 else 1


@compiled
def put(value: float, kind: int, out: Bytes, at: int) -> Any:
    """Write a number of a type; return where it ends."""
    size = size_of(kind)
    if kind == F8:
        double = np.empty(1, np.float64)
        double[0] = value
        out[at : at + 8] = double.view(np.uint8)
    elif kind == F4:
        single = np.empty(1, np.float32)
        single[0] = value
        out[at : at + 4] = single.view(np.uint8)
    else:
        number = np.int64(value)
        for i in range(size):
            out[at + i] = np.uint8((number >> (8 * i)) & 255)
    return at + size


@compiled
def get(data: Bytes, kind: int, at: int) -> Any:
    """Return a number of a type; it lies inside ``data``."""
    size = size_of(kind)
    if kind == F8:
        double = np.empty(1, np.float64)
        double.view(np.uint8)[:] = data[at : at + 8]
        return double[0]
    if kind == F4:
        single = np.empty(1, np.float32)
        single.view(np.uint8)[:] = data[at : at + 4]
        return np.float64(single[0])
    number = np.int64(0)
    for i in range(size):
        number |= np.int64(data[at + i]) << (8 * i)
    if kind in (I1, I2, I4) and number >> (8 * size - 1):
        number -= np.int64(1) << (8 * size)
    return np.float64(number)
