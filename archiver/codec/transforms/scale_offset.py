"""Tiles of wide samples that hold few numbers: 32- and 64-bit integers, floats that are whole.

A volume of CT numbers that a tool saved as float32, labels in int32, 8-bit colour divided by 255,
heights in tenths of a metre: 16 bits hold the numbers, and the codecs for 16 bits take them.  A
sample is a number plus the lowest one, divided by a divisor: one division of float64 that every
machine rounds alike.  One bit pattern, such as NaN or -9999, may stand for "no value".

FORMAT.md, "Scale and offset".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.classic import Dtype, Shape
from archiver.errors import IntegrityError
from archiver.image import Samples

DIVISORS = (1, 2, 4, 8, 16, 10, 100, 1000, 255, 65535)  # tried, in this order
MAX_NUMBER = 65535
NO_FILL = 0xFFFFFFFF
MOST_LOWEST = 1 << 62
_MOST = 1 << 31  # magnitude of a float times its divisor
_FEW = 256  # samples that are looked at first
_HEADER = struct.Struct("<BHqIQB")


@dataclass(frozen=True)
class ScaleOffset:
    """How numbers 0..65535 stand for samples: (number + ``lowest``) / ``divisor``.

    The number ``fill`` stands for the bit pattern ``pattern``; `NO_FILL` if none does.
    """

    n_bytes: int  # of a number, 1 or 2
    divisor: int
    lowest: int
    fill: int = NO_FILL
    pattern: int = 0

    @classmethod
    def find(cls, tile: Samples) -> tuple[ScaleOffset, Samples] | None:
        """Return this and the numbers that stand for a tile of wide samples, None if none do."""
        if not is_wide(tile.dtype):
            return None
        if tile.dtype.kind != "f":
            return _of_values(tile, np.zeros(tile.shape, bool), 1)
        bits = classic.bits(tile)
        for pattern in (None, _unlike(tile)):
            fills = np.zeros(tile.shape, bool) if pattern is None else bits == pattern
            scaled = _of_floats(tile, fills)
            if scaled:
                return scaled
        return None

    @classmethod
    def split(cls, payload: bytes, _shape: Shape, dtype: Dtype) -> tuple[ScaleOffset, int, bytes]:
        """Return this, codec id and payload of the numbers of a tile of ``dtype``.

        IntegrityError if it makes no sense.
        """
        if len(payload) < _HEADER.size:
            raise IntegrityError(
                f"scale-and-offset tile: payload of {len(payload)} bytes, expected more"
            )
        *fields, codec = _HEADER.unpack_from(payload)
        how = cls(*fields)
        is_sound = (
            is_wide(dtype)
            and how.n_bytes in (1, 2)
            and how.divisor >= 1
            and (dtype.kind == "f" or how.divisor == 1)
            and abs(how.lowest) <= MOST_LOWEST
            and (how.fill <= MAX_NUMBER or how.fill == NO_FILL)
            and how.pattern < 1 << 8 * dtype.itemsize
        )
        if not is_sound:
            raise IntegrityError(f"scale-and-offset tile of {dtype}: impossible {how}")
        return how, codec, payload[_HEADER.size :]

    @staticmethod
    def peek(payload: bytes | memoryview) -> tuple[int, int]:
        """Return the codec id of the numbers, -1 if none is there, and where they begin."""
        has_codec = len(payload) >= _HEADER.size
        return (payload[_HEADER.size - 1] if has_codec else -1), _HEADER.size

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the numbers follows."""
        return _HEADER.pack(self.n_bytes, self.divisor, self.lowest, self.fill, self.pattern, codec)

    @property
    def dtype(self) -> Dtype:
        """Type of the numbers."""
        return np.dtype(f"u{self.n_bytes}")

    def inside(self, shape: Shape, _dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the numbers."""
        return shape, self.dtype

    def forward(self, tile: Samples) -> Samples:
        """Return the numbers that stand for samples, if they do."""
        has_fill = self.fill != NO_FILL
        fills = classic.bits(tile) == self.pattern if has_fill else np.zeros(tile.shape, bool)
        numbers = _values(tile, fills, self.divisor) - self.lowest
        return np.where(fills, self.fill if has_fill else 0, numbers).astype(self.dtype)

    def back(self, numbers: Samples, dtype: Dtype) -> Samples:
        """Return the samples, of type ``dtype``, that numbers stand for."""
        values = numbers.astype(np.int64) + self.lowest
        if dtype.kind == "f":
            with np.errstate(over="ignore"):  # float16 has infinities, too
                samples = (values.astype(np.float64) / self.divisor).astype(dtype)
        else:
            samples = values.astype(dtype)
        if self.fill != NO_FILL:
            bits = classic.bits(samples)
            bits[numbers == self.fill] = self.pattern
            samples = bits.view(dtype)
        return samples


def is_wide(dtype: Dtype) -> bool:
    """Whether tiles of a type may hold fewer numbers than it has."""
    return dtype.kind == "f" or (dtype.kind in "ui" and dtype.itemsize > 2)


def _of_floats(tile: Samples, fills: NDArray[np.bool_]) -> tuple[ScaleOffset, Samples] | None:
    """Return numbers for a tile of floats, one pattern of which counts for nothing."""
    with np.errstate(all="ignore"):
        values = np.where(fills, 0, tile.astype(np.float64))
        if not np.isfinite(values).all():
            return None
        few = values.reshape(-1)[:: max(1, values.size // _FEW)]
        for divisor in DIVISORS:
            if abs(values).max() * divisor >= _MOST or not _are_whole(few, divisor, tile.dtype):
                continue
            scaled = _of_values(tile, fills, divisor)
            if scaled:
                return scaled
    return None


def _are_whole(values: NDArray[np.float64], divisor: int, dtype: Dtype) -> bool:
    again = (np.rint(values * divisor) / divisor).astype(dtype)
    return bool((again == values.astype(dtype)).all())


def _of_values(
    tile: Samples, fills: NDArray[np.bool_], divisor: int
) -> tuple[ScaleOffset, Samples] | None:
    """Return what stands for a tile if its samples are whole / ``divisor`` beside fills."""
    real = _values(tile, fills, divisor)[~fills]
    has_fills = bool(fills.any())
    low, high = (int(real.min()), int(real.max())) if real.size else (0, 0)
    if low >= 0 and high <= 255 and not has_fills:
        how = ScaleOffset(1, divisor, 0)
    elif high - low + has_fills <= MAX_NUMBER and abs(low) < MOST_LOWEST:
        pattern = int(classic.bits(tile)[fills][0]) if has_fills else 0
        how = ScaleOffset(2, divisor, low - has_fills, 0 if has_fills else NO_FILL, pattern)
    else:
        return None
    numbers = how.forward(tile)
    is_same = bool((classic.bits(how.back(numbers, tile.dtype)) == classic.bits(tile)).all())
    return (how, numbers) if is_same else None


def _values(tile: Samples, fills: NDArray[np.bool_], divisor: int) -> NDArray[np.int64]:
    """Return samples times ``divisor`` as whole numbers, floats rounded; fills are 0."""
    if tile.dtype.kind != "f":
        return tile.astype(np.int64)
    with np.errstate(all="ignore"):
        values = np.where(fills, 0, tile.astype(np.float64)) * divisor
        whole: NDArray[np.int64] = np.rint(values).astype(np.int64)
        return whole


def _unlike(tile: Samples) -> int:
    """Return the bits of the sample that is most likely no value: NaN, or the furthest out."""
    with np.errstate(all="ignore"):  # signalling NaNs, too
        flat = tile.reshape(-1).astype(np.float64)
        odd = np.flatnonzero(np.isnan(flat))
        at = odd[0] if odd.size else np.abs(flat - np.median(flat)).argmax()
    return int(classic.bits(tile.reshape(-1))[at])
