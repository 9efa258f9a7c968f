"""The payload of a learned tile of more than 8 bits: its channels, one after the other.

Each channel is a window and a stream (`model.high_depth`); all but the last are preceded by their
length, so that a tile of one channel pays nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from archiver.codec import classic
from archiver.errors import IntegrityError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

Shape = tuple[int, int, int]
_LENGTH = struct.Struct("<I")


def encode(tiles: Sequence[Samples], engine: Engine) -> list[bytes]:
    """Return the payload of every tile (H, W, C) of 16-bit integers."""
    planes = [classic.to_unsigned(tile[..., c]) for tile in tiles for c in range(tile.shape[2])]
    coded = iter(engine.encode_high_depth([np.ascontiguousarray(p, np.uint16) for p in planes]))
    return [_join([next(coded) for _ in range(tile.shape[2])]) for tile in tiles]


def decode(payloads: Sequence[bytes], shapes: Sequence[Shape], engine: Engine) -> list[Samples]:
    """Return the tiles (H, W, C), uint16; IntegrityError if a payload does not decode."""
    if payloads and not engine.has_high_depth:
        raise IntegrityError(
            f"tile of high bit depth: model {engine.name} has no port for more than 8 bits"
        )
    split = [_split(data, shape[2]) for data, shape in zip(payloads, shapes, strict=True)]
    sides = [shape[:2] for shape in shapes for _ in range(shape[2])]
    streams = [stream for channels in split for stream in channels]
    planes = iter(engine.decode_high_depth(streams, sides))
    return [np.stack([next(planes) for _ in channels], -1) for channels in split]


def _join(channels: Sequence[bytes]) -> bytes:
    *first, last = channels
    return b"".join([_LENGTH.pack(len(stream)) + stream for stream in first] + [last])


def _split(payload: bytes, channels: int) -> list[bytes]:
    parts = []
    for _ in range(channels - 1):
        if len(payload) < _LENGTH.size:
            raise IntegrityError("tile of high bit depth: payload ends before its last channel")
        end = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
        parts.append(payload[_LENGTH.size : end])
        payload = payload[end:]
    return [*parts, payload]
