"""Stored images that are read by windows: which tiles a window takes, and which come ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from archiver.archive.records import ImageRecord
from archiver.errors import ArchiverError, FormatError
from archiver.image import Image, Samples
from archiver.pipeline.read.decode import BATCH_PIXELS, TileDecoder
from archiver.pipeline.read.stored_tile import Key, StoredTile
from archiver.pipeline.tiling import components


class Raster:
    """One stored image, decoded as windows ask for it; the decoder keeps the tiles decoded last.

    With ``following``, the tiles of the images after it, a miss decodes whole rows of tiles and
    more: a rebuild reads images from top to bottom, one after the other.
    """

    def __init__(
        self,
        record: ImageRecord,
        tiles: Mapping[Key, StoredTile],
        decoder: TileDecoder,
        following: Callable[[], Iterable[StoredTile]] | None = None,
    ) -> None:
        self._record = record
        self._dtype = np.dtype(record.dtype)
        self._tiles = tiles
        self._decoder = decoder
        self._following = following

    def image(self) -> Image:
        """Return an image whose windows are decoded on demand."""
        r, has_jpegs = self._record, any(tile.is_jpeg for tile in self._tiles.values())
        return Image(
            r.height,
            r.width,
            r.channels,
            self._dtype,
            r.bit_depth,
            self.window,
            (r.tile_height, r.tile_width) if has_jpegs else None,
            self._jpeg_tile if has_jpegs else None,
        )

    def _jpeg_tile(self, row: int, column: int) -> bytes:
        tile = self._stored((0, row, column))
        if not tile.is_jpeg:
            raise FormatError(f"{tile.name}: expected a JPEG, found codec {tile.codec}")
        return self._decoder.jpeg_tile(tile)

    def window(self, row: int, column: int, height: int, width: int) -> Samples:
        """Return (height, width, channels) samples; IntegrityError if a tile is damaged."""
        samples = np.empty((height, width, self._record.channels), self._dtype)
        keys = self._keys(row, column, height, width)
        for key, tile in self._decoded(keys).items():
            channels = list(components(self._record.channels)[key[0]])
            top, left = max(row, key[1]), max(column, key[2])
            bottom = min(row + height, key[1] + tile.shape[0])
            right = min(column + width, key[2] + tile.shape[1])
            inside = tile[top - key[1] : bottom - key[1], left - key[2] : right - key[2]]
            samples[top - row : bottom - row, left - column : right - column, channels] = inside
        return samples

    def _keys(self, row: int, column: int, height: int, width: int) -> list[Key]:
        """Return the tiles that a window touches, by component, row, column."""
        record = self._record
        rows = _starts(row, height, record.tile_height)
        columns = _starts(column, width, record.tile_width)
        n = len(components(record.channels))
        return [(component, r, c) for component in range(n) for r in rows for c in columns]

    def _decoded(self, keys: Sequence[Key]) -> dict[Key, Samples]:
        tiles = {key: self._stored(key) for key in keys}
        missing = [key for key, tile in tiles.items() if tile not in self._decoder.cache]
        if missing and self._following is not None:
            self._decoder.decode(self._with_ahead(missing), keep=True)
        decoded: dict[Key, Samples] = {}
        results = self._decoder.decode(list(tiles.values()), keep=True)
        for key, result in zip(tiles, results, strict=True):
            if isinstance(result, ArchiverError):
                raise result
            decoded[key] = result
        return decoded

    def _stored(self, key: Key) -> StoredTile:
        try:
            return self._tiles[key]
        except KeyError as error:
            raise FormatError(f"the archive has no tile {key} of an image that needs it") from error

    def _with_ahead(self, missing: Sequence[Key]) -> list[StoredTile]:
        """Return what to decode: rows of tiles that miss something, and some beyond them.

        Beyond is after, or before if what comes after is there already (a BMP starts at the end).
        Where that is the rest of a small image, the next images of the file come along.
        """
        record = self._record
        first = min(key[1] for key in missing)
        last = max(key[1] for key in missing)
        pixels = record.tile_height * record.width * len(components(record.channels))
        bands = max(1, BATCH_PIXELS // max(1, pixels))
        reach = bands * record.tile_height
        end = max(last + 1, first + reach)
        below = self._tiles.get((0, last + record.tile_height, 0))
        if below is not None and below in self._decoder.cache:
            end = last + 1
            first = max(0, min(first, last + record.tile_height - reach))
        wanted = [
            self._stored(key)
            for key in self._keys(first, 0, min(end, record.height) - first, record.width)
        ]
        room = BATCH_PIXELS - sum(tile.n_pixels for tile in wanted)
        if self._following is not None and end >= record.height:
            for tile in self._following():
                room -= tile.n_pixels
                if room < 0 or tile.is_jpeg:
                    break
                wanted.append(tile)
        return wanted


def _starts(start: int, length: int, side: int) -> range:
    """Return the first sample of every tile that [start, start + length) touches."""
    return range(start - start % side, start + length, side) if length else range(0)


def assembled(record: ImageRecord, tiles: Mapping[Key, Samples]) -> Image:
    """Return an image held in memory from all its decoded tiles."""
    samples = np.empty((record.height, record.width, record.channels), record.dtype)
    groups = components(record.channels)
    for (component, row, column), tile in tiles.items():
        place = (slice(row, row + tile.shape[0]), slice(column, column + tile.shape[1]))
        samples[(*place, list(groups[component]))] = tile
    return Image.from_array(samples, bit_depth=record.bit_depth)
