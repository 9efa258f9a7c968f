"""The way from stored tiles back to samples: payload checked, decoded, samples checked.

Many tiles are decoded in one call, whatever object they belong to: a wavefront takes as many steps
for one tile as for a hundred.  A tile that does not decode takes no other tile with it, but those
that are differences to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from archiver.archive.reader import Archive
from archiver.archive.shard import crc32c
from archiver.codec import tiles as codec
from archiver.codec.classic import little_endian
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.model.adapter_record import AdapterRecord
from archiver.codec.residue import ResidueCodec
from archiver.codec.transforms import chain, delta
from archiver.codec.transforms.chain import Opened, Outline
from archiver.codec.transforms.delta import Base, Delta
from archiver.errors import (
    ArchiverError,
    FormatError,
    IntegrityError,
    MachineError,
    is_of_machine,
    within,
)
from archiver.image import Samples
from archiver.pipeline import engines
from archiver.pipeline.key_tiles import KeyTiles
from archiver.pipeline.read.stored_tile import Payload, StoredTile
from archiver.pipeline.read.tile_cache import TileCache
from archiver.sources.segmented.jpeg_tile import JpegTile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

BATCH_PIXELS = 1 << 21  # decoded in one call
MAX_TILE_PIXELS = 1 << 24  # of one tile that is no JPEG (FORMAT.md, "tiles")

TOO_LONG = (
    f"takes more than {delta.MAX_CHAIN} tiles to decode, which the format does not allow; "
    "report this archive, and pack the file again from its source"
)
BUILDS_ON = "builds on what does not decode: "

Result = Samples | ArchiverError
Needed = tuple[int, Payload | None]  # what decodes a tile: a model, -1 if none, and an adapter


class _Done:
    """Tiles as far as they are decoded, and how many others each of them took."""

    def __init__(self) -> None:
        self.results: dict[StoredTile, Result] = {}
        self.depths: dict[StoredTile, int] = {}

    def put(self, tile: StoredTile, result: Result, depth: int = 0) -> None:
        """Take a result."""
        self.results[tile], self.depths[tile] = result, depth

    def complete(self, tile: StoredTile, opened: Opened, coded: Result) -> None:
        """Take what the payload of a tile holds; those that it builds on are done."""
        if isinstance(coded, ArchiverError):
            self.put(tile, coded)
        elif opened.base is None:
            self.put(tile, _checked(tile, coded))
        elif coded.shape != tile.shape or coded.dtype != opened.dtype:
            self.put(tile, _as_damage(tile, f"it holds {coded.shape} {coded.dtype}"))
        elif opened.back:
            self._add(tile, opened.base, coded, tile.before(opened.back))
        else:
            self.put(tile, _checked(tile, Delta(opened.base).back(coded, tile.dtype)))

    def _add(self, tile: StoredTile, base: Base, left: Samples, before: StoredTile) -> None:
        known, depth = self.results[before], self.depths[before] + 1
        if isinstance(known, ArchiverError):
            *_, root = str(known).split(BUILDS_ON)
            self.put(tile, type(known)(f"{tile.name}: {BUILDS_ON}{root}"))
        elif depth > delta.MAX_CHAIN:
            self.put(tile, IntegrityError(f"{tile.name}: {TOO_LONG}"))
        else:
            self.put(tile, _checked(tile, Delta(base, known).back(left, tile.dtype)), depth)


class TileDecoder:
    """Decode tiles of one archive with that many torch threads."""

    def __init__(self, archive: Archive, threads: int | None) -> None:
        self._archive = archive
        self._threads = threads
        self.cache = TileCache()
        self._key_tiles: tuple[int, KeyTiles] | None = None  # of the object that was read last

    def decode(self, tiles: Sequence[StoredTile], *, keep: bool = False) -> list[Result]:
        """Return the samples of each tile, or what is wrong with it; not to be written to.

        ``keep`` has them, and those that they are differences to, at hand for the next call.
        """
        batches = (self._decode_batch(batch, keep=keep) for batch in _batches(tiles))
        return [result for results in batches for result in results]

    def jpeg_tile(self, tile: StoredTile) -> bytes:
        """Return a JPEG tile as it was given to the archive; IntegrityError if it is damaged."""
        try:
            payload = self._jpeg_payload(tile)
            uses_key_tiles = jpeg_tile.uses_key_tiles(payload)
            state = self._key_tiles_of(tile).state(tile.number) if uses_key_tiles else None
            data = jpeg_tile.decode(payload, state)
        except ArchiverError as error:
            raise within(tile.name, error) from error
        if crc32c(data) != tile.sample_crc32c:
            raise _as_damage(tile, "its JPEG has another CRC-32C")
        return data

    def _jpeg_payload(self, tile: StoredTile) -> bytes:
        """Return the payload of a JPEG tile, with its head."""
        payload = self._archive.payload(tile.shard, tile.offset, tile.length, tile.crc32c)
        if jpeg_tile.is_headless(payload):
            payload = jpeg_tile.with_head(payload, self._jpeg_head(tile))
        height, width = jpeg_tile.sides(payload)
        if height > tile.room[0] or width > tile.room[1]:
            raise IntegrityError(f"a JPEG of {height} x {width} in a tile of {tile.room}")
        return payload

    def _key_tiles_of(self, tile: StoredTile) -> KeyTiles:
        """Return what the JPEG tiles of the same file learn from."""
        if self._key_tiles is None or self._key_tiles[0] != tile.object:
            where = tile.beside.get(ResidueCodec.JPEG_KEY_TILES)
            if where is None:
                raise FormatError("its file has no keys of JPEG tiles")
            siblings = tile.siblings

            def payload_of(number: int) -> bytes:
                if number >= len(siblings) or not siblings[number].is_jpeg:
                    raise IntegrityError(f"there is no JPEG tile {number}")
                return self._jpeg_payload(siblings[number])

            self._key_tiles = tile.object, KeyTiles.from_bytes(self.payload(where), payload_of)
        return self._key_tiles[1]

    def _jpeg_head(self, tile: StoredTile) -> bytes:
        where = tile.beside.get(ResidueCodec.JPEG_HEAD)
        if where is None:
            raise FormatError("its file has no head of JPEG tiles")
        try:
            return self.payload(where)
        except ArchiverError as error:
            raise within("the head of its file's JPEG tiles", error) from error

    def _jpeg(self, tile: StoredTile) -> Result:
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

    def _decode_batch(self, tiles: Sequence[StoredTile], *, keep: bool) -> list[Result]:
        done = _Done()
        opened = self._open_all(tiles, done)
        coded: dict[StoredTile, Result] = {}
        for batch in _batches(list(opened)):
            coded |= self._decode_opened({tile: opened[tile] for tile in batch})
        for tile in sorted(opened, key=lambda tile: tile.number):  # what is built on comes first
            done.complete(tile, opened[tile], coded.pop(tile))
        if keep:
            for tile, result in done.results.items():
                if not isinstance(result, ArchiverError):
                    self.cache.keep(tile, result, done.depths[tile])
        return [done.results[tile] for tile in tiles]

    def _open_all(self, tiles: Sequence[StoredTile], done: _Done) -> dict[StoredTile, Opened]:
        """Return the payloads of the tiles, and of those that they are differences to.

        What is known without decoding, samples or damage, is done.
        """
        opened: dict[StoredTile, Opened] = {}
        waiting = list(tiles)
        for _ in range(delta.MAX_CHAIN + 1):
            bases = []
            for tile in waiting:
                if tile in done.results or tile in opened:
                    continue
                kept = self.cache.get(tile)
                if kept or tile.is_jpeg:
                    done.put(tile, *((kept.samples, kept.depth) if kept else (self._jpeg(tile), 0)))
                    continue
                try:
                    _check_size(tile)
                    parsed = self._open(tile)
                    if parsed.back:
                        bases.append(tile.before(parsed.back))
                    opened[tile] = parsed
                except ArchiverError as error:
                    done.put(tile, within(tile.name, error))
            waiting = bases
        for tile in set(waiting) - set(opened) - set(done.results):
            done.put(tile, IntegrityError(f"{tile.name}: {TOO_LONG}"))
        return opened

    def _open(self, tile: StoredTile) -> Opened:
        payload = self._archive.payload(tile.shard, tile.offset, tile.length, tile.crc32c)
        return chain.opened(tile.codec, payload, tile.shape, tile.dtype)

    def _decode_opened(self, opened: Mapping[StoredTile, Opened]) -> dict[StoredTile, Result]:
        """Return what the payloads hold, not checked yet; whatever decodes them together."""
        groups: dict[Needed, dict[StoredTile, Opened]] = {}
        for tile, parsed in opened.items():
            adapts = Outline.of(parsed.codec, parsed.payload).is_adapted
            needed = tile.model, tile.beside.get(ResidueCodec.ADAPTER_RECORD) if adapts else None
            groups.setdefault(needed, {})[tile] = parsed
        results: dict[StoredTile, Result] = {}
        for needed, members in groups.items():
            try:
                engine = self._engine(*needed)
            except (IntegrityError, FormatError, MachineError) as error:  # of its model
                results |= {t: within(t.name, error) for t in members}
                continue
            decoded = self._decode_with(engine, list(members), list(members.values()))
            results |= zip(members, decoded, strict=True)
        return results

    def _decode_with(
        self, engine: Engine | None, tiles: Sequence[StoredTile], opened: Sequence[Opened]
    ) -> list[Result]:
        try:
            return [
                *codec.decode(
                    [(item.codec, item.payload) for item in opened],
                    [tile.shape for tile in tiles],
                    [item.dtype for item in opened],
                    engine,
                )
            ]
        except Exception as error:  # a payload with a valid CRC may still be nonsense
            if len(tiles) == 1:
                return [_as_damage(tiles[0], error)]
            return [
                self._decode_with(engine, [tile], [item])[0]
                for tile, item in zip(tiles, opened, strict=True)
            ]

    def _engine(self, model: int, adapter_record: Payload | None) -> Engine | None:
        if model < 0:
            return None
        sha256 = bytes.fromhex(self._archive.models[model].sha256)
        if adapter_record is None:
            return engines.of_archive(self._archive.path, sha256, self._threads)
        try:
            adapter = AdapterRecord.from_bytes(self.payload(adapter_record)).adapter
            return engines.adapted(self._archive.path, sha256, adapter, self._threads)
        except ArchiverError as error:
            raise within("its adapter", error) from error


def _batches(tiles: Sequence[StoredTile]) -> Iterator[list[StoredTile]]:
    """Yield the tiles in their order, so many at a time as are decoded in one call."""
    batch: list[StoredTile] = []
    pixels = 0
    for tile in tiles:
        if batch and pixels + tile.n_pixels > BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
        batch.append(tile)
        pixels += tile.n_pixels
    if batch:
        yield batch


def _check_size(tile: StoredTile) -> None:
    if tile.n_pixels > MAX_TILE_PIXELS:
        raise FormatError(
            f"of {tile.shape[0]} x {tile.shape[1]} samples, at most {MAX_TILE_PIXELS} are allowed; "
            "the program that wrote it is at fault: restore a backup of the archive"
        )


def _as_damage(tile: StoredTile, error: Exception | str) -> ArchiverError:
    if isinstance(error, Exception) and is_of_machine(error):
        return within(tile.name, error)
    return IntegrityError(
        f"{tile.name}: does not decode ({error}); restore its shard from a backup of the archive"
    )


def _checked(tile: StoredTile, samples: Samples) -> Result:
    crc = crc32c(little_endian(samples))
    if samples.shape == tile.shape and samples.dtype == tile.dtype and crc == tile.sample_crc32c:
        return samples
    return IntegrityError(
        f"{tile.name}: its samples have CRC-32C {crc:#010x}, "
        f"expected {tile.sample_crc32c:#010x}; "
        "restore the archive from a backup; if a backup says the same, this machine does not "
        "compute the exact bits: try another one, and report it"
    )
