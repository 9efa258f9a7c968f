"""The tiles that a model codes: which they are, and in which orientation each is.

8-bit tiles (H, W, C), grey or RGB, and those of 16-bit integers if the model has a port for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.classic import Dtype, Shape
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.inference import high_depth_tiles
from archiver.codec.transforms import chain
from archiver.codec.transforms.chain import Outline
from archiver.codec.transforms.orientation import IDENTITY, Orientation
from archiver.errors import FormatError, IntegrityError, UsageError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

Orientations = Sequence[Orientation]  # ways to code a tile, of which the smallest is kept
IDENTITY_ONLY: Orientations = (IDENTITY,)


def is_learnable(tile: Samples) -> bool:
    """Whether models take such tiles: 8 bits, grey or RGB, or 16, for which some have a port.

    Not samples of one bit or their differences: JPEG XL codes them as small in a fiftieth of the
    time.
    """
    return has_model_type(tile) and not (tile.dtype == np.uint8 and _is_flat(tile))


def _is_flat(tile: Samples) -> bool:
    """Whether 8-bit samples take at most three values that follow each other, modulo 256."""
    shifted: tuple[Samples, ...] = (tile, np.add(tile, np.uint8(128)))
    return any(int(x.max(initial=0)) - int(x.min(initial=255)) <= 2 for x in shifted)


def has_model_type(tile: Samples) -> bool:
    """Whether a model could take such samples, whatever they are."""
    return is_byte_tile(tile.dtype, tile.shape[2]) or is_high_depth_tile(tile.dtype, tile.shape[2])


def is_byte_tile(dtype: Dtype, channels: int) -> bool:
    """Whether such tiles go through the ports for 8 bits."""
    return dtype == np.uint8 and channels in (1, 3)


def is_high_depth_tile(dtype: Dtype, channels: int) -> bool:
    """Whether such tiles go through the port for more: 16-bit integers, signed or not."""
    return dtype.kind in "ui" and dtype.itemsize == 2 and channels in (1, 3)


def parts(tile: Samples, coded: Encoded, engine: Engine) -> list[NDArray[np.generic]]:
    """Return what ``engine`` is asked to code of a tile, given its coding; empty if nothing.

    One part of 8-bit samples (H, W, C), or planes (H, W) of high bit depth, uint16.
    """
    outline = Outline.of(coded.codec, coded.payload)
    if not is_learnable(tile) or outline.is_constant:
        return []
    if outline.is_from_jpeg or outline.is_ordered:  # a remainder is no image, ranks not the tile
        return []
    distinct = tile[..., :1] if outline.is_repeated else tile
    if distinct.dtype == np.uint8:
        return [np.ascontiguousarray(distinct)]
    if not engine.has_high_depth:
        return []
    planes = classic.to_unsigned(distinct)
    return [np.ascontiguousarray(planes[..., c]) for c in range(planes.shape[2])]


def smallest(
    tiles: Sequence[Samples],
    others: Sequence[Encoded],
    engine: Engine | None,
    orientations: Sequence[Orientations],
) -> list[Encoded]:
    """Return the learned coding of every tile, or that of ``others`` where it is no larger.

    Each is coded in all of its ``orientations``.
    """
    best = list(others)
    if engine is None:
        return best
    tried = {
        i: {orientation.on(tile) for orientation in orientations[i]}
        for i, (tile, other) in enumerate(zip(tiles, others, strict=True))
        if is_learnable(tile) and other.codec != TileCodec.CONSTANT
    }
    for orientation in sorted(set().union(*tried.values())):
        chosen = [i for i, wanted in tried.items() if orientation in wanted]
        oriented = [orientation.oriented(tiles[i]) for i in chosen]
        for i, inside in zip(chosen, encode(oriented, engine), strict=True):
            if inside is None:
                continue
            is_identity = orientation == IDENTITY
            coded = inside if is_identity else chain.wrapped(orientation, inside)
            if len(coded.payload) < len(best[i].payload):
                best[i] = coded
    return best


def encode(tiles: Sequence[Samples], engine: Engine) -> list[Encoded | None]:
    """Return the coding of every tile by the model, None if it does not take it."""
    codec = _codec_of(engine)
    numbers = [i for i, tile in enumerate(tiles) if is_byte_tile(tile.dtype, tile.shape[2])]
    payloads = engine.encode([tiles[i].astype(np.uint8, copy=False) for i in numbers])
    if engine.has_high_depth:
        deep = [i for i, tile in enumerate(tiles) if is_high_depth_tile(tile.dtype, tile.shape[2])]
        numbers += deep
        payloads += high_depth_tiles.encode([tiles[i] for i in deep], engine)
    coded: list[Encoded | None] = [None] * len(tiles)
    for i, payload in zip(numbers, payloads, strict=True):
        coded[i] = Encoded(codec, payload)
    return coded


def _codec_of(engine: Engine) -> TileCodec:
    return TileCodec.LEARNED if engine.adapter is None else TileCodec.ADAPTED


def decode(
    coded: Sequence[Encoded],
    shapes: Sequence[Shape],
    dtypes: Sequence[Dtype],
    engine: Engine | None,
) -> list[Samples]:
    """Return tiles that a model coded, as they were coded.

    IntegrityError if one does not decode, or is of the other of the two codecs than ``engine``.
    """
    if not coded:
        return []
    if engine is None:
        raise UsageError("learned tiles need a model; open an Engine for it")
    for tile, shape, dtype in zip(coded, shapes, dtypes, strict=True):
        _check(tile, shape, dtype, engine)
    deep = [i for i, dtype in enumerate(dtypes) if dtype.itemsize == 2]
    byte = [i for i, dtype in enumerate(dtypes) if dtype.itemsize == 1]
    tiles: list[Samples] = [np.empty(0, np.uint8)] * len(coded)
    bytes_decoded = engine.decode([coded[i].payload for i in byte], [shapes[i] for i in byte])
    for i, samples in zip(byte, bytes_decoded, strict=True):
        tiles[i] = samples
    deep_decoded = high_depth_tiles.decode(
        [coded[i].payload for i in deep], [shapes[i] for i in deep], engine
    )
    for i, planes in zip(deep, deep_decoded, strict=True):
        tiles[i] = classic.from_unsigned(planes, dtypes[i])
    return tiles


def _check(coded: Encoded, shape: Shape, dtype: Dtype, engine: Engine) -> None:
    """Raise IntegrityError or FormatError for a tile that ``engine`` cannot have coded."""
    expected = _codec_of(engine)
    if coded.codec != expected:
        words = ("without", "with") if expected == TileCodec.LEARNED else ("with", "without")
        raise IntegrityError("learned tile: read {} an adapter, coded {} one".format(*words))
    is_known = is_byte_tile(dtype, shape[2]) or is_high_depth_tile(dtype, shape[2])
    if not is_known or min(shape) <= 0:
        raise FormatError(
            f"learned tile of shape {shape} {dtype}: expected 8 or 16 bit, 1 or 3 channels"
        )
