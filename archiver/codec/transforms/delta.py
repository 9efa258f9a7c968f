"""Tiles that are coded as the difference to a neighbour: the slice, volume or band before.

The neighbour, the *base*, is a tile of the same object, shape and type, or, in a tile of three
channels, the channel before.  What is coded is a tile of unsigned samples, in any way that a tile
may be coded.  All of it is arithmetic of integers modulo 2**bits.

FORMAT.md, "Delta tiles".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.classic import Dtype, Shape
from archiver.errors import IntegrityError
from archiver.image import Samples

MAX_CHAIN = 32  # bases of bases that a reader follows
CHANNELS = 0  # ``back`` of a tile whose bases are its own channels
ONE = 64  # the weight of a base that is taken off whole
WEIGHTS = (ONE, 48, 32)  # tried; a base has noise of its own, and is worth less for it
MIN_SIDE = 4  # of tiles for which it is tried
MAX_SAMPLES = 1 << 22  # of a tile that may be one: a reader holds its whole chain

_HEADER = struct.Struct("<IBB")


@dataclass(frozen=True)
class Base:
    """Which tile is taken off: the one ``back`` tiles before, times ``weight`` / 64."""

    back: int
    weight: int

    def minus(self, tile: Samples, base: Samples) -> Samples:
        """Return the remainder of a tile (H, W, C): unsigned, of the same shape and width.

        ``base`` has the shape and type of the tile; for `CHANNELS` it is not looked at.
        """
        unsigned = classic.to_unsigned(tile)
        if self.back != CHANNELS:
            return self._less(unsigned, classic.to_unsigned(base))
        remainder = unsigned.copy()
        remainder[..., 1:] = self._less(unsigned[..., 1:], unsigned[..., :-1])
        return remainder

    def plus(self, remainder: Samples, base: Samples, dtype: Dtype) -> Samples:
        """Return the tile, of type ``dtype``, of which ``remainder`` was left."""
        if self.back != CHANNELS:
            unsigned = self._more(remainder, classic.to_unsigned(base))
        else:
            unsigned = remainder.copy()
            for c in range(1, remainder.shape[2]):
                unsigned[..., c] = self._more(remainder[..., c], unsigned[..., c - 1])
        return classic.from_unsigned(unsigned, dtype)

    def _less(self, samples: Samples, base: Samples) -> Samples:
        return (samples.astype(np.int32) - self._share(base)).astype(samples.dtype)

    def _more(self, remainder: Samples, base: Samples) -> Samples:
        return (remainder.astype(np.int32) + self._share(base)).astype(remainder.dtype)

    def _share(self, base: Samples) -> NDArray[np.int32]:
        """Return what is taken off: half of the range stays, for differences of both signs."""
        share = base.astype(np.int32)
        share *= self.weight
        share += ONE // 2
        share >>= 6
        share -= 1 << (8 * base.dtype.itemsize - 1)
        return share


@dataclass(frozen=True)
class Delta:
    """The difference of a tile to its base, whose ``samples`` are known once it is decoded."""

    base: Base
    samples: Samples | None = None

    @classmethod
    def split(cls, payload: bytes, shape: Shape, dtype: Dtype) -> tuple[Delta, int, bytes]:
        """Return this, codec id and payload of the remainder of a tile.

        IntegrityError if it makes no sense.
        """
        if len(payload) < _HEADER.size:
            raise IntegrityError(f"delta tile: payload of {len(payload)} bytes, expected more")
        back, weight, codec = _HEADER.unpack_from(payload)
        if not 1 <= weight <= ONE:
            raise IntegrityError(f"delta tile: weight {weight}, expected 1 to {ONE}")
        if not is_possible(dtype, math.prod(shape)):
            raise IntegrityError(f"delta tile: of {shape} {dtype}")
        return cls(Base(back, weight)), codec, payload[_HEADER.size :]

    @staticmethod
    def peek(payload: bytes | memoryview) -> tuple[int, int]:
        """Return the codec id of the remainder, -1 if none is there, and where it begins."""
        has_codec = len(payload) >= _HEADER.size
        return (payload[_HEADER.size - 1] if has_codec else -1), _HEADER.size

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the remainder follows."""
        return _HEADER.pack(self.base.back, self.base.weight, codec)

    def inside(self, shape: Shape, dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the remainder: unsigned, as wide as the samples."""
        return shape, np.dtype(f"u{dtype.itemsize}")

    def forward(self, tile: Samples) -> Samples:
        """Return the remainder of a tile."""
        return self.base.minus(tile, self._samples(tile))

    def back(self, remainder: Samples, dtype: Dtype) -> Samples:
        """Return the tile, of type ``dtype``, of which ``remainder`` was left."""
        return self.base.plus(remainder, self._samples(remainder), dtype)

    def _samples(self, tile: Samples) -> Samples:
        """Return the base; any tile does where channels are bases, for it is not looked at."""
        samples = tile if self.base.back == CHANNELS else self.samples
        if samples is None:
            raise IntegrityError(f"delta tile: its base, {self.base.back} before, is not decoded")
        return samples


def is_possible(dtype: Dtype, n_samples: int) -> bool:
    """Whether such tiles may be differences: integers of 8 or 16 bits, not too many."""
    return dtype.kind in "ui" and dtype.itemsize <= 2 and n_samples <= MAX_SAMPLES


def best(tile: Samples, bases: Mapping[int, Samples]) -> tuple[Base, Samples] | None:
    """Return the base that promises most, and what it leaves; None if the tile does better alone.

    ``bases`` are the tiles that it may be taken from, by how far they lie back.  A guess: only
    coding both tells which is smaller.
    """
    if min(tile.shape[:2]) < MIN_SIDE or not is_possible(tile.dtype, tile.size):
        return None
    smoothest, least = None, _roughness(classic.to_unsigned(tile))
    for back, samples in bases.items():
        for weight in WEIGHTS:
            base = Base(back, weight)
            remainder = Delta(base, samples).forward(tile)
            roughness = _roughness(remainder)
            if roughness < least:
                smoothest, least = (base, remainder), roughness
    return smoothest


def _roughness(tile: Samples) -> float:
    """Return the sum over channels of the log2 of a plain prediction's mean error, in steps."""
    return sum(_channel_roughness(tile[..., c]) for c in range(tile.shape[2]))


def _channel_roughness(plane: Samples) -> float:
    x = plane.astype(np.int64)
    step = int(np.gcd.reduce(x - x.min(), axis=None)) or 1
    predicted = (3 * x[1:, :-1] + 3 * x[:-1, 1:] - 2 * x[:-1, :-1]) / 4
    return math.log2(float(np.abs(x[1:, 1:] - predicted).mean()) / step + 1 / 16)
