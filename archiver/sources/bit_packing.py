"""Samples that fill no whole bytes: packed most significant first, rows padded to bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def unpack_bits(rows: Bytes, bit_depth: int, columns: int) -> Bytes:
    """Turn packed rows (R, bytes) into values (R, columns); the unused last bits are dropped."""
    per_byte = 8 // bit_depth
    shifts = np.arange(8 - bit_depth, -1, -bit_depth, dtype=np.uint8)
    values = (rows[..., None] >> shifts) & np.uint8((1 << bit_depth) - 1)
    return values.reshape(rows.shape[0], rows.shape[1] * per_byte)[:, :columns]


def pack_bits(values: Bytes, bit_depth: int) -> Bytes:
    """Turn values (R, columns) into packed rows, unused bits zero; excess high bits are cut."""
    per_byte = 8 // bit_depth
    rows, columns = values.shape
    n_bytes = -(-columns // per_byte)
    padded = np.zeros((rows, n_bytes * per_byte), np.uint8)
    padded[:, :columns] = values & np.uint8((1 << bit_depth) - 1)
    shifts = np.arange(8 - bit_depth, -1, -bit_depth, dtype=np.uint8)
    parts = padded.reshape(rows, n_bytes, per_byte) << shifts
    packed: Bytes = np.bitwise_or.reduce(parts, axis=2)
    return packed


def unpack_odd(rows: Bytes, bit_depth: int, columns: int) -> NDArray[np.uint16]:
    """Turn packed rows (R, bytes) into values (R, columns) of up to 16 bits."""
    bits = np.unpackbits(rows, axis=1)[:, : columns * bit_depth].reshape(len(rows), -1, bit_depth)
    wide = np.pad(bits, ((0, 0), (0, 0), (16 - bit_depth, 0)))
    return np.packbits(wide.reshape(len(rows), -1), axis=1).view(">u2").astype(np.uint16)


def pack_odd(values: NDArray[np.uint16], bit_depth: int) -> Bytes:
    """Turn values (R, columns) of up to 16 bits into packed rows, unused bits zero."""
    rows, columns = values.shape
    wide = np.unpackbits(values.astype(">u2").view(np.uint8), axis=1).reshape(rows, columns, 16)
    return np.packbits(wide[..., 16 - bit_depth :].reshape(rows, -1), axis=1)
