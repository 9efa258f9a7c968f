"""Stored tiles, as decoding describes what the manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from archiver.codec.ids import TileCodec
from archiver.errors import IntegrityError

Key = tuple[int, int, int]  # component, first row, first column


@dataclass(frozen=True)
class Payload:
    """The place of some bytes, and their checksum."""

    shard: int
    offset: int
    length: int
    crc32c: int


@dataclass(frozen=True, eq=False)
class StoredTile:
    """One tile: where its payload is, what it must decode to, and how to name it in messages."""

    name: str
    shard: int
    offset: int
    length: int
    crc32c: int
    sample_crc32c: int
    codec: int
    model: int
    beside: Mapping[int, Payload]  # what its file keeps for its tiles, by residue codec
    shape: tuple[int, int, int]
    room: tuple[int, int]  # height and width of the image's tiles: JPEGs fill it at its edges, too
    dtype: np.dtype[np.generic]
    object: int
    number: int  # in its object
    siblings: list[StoredTile] = field(repr=False)  # all tiles of its object, itself included

    @property
    def key(self) -> tuple[int, int]:
        """Which tile of the archive it is."""
        return self.object, self.number

    @property
    def is_jpeg(self) -> bool:
        """Whether it is kept as a JPEG."""
        return self.codec == TileCodec.JPEG

    @property
    def n_pixels(self) -> int:
        """Pixels of the tile."""
        return self.shape[0] * self.shape[1]

    def before(self, back: int) -> StoredTile:
        """Return the tile that this one is a difference to; IntegrityError if it cannot be."""
        if back > self.number:
            raise IntegrityError(f"is a difference to a tile {back} before, of {self.number}")
        base = self.siblings[self.number - back]
        if base.shape != self.shape or base.dtype != self.dtype or base.is_jpeg:
            raise IntegrityError(f"is a difference to a tile of another kind ({base.name})")
        return base
