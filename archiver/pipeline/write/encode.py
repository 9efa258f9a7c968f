"""Samples and residues on their way to payloads: read, encode, decode back, compare.

Payloads leave here only after they were decoded again to the same bytes (design P4).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from archiver.archive.shard import ShardWriter, crc32c
from archiver.codec import residue
from archiver.codec import tiles as codec
from archiver.codec.classic import little_endian
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tiles
from archiver.codec.transforms import chain
from archiver.errors import ArchiverError, IntegrityError, ParityError, SourceError
from archiver.image import Image, Samples
from archiver.pipeline.key_tiles import KeyTiles
from archiver.pipeline.tiling import Place, components, places

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

log = logging.getLogger(__name__)

Priming = tuple[KeyTiles | None, int]  # and the number of the tile in its file

WINDOW_SAMPLES = 1 << 22  # read from a source at once

FELL_BACK = (
    "the learned codec did not decode to what it was given; stored by a classic codec instead. "
    "Test this machine's memory and processor"
)

KEY_LOST = (
    "a JPEG tile from which others have learned did not decode to what it was given, so none of "
    "them would; test this machine's memory and processor, then run again"
)


@dataclass(frozen=True)
class CodedTile:
    """A tile's payload, checked; ``offset`` is -1 and ``payload`` there until it is appended."""

    codec: int
    payload: bytes
    sample_crc32c: int
    needs_model: bool
    notice: str = ""
    offset: int = -1
    length: int = 0
    crc32c: int = 0

    def appended(self, shard: ShardWriter) -> CodedTile:
        """Append the payload and return where it is."""
        offset, crc = shard.append(self.payload)
        return replace(self, payload=b"", offset=offset, length=len(self.payload), crc32c=crc)


@dataclass(frozen=True)
class Chunk:
    """One coded chunk of a residue, checked."""

    codec: int
    payload: bytes
    raw_length: int


def all_places(images: Sequence[Image], tile: int) -> Iterator[tuple[int, Place]]:
    """Yield (image, place) of all tiles of a file, in their order on disk."""
    for index, image in enumerate(images):
        for place in places(image, tile):
            yield index, place


def read_tiles(images: Sequence[Image], tile: int) -> Iterator[Samples]:
    """Yield the samples of all tiles in the order of `all_places`; SourceError if unreadable.

    Reads windows of one row of tiles: rows of a strip are decoded once, not once a tile.
    """
    for image in images:
        if image.jpeg_tile:
            yield from (read_tile(image, place) for place in places(image, tile))
            continue
        groups = components(image.channels)
        band: list[Place] = []
        for place in places(image, tile):
            height, width = place.height, sum(p.width for p in band) + place.width
            is_next = band and (place.component, place.row) != (band[0].component, band[0].row)
            if is_next or (band and height * width * image.channels > WINDOW_SAMPLES):
                yield from _read_band(image, band, groups[band[0].component])
                band = []
            band.append(place)
        if band:
            yield from _read_band(image, band, groups[band[0].component])


def _read_band(image: Image, band: Sequence[Place], channels: tuple[int, ...]) -> Iterator[Samples]:
    first = band[0]
    width = sum(place.width for place in band)
    try:
        window = image.window(first.row, first.column, first.height, width)
    except Exception as error:  # third-party decoders raise anything once a file changes
        raise SourceError(f"its samples could not be read again: {error}") from error
    if window.shape != (first.height, width, image.channels) or window.dtype != image.dtype:
        raise SourceError(
            f"its samples came as {window.shape} {window.dtype}, expected "
            f"{(first.height, width, image.channels)} {image.dtype}; please report this file"
        )
    for place in band:
        start = place.column - first.column
        part = window[:, start : start + place.width, list(channels)]
        yield np.ascontiguousarray(part, image.dtype.newbyteorder("="))


def read_tile(image: Image, place: Place) -> Samples:
    """Return the samples of one tile, of a JPEG tile its bytes; SourceError if unreadable."""
    if image.jpeg_tile:
        try:
            return jpeg_tiles.as_tile(image.jpeg_tile(place.row, place.column))
        except Exception as error:  # the file changed
            raise SourceError(f"its tiles could not be read again: {error}") from error
    [samples] = _read_band(image, [place], components(image.channels)[place.component])
    return samples


