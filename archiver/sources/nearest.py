"""The search for where bytes stood last: what a distance is, if nothing else is said."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled

Bytes = NDArray[np.uint8]
Links = NDArray[np.int32]  # (2, n): the last position with the same two bytes, and four bytes' hash
MOST_STEPS = 1024
MAX_BYTES = 64 << 20  # links take eight times as much
_HASH_BITS = 16


@compiled
def links(raw: Bytes) -> Any:
    """Return for every position the last one before it that may have the same bytes, or -1."""
    out = np.full((2, raw.size), -1, np.int32)
    heads = np.full((2, 1 << _HASH_BITS), -1, np.int32)
    for at in range(raw.size - 1):
        key = np.uint32(raw[at]) | np.uint32(raw[at + 1]) << 8
        out[0, at], heads[0, key] = heads[0, key], at
        if at + 3 < raw.size:
            key |= np.uint32(raw[at + 2]) << 16 | np.uint32(raw[at + 3]) << 24
            key = np.uint32(key * np.uint32(2654435761)) >> np.uint32(32 - _HASH_BITS)
            out[1, at], heads[1, key] = heads[1, key], at
    return out


@compiled
def distance(raw: Bytes, linked: Links, at: int, n: int, least: int, most: int) -> Any:
    """Return the least distance from ``least`` to ``most`` at which ``n`` bytes agree; 0: none.

    At most ``MOST_STEPS`` positions are looked at.
    """
    if n < 2 or at + n > raw.size or linked.shape[1] != raw.size:
        return 0
    kind = 1 if n >= 4 else 0
    place = linked[kind, at]
    for _ in range(MOST_STEPS):
        if place < 0 or at - place > most:
            return 0
        if at - place >= least and raw[place + n - 1] == raw[at + n - 1]:
            same = 0
            while same < n and raw[place + same] == raw[at + same]:
                same += 1
            if same == n:
                return at - place
        place = linked[kind, place]
    return 0
