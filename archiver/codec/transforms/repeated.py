"""Tiles whose channels are all equal, as of grey images stored as RGB: one of them is coded.

FORMAT.md, "Plain codecs".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archiver.codec import classic
from archiver.codec.classic import Dtype, Shape
from archiver.errors import IntegrityError
from archiver.image import Samples


@dataclass(frozen=True)
class Repeated:
    """One channel that comes ``channels`` times."""

    channels: int

    @classmethod
    def find(cls, tile: Samples) -> tuple[Repeated, Samples] | None:
        """Return this and the first channel, if all of several channels have the same bits."""
        bits = classic.bits(tile)
        if tile.shape[2] == 1 or not bool((bits == bits[..., :1]).all()):
            return None
        repeated = cls(tile.shape[2])
        return repeated, repeated.forward(tile)

    @classmethod
    def split(cls, payload: bytes, shape: Shape, _dtype: Dtype) -> tuple[Repeated, int, bytes]:
        """Return this, codec id and payload of a channel; IntegrityError if there is none."""
        if not payload:
            raise IntegrityError("tile of repeated channels: no codec inside")
        codec, start = cls.peek(payload)
        return cls(shape[2]), codec, payload[start:]

    @staticmethod
    def peek(payload: bytes | memoryview) -> tuple[int, int]:
        """Return the codec id of the first channel, -1 if none is there, and where it begins."""
        return (payload[0] if payload else -1), 1

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the first channel follows."""
        return bytes([codec])

    def inside(self, shape: Shape, dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the first channel."""
        return (*shape[:2], 1), dtype

    def forward(self, tile: Samples) -> Samples:
        """Return the first channel."""
        return tile[..., :1]

    def back(self, channel: Samples, _dtype: Dtype) -> Samples:
        """Return the tile of which ``channel`` is the first one."""
        return np.repeat(channel, self.channels, 2) if self.channels > 1 else channel
