"""The choice of codec for every tile: the smallest payload of all codecs that apply.

A tile is (H, W, C) samples of one component.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from archiver.codec import classic, learned
from archiver.codec.encoded import BY_MODEL, NOT_REPEATED, NOT_SCALE_OFFSET, UNORIENTED_OF, Encoded
from archiver.codec.ids import TileCodec
from archiver.codec.jpeg import tile as jpeg_tiles
from archiver.codec.learned import Orientations, Shape
from archiver.codec.transforms import (
    delta,
    order_search,
    ordered,
    pieces,
    scale_offset,
)
from archiver.codec.transforms.delta import Base
from archiver.codec.transforms.from_jpeg import collage
from archiver.codec.transforms.from_jpeg.collage import FromJpegs
from archiver.codec.transforms.from_jpeg.tile import FromJpeg
from archiver.codec.transforms.ordered import Ordered, Split
from archiver.codec.transforms.orientation import IDENTITY, Orientation
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.errors import FormatError, IntegrityError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

_FROM_JPEG_PAYS = 0.5  # of what JPEG XL takes: then no codec of samples comes near
_FROM_JPEG_MAY_PAY = 1.0  # then both are tried
_FROM_JPEG_IDS = {FromJpeg: TileCodec.FROM_JPEG, FromJpegs: TileCodec.FROM_JPEGS}
_FROM_JPEG_CLASSES: dict[int, type[FromJpeg | FromJpegs]] = {
    codec: kind for kind, codec in _FROM_JPEG_IDS.items()
}


@dataclass(frozen=True)
class Opened:
    """What a payload holds, of type ``dtype``: the tile, or what is left of it without ``base``."""

    codec: int
    payload: bytes
    dtype: np.dtype[np.generic]
    base: Base | None = None

    @property
    def back(self) -> int:
        """How many tiles before it its base lies; 0 if it needs no other tile."""
        return self.base.back if self.base else 0


def opened(codec: int, payload: bytes, shape: Shape, dtype: np.dtype[np.generic]) -> Opened:
    """Open the payload of a tile; IntegrityError if it is a difference that cannot be."""
    if codec != TileCodec.DELTA:
        return Opened(codec, payload, dtype)
    base, inner, rest = Base.split(payload)
    is_possible = delta.is_possible(dtype, math.prod(shape))
    if inner in (TileCodec.DELTA, TileCodec.JPEG) or not is_possible:
        raise IntegrityError(f"delta tile of {shape} {dtype}: holds codec {inner}")
    return Opened(inner, rest, np.dtype(f"u{dtype.itemsize}"), base)


def as_delta(base: Base, left: Encoded) -> Encoded:
    """Return the coding of a tile by what ``base`` leaves of it."""
    return Encoded(TileCodec.DELTA, base.to_bytes(left.codec) + left.payload)


def encode(
    tiles: Sequence[Samples | Prepared],
    engine: Engine | None,
    orientations: Sequence[Orientations] | None = None,
) -> list[Encoded]:
    """Return the smallest coding of every tile; without ``engine`` classic codecs only.

    ``turns`` are those in which each is given to the engine; None: all as they are.
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
    forms = [form for one in ready for form in one.forms]
    orientations = orientations or [learned.IDENTITY_ONLY] * len(tiles)
    each_orientations = [
        own if form.plain.is_for_models else ()
        for one, own in zip(ready, orientations, strict=True)
        for form in one.forms
    ]
    samples, others = [form.plain.samples for form in forms], [form.classic for form in forms]
    found = []
    for engine in engines:
        best = iter(learned.smallest(samples, others, engine, each_orientations))
        found.append([_smallest(form.plain.wrapped(next(best)) for form in one.forms)
                      for one in ready])  # fmt: skip
    return found


def prepared(tiles: Sequence[Samples | Prepared], engine: Engine | None) -> list[Prepared]:
    """Return tiles with all that any model's coding of them begins with; some may have it.

    Classic codecs try less where they only accompany an ``engine``.
    """
    effort = classic.EFFORT if engine else classic.EFFORT_ALONE
    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        return list(pool.map(lambda tile: _prepared(tile, effort), tiles))


def _prepared(tile: Samples | Prepared, effort: int) -> Prepared:
    if isinstance(tile, Prepared):
        return tile
    forms = [_Form(one, _encode_classic(one.samples, effort)) for one in _Plain.each(tile)]
    return Prepared(tile, tuple(forms))


def _smallest(coded: Iterable[Encoded]) -> Encoded:
    return min(coded, key=lambda one: len(one.payload))


@dataclass(frozen=True)
class _Form:
    """One way to say what a tile holds, and the smallest classic coding of that."""

    plain: _Plain
    classic: Encoded


@dataclass(frozen=True)
class Prepared:
    """A tile, and all that any model's coding of it begins with."""

    samples: Samples
    forms: tuple[_Form, ...]


