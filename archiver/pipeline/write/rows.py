"""How packing describes images and tiles to the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from archiver.archive import layout
from archiver.archive.records import TILE, ImageRecord, ObjectRecord, ResidueRecord, TileArray
from archiver.image import Image
from archiver.pipeline.tiling import Place, tile_shape
from archiver.pipeline.write.payloads import CodedTile
from archiver.sources import ParsedFile

_MAX_SIDE = (1 << 32) - 1
_MAX_CHANNELS = 1 << 16
_MAX_BITS = 64


def unrecordable(image: Image) -> str:
    """Say why the manifest has no place for an image, "" if it has."""
    if max(image.height, image.width) > _MAX_SIDE or image.channels > _MAX_CHANNELS:
        return f"an image of {image.height} x {image.width} x {image.channels} samples"
    if _dtype_code(image) not in layout.DTYPE_IDS or not 1 <= image.bit_depth <= _MAX_BITS:
        return f"samples of type {image.dtype}, {image.bit_depth} bits"
    return ""


def image_record(image: Image, tile: int) -> ImageRecord:
    """Describe an image and the size of its tiles."""
    tile_height, tile_width = tile_shape(image, tile)
    return ImageRecord(
        height=image.height,
        width=image.width,
        channels=image.channels,
        dtype=_dtype_code(image),
        bit_depth=image.bit_depth,
        tile_height=tile_height,
        tile_width=tile_width,
        view=image.view,
    )


def _dtype_code(image: Image) -> str:
    return image.dtype.newbyteorder("<").str


def tile_rows(
    places: Sequence[tuple[int, Place]], tiles: Sequence[CodedTile], model: int
) -> TileArray:
    """Return the tile table of one object whose learned tiles use ``model``."""
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
            model if tile.needs_model else -1,
        )
        for (image, place), tile in zip(places, tiles, strict=True)
    ]
    return np.array(rows, TILE)


def object_record(
    parsed: ParsedFile,
    residues: Sequence[ResidueRecord],
    images: Sequence[ImageRecord] = (),
    tiles: TileArray | None = None,
) -> ObjectRecord:
    """Describe a file, by its residues alone if it has no images."""
    return ObjectRecord(
        sha256=parsed.sha256,
        rebuilt_sha256=parsed.rebuilt_sha256,
        size=parsed.size,
        format=int(parsed.format),
        fidelity=int(parsed.fidelity),
        note=parsed.note,
        images=tuple(images),
        tiles=np.array([], TILE) if tiles is None else tiles,
        residues=tuple(residues),
    )


def with_used_models(
    objects: Sequence[ObjectRecord], models: Sequence[bytes]
) -> tuple[tuple[ObjectRecord, ...], tuple[bytes, ...]]:
    """Return the objects with their tiles' models renumbered, and the models that are used."""
    used = sorted({i for record in objects for i in record.tiles["model"].tolist() if i >= 0})
    numbers = np.full(len(models) + 1, -1, np.int32)  # -1, for none, takes the last one
    numbers[used] = np.arange(len(used))
    renumbered = []
    for record in objects:
        tiles = record.tiles.copy()
        tiles["model"] = numbers[tiles["model"]]
        renumbered.append(replace(record, tiles=tiles))
    return tuple(renumbered), tuple(models[i] for i in used)
