"""The reading of numbers from bytes whose first bit is the lowest of the first byte."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled

Bytes = NDArray[np.uint8]


@compiled
def bits_at(data: Bytes, at: int, n: int) -> Any:
    """Return the ``n`` (at most 32) bits from bit ``at`` on; those outside ``data`` are zero."""
    value = np.uint64(0)
    first = at >> 3
    for i in range(5):
        if 0 <= first + i < data.size:
            value |= np.uint64(data[first + i]) << np.uint64(8 * i)
    return np.int64((value >> np.uint64(at & 7)) & ((np.uint64(1) << np.uint64(n)) - np.uint64(1)))


@compiled
def last_bit(data: Bytes) -> Any:
    """Return the place of the highest bit that is set in the last byte, -1 if there is none."""
    if data.size == 0 or data[-1] == 0:
        return -1
    at = 7
    while not data[-1] >> at & 1:
        at -= 1
    return 8 * (data.size - 1) + at
