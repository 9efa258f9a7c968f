"""The tiles that a model codes: which they are, and how each is turned for it.

8-bit tiles (H, W, C), grey or RGB, and those of 16-bit integers if the model has a port for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.encoded import BY_MODEL, Encoded, innermost
from archiver.codec.ids import TileCodec
from archiver.codec.inference import high_depth_tiles
from archiver.codec.transforms.orientation import IDENTITY, Orientation
from archiver.errors import FormatError, IntegrityError, UsageError
from archiver.image import Samples

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

Shape = tuple[int, int, int]
Dtype = np.dtype[np.generic]
Orientations = Sequence[Orientation]  # ways to code a tile, of which the smallest is kept
IDENTITY_ONLY: Orientations = (IDENTITY,)


def is_learnable(tile: Samples) -> bool:
    """Whether a model takes this tile: 8 bit, grey or RGB, or deep if it has the port.

    Not samples of one bit or their differences: JPEG XL codes them as small in a fiftieth of the
    time.
    """
    return has_model_type(tile) and not (tile.dtype == np.uint8 and _is_flat(tile))


def _is_flat(tile: Samples) -> bool:
    """Whether 8-bit samples take at most three values that follow each other, modulo 256."""
    shifted: tuple[Samples, ...] = (tile, np.add(tile, np.uint8(128)))
    return any(int(one.max(initial=0)) - int(one.min(initial=255)) <= 2 for one in shifted)


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

    One part of 8-bit samples (H, W, C), or planes (H, W) of deep ones, uint16.
    """
    if not is_learnable(tile) or innermost(coded.codec, coded.payload) == TileCodec.CONSTANT:
        return []
    if coded.is_from_jpeg or coded.is_ordered:  # what is left is no image, ranks are not the tile
        return []
    part = tile[..., :1] if coded.codec == TileCodec.REPEATED else tile
    if part.dtype == np.uint8:
        return [np.ascontiguousarray(part)]
    if engine.deep is None:
        return []
    planes = classic.to_unsigned(part)
    return [np.ascontiguousarray(planes[..., c]) for c in range(planes.shape[2])]


def smallest(
    tiles: Sequence[Samples],
    others: Sequence[Encoded],
    engine: Engine | None,
    orientations: Sequence[Orientations],
) -> list[Encoded]:
    """Return the learned coding of every tile, or that of ``others`` where it is no larger.

    Each is coded in all of its ``turns``.
    """
    best = list(others)
    if engine is None:
        return best
    open_ones = [
        i
        for i, (tile, one) in enumerate(zip(tiles, best, strict=True))
        if is_learnable(tile) and one.codec != TileCodec.CONSTANT
    ]
    own = [{orientation.on(tiles[i]) for orientation in orientations[i]} for i in open_ones]
    for orientation in sorted({orientation for each in own for orientation in each}):
        chosen = [i for i, each in zip(open_ones, own, strict=True) if orientation in each]
        coded = encode([orientation.oriented(tiles[i]) for i in chosen], engine)
        for i, one in zip(chosen, coded, strict=True):
            if one and len(one.oriented(orientation).payload) < len(best[i].payload):
                best[i] = one.oriented(orientation)
    return best


def encode(tiles: Sequence[Samples], engine: Engine) -> list[Encoded | None]:
    """Return the coding of every tile by the model, None if it does not take it."""
    codec = TileCodec.LEARNED if engine.adapter is None else TileCodec.ADAPTED
    learned = [i for i, one in enumerate(tiles) if is_byte_tile(one.dtype, one.shape[2])]
    payloads = engine.encode([tiles[i].astype(np.uint8, copy=False) for i in learned])
    if engine.deep is not None:
        deep = [i for i, one in enumerate(tiles) if is_high_depth_tile(one.dtype, one.shape[2])]
        learned += deep
        payloads += high_depth_tiles.encode([tiles[i] for i in deep], engine)
    coded: list[Encoded | None] = [None] * len(tiles)
    for i, payload in zip(learned, payloads, strict=True):
        coded[i] = Encoded(codec, payload)
    return coded


def decode(
    coded: Sequence[tuple[int, bytes]],
    shapes: Sequence[Shape],
    dtypes: Sequence[Dtype],
    engine: Engine | None,
) -> list[Samples]:
    """Return the tiles of (codec id, payload) pairs, all of `BY_MODEL`, as they were coded.

    IntegrityError if one does not decode, or is of the other of the two codecs than ``engine``.
    """
    if not coded:
        return []
    if engine is None:
        raise UsageError("learned tiles need a model; open an Engine for it")
    own = BY_MODEL[engine.adapter is not None]
    for (codec, _), shape, dtype in zip(coded, shapes, dtypes, strict=True):
        if codec != own:
            words = ("without", "with") if own == TileCodec.LEARNED else ("with", "without")
            raise IntegrityError("learned tile: read {} an adapter, coded {} one".format(*words))
        if not _is_possible(shape, dtype):
            raise FormatError(
                f"learned tile of shape {shape} {dtype}: expected 8 or 16 bit, 1 or 3 channels"
            )
    deep = [i for i, dtype in enumerate(dtypes) if dtype.itemsize == 2]
    byte = [i for i, dtype in enumerate(dtypes) if dtype.itemsize == 1]
    tiles: list[Samples] = [np.empty(0, np.uint8)] * len(coded)
    decoded = engine.decode([coded[i][1] for i in byte], [shapes[i] for i in byte])
    for i, tile in zip(byte, decoded, strict=True):
        tiles[i] = tile
    decoded_high_depth = high_depth_tiles.decode(
        [coded[i][1] for i in deep], [shapes[i] for i in deep], engine
    )
    for i, samples in zip(deep, decoded_high_depth, strict=True):
        tiles[i] = classic.from_unsigned(samples, dtypes[i])
    return tiles


def _is_possible(shape: Shape, dtype: Dtype) -> bool:
    is_known = is_byte_tile(dtype, shape[2]) or is_high_depth_tile(dtype, shape[2])
    return is_known and min(shape) > 0
