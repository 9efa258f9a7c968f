"""Whole numbers too wide for a tile of 16 bits: cut into pieces, each by a classic codec.

A piece holds 16 bits of every number, the highest what is left: a tile of the same shape, of 8-bit
samples if it has no more than 8 bits.

FORMAT.md, "Ordered tiles".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.classic import Dtype, Effort, Shape
from archiver.codec.ids import TileCodec
from archiver.errors import IntegrityError
from archiver.image import Samples

Numbers = NDArray[np.uint64]

PIECE_BITS = 16
_DECODERS: dict[int, Callable[[bytes, Shape, Dtype], Samples]] = {
    TileCodec.STORED: classic.from_bytes,
    TileCodec.CONSTANT: classic.decode_constant,
    TileCodec.ZSTD: classic.decode_zstd,
    TileCodec.JPEGXL: classic.decode_jpegxl,
}
_HEADER = struct.Struct("<BI")


QUICK = Effort(3, 1)  # where sizes are compared; libjxl aborts on some tiles at 1
FULL = Effort(classic.EFFORT)


def encode(numbers: Numbers, bits: int, effort: Effort) -> bytes:
    """Return numbers (H, W, C) of at most ``bits`` bits, from the highest piece to the lowest."""
    pieces = (piece(numbers, low, wide) for low, wide in _spans(bits))
    codings = (classic.smallest(samples, effort) for samples in pieces)
    return b"".join(
        _HEADER.pack(coded.codec, len(coded.payload)) + coded.payload for coded in codings
    )


def decode(data: bytes, shape: Shape, bits: int) -> Numbers:
    """Return numbers from :func:`encode`; IntegrityError if they do not decode."""
    numbers = np.zeros(shape, np.uint64)
    for low, wide in _spans(bits):
        if len(data) < _HEADER.size:
            raise IntegrityError(f"pieces of a tile: {len(data)} bytes left, expected more")
        codec, length = _HEADER.unpack_from(data)
        payload, data = data[_HEADER.size :][:length], data[_HEADER.size + length :]
        if codec not in _DECODERS or len(payload) != length:
            raise IntegrityError(f"piece of a tile: codec {codec}, {len(payload)} bytes")
        samples = _DECODERS[codec](payload, shape, _dtype(wide))
        numbers |= samples.astype(np.uint64) << np.uint64(low)
    if data:
        raise IntegrityError(f"pieces of a tile: {len(data)} bytes more than expected")
    return numbers


def piece(numbers: Numbers, low: int, bits: int) -> Samples:
    """Return ``bits`` bits of every number, from bit ``low`` on, as the smallest type they fit."""
    mask = np.uint64((1 << bits) - 1)
    return ((numbers >> np.uint64(low)) & mask).astype(_dtype(bits))


def _spans(bits: int) -> Iterator[tuple[int, int]]:
    """Yield lowest bit and number of bits of every piece."""
    start = max(0, bits - 1) // PIECE_BITS * PIECE_BITS
    for low in range(start, -1, -PIECE_BITS):
        if bits > low:
            yield low, min(PIECE_BITS, bits - low)


def _dtype(bits: int) -> Dtype:
    return np.dtype(np.uint8 if bits <= 8 else np.uint16)
