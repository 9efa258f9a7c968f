"""The ways in which one file is coded, of which the smallest is kept.

What a profile adds to a cheaper one, larger tiles, fine-tuning, coded coefficients, is a bet.  Some
bets are lost on some files: those files are coded the cheaper way as well, and the bytes of the
whole file decide.  Files above ``LARGE_BYTES`` go to the shard while they are coded, in one way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from archiver.codec.learned import IDENTITY_ONLY, Orientations
from archiver.image import Image
from archiver.pipeline.tiling import DEFAULT_TILE, tile_shape
from archiver.pipeline.write.adapter import HEAD_PIXELS, Effort


@dataclass(frozen=True)
class Plan:
    """A model, by number, and turns that are settled for a file; no adapter."""

    model: int = 0
    turns: Orientations = IDENTITY_ONLY


@dataclass(frozen=True)
class Way:
    """How a file is coded: side of tiles, fine-tuning, whether JPEGs are left to libjxl.

    With a ``plan`` nothing is left to find.
    """

    tile: int = DEFAULT_TILE
    effort: Effort | None = None
    quick_jpegs: bool = False
    plan: Plan | None = None


def ways(images: Sequence[Image], first: Way) -> list[Way]:
    """Return the ways in which to code a file of these images, the one that is asked for first."""
    found = [first]
    effort = first.effort
    if effort and effort.passes != 0 and not _is_covered(images, first.tile):
        found.append(
            replace(first, tile=min(first.tile, DEFAULT_TILE), effort=replace(effort, passes=0))
        )
    if not first.quick_jpegs and sum(image.jpeg_tile is not None for image in images):
        found.append(replace(first, effort=None, quick_jpegs=True, plan=Plan()))
    return found


def _is_covered(images: Sequence[Image], tile: int) -> bool:
    """Whether a file is so small that with all layers its heads are fitted just as without."""
    small = min(tile, DEFAULT_TILE)
    pixels = sum(image.height * image.width for image in images)
    same = all(tile_shape(image, tile) == tile_shape(image, small) for image in images)
    return same and pixels <= HEAD_PIXELS
