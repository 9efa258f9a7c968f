"""Own the way from stored tiles back to samples: payload checked, decoded, samples checked.

Many tiles are decoded in one call, whatever object they belong to: a wavefront takes as many steps
for one tile as for a hundred.  A tile that does not decode takes no other tile with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archiver.archive.reader import Archive
from archiver.archive.records import ImageRecord
from archiver.archive.shard import crc32c
from archiver.codec import jpeg_tiles
from archiver.codec import tiles as codec
from archiver.codec.adaptation import Adaptation
from archiver.codec.classic import little_endian
from archiver.codec.residue import ResidueCodec
from archiver.errors import ArchiverError, FormatError, IntegrityError
from archiver.image import Image, Samples
from archiver.pipeline import engines
from archiver.pipeline.geometry import components
from archiver.sources.jpeg_tile import JpegTile

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

BATCH_PIXELS = 1 << 21  # decoded in one call
CACHE_BYTES = 256 << 20  # of decoded tiles that a raster keeps

Key = tuple[int, int, int]  # component, first row, first column
Result = Samples | ArchiverError


@dataclass(frozen=True)
class Payload:
    """Where some bytes are, and their checksum."""

    shard: int
    offset: int
    length: int
    crc32c: int


@dataclass(frozen=True)
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
    dtype: np.dtype[np.generic]

    @property
    def is_jpeg(self) -> bool:
        """Whether it is kept as a JPEG."""
        return self.codec == codec.TileCodec.JPEG

    @property
    def n_pixels(self) -> int:
        """Pixels of the tile."""
        return self.shape[0] * self.shape[1]


Needed = tuple[int, Payload | None]  # what decodes a tile: a model, -1 if none, and an adaptation


class TileDecoder:
    """Decode tiles of one archive with that many torch threads."""

    def __init__(self, archive: Archive, threads: int | None) -> None:
        self._archive = archive
        self._threads = threads

    def decode(self, tiles: Sequence[StoredTile]) -> list[Result]:
        """Return the samples of each tile, or what is wrong with it."""
        batches: list[list[StoredTile]] = [[]]
        pixels = 0
        for tile in tiles:
            if pixels + tile.n_pixels > BATCH_PIXELS and batches[-1]:
                batches.append([])
                pixels = 0
            batches[-1].append(tile)
            pixels += tile.n_pixels
        return [result for batch in batches for result in self._decode_batch(batch)]

    def jpeg_tile(self, tile: StoredTile) -> bytes:
        """Return a JPEG tile as it was given to the archive; IntegrityError if it is damaged."""
        try:
            payload = self._archive.payload(tile.shard, tile.offset, tile.length, tile.crc32c)
            if jpeg_tiles.is_headless(payload):
                payload = jpeg_tiles.with_head(payload, self._jpeg_head(tile))
            [found] = codec.decode([(tile.codec, payload)], [tile.shape], [tile.dtype], None)
            data = found.tobytes()
        except ArchiverError as error:
            raise IntegrityError(f"{tile.name}: {error}") from error
        if crc32c(data) != tile.sample_crc32c:
            raise _as_damage(tile, "its JPEG has another CRC-32C")
        return data

    def _jpeg_head(self, tile: StoredTile) -> bytes:
        where = tile.beside.get(ResidueCodec.JPEG_HEAD)
        if where is None:
            raise FormatError("its file has no head of JPEG tiles")
        try:
            return self.payload(where)
        except ArchiverError as error:
            raise IntegrityError(f"the head of its file's JPEG tiles: {error}") from error

    def _jpeg_samples(self, tile: StoredTile) -> Result:
        """Return the samples of a JPEG tile, as libjpeg-turbo decodes them, cut to the image."""
        try:
            data = self.jpeg_tile(tile)
            whole = JpegTile.from_bytes(data).samples()
            samples = whole[: tile.shape[0], : tile.shape[1]].copy()  # a view would keep it all
        except ArchiverError as error:
            return error
        except Exception as error:
            return _as_damage(tile, error)
        if samples.shape != tile.shape or samples.dtype != tile.dtype:
            return _as_damage(tile, f"its JPEG has {samples.shape} samples, not {tile.shape}")
        return samples

    def payload(self, where: Payload) -> bytes:
        """Return some checked bytes."""
        return self._archive.payload(where.shard, where.offset, where.length, where.crc32c)

    def _decode_batch(self, tiles: Sequence[StoredTile]) -> list[Result]:
        results: dict[int, Result] = {
            i: self._jpeg_samples(tile) for i, tile in enumerate(tiles) if tile.is_jpeg
        }
        payloads: dict[Needed, dict[int, bytes]] = {}  # position -> payload
        for i, tile in enumerate(tiles):
            if tile.is_jpeg:
                continue
            try:
                payload = self._archive.payload(tile.shard, tile.offset, tile.length, tile.crc32c)
                adapts = codec.is_adapted(tile.codec, payload)
                needed = tile.model, tile.beside.get(ResidueCodec.ADAPTATION) if adapts else None
                payloads.setdefault(needed, {})[i] = payload
            except ArchiverError as error:
                results[i] = IntegrityError(f"{tile.name}: {error}")
        for needed, members in payloads.items():
            chosen = [tiles[i] for i in members]
            try:
                engine = self._engine(*needed)
            except (IntegrityError, FormatError) as error:  # its model is damaged, not its shard
                results |= {i: IntegrityError(f"{tiles[i].name}: {error}") for i in members}
                continue
            decoded = self._decode_with(engine, chosen, list(members.values()))
            results |= zip(members, decoded, strict=True)
        return [results[i] for i in range(len(tiles))]

    def _decode_with(
        self, engine: Engine | None, tiles: Sequence[StoredTile], payloads: Sequence[bytes]
    ) -> list[Result]:
        try:
            decoded = codec.decode(
                [(tile.codec, payload) for tile, payload in zip(tiles, payloads, strict=True)],
                [tile.shape for tile in tiles],
                [tile.dtype for tile in tiles],
                engine,
            )
        except Exception as error:  # a payload with a valid CRC may still be nonsense
            if len(tiles) == 1:
                return [_as_damage(tiles[0], error)]
            return [
                self._decode_with(engine, [tile], [payload])[0]
                for tile, payload in zip(tiles, payloads, strict=True)
            ]
        return [_checked(tile, samples) for tile, samples in zip(tiles, decoded, strict=True)]

    def _engine(self, model: int, adaptation: Payload | None) -> Engine | None:
        if model < 0:
            return None
        sha256 = bytes.fromhex(self._archive.models[model].sha256)
        if adaptation is None:
            return engines.of_archive(self._archive.path, sha256, self._threads)
        try:
            adapter = Adaptation.from_bytes(self.payload(adaptation)).adapter
            return engines.adapted(self._archive.path, sha256, adapter, self._threads)
        except ArchiverError as error:
            raise IntegrityError(f"its adapter: {error}") from error


def _as_damage(tile: StoredTile, error: Exception | str) -> ArchiverError:
    return IntegrityError(
        f"{tile.name}: does not decode ({error}); restore its shard from a backup of the archive"
    )


def _checked(tile: StoredTile, samples: Samples) -> Result:
    found = crc32c(little_endian(samples))
    if samples.shape == tile.shape and samples.dtype == tile.dtype and found == tile.sample_crc32c:
        return samples
    return IntegrityError(
        f"{tile.name}: its samples have CRC-32C {found:#010x}, "
        f"expected {tile.sample_crc32c:#010x}; "
        "restore the archive from a backup; if a backup says the same, this machine does not "
        "compute the exact bits: try another one, and report it"
    )


class Raster:
    """One stored image, decoded as windows ask for it; keeps the tiles decoded last.

    With ``ahead`` a miss decodes whole rows of tiles: a rebuild reads an image from top to bottom.
    """

    def __init__(
        self,
        record: ImageRecord,
        tiles: Mapping[Key, StoredTile],
        decoder: TileDecoder,
        *,
        ahead: bool = False,
    ) -> None:
        self._record = record
        self._dtype = np.dtype(record.dtype)
        self._tiles = tiles
        self._decoder = decoder
        self._ahead = ahead
        self._cache: OrderedDict[Key, Samples] = OrderedDict()
        self._cached_bytes = 0

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
            part = tile[top - key[1] : bottom - key[1], left - key[2] : right - key[2]]
            samples[top - row : bottom - row, left - column : right - column, channels] = part
        return samples

    def _keys(self, row: int, column: int, height: int, width: int) -> list[Key]:
        """Return the tiles that a window touches, by component, row, column."""
        record = self._record
        rows = _starts(row, height, record.tile_height)
        columns = _starts(column, width, record.tile_width)
        n = len(components(record.channels))
        return [(component, r, c) for component in range(n) for r in rows for c in columns]

    def _decoded(self, keys: Sequence[Key]) -> dict[Key, Samples]:
        found = {key: self._cache[key] for key in keys if key in self._cache}
        missing = [key for key in keys if key not in found]
        if missing:
            wanted = self._with_ahead(missing) if self._ahead else missing
            decoded = self._decoder.decode([self._stored(key) for key in wanted])
            for key, result in zip(wanted, decoded, strict=True):
                if isinstance(result, ArchiverError):
                    if key in missing:
                        raise result
                    continue
                found[key] = result
                self._keep(key, result)
        return {key: found[key] for key in keys}

    def _stored(self, key: Key) -> StoredTile:
        try:
            return self._tiles[key]
        except KeyError as error:
            raise FormatError(f"the archive has no tile {key} of an image that needs it") from error

    def _with_ahead(self, missing: Sequence[Key]) -> list[Key]:
        """Return what to decode: the rows of tiles that miss something, and some beyond them.

        Beyond is after, or before if what comes after is there already (a BMP starts at the end).
        """
        record = self._record
        first = min(key[1] for key in missing)
        last = max(key[1] for key in missing)
        bands = max(1, BATCH_PIXELS // max(1, record.tile_height * record.width))
        reach = bands * record.tile_height
        end = max(last + 1, first + reach)
        if (0, last + record.tile_height, 0) in self._cache:
            end = last + 1
            first = max(0, min(first, last + record.tile_height - reach))
        keys = self._keys(first, 0, min(end, record.height) - first, record.width)
        return [key for key in keys if key not in self._cache]

    def _keep(self, key: Key, tile: Samples) -> None:
        self._cache[key] = tile
        self._cached_bytes += tile.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes


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
