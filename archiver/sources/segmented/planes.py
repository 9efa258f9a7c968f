"""How the planes of a volume become images: each one, or many tiny ones together.

An image costs some bytes in the manifest, and milliseconds; a plane of 8 x 8 is worth neither, and
a model predicts little in it.  Many tiny planes are therefore one image of the same samples in the
same order: its rows are rows of planes, planes, volumes, ..., whichever predict each other best.
Planes that do not follow each other in the file are a stack, one below the other.

FORMAT.md, "Tiny planes".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from operator import mul
from pathlib import Path

import numpy as np

from archiver.image import Image, Samples
from archiver.sources.contract import MAX_SIDE, Held, Unsupported
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import Page

MAX_FRAMES = 1 << 16
TINY = 1 << 10  # samples of a plane that is too small for an image of its own
MANY = 64  # planes of which so many are no images
_LOOKED_AT = 1 << 20  # samples that decide what a row is
_LEAST_ROWS = 4
_PLAIN_BYTES = 1 << 20  # an unencoded strip is cut into strips of about this size


@dataclass(frozen=True)
class Volume:
    """Samples of one type that follow each other in a file from ``offset`` on.

    ``counts`` are the numbers of planes, volumes, ...; ``plane`` is the raster of one plane.
    """

    plane: Geometry
    offset: int
    counts: tuple[int, ...] = ()

    @property
    def n_planes(self) -> int:
        """Planes in all."""
        return math.prod(self.counts)

    @property
    def is_tiny(self) -> bool:
        """Whether its planes are one image together."""
        return _are_tiny(self.plane, self.n_planes)

    def pages(self, path: Path | Held) -> list[Page]:
        """Return the images of a file; Unsupported if it ends before them."""
        with path.open("rb") as file:
            size = file.seek(0, 2)
        n_bytes = self.plane.height * self.plane.row_bytes * _planes_of(self.plane)
        if self.n_planes < 1 or self.offset < 0 or self.offset + self.n_planes * n_bytes > size:
            raise Unsupported(f"{size - self.offset} bytes for {self.n_planes} planes of {n_bytes}")
        if self.is_tiny:
            return [self._as_one(path)]
        if self.n_planes > MAX_FRAMES:
            raise Unsupported(f"{self.n_planes} planes, more than {MAX_FRAMES}")
        return [frame(self.plane, self.offset + i * n_bytes) for i in range(self.n_planes)]

    def neighbours(self, images: Sequence[Image]) -> tuple[Image, ...]:
        """Return the images, each with those that it may resemble: the same one of each volume."""
        if len(images) != self.n_planes or math.prod(self.counts[1:]) == 1:
            return tuple(images)
        steps = (1, self.counts[0])  # the slice before, and the same one of the volume before
        return tuple(replace(image, neighbours=steps) for image in images)

    def _as_one(self, path: Path | Held) -> Page:
        """Return all planes as the raster whose rows predict each other best."""
        n_samples = self.plane.height * self.plane.width * self.n_planes
        seen = self._seen(path, n_samples)
        best, least = self.plane.width, math.inf
        for width in self._widths():
            if n_samples // width < _LEAST_ROWS or len(seen) // width < _LEAST_ROWS:
                continue
            rough = _roughness(seen[: len(seen) // width * width].reshape(-1, width))
            if rough < least:
                best, least = width, rough
        height = n_samples // best
        reshaped = replace(
            self.plane, height=height, width=best, segment_height=1, segment_width=best
        )
        if not reshaped.is_sound:
            raise Unsupported(f"{self.n_planes} planes of {self.plane.height} x {self.plane.width}")
        return frame(reshaped, self.offset)

    def _widths(self) -> Iterator[int]:
        for width in accumulate((self.plane.width, self.plane.height, *self.counts), mul):
            if width <= MAX_SIDE:
                yield width

    def _seen(self, path: Path | Held, n_samples: int) -> Samples:
        """Return samples of the first channel that stand for the volume."""
        whole = max(_LOOKED_AT, _LEAST_ROWS * self.plane.height * self.plane.width)
        count = min(n_samples, whole)
        pixel = self.plane.channels * self.plane.bits // 8
        with path.open("rb") as file:
            file.seek(self.offset)
            raw = file.read(count * pixel)
        dtype = self.plane.dtype.newbyteorder(">" if self.plane.big_endian else "<")
        samples: Samples = np.frombuffer(raw, dtype)[:: self.plane.channels]
        return samples


def frames(geometry: Geometry, offset: int, count: int, size: int) -> list[Page]:
    """Return unencoded frames that follow each other; Unsupported if ``size`` bytes end before."""
    n_bytes = geometry.height * geometry.width * geometry.channels * geometry.bits // 8
    if not 1 <= count <= MAX_FRAMES or offset < 0 or offset + count * n_bytes > size:
        raise Unsupported(f"{size - offset} bytes for {count} frames of {n_bytes}")
    return [frame(geometry, offset + i * n_bytes) for i in range(count)]


def frame(geometry: Geometry, offset: int) -> Page:
    """Cut one unencoded raster into strips."""
    strips = small_strips(geometry)
    plane, down = np.divmod(np.arange(strips.n_segments, dtype=np.int64), strips.down)
    first = down * strips.segment_height
    rows = np.minimum(strips.segment_height, geometry.height - first)
    start = plane * geometry.height + first
    row_bytes = geometry.row_bytes
    return Page(strips, Compression.NONE, offset + start * row_bytes, rows * row_bytes)


def small_strips(geometry: Geometry) -> Geometry:
    """Return the same raster cut into strips of about a megabyte."""
    rows = min(geometry.height, max(1, _PLAIN_BYTES // geometry.row_bytes))
    return replace(geometry, segment_height=rows)


def joined_tiny(path: Path | Held, pages: Sequence[Page]) -> list[Page]:
    """Return the pages of a file; many tiny ones of one kind that follow each other are one."""
    all_pages: list[Page] = []
    for _, group in groupby(pages, _kind):
        members = list(group)
        first = members[0]
        if not _is_alone(first) or not _are_tiny(first.geometry, len(members)):
            all_pages += members
            continue
        joined = _as_volume(path, members) or _stacked(members)
        all_pages.append(replace(joined, view=first.view))
    return all_pages


def _kind(page: Page) -> tuple[object, ...]:
    """Return what pages of one image have in common; pages that stand alone have it not."""
    return (page.geometry, page.compression, page.view) if _is_alone(page) else (id(page),)


def _is_alone(page: Page) -> bool:
    """Whether a page is one segment that needs nothing beside it."""
    return page.geometry.n_segments == 1 and not (page.is_jpeg or page.breaks)


def _are_tiny(plane: Geometry, count: int) -> bool:
    whole = plane.bits >= 8 and not plane.planar and not plane.tiled and plane.row_align == 1
    return whole and count >= MANY and plane.height * plane.width <= TINY


def _planes_of(geometry: Geometry) -> int:
    return geometry.channels if geometry.planar else 1


def _as_volume(path: Path | Held, pages: Sequence[Page]) -> Page | None:
    """Return unencoded pages without gaps as the one image of a volume."""
    offsets = np.concatenate([page.offsets for page in pages])
    n_bytes = int(pages[0].lengths[0])
    plane = pages[0].geometry
    whole = n_bytes == plane.height * plane.row_bytes and not plane.bottom_up
    if pages[0].compression is not Compression.NONE or not whole:
        return None
    if np.any(np.diff(offsets) != n_bytes):
        return None
    [page] = Volume(plane, int(offsets[0]), (len(pages),)).pages(path)
    return page


def _stacked(pages: Sequence[Page]) -> Page:
    """Return pages as one image, one below the other."""
    plane = pages[0].geometry
    stack = replace(plane, height=plane.height * len(pages), segment_height=plane.height)
    return Page(
        *(stack, pages[0].compression),
        np.concatenate([page.offsets for page in pages]),
        np.concatenate([page.lengths for page in pages]),
    )


def _roughness(rows: Samples) -> float:
    """Return the mean error of the best of three plain predictions of the samples (R, W)."""
    if rows.dtype.kind == "f":
        x = np.nan_to_num(rows.astype(np.float64), posinf=0, neginf=0)
    else:
        x = rows.astype(np.int64)
    here, left, above, corner = x[1:, 1:], x[1:, :-1], x[:-1, 1:], x[:-1, :-1]
    if not here.size:
        return math.inf
    errors = (here - left, here - above, here - (3 * left + 3 * above - 2 * corner) / 4)
    return min(float(np.abs(error).mean()) for error in errors)