@dataclass(frozen=True)
class _Plain:
    """What is coded of a tile: one channel if all are equal, numbers that stand for wide ones."""

    distinct: Samples  # channels
    samples: Samples  # or what stands for them
    is_repeated: bool
    narrow: ScaleOffset | Ordered | None
    from_jpeg: FromJpeg | FromJpegs | None = None

    @classmethod
    def each(cls, tile: Samples) -> list[_Plain]:
        """Return the ways to code a tile that may be the smallest, its own numbers first.

        Two where a JPEG in it is in doubt, or where a model may predict its numbers better than
        their ranks: what finds ranks knows of no model.
        """
        is_repeated = _has_equal_channels(tile)
        samples = tile[..., :1] if is_repeated else tile
        found, is_sure = _jpegs_in(samples)
        from_jpeg = [cls(samples, found.rest(samples), is_repeated, None, found)] if found else []
        if is_sure:
            return from_jpeg
        is_wide = scale_offset.is_wide(tile.dtype) or ordered.is_possible(tile.dtype, samples.size)
        if not is_wide or classic.encode_constant(samples) is not None:
            return [cls(samples, samples, is_repeated, None), *from_jpeg]
        scaled = scale_offset.find(samples)
        how, numbers = scaled or (None, samples)
        own = cls(samples, numbers, is_repeated, how)
        by_order = order_search.find(samples, scaled)
        if by_order is None:
            return [own]
        ranks = cls(samples, by_order[1], is_repeated, by_order[0])
        return [own, ranks] if learned.is_learnable(own.samples) else [ranks]

    @property
    def is_for_models(self) -> bool:
        """Whether ``samples`` are like those that models are trained on: high bits are not."""
        return not (isinstance(self.narrow, Ordered) and isinstance(self.narrow.how, Split))

    def wrapped(self, coded: Encoded) -> Encoded:
        """Return the coding of the tile, given that of ``samples``."""
        if self.narrow:
            is_scaled = isinstance(self.narrow, ScaleOffset)
            kind = TileCodec.SCALE_OFFSET if is_scaled else TileCodec.ORDERED
            coded = Encoded(kind, self.narrow.to_bytes(coded.codec) + coded.payload)
            if not is_scaled or len(coded.payload) >= self.distinct.nbytes:
                plain = _encode_classic(self.distinct, classic.EFFORT_ALONE)
                coded = min(plain, coded, key=lambda one: len(one.payload))  # samples may repeat
        if self.from_jpeg:
            codec = _FROM_JPEG_IDS[type(self.from_jpeg)]
            coded = Encoded(codec, self.from_jpeg.to_bytes(coded.codec) + coded.payload)
        if self.is_repeated:
            coded = Encoded(TileCodec.REPEATED, bytes([coded.codec]) + coded.payload)
        return coded


def shown(tile: Samples) -> Samples | None:
    """Return what a model is given of a tile: one channel if all are equal; None if nothing."""
    ways = _Plain.each(tile)
    plain = ways[0]
    if any(way.from_jpeg for way in ways) or not learned.is_learnable(plain.samples):
        return None
    if plain.narrow and scale_offset.is_wide(tile.dtype):
        return None
    return None if classic.encode_constant(plain.samples) is not None else plain.samples


def _jpegs_in(tile: Samples) -> tuple[FromJpeg | FromJpegs | None, bool]:
    """Return the JPEGs that a tile was decoded from, and whether to keep those surely pays."""
    is_byte = learned.is_byte_tile(tile.dtype, tile.shape[2])
    if not is_byte or classic.encode_constant(tile) is not None:
        return None, False
    found = collage.find(tile)
    if found is None:
        return None, False
    rest = _encode_classic(found.rest(tile), classic.EFFORT)
    plain = _encode_classic(tile, classic.EFFORT)
    share = (len(found.to_bytes(rest.codec)) + len(rest.payload)) / len(plain.payload)
    return (found if share < _FROM_JPEG_MAY_PAY else None), share < _FROM_JPEG_PAYS


def _has_equal_channels(tile: Samples) -> bool:
    bits = classic.bits(tile)
    return tile.shape[2] > 1 and bool((bits == bits[..., :1]).all())


def stored(tile: Samples) -> Encoded:
    """Return the coding that is none."""
    if tile.dtype == jpeg_tiles.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tiles.encode_as_is(tile))
    return Encoded(TileCodec.STORED, classic.little_endian(tile))


def _encode_classic(tile: Samples, effort: int) -> Encoded:
    if tile.dtype == jpeg_tiles.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tiles.encode_quickly(tile))
    constant = classic.encode_constant(tile)
    if constant is not None:
        return Encoded(TileCodec.CONSTANT, constant)
    candidates = [
        stored(tile),
        Encoded(TileCodec.ZSTD, classic.encode_zstd(tile)),
    ]
    if not learned.is_learnable(tile):
        is_bits = learned.has_model_type(tile)
        effort = classic.EFFORT_BITS if is_bits else classic.EFFORT_ALONE
    jpegxl = classic.encode_jpegxl(tile, effort=effort)
    if jpegxl is not None:
        candidates.append(Encoded(TileCodec.JPEGXL, jpegxl))
    return min(candidates, key=lambda encoded: len(encoded.payload))


