"""Own how packing describes images and tiles to the archive, and the names of codecs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archiver.archive.records import TILE, ImageRecord, TileArray
from archiver.codec.tiles import TileCodec
from archiver.image import Image
from archiver.pipeline.coding import CodedTile
from archiver.pipeline.geometry import Place, tile_side


def codec_name(codec: int) -> str:
    """Return the name of an on-disk codec id, also of one that this release does not know."""
    try:
        return TileCodec(codec).name.lower()
    except ValueError:
        return f"codec {codec}"


def image_record(image: Image, tile: int) -> ImageRecord:
    """Describe an image and the size of its tiles."""
    return ImageRecord(
        height=image.height,
        width=image.width,
        channels=image.channels,
        dtype=image.dtype.newbyteorder("<").str,
        bit_depth=image.bit_depth,
        tile_height=tile_side(image.height, tile),
        tile_width=tile_side(image.width, tile),
    )


def tile_rows(places: Sequence[tuple[int, Place]], tiles: Sequence[CodedTile]) -> TileArray:
    """Return the tile table of one object; learned tiles use the shard's first model."""
    rows = [
        (
            image,
            place.component,
            place.row,
            place.column,
            place.height,
            place.width,
            tile.offset,
            tile.length,
            tile.crc32c,
            tile.sample_crc32c,
            tile.codec,
            0 if tile.needs_model else -1,
        )
        for (image, place), tile in zip(places, tiles, strict=True)
    ]
    return np.array(rows, TILE)
