"""The tiles of many files that are coded together, bounded by their pixels and bytes."""

from __future__ import annotations

from archiver.pipeline.write.queued_file import Coding
from archiver.pipeline.write.tile_samples import RawTile

BATCH_PIXELS = 1 << 22  # coded together: bounds what a process holds
BATCH_BYTES = 64 << 20  # samples and residues waiting, whatever their pixels

WaitingTile = tuple[Coding, RawTile]


class Batch:
    """Tiles that wait to be coded, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[WaitingTile] = []
        self._pixels = self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to code them."""
        return self._pixels >= BATCH_PIXELS or self._bytes >= BATCH_BYTES

    def hold(self, n_bytes: int) -> None:
        """Count what is held beside tiles."""
        self._bytes += n_bytes

    def add(self, coding: Coding, tile: RawTile) -> None:
        """Let a tile wait."""
        self._waiting.append((coding, tile))
        self._pixels += tile.n_pixels
        self._bytes += tile.n_bytes

    def take(self) -> list[WaitingTile]:
        """Return all tiles; none wait any more."""
        waiting, self._waiting = self._waiting, []
        self._pixels = self._bytes = 0
        return waiting
