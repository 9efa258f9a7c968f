"""The choice of codec for every tile: the smallest payload of all codecs that apply.

A tile is (H, W, C) samples of one component.  First come the ways to say what it holds (`_ways`:
its own samples, one channel of equal ones, a JPEG and a remainder, ranks), then each by classic
codecs, then by a model (codec/learned.py), and the smallest of all (`encode_each`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic, learned
from archiver.codec.classic import Dtype, Effort, Shape
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.learned import Orientations
from archiver.codec.transforms import chain, order_forms, scale_offset
from archiver.codec.transforms.chain import Chain
from archiver.codec.transforms.from_jpeg.collage import FromJpegs
from archiver.codec.transforms.from_jpeg.tile import FromJpeg
from archiver.codec.transforms.ordered import Ordered
from archiver.codec.transforms.repeated import Repeated
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

_FROM_JPEG_PAYS = 0.5  # of what JPEG XL takes: then no codec of samples comes near
_FROM_JPEG_MAY_PAY = 1.0  # then both are tried
_REPEATS = 0.5  # of their bytes is what zstd leaves of samples that repeat
_CLEARLY = 0.95  # of what the quick classic codecs take: the slow ones seldom take less


def encode(
    tiles: Sequence[Samples | Prepared],
    engine: Engine | None,
    orientations: Sequence[Orientations] | None = None,
) -> list[Encoded]:
    """Return the smallest coding of every tile; without ``engine`` classic codecs only.

    ``orientations`` are those in which each is given to the engine; None: all as they are.
    """
    [coded] = encode_each(tiles, [engine], orientations)
    return coded


def encode_each(
    tiles: Sequence[Samples | Prepared],
    engines: Sequence[Engine | None],
    orientations: Sequence[Orientations] | None = None,
) -> list[list[Encoded]]:
    """Return, for each engine, the smallest coding of every tile; classic codecs run once."""
    ready = prepared(tiles, engines[0])
    orientations = orientations or [learned.IDENTITY_ONLY] * len(tiles)
    samples = [way.samples for tile in ready for way in tile.ways]
    others = [coded for tile in ready for coded in tile.classic]
    of_ways = [
        of_tile if way.is_for_models else ()
        for tile, of_tile in zip(ready, orientations, strict=True)
        for way in tile.ways
    ]
    by_engine = []
    for engine in engines:
        coded = iter(learned.smallest(samples, others, engine, of_ways))
        by_engine.append([tile.smallest([next(coded) for _ in tile.ways]) for tile in ready])
    return by_engine


def prepared(tiles: Sequence[Samples | Prepared], engine: Engine | None) -> list[Prepared]:
    """Return tiles with all that any model's coding of them begins with; some may have it.

    Classic codecs try less where they only accompany an ``engine``.
    """
    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        return list(pool.map(lambda tile: Prepared.of(tile, beside=engine is not None), tiles))


def stored(tile: Samples) -> Encoded:
    """Return the coding that is none."""
    if tile.dtype == jpeg_tile.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tile.encode_as_is(tile))
    return Encoded(TileCodec.STORED, classic.little_endian(tile))


def shown(tile: Samples) -> Samples | None:
    """Return what a model is given of a tile: one channel if all are equal; None if nothing."""
    ways = _ways(tile)
    samples = ways[0].samples
    if any(way.is_from_jpeg for way in ways) or not learned.is_learnable(samples):
        return None
    if ways[0].restated and scale_offset.is_wide(tile.dtype):
        return None
    return None if classic.encode_constant(samples) is not None else samples


def decode(
    encoded: Sequence[tuple[int, bytes]],
    shapes: Sequence[Shape],
    dtypes: Sequence[Dtype],
    engine: Engine | None,
) -> list[Samples]:
    """Return the tiles of (codec id, payload) pairs; IntegrityError if one does not decode.

    Tiles that are JPEGs come as they went, as bytes, whatever their shape and dtype.

    The caller has checked each payload's CRC, and opened deltas (`chain.opened`).  ``engine``
    serves the learned tiles, adapted ones if it is adapted.
    """
    chains = [
        Chain.of(codec, payload, shape, dtype)
        for (codec, payload), shape, dtype in zip(encoded, shapes, dtypes, strict=True)
    ]
    by_model = [tile for tile in chains if tile.needs_model]
    decoded = iter(
        learned.decode(
            [tile.core for tile in by_model],
            [tile.shape for tile in by_model],
            [tile.dtype for tile in by_model],
            engine,
        )
    )
    return [tile.undo(next(decoded) if tile.needs_model else tile.decoded()) for tile in chains]


@dataclass(frozen=True)
class Prepared:
    """A tile, the ways to say what it holds, and the smallest classic coding of each.

    Of what looks like a photograph it is a quick coding at first, and the smallest one (``slow``)
    only where a model is not clearly smaller: a model nearly always is, in half the time.
    """

    samples: Samples
    ways: tuple[_Way, ...]
    classic: tuple[Encoded, ...]
    is_quick: tuple[bool, ...]
    slow: dict[int, Encoded] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, tile: Samples | Prepared, *, beside: bool) -> Prepared:
        """Return a tile with its ways and their classic codings, ``beside`` a model's or alone.

        It may have them.
        """
        if isinstance(tile, Prepared):
            return tile
        ways = tuple(_ways(tile))
        quick = tuple(beside and _is_photographic(way) for way in ways)
        efforts = (classic.EFFORT_QUICK if is_quick else _effort(beside) for is_quick in quick)
        pairs = zip(ways, efforts, strict=True)
        return cls(tile, ways, tuple(_encode_classic(w.samples, e) for w, e in pairs), quick)

    def smallest(self, coded: Sequence[Encoded]) -> Encoded:
        """Return the smallest coding of the tile, given the smallest so far of each way."""
        sure = (self._sure(number, one) for number, one in enumerate(coded))
        return _smallest(way.wrapped(one) for way, one in zip(self.ways, sure, strict=True))

    @property
    def quick_bytes(self) -> int:
        """What the classic codecs take, of the quickest way to know."""
        return min(len(coded.payload) for coded in self.classic)

    def learned_parts(self, engine: Engine) -> list[NDArray[np.generic]]:
        """Return what ``engine`` will be asked to code; none where more than one way is open."""
        if len(self.ways) > 1:
            return []
        return learned.parts(self.samples, self.ways[0].wrapped(self.classic[0]), engine)

    def _sure(self, number: int, coded: Encoded) -> Encoded:
        """Return what is smallest of one way, with the slow classic codecs if that is in doubt."""
        least = _CLEARLY * len(self.classic[number].payload)
        if not self.is_quick[number] or len(coded.payload) < least:
            return coded
        if number not in self.slow:
            self.slow[number] = _encode_classic(self.ways[number].samples, classic.EFFORT)
        return _smallest([coded, self.slow[number]])


@dataclass(frozen=True)
class _Way:
    """One way to say what a tile holds: what is done to it, and the samples that are coded."""

    repeated: Repeated | None
    distinct: Samples  # channels
    restated: FromJpeg | FromJpegs | ScaleOffset | Ordered | None
    samples: Samples

    @property
    def is_from_jpeg(self) -> bool:
        """Whether ``samples`` are what a JPEG leaves."""
        return isinstance(self.restated, FromJpeg | FromJpegs)

    @property
    def is_for_models(self) -> bool:
        """Whether ``samples`` are like those that models are trained on."""
        return not isinstance(self.restated, Ordered) or self.restated.is_for_models

    def wrapped(self, coded: Encoded) -> Encoded:
        """Return the coding of the tile, given that of ``samples``."""
        if self.restated:
            coded = chain.wrapped(self.restated, coded)
        if self._has_rival(len(coded.payload)):
            plain = _encode_classic(self.distinct, classic.EFFORT_ALONE)
            coded = _smallest([plain, coded])
        return chain.wrapped(self.repeated, coded) if self.repeated else coded

    def _has_rival(self, size: int) -> bool:
        """Whether wide samples as they are may take less than ``size``: they may repeat."""
        is_scaled = isinstance(self.restated, ScaleOffset)
        return isinstance(self.restated, Ordered) or (is_scaled and size >= self.distinct.nbytes)


def _ways(tile: Samples) -> list[_Way]:
    """Return the ways to code a tile that may be the smallest, its own numbers first.

    Two where a JPEG in it is in doubt, or where a model may predict its numbers better than their
    ranks: what finds ranks knows of no model.
    """
    repeated, distinct = Repeated.find(tile) or (None, tile)
    way = partial(_Way, repeated, distinct)
    jpegs, is_sure = _jpegs_in(distinct)
    from_jpeg = [way(*jpegs)] if jpegs else []
    if is_sure:
        return from_jpeg
    is_possible = order_forms.is_possible(tile.dtype, distinct.size)
    is_wide = scale_offset.is_wide(tile.dtype) or is_possible
    if not is_wide or classic.encode_constant(distinct) is not None:
        return [way(None, distinct), *from_jpeg]
    scaled = ScaleOffset.find(distinct)
    by_value = way(*scaled) if scaled else way(None, distinct)
    ordered = Ordered.find(distinct, scaled)
    if ordered is None:
        return [by_value]
    by_order = way(*ordered)
    return [by_value, by_order] if learned.is_learnable(by_value.samples) else [by_order]


def _jpegs_in(tile: Samples) -> tuple[tuple[FromJpeg | FromJpegs, Samples] | None, bool]:
    """Return the JPEGs that a tile was decoded from, what they leave, and if that surely pays."""
    is_byte = learned.is_byte_tile(tile.dtype, tile.shape[2])
    if not is_byte or classic.encode_constant(tile) is not None:
        return None, False
    pair = FromJpegs.find(tile)
    if pair is None:
        return None, False
    jpegs, remainder = pair
    size = len(chain.wrapped(jpegs, _encode_classic(remainder, classic.EFFORT)).payload)
    share = size / len(_encode_classic(tile, classic.EFFORT).payload)
    return (pair if share < _FROM_JPEG_MAY_PAY else None), share < _FROM_JPEG_PAYS


def _is_photographic(way: _Way) -> bool:
    """Whether a model surely is given such samples, and they hardly repeat, as drawings do."""
    samples = way.samples
    if way.is_from_jpeg or not learned.is_byte_tile(samples.dtype, samples.shape[2]):
        return False
    if not learned.is_learnable(samples):
        return False
    return len(classic.encode_zstd(samples, 1)) > _REPEATS * samples.nbytes


def _effort(beside: bool) -> int:
    return classic.EFFORT if beside else classic.EFFORT_ALONE


def _smallest(codings: Iterable[Encoded]) -> Encoded:
    """Return the smallest coding, the first of equals."""
    return min(codings, key=lambda coded: len(coded.payload))


def _encode_classic(tile: Samples, effort: int) -> Encoded:
    if tile.dtype == jpeg_tile.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tile.encode_quickly(tile))
    if not learned.is_learnable(tile):
        is_bits = learned.has_model_type(tile)
        effort = classic.EFFORT_BITS if is_bits else classic.EFFORT_ALONE
    if effort == classic.EFFORT_QUICK:  # of samples that zstd makes nothing of
        return classic.smallest(tile, Effort(effort, zstd=0))
    return classic.smallest(tile, Effort(effort))
