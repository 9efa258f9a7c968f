"""Shares of the stored objects for workers that verify or unpack."""

from __future__ import annotations

from collections.abc import Iterable

MIN_BYTES = 2 << 20
MAX_BYTES = 32 << 20
SHARES = 64  # aimed at, between those bounds


def cut(sizes: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Cut (object, size) into shares of similar size, in the order given."""
    objects = list(sizes)
    target = max(MIN_BYTES, min(MAX_BYTES, sum(size for _, size in objects) // SHARES))
    shares: list[list[int]] = []
    room = -1
    for index, size in objects:
        if room < size:
            shares.append([])
            room = max(target, size)
        shares[-1].append(index)
        room -= size
    return [tuple(share) for share in shares]
