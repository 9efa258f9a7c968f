"""The stacks of TIFF: frames that follow the samples of a page and have no IFD of their own.

ImageJ (all stacks above 4 GB, hyperstacks), MetaMorph and tifffile write one IFD and tell in a
description how many frames there are.  tifffile reads what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile

from archiver.sources.segmented import planes
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.segments import Page

_IN_A_FRAME = "YXS"  # axes; all others count frames
_CHANNELS = "C"


def with_frames(path: Path, pages: Sequence[Page], size: int) -> list[Page]:
    """Return the pages of a file of ``size`` bytes, each with the frames that follow it."""
    covered = sum(int(page.lengths.sum()) for page in pages)
    if not pages or size - covered < min(_frame_bytes(page) for page in pages):
        return list(pages)
    stacks, all_pages = _stacks(path), list[Page]()
    shown = {int(page.offsets[0]) for page in pages}
    for page in pages:
        all_pages.append(page)
        first, n_bytes = int(page.offsets[0]), _frame_bytes(page)
        count = stacks.get(first, 1) if _is_plain(page) else 1
        if first + n_bytes in shown:  # by an IFD
            continue
        if first + count * n_bytes <= size and len(all_pages) + count <= planes.MAX_FRAMES:
            all_pages += (planes.frame(page.geometry, first + i * n_bytes) for i in range(1, count))
    return all_pages


def neighbours(tif: Any, count: int) -> tuple[int, ...]:
    """Return how far back the slice and the volume before lie among the frames of an ImageJ file.

    Channels of a slice follow each other, as ImageJ writes them.
    """
    stated = tif.imagej_metadata if tif.is_imagej else None
    channels, slices, frames = (_count(stated, name) for name in ("channels", "slices", "frames"))
    if channels * slices * frames != count or not stated or stated.get("order", "czt") != "czt":
        return (1,)
    steps = [channels] * (slices > 1) + [channels * slices] * (frames > 1)
    return tuple(steps) or (1,)


def _count(stated: dict[str, Any] | None, name: str) -> int:
    value = (stated or {}).get(name, 1)
    return value if isinstance(value, int) and value > 0 else 1


def _stacks(path: Path) -> dict[int, int]:
    """Return the number of the frames of each stack that has one IFD, by its offset.

    The file is opened anew, since its pages would forget their tags.
    """
    stacks = {}
    try:
        with tifffile.TiffFile(path, _multifile=False) as tif:
            for series in tif.series:
                offset, frame = series.dataoffset, series.keyframe.nbytes
                n_bytes = math.prod(series.shape) * series.dtype.itemsize
                if len(series._pages) == 1 and offset is not None and n_bytes > frame > 0:
                    stacks[int(offset)] = n_bytes // frame
    except Exception as error:  # whatever a description makes tifffile raise
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return {}
    return stacks


def _frame_bytes(page: Page) -> int:
    geometry = page.geometry
    planes = geometry.channels if geometry.planar else 1
    return planes * geometry.height * geometry.row_bytes


def _is_plain(page: Page) -> bool:
    """Whether the samples of a page are one piece, as they are."""
    ends = page.offsets + page.lengths
    return (
        page.compression is Compression.NONE
        and not page.geometry.tiled
        and bool((page.lengths > 0).all())
        and bool((ends[:-1] == page.offsets[1:]).all())
    )
