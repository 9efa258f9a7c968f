"""The head of a LERC blob: sizes, type, error, which pixels are valid, how it goes on.

And what is around a blob: it may be compressed once more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from archiver.sources.contract import Unsupported

MAGIC = b"Lerc2 "
TYPES = ("i1", "u1", "<i2", "<u2", "<i4", "<u4", "<f4", "<f8")
_INTEGERS = 6  # types below are
_OLDEST, _NEWEST, _WITH_BANDS, _WITH_MORE = 3, 6, 4, 6
_MASK_END = -32768
_MAX_BLOCK, _MAX_PIXELS = 32, 1 << 28
LOSSLESS = 0.5  # the error of integers that are kept
Mask = NDArray[np.bool_]


class Outer(IntEnum):
    """What a blob is compressed by; on-disk ids, append only."""

    NONE = 0
    ZLIB = 1
    ZSTD = 2


class Mode(IntEnum):
    """How the samples of a blob are coded."""

    NONE = -1  # they are all equal, or there are none
    BLOCKS = 0
    HUFFMAN_OF_DIFFERENCES = 1
    HUFFMAN = 2
    PLAIN = 3


@dataclass(frozen=True)
class Blob:
    """What the head of a blob says; it ends at ``size``."""

    version: int
    height: int
    width: int
    bands: int
    block: int
    dtype: np.dtype[np.generic]
    max_error: float
    valid: Mask  # (height, width)
    mode: Mode
    size: int
    total: int  # bytes of the whole blob

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Read the head at the start of ``data``; Unsupported for one that is not known."""
        cursor = _Cursor(data)
        if cursor.take(len(MAGIC)) != MAGIC:
            raise Unsupported("LERC without its magic")
        (version,) = cursor.unpack("<i")
        if not _OLDEST <= version <= _NEWEST:
            raise Unsupported(f"LERC of version {version}")
        cursor.take(4)  # checksum
        height, width = cursor.unpack("<ii")
        bands = cursor.unpack("<i")[0] if version >= _WITH_BANDS else 1
        n_valid, block, total, kind = cursor.unpack("<iiii")
        if version >= _WITH_MORE and cursor.unpack("<iI") != (0, 0):
            raise Unsupported("LERC of several blobs, or with values for no data")
        max_error, low, high = cursor.unpack("<ddd")
        if version >= _WITH_MORE:
            cursor.take(16)
        if not (0 <= kind < len(TYPES) and 0 < block <= _MAX_BLOCK and 0 < bands <= 1 << 16):
            raise Unsupported("LERC of an unknown kind")
        if not 0 < height * width * bands <= _MAX_PIXELS or min(height, width) < 1:
            raise Unsupported("LERC that is too large")
        dtype = np.dtype(TYPES[kind])
        valid = _mask(cursor, height, width, n_valid)
        mode = _mode(cursor, version, bands, dtype, n_valid, max_error, low == high)
        return cls(
            *(version, height, width, bands, block, dtype, max_error, valid, mode),
            size=cursor.at,
            total=total,
        )

    @property
    def kind(self) -> int:
        """Number of the type of samples."""
        return [np.dtype(kind) for kind in TYPES].index(self.dtype)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def take(self, n: int) -> bytes:
        if not 0 <= n <= len(self._data) - self.at:
            raise Unsupported("LERC that is cut off")
        self.at += n
        return self._data[self.at - n : self.at]

    def unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))


def _mode(
    cursor: _Cursor,
    version: int,
    bands: int,
    dtype: np.dtype[np.generic],
    n_valid: int,
    max_error: float,
    is_flat: bool,
) -> Mode:
    if n_valid == 0 or is_flat:
        return Mode.NONE
    if version >= _WITH_BANDS:
        lows, highs = (cursor.take(bands * dtype.itemsize) for _ in range(2))
        if lows == highs:
            return Mode.NONE
    if cursor.take(1) != b"\0":
        return Mode.PLAIN
    is_small = dtype.itemsize == 1 and max_error == LOSSLESS
    if is_small or (version >= _WITH_MORE and dtype.kind == "f" and max_error == 0):
        (mode,) = cursor.take(1)
        if mode > Mode.HUFFMAN or (mode and not is_small):
            raise Unsupported("LERC of floats that are coded without loss")
        return Mode(mode)
    return Mode.BLOCKS


def _mask(cursor: _Cursor, height: int, width: int, n_valid: int) -> Mask:
    """Return which pixels are valid, by runs of bytes."""
    (n_bytes,) = cursor.unpack("<i")
    runs = cursor.take(n_bytes)
    if n_valid in (0, height * width):
        return np.full((height, width), n_valid > 0)
    size, at, out = (height * width + 7) // 8, 0, bytearray()
    while at + 2 <= len(runs) and len(out) <= size:
        (count,) = struct.unpack_from("<h", runs, at)
        if count == _MASK_END:
            break
        used = count if count > 0 else 1
        out += runs[at + 2 : at + 2 + used] * (1 if count > 0 else -count)
        at += 2 + used
    bits = np.unpackbits(np.frombuffer(bytes(out), np.uint8))[: height * width]
    if len(out) != size or int(bits.sum()) != n_valid:
        raise Unsupported("LERC with a mask that is none")
    return bits.reshape(height, width).astype(np.bool_)