def checked(
    tiles: Sequence[Samples],
    encoded: Sequence[Encoded],
    engine: Engine | None,
    bases: Sequence[Samples | None],
    key_tiles_of: Sequence[Priming],
) -> list[CodedTile]:
    """Return the codings of ``tiles`` that decode to their samples again, others classic.

    ``bases`` are the tiles that they are differences to, if they are; ``primers`` what JPEG tiles
    learned from, if they did, and their numbers in their files.  ParityError if what others have
    learned from does not come back.
    """
    if not tiles:
        return []
    coded = []
    good = _come_back(tiles, encoded, engine, bases, key_tiles_of)
    for tile, one, is_good, (key_tiles, number) in zip(
        tiles, encoded, good, key_tiles_of, strict=True
    ):
        notice = ""
        if not is_good and key_tiles and number in key_tiles.keys:
            raise ParityError(KEY_LOST)
        if not is_good:
            one, notice = _encode_classic(tile), FELL_BACK
            log.error(notice)
        crc = crc32c(little_endian(tile))
        needs_model = chain.Outline.of(one.codec, one.payload).needs_model
        coded.append(CodedTile(int(one.codec), one.payload, crc, needs_model, notice))
    return coded


def _come_back(
    tiles: Sequence[Samples],
    encoded: Sequence[Encoded],
    engine: Engine | None,
    bases: Sequence[Samples | None],
    key_tiles_of: Sequence[Priming],
) -> list[bool]:
    """Return which tiles decode to the same bytes."""
    with_key_tiles = [
        i
        for i, (one, (key_tiles, _)) in enumerate(zip(encoded, key_tiles_of, strict=True))
        if key_tiles and one.codec == TileCodec.JPEG and jpeg_tiles.uses_key_tiles(one.payload)
    ]

    def decodes(i: int) -> bool:
        key_tiles, number = key_tiles_of[i]
        return key_tiles is not None and key_tiles.decodes(
            number, encoded[i].payload, tiles[i].tobytes()
        )

    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        good = dict(zip(with_key_tiles, pool.map(decodes, with_key_tiles), strict=True))
    rest = [i for i in range(len(tiles)) if i not in good]
    parts = [tiles[i] for i in rest], [encoded[i] for i in rest], engine, [bases[i] for i in rest]
    good |= zip(rest, _decodes(*parts), strict=True)
    return [good[i] for i in range(len(tiles))]


def _decodes(
    tiles: Sequence[Samples],
    encoded: Sequence[Encoded],
    engine: Engine | None,
    bases: Sequence[Samples | None],
) -> list[bool]:
    """Return which tiles decode to the same bytes."""
    shapes = [(tile.shape[0], tile.shape[1], tile.shape[2]) for tile in tiles]
    try:
        opened = [
            chain.opened(one.codec, one.payload, shape, tile.dtype)
            for tile, one, shape in zip(tiles, encoded, shapes, strict=True)
        ]
        pairs = [(one.codec, one.payload) for one in opened]
        decoded = codec.decode(pairs, shapes, [one.dtype for one in opened], engine)
    except ArchiverError:
        if len(tiles) == 1:
            return [False]
        return [
            _decodes([tile], [one], engine, [base])[0]
            for tile, one, base in zip(tiles, encoded, bases, strict=True)
        ]
    decoded = [
        one.base.plus(left, base, tile.dtype) if one.base and base is not None else left
        for tile, left, one, base in zip(tiles, decoded, opened, bases, strict=True)
    ]
    return [
        back.dtype == tile.dtype
        and back.shape == tile.shape
        and little_endian(back) == little_endian(tile)
        for tile, back in zip(tiles, decoded, strict=True)
    ]


def _encode_classic(tile: Samples) -> Encoded:
    """Return a coding without the model, plain samples if even that fails."""
    [encoded] = codec.encode([tile], None)
    if _decodes([tile], [encoded], None, [None]) == [True]:
        return encoded
    stored = codec.stored(tile)
    if _decodes([tile], [stored], None, [None]) == [True]:
        return stored
    raise ParityError("a tile cannot even be stored and read back; test this machine's memory")


def residue_chunks(blocks: Iterable[bytes]) -> Iterator[Chunk]:
    """Yield the coded chunks of a residue given in blocks of any size."""
    waiting, size = [], 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= residue.CHUNK_BYTES:
            data = b"".join(waiting)
            whole = len(data) - len(data) % residue.CHUNK_BYTES
            for start in range(0, whole, residue.CHUNK_BYTES):
                yield _encode_chunk(data[start : start + residue.CHUNK_BYTES])
            waiting, size = [data[whole:]], len(data) - whole
    if size:
        yield _encode_chunk(b"".join(waiting))


def _encode_chunk(data: bytes) -> Chunk:
    codec, payload = residue.compress(data)
    try:
        is_good = residue.decompress(codec, payload, len(data)) == data
    except IntegrityError:
        is_good = False
    if not is_good:
        log.error("a residue chunk did not decode to itself; stored as it is")
        codec, payload = residue.ResidueCodec.STORED, data
    return Chunk(int(codec), payload, len(data))
