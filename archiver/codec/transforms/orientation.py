"""The ways to turn a tile before a model codes it: transposed, mirrored, channels reordered.

A model predicts a pixel from those above it and to the left.  Few images are alike in all
directions: cameras, scanners and resampling treat rows and columns differently, light comes from
one side.  Which way is predicted best costs a byte to say, and nothing to decode.

FORMAT.md, "Oriented tiles".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from archiver.errors import IntegrityError
from archiver.image import Samples

ORDERS = tuple(itertools.permutations(range(3)))
SIDES = 8  # ways to turn a tile, its channels as they are
_UPSIDE_DOWN, _MIRRORED, _TRANSPOSED = 1, 2, 4


@dataclass(frozen=True, order=True)
class Orientation:
    """A way to turn tiles: ``number`` is 8 times that of the channels' order, plus the side.

    A side is 4 for transposed, plus 2 for columns from right to left, plus 1 for rows from below.
    """

    number: int = 0

    @classmethod
    def split(cls, payload: bytes, channels: int) -> tuple[Orientation, bytes]:
        """Return the turn of a tile, and its payload; IntegrityError if there is none."""
        orientations = SIDES * (len(ORDERS) if channels == 3 else 1)
        if not payload or not 0 < payload[0] < orientations:
            raise IntegrityError(f"turned tile of {channels} channels: begins with {payload[:1]!r}")
        return cls(payload[0]), payload[1:]

    def to_bytes(self) -> bytes:
        """Return what stands before the payload of the tile, turned."""
        return bytes([self.number])

    def on(self, tile: Samples) -> Orientation:
        """Return the turn that a tile, or a plane of one, takes: only 8-bit RGB has an order."""
        is_ordered = tile.dtype.itemsize == 1 and tile.shape[2:] == (3,)
        return self if is_ordered else Orientation(self.number % SIDES)

    def ordered(self, order: int) -> Orientation:
        """Return the same with channels in that order."""
        return Orientation(self.number % SIDES + SIDES * order)

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape of a turned tile."""
        height, width, channels = shape
        return (width, height, channels) if self.number & _TRANSPOSED else shape

    def oriented(self, tile: Samples) -> Samples:
        """Return a tile (H, W, C), or a plane (H, W), turned."""
        if self.number & _TRANSPOSED:
            tile = tile.swapaxes(0, 1)
        tile = self._mirrored(tile)
        if self.number >= SIDES:
            tile = tile[..., list(ORDERS[self.number // SIDES])]
        return np.ascontiguousarray(tile)

    def back(self, tile: Samples) -> Samples:
        """Return what :meth:`turned` was given."""
        if self.number >= SIDES:
            tile = tile[..., np.argsort(ORDERS[self.number // SIDES])]
        tile = self._mirrored(tile)
        if self.number & _TRANSPOSED:
            tile = tile.swapaxes(0, 1)
        return np.ascontiguousarray(tile)

    def _mirrored(self, tile: Samples) -> Samples:
        rows = slice(None, None, -1 if self.number & _UPSIDE_DOWN else 1)
        columns = slice(None, None, -1 if self.number & _MIRRORED else 1)
        return tile[rows, columns]


IDENTITY = Orientation()
