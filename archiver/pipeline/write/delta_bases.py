"""Which tile of a file a tile may be a delta to: the same in the slice, volume or band before.

Every eighth slice, volume and band is coded by itself, so that one tile takes few others to decode.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from archiver.codec.learned import is_high_depth_tile
from archiver.codec.transforms import delta
from archiver.image import Image, Samples
from archiver.pipeline.tiling import Place, components

CHAIN = 8  # of so many slices, volumes or bands the first is coded by itself
KEPT_BYTES = 64 << 20  # of tiles that later ones may be deltas to

Where = tuple[int, int, int, int]  # image, component, row, column


@dataclass(frozen=True)
class TileDelta:
    """A tile as a delta: what it is taken from, and what is left of it."""

    base: delta.Base
    samples: Samples  # of the tile that it is taken from
    left: Samples


class DeltaBases:
    """The tiles of one file, in the order of ``places``, as they go to the codec."""

    def __init__(self, images: Sequence[Image], places: Sequence[tuple[int, Place]]) -> None:
        self._images = images
        self._places = places
        self._numbers: dict[Where, int] = {}
        if _has_bases(images):
            self._numbers = {_where(*place): number for number, place in enumerate(places)}
        self._kept: OrderedDict[int, Samples] = OrderedDict()
        self._bytes = 0

    def delta(self, number: int, tile: Samples) -> TileDelta | None:
        """Return the next tile as a delta; None where that does not promise to be smaller."""
        image = self._images[self._places[number][0]]
        if image.jpeg_tile or not delta.is_possible(image.dtype, tile.size):
            return None
        bases = {number - n: self._kept[n] for n in self._before(number) if n in self._kept}
        if is_high_depth_tile(tile.dtype, tile.shape[2]) and tile.shape[2] > 1:
            bases[delta.CHANNELS] = tile  # models see such channels one by one
        self._keep(number, tile)
        best = delta.best(tile, bases) if bases else None
        if best is None:
            return None
        base, left = best
        return TileDelta(base, bases[base.back], left)

    def _before(self, number: int) -> Iterator[int]:
        """Yield the numbers of tiles of the same shape and type that may be like that one."""
        index, place = self._places[number]
        image = self._images[index]
        groups = components(image.channels)
        wanted: list[Where] = []
        if place.component % CHAIN:
            before = place.component - 1
            if len(groups[before]) == len(groups[place.component]):
                wanted.append((index, before, place.row, place.column))
        for back, coordinate in _coordinates(index, image.neighbours):
            if coordinate % CHAIN and _are_alike(image, self._images[index - back]):
                wanted.append((index - back, place.component, place.row, place.column))
        yield from (self._numbers[where] for where in wanted if where in self._numbers)

    def _keep(self, number: int, tile: Samples) -> None:
        if not self._numbers:
            return
        self._kept[number] = tile
        self._bytes += tile.nbytes
        while self._bytes > KEPT_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _coordinates(index: int, neighbours: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield how far back an image's neighbours lie, and its coordinate in that direction.

    A step to a neighbour makes one coordinate smaller and leaves the others: chains of seven steps
    in each direction.
    """
    for back, beyond in zip(neighbours, (*neighbours[1:], index + 1), strict=True):
        yield back, index % beyond // back


def _where(image: int, place: Place) -> Where:
    return image, place.component, place.row, place.column


def _are_alike(image: Image, other: Image) -> bool:
    """Whether images have the same tiles."""
    same = image.shape == other.shape and image.dtype == other.dtype
    return same and image.tile_shape == other.tile_shape


def _has_bases(images: Sequence[Image]) -> bool:
    """Whether any tile of a file may be a delta to another one."""
    alike = Counter((image.shape, image.dtype.str) for image in images)
    groups = [components(image.channels) for image in images]
    has_bands = any(len(a) == len(b) for bands in groups for a, b in pairwise(bands))
    return has_bands or any(n > 1 for n in alike.values())
