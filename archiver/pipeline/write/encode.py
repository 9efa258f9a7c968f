"""Tiles to payloads: each is coded as the plan of its file has it, then decoded and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from archiver.codec import quick
from archiver.codec import tiles as codec
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.transforms import chain
from archiver.pipeline.write.check import checked
from archiver.pipeline.write.file_plan import FilePlan
from archiver.pipeline.write.payloads import CodedTile
from archiver.pipeline.write.tile_samples import RawTile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

PlannedTile = tuple[FilePlan, RawTile]


def code(tiles: Sequence[PlannedTile], engine: Engine | None) -> list[CodedTile]:
    """Return tiles coded and checked; ``engine`` is that of all their plans."""
    return checked(tiles, encode(tiles, engine), engine)


def encode(tiles: Sequence[PlannedTile], engine: Engine | None) -> list[Encoded]:
    """Return the smallest coding of every tile; what was coded for a plan is not coded again."""
    coded = {
        i: plan.encoded[tile.number]
        for i, (plan, tile) in enumerate(tiles)
        if tile.number in plan.encoded
    }
    coded |= {
        i: quick.encode(tile.samples) for i, (plan, tile) in enumerate(tiles) if plan.is_quick
    }
    coded |= _jpegs(tiles, coded, engine)
    rest = [i for i in range(len(tiles)) if i not in coded]
    samples = [tiles[i][1].samples for i in rest]
    orientations = [tiles[i][0].orientations for i in rest]
    coded |= zip(rest, codec.encode(samples, engine, orientations), strict=True)
    coded |= _smaller_deltas(tiles, coded, engine)
    return [coded[i] for i in range(len(tiles))]


def _jpegs(
    tiles: Sequence[PlannedTile], coded: Mapping[int, Encoded], engine: Engine | None
) -> dict[int, Encoded]:
    """Return the coding of JPEGs whose coefficients are coded, of those that are not yet."""
    jpegs = [
        i
        for i, (plan, tile) in enumerate(tiles)
        if i not in coded and plan.codes_coefficients(tile.samples)
    ]
    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        return dict(zip(jpegs, pool.map(lambda i: _jpeg(*tiles[i]), jpegs), strict=True))


def _jpeg(plan: FilePlan, tile: RawTile) -> Encoded:
    state = plan.key_tiles.state(tile.number) if plan.key_tiles else None
    return Encoded(TileCodec.JPEG, jpeg_tile.encode(tile.samples, state))


def _smaller_deltas(
    tiles: Sequence[PlannedTile], coded: Mapping[int, Encoded], engine: Engine | None
) -> dict[int, Encoded]:
    """Return the coding of tiles as deltas, where it is smaller than the one that they have."""
    deltas = [
        (i, tile.delta)
        for i, (_, tile) in enumerate(tiles)
        if tile.delta and not chain.Outline.of(coded[i].codec, coded[i].payload).is_constant
    ]
    orientations = [tiles[i][0].orientations for i, _ in deltas]
    lefts = codec.encode([delta.left for _, delta in deltas], engine, orientations)
    smaller = {}
    for (i, delta), left in zip(deltas, lefts, strict=True):
        as_delta = chain.as_delta(delta.base, left)
        if len(as_delta.payload) < len(coded[i].payload):
            smaller[i] = as_delta
    return smaller
