"""The tiles of a file as they are read from it: where they are, their samples, their deltas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from archiver.codec.jpeg import tile as jpeg_tile
from archiver.errors import SourceError
from archiver.image import Image, Samples
from archiver.pipeline.tiling import Place, components, places
from archiver.pipeline.write.delta_bases import DeltaBases, TileDelta

WINDOW_SAMPLES = 1 << 22  # read from a source at once

FilePlaces = Sequence[tuple[int, Place]]  # number of the image, place in it


@dataclass(frozen=True)
class RawTile:
    """The ``number``-th tile of a file, and its delta if that promises to be smaller."""

    number: int
    samples: Samples
    delta: TileDelta | None = None

    @property
    def base(self) -> Samples | None:
        """The tile that the delta is taken from."""
        return self.delta.samples if self.delta else None

    @property
    def n_pixels(self) -> int:
        """Rows times columns."""
        return int(self.samples.shape[0] * self.samples.shape[1])

    @property
    def n_bytes(self) -> int:
        """What it holds in memory."""
        return self.samples.nbytes + (self.delta.left.nbytes if self.delta else 0)


def all_places(images: Sequence[Image], tile: int) -> Iterator[tuple[int, Place]]:
    """Yield (image, place) of all tiles of a file, in their order on disk."""
    for index, image in enumerate(images):
        for place in places(image, tile):
            yield index, place


def raw_tiles(
    images: Sequence[Image], file_places: FilePlaces, tile: int, *, alone: bool = False
) -> Iterator[RawTile]:
    """Yield the tiles at `all_places`, in that order; SourceError if unreadable.

    ``alone``: without their differences to others.
    """
    bases = None if alone else DeltaBases(images, file_places)
    for number, samples in enumerate(read_tiles(images, tile)):
        yield RawTile(number, samples, bases.delta(number, samples) if bases else None)


def read_tiles(images: Sequence[Image], tile: int) -> Iterator[Samples]:
    """Yield the samples of all tiles in the order of `all_places`; SourceError if unreadable.

    Reads windows of one row of tiles: rows of a strip are decoded once, not once a tile.
    """
    for image in images:
        if image.jpeg_tile:
            yield from (read_tile(image, place) for place in places(image, tile))
            continue
        groups = components(image.channels)
        for band in _bands(image, tile):
            yield from _read_band(image, band, groups[band[0].component])


def _bands(image: Image, tile: int) -> Iterator[list[Place]]:
    """Yield the places of an image, those together that are read at once."""
    band: list[Place] = []
    for place in places(image, tile):
        height, width = place.height, sum(p.width for p in band) + place.width
        is_next = band and (place.component, place.row) != (band[0].component, band[0].row)
        if is_next or (band and height * width * image.channels > WINDOW_SAMPLES):
            yield band
            band = []
        band.append(place)
    if band:
        yield band


def _read_band(image: Image, band: Sequence[Place], channels: tuple[int, ...]) -> Iterator[Samples]:
    first = band[0]
    width = sum(place.width for place in band)
    try:
        window = image.window(first.row, first.column, first.height, width)
    except Exception as error:  # third-party decoders raise anything once a file changes
        raise SourceError(f"its samples could not be read again: {error}") from error
    if window.shape != (first.height, width, image.channels) or window.dtype != image.dtype:
        raise SourceError(
            f"its samples came as {window.shape} {window.dtype}, expected "
            f"{(first.height, width, image.channels)} {image.dtype}; please report this file"
        )
    for place in band:
        start = place.column - first.column
        samples = window[:, start : start + place.width, channels[0] : channels[-1] + 1]
        yield np.ascontiguousarray(samples, image.dtype.newbyteorder("="))


def read_tile(image: Image, place: Place) -> Samples:
    """Return the samples of one tile, of a JPEG tile its bytes; SourceError if unreadable."""
    if image.jpeg_tile:
        try:
            return jpeg_tile.as_tile(image.jpeg_tile(place.row, place.column))
        except Exception as error:  # the file changed
            raise SourceError(f"its tiles could not be read again: {error}") from error
    [samples] = _read_band(image, [place], components(image.channels)[place.component])
    return samples
