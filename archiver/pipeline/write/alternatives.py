"""The alternatives in which one file is coded, of which the smallest is kept.

What a profile adds to a cheaper one, larger tiles, adapters, coded coefficients, is a bet.  Some
bets are lost on some files: those files are coded the cheaper way as well, and the bytes of the
whole file decide.  Files above ``LARGE_BYTES`` go to the shard while they are coded, in one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from archiver.image import Image
from archiver.pipeline.tiling import DEFAULT_TILE, tile_shape
from archiver.pipeline.write.adapter import HEAD_PIXELS, Effort


@dataclass(frozen=True)
class Alternative:
    """How a file is coded: side of tiles, fitting, whether JPEGs are left to libjxl.

    One that ``is_settled`` takes the first model as it is: there is nothing to choose.  One that
    ``is_quick`` takes none: `codec.quick` codes all, and nothing is tried beside it.
    """

    tile: int = DEFAULT_TILE
    effort: Effort | None = None
    quick_jpegs: bool = False
    is_settled: bool = False
    is_quick: bool = False


def alternatives(images: Sequence[Image], first: Alternative) -> list[Alternative]:
    """Return those in which to code a file of these images, the one that is asked for first."""
    all_of_them = [first]
    effort = first.effort
    if effort and effort.passes != 0 and not _is_covered(images, first.tile):
        heads_alone = replace(effort, passes=0)
        all_of_them.append(replace(first, tile=min(first.tile, DEFAULT_TILE), effort=heads_alone))
    if not first.quick_jpegs and any(image.jpeg_tile for image in images):
        all_of_them.append(replace(first, effort=None, quick_jpegs=True, is_settled=True))
    return all_of_them


def _is_covered(images: Sequence[Image], tile: int) -> bool:
    """Whether a file is so small that with all layers its heads are fitted just as without.

    A file of JPEG tiles alone has nothing that any layer is fitted to.
    """
    small = min(tile, DEFAULT_TILE)
    pixels = sum(image.height * image.width for image in images)
    same = all(tile_shape(image, tile) == tile_shape(image, small) for image in images)
    return same and (pixels <= HEAD_PIXELS or all(image.jpeg_tile for image in images))
