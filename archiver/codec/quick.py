"""The quickest coding of tiles that is still worth it: no model, no search, one codec or two.

JPEG-LS of integers up to 16 bits, zstd of all others; libjxl for the JPEGs of a file.
"""

from __future__ import annotations

import numpy as np

from archiver.codec import classic, jpeg_ls
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.image import Samples

ZSTD_LEVEL = 3
_ROWS = 16  # of a tile, looked at
_MANY_EQUAL = 0.4  # of neighbours: drawings and masks, of which zstd may make less


def encode(tile: Samples) -> Encoded:
    """Return the coding of a tile, or of a JPEG that stands for one."""
    if tile.dtype == jpeg_tile.BYTES:
        return Encoded(TileCodec.JPEG, jpeg_tile.encode_quickly(tile))
    constant = classic.encode_constant(tile)
    if constant is not None:
        return Encoded(TileCodec.CONSTANT, constant)
    codings = []
    if jpeg_ls.takes(tile.dtype, tile.shape):
        codings.append(Encoded(TileCodec.JPEG_LS, jpeg_ls.encode(tile)))
    if not codings or _is_drawn(tile):
        codings.append(Encoded(TileCodec.ZSTD, classic.encode_zstd(tile, ZSTD_LEVEL)))
    best = min(codings, key=lambda coded: len(coded.payload))
    if len(best.payload) < tile.nbytes:
        return best
    return Encoded(TileCodec.STORED, classic.little_endian(tile))


def _is_drawn(tile: Samples) -> bool:
    """Whether many samples equal the one before, by some of the rows."""
    rows = tile[:: max(1, tile.shape[0] // _ROWS)]
    return bool(np.mean(rows[:, 1:] == rows[:, :-1]) > _MANY_EQUAL) if tile.shape[1] > 1 else False
