"""What the learned codec has to beat, tile by tile: constant, zstd, JPEG XL lossless.

Every function takes or gives a tile (H, W, C).  Encoders return None where they do not apply.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import imagecodecs
import numpy as np
import zstandard

from archiver import image_headers
from archiver.codec.ids import Encoded, TileCodec
from archiver.errors import IntegrityError
from archiver.image import Samples

Shape = tuple[int, int, int]
Dtype = np.dtype[np.generic]
ZSTD_LEVEL = 12
EFFORT = 7  # beside the learned codec; 9 costs five times the time for 2 %
EFFORT_QUICK = 3  # an eighth of the time, for a tenth of the bytes of photographs
EFFORT_BITS = 7  # of samples of one bit, which no model codes: 9 takes three times as long for 6 %
EFFORT_ALONE = 8  # where no learned codec applies


@dataclass(frozen=True)
class Effort:
    """Levels of JPEG XL and of zstd, 0 to leave that out."""

    jpegxl: int
    zstd: int = ZSTD_LEVEL


def smallest(tile: Samples, effort: Effort) -> Encoded:
    """Return the smallest coding of a tile by the codecs of this module; the first of equals."""
    constant = encode_constant(tile)
    if constant is not None:
        return Encoded(TileCodec.CONSTANT, constant)
    candidates = [Encoded(TileCodec.STORED, little_endian(tile))]
    if effort.zstd:
        candidates.append(Encoded(TileCodec.ZSTD, encode_zstd(tile, effort.zstd)))
    jpegxl = encode_jpegxl(tile, effort=effort.jpegxl)
    if jpegxl is not None:
        candidates.append(Encoded(TileCodec.JPEGXL, jpegxl))
    return min(candidates, key=lambda coded: len(coded.payload))


def little_endian(tile: Samples) -> bytes:
    """Return the samples of ``tile`` as little-endian bytes, row by row."""
    return np.ascontiguousarray(tile, tile.dtype.newbyteorder("<")).tobytes()


def from_bytes(data: bytes, shape: Shape, dtype: Dtype) -> Samples:
    """Return a tile from little-endian bytes; IntegrityError if the length is wrong."""
    expected = shape[0] * shape[1] * shape[2] * dtype.itemsize
    if len(data) != expected:
        raise IntegrityError(f"tile: {len(data)} bytes of samples, expected {expected}")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def bits(tile: Samples) -> Samples:
    """Return the samples as unsigned integers, so that -0.0 and NaN compare by their bits."""
    return np.ascontiguousarray(tile).view(f"u{tile.dtype.itemsize}")


def encode_constant(tile: Samples) -> bytes | None:
    """Return the one pixel that fills the tile."""
    first = tile[:1, :1]
    parts = (tile[:1], tile)  # the first row tells of most tiles
    is_constant = all(bool((bits(part) == bits(first)).all()) for part in parts)
    return little_endian(first) if is_constant else None


def decode_constant(payload: bytes, shape: Shape, dtype: Dtype) -> Samples:
    """Return a tile filled with the stored pixel."""
    pixel = from_bytes(payload, (1, 1, shape[2]), dtype)
    return np.broadcast_to(pixel, shape).copy()


def encode_zstd(tile: Samples, level: int = ZSTD_LEVEL) -> bytes:
    """Return the tile's bytes under zstd; wide samples as byte planes."""
    data = little_endian(tile)
    size = tile.dtype.itemsize
    planes = np.frombuffer(data, np.uint8).reshape(-1, size).T.tobytes()
    return zstandard.ZstdCompressor(level, write_content_size=False).compress(planes)


def decode_zstd(payload: bytes, shape: Shape, dtype: Dtype) -> Samples:
    """Return a tile from :func:`encode_zstd`."""
    expected = shape[0] * shape[1] * shape[2] * dtype.itemsize
    planes = np.frombuffer(inflate(payload, expected), np.uint8).reshape(dtype.itemsize, -1)
    return from_bytes(planes.T.tobytes(), shape, dtype)


def inflate(payload: bytes, expected: int) -> bytes:
    """Return exactly ``expected`` bytes from a zstd frame, never allocating much more."""
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(payload)
        data = reader.read(expected + 1)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"zstd payload does not decode: {error}") from error
    if len(data) != expected:
        raise IntegrityError(f"zstd payload holds {len(data)} bytes, expected {expected}")
    return data


def encode_jpegxl(tile: Samples, *, effort: int) -> bytes | None:
    """Return a lossless JPEG XL codestream of 1 or 3 channels of 8 or 16-bit integers."""
    if tile.dtype.kind not in "ui" or tile.dtype.itemsize > 2 or tile.shape[2] not in (1, 3):
        return None
    raster = to_unsigned(tile[..., 0] if tile.shape[2] == 1 else tile)
    return bytes(imagecodecs.jpegxl_encode(raster, lossless=True, effort=effort, numthreads=1))


def decode_jpegxl(payload: bytes, shape: Shape, dtype: Dtype) -> Samples:
    """Return a tile from :func:`encode_jpegxl`."""
    try:
        if math.prod(image_headers.sides(payload)) != shape[0] * shape[1]:
            raise ValueError(f"not of {shape[0]} x {shape[1]} pixels")
        image_headers.check_still(payload)
        raster = imagecodecs.jpegxl_decode(payload, numthreads=1)
    except (RuntimeError, ValueError, OSError) as error:
        raise IntegrityError(f"JPEG XL payload does not decode: {error}") from error
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if raster.size != shape[0] * shape[1] * shape[2] or raster.dtype != unsigned:
        found = f"{raster.shape} {raster.dtype}"
        raise IntegrityError(f"JPEG XL payload holds {found}, expected {shape} {unsigned}")
    return from_unsigned(raster, dtype).reshape(shape)


def to_unsigned(samples: Samples) -> Samples:
    """Return integers as unsigned ones in order of value: the top bit of signed ones inverted."""
    return _biased(bits(samples), signed=samples.dtype.kind == "i")


def from_unsigned(samples: Samples, dtype: Dtype) -> Samples:
    """Return what :func:`to_unsigned` was given."""
    return _biased(samples, signed=dtype.kind == "i").view(dtype)


def _biased(samples: Samples, *, signed: bool) -> Samples:
    if not signed:
        return samples
    top = samples.dtype.type(1 << (8 * samples.dtype.itemsize - 1))
    return np.bitwise_xor(samples, top)