def decode(
    encoded: Sequence[tuple[int, bytes]],
    shapes: Sequence[Shape],
    dtypes: Sequence[np.dtype[np.generic]],
    engine: Engine | None,
) -> list[Samples]:
    """Return the tiles of (codec id, payload) pairs; IntegrityError if one does not decode.

    Tiles that are JPEGs come as they went, as bytes, whatever their shape and dtype.

    The caller has checked each payload's CRC.  ``engine`` serves the learned tiles, adapted ones
    if it is adapted.
    """
    inner = [_Inner.of(*item) for item in zip(encoded, shapes, dtypes, strict=True)]
    by_model = [one for one in inner if one.codec in BY_MODEL]
    decoded = iter(
        learned.decode(
            [(one.codec, one.payload) for one in by_model],
            [one.shape for one in by_model],
            [one.dtype for one in by_model],
            engine,
        )
    )
    return [
        one.finished(next(decoded) if one.codec in BY_MODEL else one.classic()) for one in inner
    ]


@dataclass(frozen=True)
class _Inner:
    """What is really coded of a tile, and what makes the tile of it: the way back of `_Plain`."""

    codec: int
    payload: bytes
    shape: Shape
    dtype: np.dtype[np.generic]
    repeats: int
    narrow: ScaleOffset | Ordered | None
    wide: np.dtype[np.generic]
    from_jpeg: FromJpeg | FromJpegs | None
    orientation: Orientation

    @classmethod
    def of(cls, encoded: tuple[int, bytes], shape: Shape, dtype: np.dtype[np.generic]) -> _Inner:
        """Unwrap a payload; IntegrityError if nothing that may be is inside."""
        (codec, payload), repeats, inside = encoded, 1, dtype
        how: ScaleOffset | Ordered | None = None
        found: FromJpeg | FromJpegs | None = None
        orientation = IDENTITY
        if codec == TileCodec.REPEATED:
            if not payload or payload[0] in NOT_REPEATED:
                raise IntegrityError("tile of repeated channels: no codec inside")
            codec, payload = payload[0], payload[1:]
            shape, repeats = (*shape[:2], 1), shape[2]
        if codec == TileCodec.SCALE_OFFSET:
            how, codec, payload = ScaleOffset.split(payload, dtype)
            inside = how.dtype
            if codec in NOT_SCALE_OFFSET:
                raise IntegrityError(f"scale-and-offset tile: holds codec {codec}")
        elif codec == TileCodec.ORDERED:
            how, codec, payload = Ordered.split(payload, shape, dtype)
            inside = how.dtype
            if codec in NOT_SCALE_OFFSET:
                raise IntegrityError(f"ordered tile: holds codec {codec}")
        elif codec in _FROM_JPEG_CLASSES:
            if not learned.is_byte_tile(dtype, shape[2]):
                raise IntegrityError(f"tile rebuilt from a JPEG: of {shape} {dtype}")
            found, codec, payload = _FROM_JPEG_CLASSES[codec].split(payload, shape)
            if codec in NOT_SCALE_OFFSET:
                raise IntegrityError(f"tile rebuilt from a JPEG: holds codec {codec}")
        if codec in UNORIENTED_OF:
            orientation, payload = Orientation.split(payload, shape[2])
            codec, shape = UNORIENTED_OF[codec], orientation.shape(shape)
        return cls(codec, payload, shape, inside, repeats, how, dtype, found, orientation)

    def classic(self) -> Samples:
        """Return what was coded, without a model."""
        if self.codec == TileCodec.JPEG:
            return jpeg_tiles.as_tile(jpeg_tiles.decode(self.payload))
        if self.codec not in pieces.DECODERS:
            raise FormatError(f"tile codec {self.codec} is unknown; use a newer archiver")
        return pieces.DECODERS[self.codec](self.payload, self.shape, self.dtype)

    def finished(self, tile: Samples) -> Samples:
        """Return the tile, given what was coded of it."""
        if self.narrow and (tile.shape != self.shape or tile.dtype != self.dtype):
            raise IntegrityError(
                f"scale-and-offset tile: numbers came as {tile.shape} {tile.dtype}"
            )
        if self.orientation != IDENTITY:
            tile = self.orientation.back(tile)
        if self.narrow:
            tile = self.narrow.wide(tile, self.wide)
        if self.from_jpeg:
            tile = self.from_jpeg.plus(tile)
        return np.repeat(tile, self.repeats, 2) if self.repeats > 1 else tile
