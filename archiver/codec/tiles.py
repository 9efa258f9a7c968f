"""Own the choice of codec for every tile: the smallest payload of all codecs that apply.

A tile is (H, W, C) samples of one component.  Codec ids are on disk: append only, never reuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic, deep_tiles, difference, jpeg_tiles, narrow
from archiver.codec.born import tile as born
from archiver.codec.born.tile import Born
from archiver.codec.difference import Base
from archiver.codec.narrow import Narrow
from archiver.errors import FormatError, IntegrityError, UsageError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

Shape = tuple[int, int, int]


class TileCodec(IntEnum):
    """On-disk codec ids."""

    STORED = 0  # little-endian samples
    CONSTANT = 1  # one pixel
    ZSTD = 2  # byte planes under zstd
    JPEGXL = 3  # lossless JPEG XL codestream
    LEARNED = 4  # range-coded digits under a model's predictions
    REPEATED = 5  # equal channels: the codec id and payload of the first one
    ADAPTED = 6  # as LEARNED, under the model with the increments of the file's adapter
    JPEG = 7  # a JPEG of the file, transcoded without loss
    DIFFERENCE = 8  # a base, the codec id and payload of what is left
    NARROW = 9  # how numbers stand for wide samples, the codec id and payload of the numbers
    FROM_JPEG = 10  # a JPEG that the samples came from, the codec id and payload of the rest


_BY_MODEL = (TileCodec.LEARNED, TileCodec.ADAPTED)
_NOT_REPEATED = (TileCodec.REPEATED, TileCodec.JPEG, TileCodec.DIFFERENCE)
_NOT_NARROW = (*_NOT_REPEATED, TileCodec.NARROW, TileCodec.FROM_JPEG)
_BORN_PAYS = 0.8  # of what JPEG XL takes: then no codec of samples comes near


@dataclass(frozen=True)
class Encoded:
    """A coded tile."""

    codec: TileCodec
    payload: bytes

    @property
    def needs_model(self) -> bool:
        """Whether decoding takes the engine that encoded it."""
        return _inner(self.codec, self.payload) in _BY_MODEL


Decoder = Callable[[bytes, Shape, np.dtype[np.generic]], Samples]
_CLASSIC_DECODERS: dict[int, Decoder] = {
    TileCodec.STORED: classic.from_bytes,
    TileCodec.CONSTANT: classic.decode_constant,
    TileCodec.ZSTD: classic.decode_zstd,
    TileCodec.JPEGXL: classic.decode_jpegxl,
}


def is_adapted(codec: int, payload: bytes) -> bool:
    """Whether a tile takes the adapter of its file to decode."""
    return _inner(codec, payload) == TileCodec.ADAPTED


def is_constant(encoded: Encoded) -> bool:
    """Whether one value fills the tile, or each of its channels."""
    return not _is_born(encoded) and _inner(encoded.codec, encoded.payload) == TileCodec.CONSTANT


def _inner(codec: int, payload: bytes) -> int:
    """Return the codec of what is really coded."""
    if codec == TileCodec.DIFFERENCE:
        _, codec, payload = Base.split(payload)
    if codec == TileCodec.REPEATED and payload:
        codec, payload = payload[0], payload[1:]
    if codec == TileCodec.FROM_JPEG:
        return born.codec_of(payload)
    return narrow.codec_of(payload) if codec == TileCodec.NARROW else codec


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
    if codec != TileCodec.DIFFERENCE:
        return Opened(codec, payload, dtype)
    base, inner, rest = Base.split(payload)
    is_possible = difference.is_possible(dtype, math.prod(shape))
    if inner in (TileCodec.DIFFERENCE, TileCodec.JPEG) or not is_possible:
        raise IntegrityError(f"difference tile of {shape} {dtype}: holds codec {inner}")
    return Opened(inner, rest, np.dtype(f"u{dtype.itemsize}"), base)


def as_difference(base: Base, left: Encoded) -> Encoded:
    """Return the coding of a tile by what ``base`` leaves of it."""
    return Encoded(TileCodec.DIFFERENCE, base.to_bytes(left.codec) + left.payload)


def is_learnable(tile: Samples) -> bool:
    """Whether a model takes this tile: 8 bit, grey or RGB, or deep if it has the port."""
    return is_byte_tile(tile.dtype, tile.shape[2]) or is_deep_tile(tile.dtype, tile.shape[2])


def is_byte_tile(dtype: np.dtype[np.generic], channels: int) -> bool:
    """Whether such tiles go through the ports for 8 bits."""
    return dtype == np.uint8 and channels in (1, 3)


def is_deep_tile(dtype: np.dtype[np.generic], channels: int) -> bool:
    """Whether such tiles go through the port for more: 16-bit integers, signed or not."""
    return dtype.kind in "ui" and dtype.itemsize == 2 and channels in (1, 3)


def encode(tiles: Sequence[Samples], engine: Engine | None) -> list[Encoded]:
    """Return the smallest coding of every tile; without ``engine`` classic codecs only."""
    [coded] = encode_each(tiles, [engine])
    return coded


def encode_each(tiles: Sequence[Samples], engines: Sequence[Engine | None]) -> list[list[Encoded]]:
    """Return, for each engine, the smallest coding of every tile; classic codecs run once."""
    plain = [_Plain.of(tile) for tile in tiles]
    samples = [one.samples for one in plain]
    classic_ones = _encode_classics(samples, engines[0])
    return [
        [one.wrapped(coded) for one, coded in zip(plain, best, strict=True)]
        for best in (_with_learned(samples, classic_ones, engine) for engine in engines)
    ]


@dataclass(frozen=True)
class _Plain:
    """What is coded of a tile: one channel if all are equal, numbers if they are few."""

    distinct: Samples  # channels
    samples: Samples  # or what stands for them
    is_repeated: bool
    narrow: Narrow | None
    born: Born | None = None

    @classmethod
    def of(cls, tile: Samples) -> _Plain:
        is_repeated = _has_equal_channels(tile)
        samples = tile[..., :1] if is_repeated else tile
        if found := _jpeg_in(samples):
            return cls(samples, found.rest(samples), is_repeated, None, found)
        if not narrow.is_wide(tile.dtype) or classic.encode_constant(samples) is not None:
            return cls(samples, samples, is_repeated, None)
        how, numbers = narrow.find(samples) or (None, samples)
        return cls(samples, numbers, is_repeated, how)

    def wrapped(self, coded: Encoded) -> Encoded:
        """Return the coding of the tile, given that of ``samples``."""
        if self.narrow:
            head = self.narrow.to_bytes(coded.codec)
            coded = Encoded(TileCodec.NARROW, head + coded.payload)
            if len(coded.payload) >= self.distinct.nbytes:  # a few samples
                coded = _encode_classic(self.distinct, classic.EFFORT_ALONE)
        if self.born:
            coded = Encoded(TileCodec.FROM_JPEG, self.born.to_bytes(coded.codec) + coded.payload)
        if self.is_repeated:
            coded = Encoded(TileCodec.REPEATED, bytes([coded.codec]) + coded.payload)
        return coded


def learnable_parts(tile: Samples, coded: Encoded, engine: Engine) -> list[NDArray[np.generic]]:
    """Return what ``engine`` is asked to code of a tile, given its coding; empty if nothing.

    One part of 8-bit samples (H, W, C), or planes (H, W) of deep ones, uint16.
    """
    if not is_learnable(tile) or _inner(coded.codec, coded.payload) == TileCodec.CONSTANT:
        return []
    if _is_born(coded):  # what is left is no image
        return []
    part = tile[..., :1] if coded.codec == TileCodec.REPEATED else tile
    if part.dtype == np.uint8:
        return [np.ascontiguousarray(part)]
    if engine.deep is None:
        return []
    planes = classic.to_unsigned(part)
    return [np.ascontiguousarray(planes[..., c]) for c in range(planes.shape[2])]


def _jpeg_in(tile: Samples) -> Born | None:
    """Return the JPEG that a tile was decoded from, if it pays to keep that instead."""
    if not is_byte_tile(tile.dtype, tile.shape[2]) or classic.encode_constant(tile) is not None:
        return None
    found = Born.find(tile)
    if found is None:
        return None
    rest = _encode_classic(found.rest(tile), classic.EFFORT)
    plain = _encode_classic(tile, classic.EFFORT)
    size = len(found.to_bytes(rest.codec)) + len(rest.payload)
    return found if size < _BORN_PAYS * len(plain.payload) else None


def _is_born(coded: Encoded) -> bool:
    """Whether a JPEG is in it; what is left of a difference is not looked at."""
    inner = coded.payload[0] if coded.codec == TileCodec.REPEATED else coded.codec
    return inner == TileCodec.FROM_JPEG


def _has_equal_channels(tile: Samples) -> bool:
    bits = classic.bits(tile)
    return tile.shape[2] > 1 and bool((bits == bits[..., :1]).all())


def _encode_classics(tiles: Sequence[Samples], engine: Engine | None) -> list[Encoded]:
    """Return the smallest coding by classic codecs, which only accompany an ``engine``."""
    effort = classic.EFFORT if engine else classic.EFFORT_ALONE
    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        return list(pool.map(lambda tile: _encode_classic(tile, effort), tiles))


def _with_learned(
    tiles: Sequence[Samples], others: Sequence[Encoded], engine: Engine | None
) -> list[Encoded]:
    """Return the learned coding of every tile, or that of ``others`` where it is no larger."""
    best = list(others)
    if engine is None:
        return best
    open_ones = [i for i, one in enumerate(best) if one.codec != TileCodec.CONSTANT]
    learned = [i for i in open_ones if is_byte_tile(tiles[i].dtype, tiles[i].shape[2])]
    payloads = engine.encode([tiles[i].astype(np.uint8, copy=False) for i in learned])
    if engine.deep is not None:
        deep = [i for i in open_ones if is_deep_tile(tiles[i].dtype, tiles[i].shape[2])]
        learned += deep
        payloads += deep_tiles.encode([tiles[i] for i in deep], engine)
    for i, payload in zip(learned, payloads, strict=True):
        if len(payload) < len(best[i].payload):
            codec = TileCodec.LEARNED if engine.adapter is None else TileCodec.ADAPTED
            best[i] = Encoded(codec, payload)
    return best


def stored(tile: Samples) -> Encoded:
    """Return the coding that is none."""
    if tile.dtype == jpeg_tiles.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tiles.encode_as_is(tile))
    return Encoded(TileCodec.STORED, classic.little_endian(tile))


def _encode_classic(tile: Samples, effort: int) -> Encoded:
    if tile.dtype == jpeg_tiles.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tiles.encode(tile))
    constant = classic.encode_constant(tile)
    if constant is not None:
        return Encoded(TileCodec.CONSTANT, constant)
    candidates = [
        stored(tile),
        Encoded(TileCodec.ZSTD, classic.encode_zstd(tile)),
    ]
    jpegxl = classic.encode_jpegxl(
        tile, effort=effort if is_learnable(tile) else classic.EFFORT_ALONE
    )
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
    dtypes = [one.dtype for one in inner]
    tiles: list[Samples] = [np.empty(0, np.uint8)] * len(encoded)
    own = TileCodec.ADAPTED if engine and engine.adapter is not None else TileCodec.LEARNED
    learned = [i for i, one in enumerate(inner) if one.codec in _BY_MODEL]
    for i, one in enumerate(inner):
        codec, payload, shape = one.codec, one.payload, one.shape
        if codec in _BY_MODEL:
            if engine is not None and codec != own:
                raise IntegrityError(f"tile of codec {own.name}: expected, found codec {codec}")
            continue
        if codec == TileCodec.JPEG:
            tiles[i] = jpeg_tiles.as_tile(jpeg_tiles.decode(payload))
            continue
        if codec not in _CLASSIC_DECODERS:
            raise FormatError(f"tile codec {codec} is unknown; use a newer archiver")
        tiles[i] = _CLASSIC_DECODERS[codec](payload, shape, dtypes[i])
    if learned:
        if engine is None:
            raise UsageError("learned tiles need a model; open an Engine for it")
        _check_learned([inner[i].shape for i in learned], [dtypes[i] for i in learned])
        deep = [i for i in learned if dtypes[i].itemsize == 2]
        byte = [i for i in learned if dtypes[i].itemsize == 1]
        decoded = engine.decode([inner[i].payload for i in byte], [inner[i].shape for i in byte])
        decoded_deep = deep_tiles.decode(
            [inner[i].payload for i in deep], [inner[i].shape for i in deep], engine
        )
        for i, tile in zip(byte, decoded, strict=True):
            tiles[i] = tile
        for i, samples in zip(deep, decoded_deep, strict=True):
            tiles[i] = classic.from_unsigned(samples, dtypes[i])
    return [one.finished(tile) for one, tile in zip(inner, tiles, strict=True)]


@dataclass(frozen=True)
class _Inner:
    """What is really coded of a tile, and what makes the tile of it: the way back of `_Plain`."""

    codec: int
    payload: bytes
    shape: Shape
    dtype: np.dtype[np.generic]
    repeats: int
    narrow: Narrow | None
    wide: np.dtype[np.generic]
    born: Born | None = None

    @classmethod
    def of(cls, encoded: tuple[int, bytes], shape: Shape, dtype: np.dtype[np.generic]) -> _Inner:
        """Unwrap a payload; IntegrityError if nothing that may be is inside."""
        (codec, payload), repeats, how, inside, found = encoded, 1, None, dtype, None
        if codec == TileCodec.REPEATED:
            if not payload or payload[0] in _NOT_REPEATED:
                raise IntegrityError("tile of repeated channels: no codec inside")
            codec, payload = payload[0], payload[1:]
            shape, repeats = (*shape[:2], 1), shape[2]
        if codec == TileCodec.NARROW:
            how, codec, payload = Narrow.split(payload, dtype)
            inside = how.dtype
            if codec in _NOT_NARROW:
                raise IntegrityError(f"narrow tile: holds codec {codec}")
        elif codec == TileCodec.FROM_JPEG:
            if not is_byte_tile(dtype, shape[2]):
                raise IntegrityError(f"tile born as JPEG: of {shape} {dtype}")
            found, codec, payload = Born.split(payload, shape)
            if codec in _NOT_NARROW:
                raise IntegrityError(f"tile born as JPEG: holds codec {codec}")
        return cls(codec, payload, shape, inside, repeats, how, dtype, found)

    def finished(self, tile: Samples) -> Samples:
        """Return the tile, given what was coded of it."""
        if self.narrow:
            if tile.shape != self.shape or tile.dtype != self.dtype:
                raise IntegrityError(f"narrow tile: numbers came as {tile.shape} {tile.dtype}")
            tile = self.narrow.wide(tile, self.wide)
        if self.born:
            tile = self.born.plus(tile)
        return np.repeat(tile, self.repeats, 2) if self.repeats > 1 else tile


def _check_learned(shapes: Sequence[Shape], dtypes: Sequence[np.dtype[np.generic]]) -> None:
    for shape, dtype in zip(shapes, dtypes, strict=True):
        is_known = is_byte_tile(dtype, shape[2]) or is_deep_tile(dtype, shape[2])
        if not is_known or min(shape) < 1:
            raise FormatError(
                f"learned tile of shape {shape} {dtype}: expected 8 or 16 bit, 1 or 3 channels"
            )
