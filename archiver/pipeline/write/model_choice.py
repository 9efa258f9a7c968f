"""Which of several models codes a file: the one with the smallest real code of a sample.

The sample is all tiles of a small file, and some tiles spread over a large one.  What was coded for
the choice is kept: it need not be coded again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    turns: Sequence[Orientations],
) -> list[Choice]:
    """Return the choice for each file, given its sample (tile number -> tile), and its turns.

    The first engine wins ties, and files without a sample.
    """
    each_turns = [own for one, own in zip(samples, turns, strict=True) for _ in one]
    tiles = [tile for sampled in samples for tile in sampled.values()]
    by_engine = codec.encode_each(tiles, engines, each_turns)
    choices, start = [], 0
    for sampled in samples:
        coded = [each[start : start + len(sampled)] for each in by_engine]
        sizes = [sum(len(one.payload) for one in each) for each in coded]
        best = sizes.index(min(sizes))
        pairs = zip(coded[0], coded[best], strict=True)
        gains = [len(one.payload) - len(other.payload) for one, other in pairs]
        choices.append(Choice(best, dict(zip(sampled, coded[best], strict=True)), gains))
        start += len(sampled)
    return choices
