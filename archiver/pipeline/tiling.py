"""How an image is cut up: channels into components, components into tiles.

    channels 1      (0)                 channels 3    (0 1 2)
    channels 2      (0) (1)             channels 4    (0 1 2) (3)          more: each alone

Tiles of one image are ordered by component, row, column.  All tiles of an image are of one size
except the last of a row or column, which may be smaller, but not by more than half: a side of 130
at tile 128 is cut into 80 + 50, never 128 + 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from archiver.archive.records import ImageRecord, TileArray
from archiver.errors import FormatError
from archiver.image import Image

DEFAULT_TILE = 256
BIT_TILE = 1024  # of samples of one bit
LARGE_TILE = 512  # a quarter of a percent less; regions take four times as long to read
MCU = 16  # side of the largest unit that a JPEG is coded in

Component = tuple[int, ...]


def components(channels: int) -> tuple[Component, ...]:
    """Return the groups of channels that are coded together."""
    if channels == 3:
        return ((0, 1, 2),)
    if channels == 4:
        return ((0, 1, 2), (3,))
    return tuple((channel,) for channel in range(channels))


def tile_side(length: int, tile: int) -> int:
    """Return the side that cuts ``length`` samples into parts of at most ``tile``.

    A multiple of what a JPEG is made of, if the last part is then no less than half the others:
    samples that were decoded from one fall into tiles as they fell into its blocks.
    """
    if length <= tile:
        return length
    for side in range(tile // MCU * MCU, tile // 2, -MCU):
        if 2 * (length % side or side) >= side:
            return side
    return -(-length // -(-length // tile))


def tile_shape(image: Image, tile: int) -> tuple[int, int]:
    """Return height and width of an image's tiles: its own, or such as :func:`tile_side` gives."""
    if image.bit_depth == 1:  # which no model codes: larger ones are smaller
        tile = max(tile, BIT_TILE)
    return image.tile_shape or (tile_side(image.height, tile), tile_side(image.width, tile))


@dataclass(frozen=True)
class Place:
    """Where a tile lies: component, its first row and column, its size; in samples."""

    component: int
    row: int
    column: int
    height: int
    width: int


def places(image: Image, tile: int) -> Iterator[Place]:
    """Yield the places of all tiles of ``image``, in their order on disk."""
    tall, wide = tile_shape(image, tile)
    for component in range(len(components(image.channels))):
        for row, height in spans(image.height, tall):
            for column, width in spans(image.width, wide):
                yield Place(component, row, column, height, width)


def spans(length: int, side: int) -> list[tuple[int, int]]:
    """Return (start, size) of the parts of ``length`` cut at every multiple of ``side``."""
    return [(start, min(side, length - start)) for start in range(0, length, side or 1)]


def check_grid(number: int, record: ImageRecord, tiles: TileArray) -> None:
    """Raise FormatError unless ``tiles`` are those of the image, each once and in their order.

    So what image ``number`` of a file takes to decode is bounded by its tiles, whatever size it
    claims.
    """
    down, across = -(-record.height // record.tile_height), -(-record.width // record.tile_width)
    n_tiles = down * across * len(components(record.channels))
    if len(tiles) == n_tiles:
        fault = _misplaced(record, tiles, down, across)
    else:
        fault = f"has {len(tiles)} tiles, its size needs {n_tiles}"
    if fault:
        raise FormatError(
            f"image {number} of {record.height} x {record.width}: {fault}; the program that wrote "
            "it is at fault: restore a backup of the archive"
        )


def _misplaced(record: ImageRecord, tiles: TileArray, down: int, across: int) -> str:
    """Say which tile is not at its place in the grid, "" if all are."""
    component, place = np.divmod(np.arange(len(tiles)), down * across)
    row, column = (place // across) * record.tile_height, (place % across) * record.tile_width
    grid = {
        "component": component,
        "row": row,
        "column": column,
        "height": np.minimum(record.tile_height, record.height - row),
        "width": np.minimum(record.tile_width, record.width - column),
    }
    for name, expected in grid.items():
        odd = np.flatnonzero(tiles[name] != expected)
        if len(odd):
            at = int(odd[0])
            return f"tile {at} has {name} {tiles[name][at]}, expected {expected[at]}"
    return ""
