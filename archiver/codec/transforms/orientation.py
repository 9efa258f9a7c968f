"""The orientations in which a model may code a tile: transposed, mirrored, channels reordered.

A model predicts a pixel from those above it and to the left.  Few images are alike in all
directions: cameras, scanners and resampling treat rows and columns differently, light comes from
one side.  Which orientation is predicted best costs a byte to say, and nothing to decode.

FORMAT.md, "Oriented tiles".
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from archiver.codec.classic import Dtype, Shape
from archiver.errors import IntegrityError
from archiver.image import Samples

ORDERS = tuple(itertools.permutations(range(3)))
SIDES = 8  # orientations of a tile, its channels as they are
IMPLIED = -2  # the codec of what is inside: the outer id says it, no byte of the payload
_UPSIDE_DOWN, _MIRRORED, _TRANSPOSED = 1, 2, 4


@dataclass(frozen=True, order=True)
class Orientation:
    """An orientation of tiles: ``number`` is 8 times that of the channels' order, plus the side.

    A side is 4 for transposed, plus 2 for columns from right to left, plus 1 for rows from below.
    """

    number: int = 0

    @classmethod
    def split(cls, payload: bytes, shape: Shape, _dtype: Dtype) -> tuple[Orientation, int, bytes]:
        """Return the orientation of a tile, `IMPLIED`, and the payload of the tile in it.

        IntegrityError if it is none that such a tile has.
        """
        orientations = SIDES * (len(ORDERS) if shape[2] == 3 else 1)
        if not payload or not 0 < payload[0] < orientations:
            raise IntegrityError(
                f"oriented tile of {shape[2]} channels: begins with {payload[:1]!r}"
            )
        return cls(payload[0]), IMPLIED, payload[1:]

    @staticmethod
    def peek(_payload: bytes | memoryview) -> tuple[int, int]:
        """Return `IMPLIED`, and where the payload of the tile in its orientation begins."""
        return IMPLIED, 1

    def to_bytes(self, _codec: int) -> bytes:
        """Return what a payload begins with; that of the tile in this orientation follows."""
        return bytes([self.number])

    def inside(self, shape: Shape, dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the tile in this orientation."""
        return self.shape(shape), dtype

    def on(self, tile: Samples) -> Orientation:
        """Return that of a tile, or a plane of one: only 8-bit RGB has an order."""
        is_ordered = tile.dtype.itemsize == 1 and tile.shape[2:] == (3,)
        return self if is_ordered else Orientation(self.number % SIDES)

    def ordered(self, order: int) -> Orientation:
        """Return the same with channels in that order."""
        return Orientation(self.number % SIDES + SIDES * order)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of a tile in this orientation."""
        height, width, channels = shape
        return (width, height, channels) if self.number & _TRANSPOSED else shape

    def oriented(self, tile: Samples) -> Samples:
        """Return a tile (H, W, C), or a plane (H, W), in this orientation."""
        if self.number & _TRANSPOSED:
            tile = tile.swapaxes(0, 1)
        tile = self._mirrored(tile)
        if self.number >= SIDES:
            tile = tile[..., list(ORDERS[self.number // SIDES])]
        return np.ascontiguousarray(tile)

    def forward(self, tile: Samples) -> Samples:
        """Return a tile in this orientation."""
        return self.oriented(tile)

    def back(self, tile: Samples, _dtype: Dtype | None = None) -> Samples:
        """Return what :meth:`oriented` was given."""
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
