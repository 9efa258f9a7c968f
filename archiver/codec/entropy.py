"""The entropy coder: digits <-> bytes under integer frequency tables.

The only module that imports constriction.  Its range coder works on 32-bit words with 24-bit
probabilities; ``perfect`` and ``lazy`` are spelled out because their defaults change the bits.
Frequencies are whole numbers below 2**24 held in float32, so that constriction's sums are exact.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

from archiver.errors import IntegrityError

RADIX = 16  # a sample is coded as 4-bit digits, most significant first

_FAMILY = constriction.stream.model.Categorical(perfect=False, lazy=True)

Frequencies = NDArray[np.float32]  # (n, RADIX), whole numbers, 1 <= f, row sums < 2**24
Digits = NDArray[np.int32]  # (n,), 0 <= digit < RADIX


def encode_digits(digits: Digits, frequencies: Frequencies) -> bytes:
    """Return the range-coded ``digits`` as little-endian 32-bit words."""
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(digits, _FAMILY, frequencies)
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words.astype("<u4").tobytes()


class DigitDecoder:
    """Decode one stream step by step; each call takes the tables of the next digits."""

    def __init__(self, payload: bytes) -> None:
        if len(payload) % 4:
            raise IntegrityError(
                f"learned tile: payload of {len(payload)} bytes, expected whole 32-bit words"
            )
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, frequencies: Frequencies) -> Digits:
        """Return the next ``len(frequencies)`` digits."""
        try:
            digits: Digits = self._decoder.decode(_FAMILY, frequencies)
        except (AssertionError, ValueError) as error:
            raise IntegrityError(f"learned tile: stream does not decode ({error})") from error
        return digits
