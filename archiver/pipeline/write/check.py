"""The check of coded tiles: payloads leave here only after they were decoded to the same bytes.

A tile that does not come back is stored by a classic codec, and that is said.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from archiver.archive.shard import crc32c
from archiver.codec import tiles as codec
from archiver.codec.classic import little_endian
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.transforms import chain
from archiver.codec.transforms.delta import Delta
from archiver.errors import ArchiverError, ParityError
from archiver.image import Samples
from archiver.pipeline.key_tiles import KeyTiles
from archiver.pipeline.write.file_plan import FilePlan
from archiver.pipeline.write.payloads import CodedTile
from archiver.pipeline.write.tile_samples import RawTile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

log = logging.getLogger(__name__)

FELL_BACK = (
    "its codec did not decode to what it was given; stored by a classic codec instead. "
    "Test this machine's memory and processor"
)

KEY_LOST = (
    "a JPEG tile from which others have learned did not decode to what it was given, so none of "
    "them would; test this machine's memory and processor, then run again"
)


def checked(
    tiles: Sequence[tuple[FilePlan, RawTile]], encoded: Sequence[Encoded], engine: Engine | None
) -> list[CodedTile]:
    """Return the codings of ``tiles`` that decode to their samples again, others classic.

    ParityError if what others have learned from does not come back.
    """
    if not tiles:
        return []
    good = _come_back(tiles, encoded, engine)
    return [
        _kept(plan, tile, coding, is_good=is_good)
        for (plan, tile), coding, is_good in zip(tiles, encoded, good, strict=True)
    ]


def _kept(plan: FilePlan, tile: RawTile, coding: Encoded, *, is_good: bool) -> CodedTile:
    """Return a tile as it is stored, given whether its coding decodes to it."""
    notice = ""
    if not is_good:
        key_tiles = plan.key_tiles_for(tile.samples)
        if key_tiles and tile.number in key_tiles.keys:
            raise ParityError(KEY_LOST)
        coding, notice = _encode_classic(tile.samples), FELL_BACK
        log.error(notice)
    crc = crc32c(little_endian(tile.samples))
    needs_model = chain.Outline.of(coding.codec, coding.payload).needs_model
    return CodedTile(int(coding.codec), coding.payload, crc, needs_model, notice)


def _come_back(
    tiles: Sequence[tuple[FilePlan, RawTile]], encoded: Sequence[Encoded], engine: Engine | None
) -> list[bool]:
    """Return which tiles decode to the same bytes."""
    learners: dict[int, KeyTiles] = {}
    for i, ((plan, tile), coding) in enumerate(zip(tiles, encoded, strict=True)):
        key_tiles = plan.key_tiles_for(tile.samples)
        is_jpeg = coding.codec == TileCodec.JPEG
        if key_tiles and is_jpeg and jpeg_tile.uses_key_tiles(coding.payload):
            learners[i] = key_tiles

    def decodes(i: int) -> bool:
        _, tile = tiles[i]
        return learners[i].decodes(tile.number, encoded[i].payload, tile.samples.tobytes())

    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        good = dict(zip(learners, pool.map(decodes, learners), strict=True))
    rest = [i for i in range(len(tiles)) if i not in good]
    raw = [tiles[i][1] for i in rest]
    good |= zip(rest, _decodes(raw, [encoded[i] for i in rest], engine), strict=True)
    return [good[i] for i in range(len(tiles))]


def _decodes(
    tiles: Sequence[RawTile], encoded: Sequence[Encoded], engine: Engine | None
) -> list[bool]:
    """Return which tiles decode to the same bytes."""
    try:
        decoded = _decoded(tiles, encoded, engine)
    except ArchiverError:
        if len(tiles) == 1:
            return [False]
        pairs = zip(tiles, encoded, strict=True)
        return [_decodes([tile], [coding], engine)[0] for tile, coding in pairs]
    return [
        back.dtype == tile.samples.dtype
        and back.shape == tile.samples.shape
        and little_endian(back) == little_endian(tile.samples)
        for tile, back in zip(tiles, decoded, strict=True)
    ]


def _decoded(
    tiles: Sequence[RawTile], encoded: Sequence[Encoded], engine: Engine | None
) -> list[Samples]:
    """Return what tiles decode to, deltas added to the tiles that they are taken from."""
    shapes = [(*tile.samples.shape[:2], tile.samples.shape[2]) for tile in tiles]
    opened = [
        chain.opened(coding.codec, coding.payload, shape, tile.samples.dtype)
        for tile, coding, shape in zip(tiles, encoded, shapes, strict=True)
    ]
    pairs = [(inside.codec, inside.payload) for inside in opened]
    decoded = codec.decode(pairs, shapes, [inside.dtype for inside in opened], engine)
    return [
        Delta(inside.base, tile.base).back(left, tile.samples.dtype)
        if inside.base and tile.base is not None
        else left
        for tile, left, inside in zip(tiles, decoded, opened, strict=True)
    ]


def _encode_classic(samples: Samples) -> Encoded:
    """Return a coding without the model, plain samples if even that fails."""
    alone = [RawTile(0, samples)]
    [encoded] = codec.encode([samples], None)
    if _decodes(alone, [encoded], None) == [True]:
        return encoded
    stored = codec.stored(samples)
    if _decodes(alone, [stored], None) == [True]:
        return stored
    raise ParityError("a tile cannot even be stored and read back; test this machine's memory")
