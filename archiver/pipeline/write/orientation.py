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
SMALL_PIXELS, LARGE_PIXELS = 1 << 14, 1 << 16  # of all crops that the scout looks at
JUDGED_PIXELS = 1 << 15  # of those that the model itself codes
_MANY = 1 << 20  # crops that a large file has
KEPT = 3  # sides that are looked at in large crops
LEAST_GAIN = 0.003  # of the bytes; less may be chance


def find(
    tiles: Sequence[Samples], engine: Engine, scout: Engine, *, is_whole: bool = True
) -> Orientations:
    """Return the orientation in which ``engine`` codes some tiles of a file smallest.

    ``scout`` looks for it, a smaller model: which side of an image is easier does not depend on who
    looks.  ``engine`` has to confirm it.
    """
    best = _scouted(tiles, scout)
    judged = _Crops(tiles, LARGE, JUDGED_PIXELS, engine)
    if best == IDENTITY or not judged.tiles:
        return IDENTITY_ONLY
    pairs = zip(judged.sizes(IDENTITY), judged.sizes(best), strict=True)
    gains = [before - after - 1 for before, after in pairs]  # it takes a byte of each tile
    if sum(gains) <= LEAST_GAIN * judged.size(IDENTITY):
        return IDENTITY_ONLY
    return (best,) if is_whole or confidence.is_sure(gains, _MANY) else IDENTITY_ONLY


def _scouted(tiles: Sequence[Samples], scout: Engine) -> Orientation:
    large = _Crops(tiles, LARGE, LARGE_PIXELS, scout)
    small = _Crops(large.tiles, SMALL, SMALL_PIXELS, scout)
    sides = sorted((Orientation(number) for number in range(SIDES)), key=small.size)
    best = min(sides[:KEPT], key=large.size)
    if large.have_order:
        best = min(map(best.ordered, range(len(ORDERS))), key=small.size, default=best)
        best = min(best.ordered(0), best, key=large.size)
    return best


class _Crops:
    """The middle of some tiles, spread over all, and their size in orientations looked at."""

    def __init__(self, tiles: Sequence[Samples], side: int, pixels: int, engine: Engine) -> None:
        shown = (codec.shown(_middle(cell, side)) for tile in tiles for cell in _cells(tile))
        crops = [crop for crop in shown if crop is not None]
        n, total = len(crops), sum(crop.shape[0] * crop.shape[1] for crop in crops)
        count = min(n, max(1, pixels * n // total)) if n else 0
        self.tiles = [crops[(2 * i + 1) * n // (2 * count)] for i in range(count)]
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
