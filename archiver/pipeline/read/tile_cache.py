"""The decoded tiles that are kept for the next window, slice or difference."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from archiver.image import Samples
from archiver.pipeline.read.stored_tile import StoredTile

CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class Kept:
    """A decoded tile, and how many others it took."""

    samples: Samples
    depth: int


class TileCache:
    """The tiles used last, up to that many bytes; threads may share it."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._tiles: OrderedDict[tuple[int, int], Kept] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def __contains__(self, tile: StoredTile) -> bool:
        """Whether a tile is kept."""
        return tile.key in self._tiles

    def get(self, tile: StoredTile) -> Kept | None:
        """Return a tile if it is kept; not to be written to."""
        with self._lock:
            kept = self._tiles.get(tile.key)
            if kept is not None:
                self._tiles.move_to_end(tile.key)
            return kept

    def keep(self, tile: StoredTile, samples: Samples, depth: int) -> None:
        """Keep a tile; those used longest ago make room."""
        with self._lock:
            if tile.key in self._tiles:
                return
            self._tiles[tile.key] = Kept(samples, depth)
            self._bytes += samples.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                self._bytes -= self._tiles.popitem(last=False)[1].samples.nbytes
