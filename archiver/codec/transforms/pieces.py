"""Whole numbers too wide for a tile of 16 bits: cut into pieces, each by a classic codec.

A piece holds 16 bits of every number, the highest what is left: a tile of the same shape, of 8-bit
samples if it has no more than 8 bits.

FORMAT.md, "Ordered tiles".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.classic import Shape
from archiver.codec.encoded import Encoded
from archiver.codec.ids import TileCodec
from archiver.errors import IntegrityError
from archiver.image import Samples

Numbers = NDArray[np.uint64]
Decoder = Callable[[bytes, Shape, np.dtype[np.generic]], Samples]

PIECE_BITS = 16
DECODERS: dict[int, Decoder] = {
    TileCodec.STORED: classic.from_bytes,
    TileCodec.CONSTANT: classic.decode_constant,
    TileCodec.ZSTD: classic.decode_zstd,
    TileCodec.JPEGXL: classic.decode_jpegxl,
}
_HEADER = struct.Struct("<BI")


@dataclass(frozen=True)
class Effort:
    """Levels of JPEG XL and zstd."""

    jpegxl: int
    zstd: int


QUICK = Effort(3, 1)  # where sizes are compared; libjxl aborts on some tiles at 1
FULL = Effort(classic.EFFORT, classic.ZSTD_LEVEL)


def encode(numbers: Numbers, bits: int, effort: Effort) -> bytes:
    """Return numbers (H, W, C) of at most ``bits`` bits, from the highest piece to the lowest."""
    coded = [smallest(piece(numbers, low, wide), effort) for low, wide in _spans(bits)]
    return b"".join(_HEADER.pack(one.codec, len(one.payload)) + one.payload for one in coded)


def decode(data: bytes, shape: Shape, bits: int) -> Numbers:
    """Return numbers from :func:`encode`; IntegrityError if they do not decode."""
    numbers = np.zeros(shape, np.uint64)
    for low, wide in _spans(bits):
        if len(data) < _HEADER.size:
            raise IntegrityError(f"pieces of a tile: {len(data)} bytes left, expected more")
        codec, length = _HEADER.unpack_from(data)
        payload, data = data[_HEADER.size :][:length], data[_HEADER.size + length :]
        if codec not in DECODERS or len(payload) != length:
            raise IntegrityError(f"piece of a tile: codec {codec}, {len(payload)} bytes")
        part = DECODERS[codec](payload, shape, _dtype(wide))
        numbers |= part.astype(np.uint64) << np.uint64(low)
    if data:
        raise IntegrityError(f"pieces of a tile: {len(data)} bytes more than expected")
    return numbers


def piece(numbers: Numbers, low: int, bits: int) -> Samples:
    """Return ``bits`` bits of every number, from bit ``low`` on, as the smallest type they fit."""
    mask = np.uint64((1 << bits) - 1)
    return ((numbers >> np.uint64(low)) & mask).astype(_dtype(bits))


def smallest(tile: Samples, effort: Effort) -> Encoded:
    """Return the smallest coding of a tile of unsigned samples by a classic codec."""
    constant = classic.encode_constant(tile)
    if constant is not None:
        return Encoded(TileCodec.CONSTANT, constant)
    candidates = [
        Encoded(TileCodec.STORED, classic.little_endian(tile)),
        Encoded(TileCodec.ZSTD, classic.encode_zstd(tile, effort.zstd)),
    ]
    jpegxl = classic.encode_jpegxl(tile, effort=effort.jpegxl)
    if jpegxl is not None:
        candidates.append(Encoded(TileCodec.JPEGXL, jpegxl))
    return min(candidates, key=lambda encoded: len(encoded.payload))


def _spans(bits: int) -> Iterator[tuple[int, int]]:
    """Yield lowest bit and number of bits of every piece."""
    start = max(0, bits - 1) // PIECE_BITS * PIECE_BITS
    for low in range(start, -1, -PIECE_BITS):
        if bits > low:
            yield low, min(PIECE_BITS, bits - low)


def _dtype(bits: int) -> np.dtype[np.generic]:
    return np.dtype(np.uint8 if bits <= 8 else np.uint16)
