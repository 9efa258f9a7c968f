"""The section "Stream" of FORMAT.md, in Python's integers: digits from a range-coded stream."""

from __future__ import annotations

import struct


def nearest(n: int, d: int) -> int:
    """Return n / d rounded to the nearest whole number, ties to even."""
    q, r = divmod(n, d)
    return q + 1 if 2 * r > d or (2 * r == d and q % 2) else q


def clip(x: int, most: int) -> int:
    """Clamp a number to [-most, most]."""
    return max(-most, min(most, x))


def bits24(p: int) -> int:
    """Return a number rounded to 24 significant bits, ties to even: that is float32."""
    surplus = max(0, abs(p).bit_length() - 24)
    return nearest(p, 1 << surplus) << surplus


def edges(frequencies: list[int]) -> list[int]:
    """Return where the 16 digits begin, and 2^24."""
    total, k = sum(frequencies), 0
    while (2**24 - 16) << k < total << 23:
        k += 1
    scale = nearest((2**24 - 16) << k, total)
    inner = [(bits24(sum(frequencies[:j]) * scale) >> k) + j for j in range(1, 16)]
    return [0, *inner, 2**24]


class RangeDecoder:
    """One stream."""

    def __init__(self, payload: bytes) -> None:
        self.words = iter(struct.unpack(f"<{len(payload) // 4}I", payload))
        self.range = 2**64 - 1
        self.ahead = next(self.words, 0) * 2**32 + next(self.words, 0)

    def digit(self, frequencies: list[int]) -> int:
        """Return the next digit."""
        edge, step = edges(frequencies), self.range >> 24
        x = self.ahead // step
        assert x < 2**24
        j = max(j for j in range(16) if edge[j] <= x)
        self.ahead -= step * edge[j]
        self.range = step * (edge[j + 1] - edge[j])
        if self.range < 2**32:
            self.range *= 2**32
            self.ahead = self.ahead * 2**32 + next(self.words, 0)
        return j
