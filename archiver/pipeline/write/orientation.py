"""The orientation of a file's tiles: that in which a model codes a sample of them smallest.

Of most photographs, one side takes a hundredth or more off the bytes of another.  Some small crops
tell which sides are promising, larger ones which is best; then the orders of the channels, which
matter where colours are not those of photographs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archiver.codec import learned
from archiver.codec import tiles as codec
from archiver.codec.learned import IDENTITY_ONLY, Orientations
from archiver.codec.transforms.orientation import IDENTITY, ORDERS, SIDES, Orientation
from archiver.image import Samples
from archiver.pipeline.write import confidence

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

SMALL, LARGE = 64, 128  # side of a crop at most
CELL = 256  # side of a part of a tile that a crop is taken from
SMALL_PIXELS, LARGE_PIXELS = 1 << 14, 1 << 16  # of all crops
_MANY = 1 << 20  # crops that a large file has
KEPT = 3  # sides that are looked at in large crops
LEAST_GAIN = 0.001  # of the bytes; less may be chance
SURE_GAIN = 0.01  # of the bytes of one or a few crops: then all of the tiles gain


def find(tiles: Sequence[Samples], engine: Engine, *, is_whole: bool = True) -> Orientations:
    """Return the orientation in which ``engine`` codes some tiles of a file smallest.

    With it comes `IDENTITY`, if all tiles of the file are there and crops of them leave a doubt.
    """
    large = _Crops(tiles, LARGE, LARGE_PIXELS, engine)
    small = _Crops(large.tiles, SMALL, SMALL_PIXELS, engine)
    sides = sorted((Orientation(number) for number in range(SIDES)), key=small.size)
    best = min(sides[:KEPT], key=large.size)
    if large.have_order:
        best = min(map(best.ordered, range(len(ORDERS))), key=small.size, default=best)
        best = min(best.ordered(0), best, key=large.size)
    size = large.size(best) + len(large.tiles)  # an orientation takes a byte of each tile
    gain = large.size(IDENTITY) - size
    if gain <= LEAST_GAIN * large.size(IDENTITY):
        return IDENTITY_ONLY
    if is_whole:
        is_sure = large.are_all or gain > SURE_GAIN * large.size(IDENTITY)
        return (best,) if is_sure else (IDENTITY, best)
    gains = [a - b - 1 for a, b in zip(large.sizes(IDENTITY), large.sizes(best), strict=True)]
    return (best,) if confidence.is_sure(gains, _MANY) else IDENTITY_ONLY


class _Crops:
    """The middle of some tiles, spread over all, and their size in orientations looked at."""

    def __init__(self, tiles: Sequence[Samples], side: int, pixels: int, engine: Engine) -> None:
        shown = (codec.shown(_middle(cell, side)) for tile in tiles for cell in _cells(tile))
        crops = [crop for crop in shown if crop is not None]
        n, total = len(crops), sum(crop.shape[0] * crop.shape[1] for crop in crops)
        count = min(n, max(1, pixels * n // total)) if n else 0
        self.tiles = [crops[(2 * i + 1) * n // (2 * count)] for i in range(count)]
        pixels_of_all = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
        self.are_all = sum(tile.shape[0] * tile.shape[1] for tile in self.tiles) == pixels_of_all
        self._engine = engine
        self._sizes: dict[Orientation, list[int]] = {}

    @property
    def have_order(self) -> bool:
        """Whether the order of channels can matter."""
        return any(Orientation(SIDES).on(tile).number for tile in self.tiles)

    def size(self, orientation: Orientation) -> int:
        """Return the bytes of all crops."""
        return sum(self.sizes(orientation))

    def sizes(self, orientation: Orientation) -> list[int]:
        """Return the bytes of each crop."""
        if orientation not in self._sizes:
            oriented = [orientation.on(crop).oriented(crop) for crop in self.tiles]
            coded = learned.encode(oriented, self._engine)
            self._sizes[orientation] = [len(coding.payload) for coding in coded if coding]
        return self._sizes[orientation]


def _cells(tile: Samples) -> Iterator[Samples]:
    for row in range(0, tile.shape[0], CELL):
        for column in range(0, tile.shape[1], CELL):
            yield tile[row : row + CELL, column : column + CELL]


def _middle(tile: Samples, side: int) -> Samples:
    top, left = (max(0, n - side) // 2 for n in tile.shape[:2])
    return tile[top : top + side, left : left + side]
