"""The bytes of a segment before encoding.

samples (h, w, C)  ->  flip, reorder  ->  pad to the segment  ->  predictor  ->  rows of bytes
"""

from __future__ import annotations

import numpy as np

from archiver.image import Samples
from archiver.sources.bit_packing import Bytes, pack_bits, pack_odd, unpack_bits, unpack_odd
from archiver.sources.segmented.geometry import ODD_BITS, Box, Geometry


def to_rows(geometry: Geometry, samples: Samples, *, edge: bool) -> Bytes:
    """Turn the samples of a segment (h, w, c) into rows of bytes (R, row_bytes).

    Padding of tiles is zero, or repeats the last row and column if ``edge``.
    """
    ordered = samples[::-1] if geometry.bottom_up else samples
    ordered = ordered[..., ::-1] if geometry.reversed else ordered
    full = _pad(geometry, ordered, edge=edge).view(_unsigned(geometry))
    if geometry.splits_bytes:
        return _to_split_bytes(geometry, full)
    if geometry.predictor:
        full = np.diff(full, axis=1, prepend=full.dtype.type(0))
    plain = _to_bytes(geometry, full)
    if plain.shape[1] == geometry.row_bytes:
        return plain
    return np.pad(plain, ((0, 0), (0, geometry.row_bytes - plain.shape[1])))


def from_rows(geometry: Geometry, raw: bytes, box: Box) -> Samples:
    """Turn the bytes of a segment into the samples of ``box``, (h, w, c)."""
    rows = np.frombuffer(raw, np.uint8).reshape(geometry.n_rows(box), geometry.row_bytes)
    values = geometry.segment_width * geometry.segment_channels
    full: Samples
    if geometry.bits in ODD_BITS:
        full = unpack_odd(rows, geometry.bits, values).astype(_unsigned(geometry))
    elif geometry.bits < 8:
        full = unpack_bits(rows, geometry.bits, values)
    elif geometry.splits_bytes:
        full = _from_split_bytes(geometry, rows)
    else:
        used = np.ascontiguousarray(rows[:, : values * geometry.bits // 8])
        full = used.view(_stored(geometry)).astype(_unsigned(geometry), copy=False)
    full = full.reshape(len(rows), geometry.segment_width, geometry.segment_channels)
    if geometry.predictor and not geometry.splits_bytes:
        full = np.cumsum(full, axis=1, dtype=full.dtype)
    cut = full.view(geometry.dtype)[: box.height, : box.width]
    cut = cut[::-1] if geometry.bottom_up else cut
    return cut[..., ::-1] if geometry.reversed else cut


def _unsigned(geometry: Geometry) -> np.dtype[np.generic]:
    return np.dtype(f"u{geometry.dtype.itemsize}")


def _stored(geometry: Geometry) -> np.dtype[np.generic]:
    return _unsigned(geometry).newbyteorder(">" if geometry.big_endian else "<")


def _pad(geometry: Geometry, samples: Samples, *, edge: bool) -> Samples:
    height = geometry.segment_height if geometry.tiled else samples.shape[0]
    rows, columns = height - samples.shape[0], geometry.segment_width - samples.shape[1]
    if rows == columns == 0:
        return np.ascontiguousarray(samples)
    return np.pad(samples, ((0, rows), (0, columns), (0, 0)), "edge" if edge else "constant")


def _to_split_bytes(geometry: Geometry, full: Samples) -> Bytes:
    """Return rows of samples (R, w, c) as differences of their bytes, the highest first."""
    n, size = len(full), full.dtype.itemsize
    high_first = full.astype(full.dtype.newbyteorder(">")).view(np.uint8).reshape(n, -1, size)
    planes = high_first.transpose(0, 2, 1).reshape(n, -1, geometry.segment_channels)
    return np.diff(planes, axis=1, prepend=np.uint8(0)).reshape(n, -1)


def _from_split_bytes(geometry: Geometry, rows: Bytes) -> Samples:
    """Return the samples (R, w * c) of rows that `_to_split_bytes` gives."""
    n, size = len(rows), geometry.dtype.itemsize
    steps = rows.reshape(n, -1, geometry.segment_channels)
    planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(n, size, -1)
    high_first = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">u{size}")
    return high_first.reshape(n, -1).astype(_unsigned(geometry))


def _to_bytes(geometry: Geometry, full: Samples) -> Bytes:
    if geometry.bits in ODD_BITS:
        return pack_odd(full.reshape(len(full), -1).astype(np.uint16), geometry.bits)
    if geometry.bits < 8:
        return pack_bits(full.reshape(len(full), -1).astype(np.uint8), geometry.bits)
    return full.astype(_stored(geometry)).reshape(len(full), -1).view(np.uint8)
