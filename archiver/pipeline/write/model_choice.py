"""Which of several models codes a file: the one with the smallest real code of a sample.

The sample is all tiles of a small file, and some tiles spread over a large one.  What was coded for
the choice is kept: it need not be coded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from archiver.codec import learned
from archiver.codec import tiles as codec
from archiver.codec.ids import Encoded
from archiver.codec.learned import Orientations
from archiver.codec.tiles import Prepared
from archiver.image import Image
from archiver.pipeline.tiling import Place, components

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

LEAST_PIXELS, MAX_TILES = 1 << 17, 8  # of a sample
SHARE = 8  # one tile of so many is in the sample, between those bounds


@dataclass(frozen=True)
class Choice:
    """The number of the model chosen, and the tiles (by number) that it has coded already."""

    model: int
    encoded: Mapping[int, Encoded]
    gains: Sequence[int] = ()  # bytes of each of these tiles, less than under the first model


def is_learnable(image: Image, place: Place, *, deep: bool) -> bool:
    """Whether a model can code the tile at ``place``; ``deep``: it has a port for 16 bits."""
    if image.jpeg_tile or image.bit_depth == 1:
        return False
    channels = len(components(image.channels)[place.component])
    is_deep = deep and learned.is_high_depth_tile(image.dtype, channels)
    return is_deep or learned.is_byte_tile(image.dtype, channels)


def learnable_tiles(
    images: Sequence[Image], places: Sequence[tuple[int, Place]], *, deep: bool = True
) -> list[int]:
    """Return the numbers of the tiles of a file that a model can code."""
    return [
        number
        for number, (image, place) in enumerate(places)
        if is_learnable(images[image], place, deep=deep)
    ]


def sample(learnable: Sequence[int], tile: int, pixels: int = LEAST_PIXELS) -> list[int]:
    """Return which of the ``learnable`` tiles of a file its model is chosen by, in order.

    At least ``pixels`` in tiles of side ``tile``, if there are so many.
    """
    n = len(learnable)
    least = -(-pixels // tile**2)
    count = min(n, max(least, min(MAX_TILES, n // SHARE)))
    return [learnable[(2 * i + 1) * n // (2 * count)] for i in range(count)]


def choose(
    samples: Sequence[Mapping[int, Prepared]],
    engines: Sequence[Engine],
    orientations: Sequence[Orientations],
) -> list[Choice]:
    """Return the choice for each file, given its sample (tile number -> tile) and orientations.

    The first engine wins ties, and files without a sample.
    """
    tiles = [tile for sample in samples for tile in sample.values()]
    of_tiles = [
        of_file for sample, of_file in zip(samples, orientations, strict=True) for _ in sample
    ]
    by_engine = [iter(coded) for coded in codec.encode_each(tiles, engines, of_tiles)]
    return [
        _smallest(tuple(sample), [list(islice(coded, len(sample))) for coded in by_engine])
        for sample in samples
    ]


def _smallest(numbers: Sequence[int], by_engine: Sequence[Sequence[Encoded]]) -> Choice:
    """Return the choice for a file, given what each engine makes of its sample."""
    lengths = [[len(tile.payload) for tile in coded] for coded in by_engine]
    sizes = [sum(of_engine) for of_engine in lengths]
    best = sizes.index(min(sizes))
    gains = [first - length for first, length in zip(lengths[0], lengths[best], strict=True)]
    return Choice(best, dict(zip(numbers, by_engine[best], strict=True)), gains)
