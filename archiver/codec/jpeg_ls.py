"""Tiles under JPEG-LS: each channel a plane, by itself or as the difference to another channel.

Ten times as fast as JPEG XL of nearly as few bytes: what is coded where time is short.  Which
channel each is taken from is chosen by a sample of the rows: photographs and stained tissue want
others.

FORMAT.md, "JPEG-LS tiles".
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from functools import cache

import imagecodecs
import numpy as np

from archiver.codec import classic
from archiver.codec.classic import Dtype, Shape
from archiver.errors import IntegrityError
from archiver.image import Samples

CHANNELS = (1, 3)
MAX_SIDE = 0xFFFF  # of a frame header
_EVERY = 32  # one pair of rows of so many is looked at to choose differences
_LENGTH = struct.Struct("<I")
_FRAME = struct.Struct(">4sHBHHB")  # SOI and SOF55, length, bits, rows, columns, components
_START, _FRAME_MARKER = b"\xff\xd8", b"\xff\xf7"

Bases = tuple[int, ...]  # of each channel the one that it is taken from, itself if from none


def takes(dtype: Dtype, shape: Sequence[int]) -> bool:
    """Whether such tiles can be coded."""
    is_narrow = dtype.kind in "ui" and dtype.itemsize <= 2
    return is_narrow and shape[2] in CHANNELS and 0 < max(shape[:2]) <= MAX_SIDE


def encode(tile: Samples) -> bytes:
    """Return the payload of a tile that this codec takes."""
    unsigned = classic.to_unsigned(tile)
    bases = _best_bases(unsigned)
    parts = [bytes(bases)]
    for channel, base in enumerate(bases):
        stream = _bare(bytes(imagecodecs.jpegls_encode(_plane(unsigned, channel, base))))
        parts += [_LENGTH.pack(len(stream)), stream]
    return b"".join(parts)


def decode(payload: bytes, shape: Shape, dtype: Dtype) -> Samples:
    """Return a tile from :func:`encode`; IntegrityError if it does not decode."""
    channels = shape[2]
    bases = tuple(payload[:channels])
    if not takes(dtype, shape) or bases not in _all_bases(channels):
        raise IntegrityError(f"JPEG-LS tile of {shape} {dtype}: differences {list(bases)}")
    unsigned = np.dtype(f"u{dtype.itemsize}")
    tile, at = np.empty(shape, unsigned), channels
    for channel in range(channels):
        end = at + _LENGTH.size
        start, length = end, int.from_bytes(payload[at:end], "little")
        at = start + length
        if at > len(payload):
            raise IntegrityError(f"JPEG-LS tile: {len(payload)} bytes, expected {at} at least")
        tile[..., channel] = _read(payload[start:at], shape, unsigned)
    if at != len(payload):
        raise IntegrityError(f"JPEG-LS tile: {len(payload)} bytes, expected {at}")
    for channel in _outwards(bases):
        tile[..., channel] += tile[..., bases[channel]] + _half(unsigned)
    return classic.from_unsigned(tile, dtype)


def _bare(stream: bytes) -> bytes:
    """Return a stream without the segments before its frame: what CharLS says for other readers."""
    at = 2
    while stream[at : at + 2] != _FRAME_MARKER:
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return stream[:2] + stream[at:]


def _read(stream: bytes, shape: Shape, dtype: Dtype) -> Samples:
    """Return the plane of one stream, which says itself that it is of that size."""
    frame = (_START + _FRAME_MARKER, 11, 8 * dtype.itemsize, shape[0], shape[1], 1)
    if stream[: _FRAME.size] != _FRAME.pack(*frame):
        raise IntegrityError(f"JPEG-LS tile: not of {shape[0]} x {shape[1]} samples {dtype}")
    try:
        plane = imagecodecs.jpegls_decode(stream)
    except (RuntimeError, ValueError, OSError) as error:
        raise IntegrityError(f"JPEG-LS tile: does not decode: {error}") from error
    if plane.shape != shape[:2] or plane.dtype != dtype:
        raise IntegrityError(f"JPEG-LS tile: holds {plane.shape} {plane.dtype}")
    read: Samples = plane
    return read


def _half(dtype: Dtype) -> np.generic:
    """Return what is added to a difference, modulo its range: half of that."""
    half: np.generic = dtype.type(1 << (8 * dtype.itemsize - 1))
    return half


def _plane(unsigned: Samples, channel: int, base: int) -> Samples:
    plane = np.ascontiguousarray(unsigned[..., channel])
    if base == channel:
        return plane
    difference: Samples = np.subtract(plane, unsigned[..., base])
    return np.add(difference, _half(unsigned.dtype), out=difference)


@cache
def _all_bases(channels: int) -> tuple[Bases, ...]:
    """Return all ways to take channels from each other, without circles."""
    every = itertools.product(range(channels), repeat=channels)
    return tuple(bases for bases in every if all(_ends(bases, c) for c in range(channels)))


def _ends(bases: Bases, channel: int) -> bool:
    for _ in bases:
        channel = bases[channel]
    return bases[channel] == channel


def _outwards(bases: Bases) -> list[int]:
    """Return the channels that are differences, each after the one that it is taken from."""
    depths = {}
    for channel in range(len(bases)):
        depth, at = 0, channel
        while bases[at] != at:
            depth, at = depth + 1, bases[at]
        depths[channel] = depth
    return sorted((channel for channel, depth in depths.items() if depth), key=depths.__getitem__)


def _best_bases(unsigned: Samples) -> Bases:
    """Return the differences that a sample of the rows says are smallest."""
    height, width, channels = unsigned.shape
    if channels == 1 or height < 2 or width < 2:
        return tuple(range(channels))
    first = np.arange(0, height - 1, _EVERY)
    rows = unsigned[np.stack([first, first + 1], 1).ravel()]
    costs = {}
    for channel in range(channels):
        for base in range(channel + 1):
            cost = _cost(_plane(rows, channel, base))
            costs[channel, base] = costs[base, channel] = cost
    return min(
        _all_bases(channels), key=lambda bases: sum(costs[pair] for pair in enumerate(bases))
    )


def _cost(plane: Samples) -> float:
    """Return about the bits of a sample, but for a constant; rows come in pairs."""
    signed = np.dtype(f"i{plane.dtype.itemsize}")
    above, rows = plane[0::2].astype(np.int32), plane[1::2].astype(np.int32)
    north, west = above[:, 1:], rows[:, :-1]
    expected = np.clip(
        north + west - above[:, :-1], np.minimum(north, west), np.maximum(north, west)
    )
    errors = (rows[:, 1:] - expected).astype(signed)
    return float(np.log2(np.abs(errors.astype(np.int32)).mean() + 0.05))
