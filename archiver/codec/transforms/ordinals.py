"""Samples as whole numbers in the order of their values, whatever their type.

Every bit pattern has one number, NaN and negative zero too.  Bits that are zero in all samples of a
tile are left out first: float32 kept as float64, values rounded to some bits of their mantissa.

FORMAT.md, "Ordered tiles".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archiver.codec import classic
from archiver.codec.transforms.pieces import Numbers
from archiver.image import Samples

ONE = np.uint64(1)


@dataclass(frozen=True)
class Ordinals:
    """How samples of type ``dtype`` are numbered, their ``zeros`` lowest bits being zero."""

    dtype: np.dtype[np.generic]
    zeros: int

    @classmethod
    def of(cls, tile: Samples) -> Ordinals:
        """Return that of a tile: as many bits as possible are left out."""
        union = int(np.bitwise_or.reduce(classic.bits(tile), axis=None))
        zeros = (union & -union).bit_length() - 1 if union else 0
        return cls(tile.dtype, zeros)

    @property
    def bits(self) -> int:
        """Bits of a number."""
        return 8 * self.dtype.itemsize - self.zeros

    @property
    def mask(self) -> np.uint64:
        """The largest number."""
        return np.uint64((1 << self.bits) - 1)

    def numbers(self, tile: Samples) -> Numbers:
        """Return the numbers of samples."""
        rest = classic.bits(tile).astype(np.uint64) >> np.uint64(self.zeros)
        if self.dtype.kind == "u":
            return rest
        top = self._top
        if self.dtype.kind == "i":
            return rest ^ top
        return np.where(rest & top, self.mask - rest, rest | top)

    def samples(self, numbers: Numbers) -> Samples:
        """Return what :meth:`numbers` was given; numbers count modulo 2**bits."""
        rest, top = numbers & self.mask, self._top
        if self.dtype.kind == "i":
            rest = rest ^ top
        elif self.dtype.kind == "f":
            rest = np.where(rest & top, rest ^ top, self.mask - rest)
        patterns = rest << np.uint64(self.zeros)
        return patterns.astype(f"u{self.dtype.itemsize}").view(self.dtype)

    @property
    def _top(self) -> np.uint64:
        return ONE << np.uint64(self.bits - 1)


def differences(numbers: Numbers, bits: int) -> Numbers:
    """Return what left + above - above left does not predict: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...

    Modulo 2**bits, and 0 beyond the tile (H, W, C); every channel by itself.
    """
    left = np.diff(numbers, axis=1, prepend=np.uint64(0))
    rest = np.diff(left, axis=0, prepend=np.uint64(0)) & _mask(bits)
    is_negative = (rest >> np.uint64(bits - 1)).astype(bool)
    return np.where(is_negative, ((_mask(bits) - rest) << ONE) | ONE, rest << ONE)


def sums(rest: Numbers, bits: int) -> Numbers:
    """Return what :func:`differences` was given."""
    half = rest >> ONE
    steps = np.where(rest & ONE, ~half, half)
    return np.cumsum(np.cumsum(steps, 1, np.uint64), 0, np.uint64) & _mask(bits)


def _mask(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)
