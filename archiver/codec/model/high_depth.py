"""Samples of more than 8 bits: the window through which a tile of them is seen and coded.

Such samples have no common size: the noise of one tile is a few steps, that of the next a thousand.
So each tile states how many of its steps make a unit, 2**shift; the network sees units, in which
noise looks as it does in 8-bit images, and its mixtures are in units too.  Everything is relative
to a value in the middle of the tile and to its own step: what is constant costs nothing.

FORMAT.md, "High bit depth".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.errors import IntegrityError

MAX_SHIFT = 8
NOISE = 4.5  # units that the mean error of a plain prediction should be
MAX_VALUE = 65535

Values = NDArray[np.int32]  # (H, W), 0..top

_HEADER = struct.Struct("<HHHHB")


@dataclass(frozen=True)
class Window:
    """How the samples of a tile map to the numbers that are coded.

    Sample = ``lowest`` + ``step`` * k, k in 0..``top``; the network sees (k - ``middle``) /
    2**``shift`` units.
    """

    lowest: int
    step: int
    top: int
    middle: int
    shift: int

    @classmethod
    def of(cls, samples: NDArray[np.uint16]) -> Window:
        """Return the window that fits samples (H, W), at least one."""
        lowest = int(samples.min())
        above = samples.astype(np.int64) - lowest
        step = int(np.gcd.reduce(above, axis=None)) or 1
        values = above // step
        return cls(lowest, step, int(values.max()), int(np.median(values)), shift_of(values))

    def values(self, samples: NDArray[np.uint16]) -> Values:
        """Return the numbers that stand for samples."""
        return ((samples.astype(np.int64) - self.lowest) // self.step).astype(np.int32)

    def samples(self, values: Values) -> NDArray[np.uint16]:
        """Return the samples that numbers 0..top stand for."""
        return (values.astype(np.int64) * self.step + self.lowest).astype(np.uint16)

    @property
    def digits(self) -> int:
        """How many 4-bit digits a number has, 1..4."""
        return max(1, -(-self.top.bit_length() // 4))

    @property
    def grain(self) -> float:
        """A step in units."""
        return 2.0**-self.shift

    def units(self, values: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return numbers in units from the middle; exact."""
        return ((values - self.middle) * self.grain).astype(np.float32)

    def values_of(self, units: NDArray[np.float32]) -> Values:
        """Return the numbers that :meth:`units` was given."""
        steps = np.rint(units / np.float32(self.grain)).astype(np.int32)
        values: Values = steps + np.int32(self.middle)
        return values

    def to_bytes(self) -> bytes:
        """Return the first bytes of a payload."""
        return _HEADER.pack(self.lowest, self.step, self.top, self.middle, self.shift)

    @classmethod
    def split(cls, payload: bytes) -> tuple[Window, bytes]:
        """Return the window of a payload, and its stream; IntegrityError if it is none."""
        if len(payload) < _HEADER.size:
            raise IntegrityError(
                f"tile of high bit depth: payload of {len(payload)} bytes,"
                f" expected at least {_HEADER.size}"
            )
        window = cls(*_HEADER.unpack_from(payload))
        most = window.lowest + window.step * window.top
        is_sound = window.step >= 1 and most <= MAX_VALUE and window.middle <= window.top
        if not (is_sound and window.shift <= MAX_SHIFT):
            raise IntegrityError(f"tile of high bit depth: impossible window {window}")
        return window, payload[_HEADER.size :]


def shift_of(values: NDArray[np.integer]) -> int:
    """Return the shift with which the noise of numbers (H, W) is about ``NOISE`` units.

    The encoder's choice: a decoder reads it.
    """
    x = values.astype(np.float64)
    if min(x.shape) < 2:
        return 0
    predicted = 0.75 * x[1:, :-1] + 0.75 * x[:-1, 1:] - 0.5 * x[:-1, :-1]
    error = float(np.abs(x[1:, 1:] - predicted).mean())
    return int(np.clip(np.round(np.log2(max(error, 1e-9) / NOISE)), 0, MAX_SHIFT))
