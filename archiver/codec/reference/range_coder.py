"""The range decoder in Python integers: FORMAT.md, "Stream", line by line.

The reference decoder reads its digits here; :mod:`archiver.codec.entropy` is the fast coder of the
same streams, and tests/codec/test_range_coder.py holds the two against each other.
"""

from __future__ import annotations

import struct
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from archiver.errors import IntegrityError

Frequencies = NDArray[np.int64]  # (n, 16), each at least 1, row sums < 2**24
Digits = NDArray[np.int64]  # (n,), 0 <= digit < 16

TOTAL = 2**24  # the edges of a digit run from 0 to here
FREE = TOTAL - 16  # what is shared in proportion: every digit gets 1 first


class DigitDecoder:
    """Decode one stream step by step; each call takes the frequencies of the next digits."""

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            raise IntegrityError(
                f"learned tile: payload of {len(payload)} bytes, expected whole 32-bit words"
            )
        self._words = iter(struct.unpack(f"<{len(payload) // 4}I", payload))
        self._range = 2**64 - 1
        self._ahead = next(self._words, 0) << 32 | next(self._words, 0)

    def decode(self, frequencies: Frequencies) -> Digits:
        """Return the next ``len(frequencies)`` digits."""
        return np.array([self._digit(row) for row in frequencies.tolist()], np.int64)

    def _digit(self, frequencies: list[int]) -> int:
        edge, step = edges(frequencies), self._range >> 24
        place = self._ahead // step
        if place >= TOTAL:
            raise IntegrityError("learned tile: stream does not decode (beyond its interval)")
        digit = sum(end <= place for end in edge[1:])
        self._ahead -= step * edge[digit]
        self._range = step * (edge[digit + 1] - edge[digit])
        if self._range < 2**32:
            self._range <<= 32
            self._ahead = self._ahead << 32 | next(self._words, 0)
        return digit


def edges(frequencies: list[int]) -> list[int]:
    """Return the 17 edges of the intervals of the digits, from 0 to 2**24."""
    *inner, total = accumulate(frequencies)
    shift = 23 + total.bit_length() - FREE.bit_length()
    shift += FREE << shift < total << 23  # now 2**23 <= FREE * 2**shift / total < 2**24
    scale = nearest(FREE << shift, total)
    return [0, *(_scaled(c * scale, shift) + j for j, c in enumerate(inner, 1)), TOTAL]


def _scaled(product: int, shift: int) -> int:
    """Return a product, rounded to 24 bits, over ``2**shift``, rounded down."""
    surplus = max(0, product.bit_length() - 24)
    return nearest(product, 1 << surplus) << surplus >> shift


def nearest(numerator: int, denominator: int) -> int:
    """Return the whole number nearest to a quotient, ties to even."""
    quotient, left = divmod(numerator, denominator)
    return quotient + (2 * left > denominator - quotient % 2)
