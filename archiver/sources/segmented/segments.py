"""Files made of segments and gaps: reading windows from the file, and rebuilding the file.

Their residue (FORMAT.md, "Residue of segmented files") holds geometries, recipes, one row for each
segment in the order of the file, the bytes between segments, and patches: their true bytes before
encoding, XOR the computed ones.

The file is gap, segment, gap, segment, ..., gap.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from archiver.errors import SourceError
from archiver.image import Image, Samples
from archiver.sources.contract import LAYOUT_VERSION, Held, Unsupported
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.segmented import encodings
from archiver.sources.segmented.asides import broken, joined, take_breaks, take_plan
from archiver.sources.segmented.encodings import Compression, Encoding, Recipe
from archiver.sources.segmented.geometry import Box, Geometry
from archiver.sources.segmented.jpeg_tile import JpegTile
from archiver.sources.segmented.rows import from_rows, to_rows

MAX_SEGMENTS = 1 << 22
EDGE, PATCHED, BROKEN = 1, 2, 4
_CACHE_BYTES = 64 << 20
_BAND_BYTES = 8 << 20
Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Page:
    """One raster in a file: where its segments lie; a segment of length 0 is absent (zeros)."""

    geometry: Geometry
    compression: Compression
    offsets: Offsets
    lengths: Offsets
    jpeg_tables: bytes = b""  # of segments that are JPEGs
    jpeg_converts: bool = False  # whether their components are YCbCr
    breaks: tuple[int, ...] = ()  # where BREAK_BYTES that are not its own interrupt the one segment
    lead: bytes = b""  # what a decoder needs before the one segment
    view: int = 0  # of the image

    @property
    def is_jpeg(self) -> bool:
        """Whether the segments are JPEGs."""
        return self.compression is Compression.JPEG

    def stream(self, stored: bytes) -> bytes:
        """Return what a decoder takes of a segment as the file holds it."""
        return self.lead + joined(stored, self.breaks)

    def jpeg_tile(self, stored: bytes) -> JpegTile:
        """Return a segment, without what interrupts it, with the tables of its page."""
        return JpegTile.of_segment(stored, self.jpeg_tables, converts=self.jpeg_converts)


class PageReader:
    """Read windows of the pages of one file, keeping recently decoded segments."""

    def __init__(self, path: Path | Held, pages: Sequence[Page]) -> None:
        self._path = path
        self._pages = pages
        self._cache: OrderedDict[tuple[int, int], Samples] = OrderedDict()
        self._cached_bytes = 0
        self._lock = Lock()

    def images(self) -> tuple[Image, ...]:
        """Return one Image per page."""
        return tuple(self._image(i) for i in range(len(self._pages)))

    def forget(self) -> None:
        """Drop all decoded segments."""
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0

    def _image(self, page: int) -> Image:
        geometry = self._pages[page].geometry

        def window(row: int, column: int, height: int, width: int) -> Samples:
            return self._window(page, row, column, height, width)

        def jpeg_tile(row: int, column: int) -> bytes:
            return self._jpeg_tile(page, row, column)

        shape = (geometry.height, geometry.width, geometry.channels)
        bits = 1 if self._pages[page].compression is Compression.BITS else geometry.bits
        image = Image(*shape, geometry.dtype, bits, window, view=self._pages[page].view)
        if not self._pages[page].is_jpeg:
            return image
        tile_shape = geometry.segment_height, geometry.segment_width
        return replace(image, tile_shape=tile_shape, jpeg_tile=jpeg_tile)

    def _jpeg_tile(self, page: int, row: int, column: int) -> bytes:
        geometry = self._pages[page].geometry
        down, across = row // geometry.segment_height, column // geometry.segment_width
        with self._path.open("rb") as file:
            stored = self._stored(file, page, down * geometry.across + across)
        return self._pages[page].jpeg_tile(stored).to_bytes()

    def _window(self, page: int, row: int, column: int, height: int, width: int) -> Samples:
        geometry = self._pages[page].geometry
        out = np.zeros((height, width, geometry.channels), geometry.dtype)
        with self._path.open("rb") as file:
            for index in _segments_in(geometry, row, column, height, width):
                box = geometry.box(index)
                target, source = _overlap(box, row, column, height, width)
                plane = slice(box.plane, box.plane + geometry.segment_channels)
                out[(*target, plane)] = self._segment(file, page, index, box)[source]
        return out

    def _segment(self, file: BinaryIO, page: int, index: int, box: Box) -> Samples:
        with self._lock:
            if (page, index) in self._cache:
                self._cache.move_to_end((page, index))
                return self._cache[page, index]
        samples = self._decode(file, page, index, box)
        with self._lock:
            self._keep(page, index, samples)
        return samples

    def _keep(self, page: int, index: int, samples: Samples) -> None:
        if (page, index) not in self._cache:
            self._cache[page, index] = samples
            self._cached_bytes += samples.nbytes
        while self._cached_bytes > _CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes

    def _decode(self, file: BinaryIO, page: int, index: int, box: Box) -> Samples:
        geometry, compression = self._pages[page].geometry, self._pages[page].compression
        if self._pages[page].lengths[index] == 0:
            return np.zeros((box.height, box.width, geometry.segment_channels), geometry.dtype)
        stored = self._stored(file, page, index)
        if self._pages[page].is_jpeg:
            samples = self._pages[page].jpeg_tile(stored).samples()
            return samples[: box.height, : box.width].copy()  # a view would keep it all
        try:
            raw, _ = encodings.decode(
                compression, stored, geometry.n_rows(box) * geometry.row_bytes
            )
        except Exception as error:
            raise SourceError(
                f"{self._path}: segment {index} of image {page}: expected decodable bytes, found"
                f" {error}; if the file changed meanwhile, pack it again"
            ) from error
        return from_rows(geometry, raw, box)

    def _stored(self, file: BinaryIO, page: int, index: int) -> bytes:
        """Read the encoded bytes of a segment."""
        offset, length = (
            int(column[index]) for column in (self._pages[page].offsets, self._pages[page].lengths)
        )
        file.seek(offset)
        return self._pages[page].stream(file.read(length))


@dataclass
class Table:
    """The segments of a file in its order, as columns, and the bytes around them."""

    geometries: list[Geometry]
    recipes: list[Recipe] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    gap: list[int] = field(default_factory=list)
    recipe: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    gaps: bytearray = field(default_factory=bytearray)
    patches: bytearray = field(default_factory=bytearray)

    def add(self, image: int, index: int, gap: int, recipe: Recipe, flags: int) -> None:
        """Append one segment."""
        if recipe not in self.recipes:
            if len(self.recipes) > 1000:
                raise Unsupported("too many different encoder settings")
            self.recipes.append(recipe)
        self.image.append(image)
        self.index.append(index)
        self.gap.append(gap)
        self.recipe.append(self.recipes.index(recipe))
        self.flags.append(flags)

    def pack(self) -> bytes:
        """Write the residue."""
        steps = np.diff(np.array(self.index, "<i8"), prepend=0)
        return b"".join(
            (
                struct.pack("<BI", LAYOUT_VERSION, len(self.geometries)),
                *(geometry.pack() for geometry in self.geometries),
                struct.pack("<H", len(self.recipes)),
                *(recipe.pack() for recipe in self.recipes),
                struct.pack("<I", len(self.image)),
                np.array(self.image, "<u4").tobytes(),
                steps.astype("<i8").tobytes(),
                np.array(self.gap, "<u8").tobytes(),
                np.array(self.recipe, "<u2").tobytes(),
                np.array(self.flags, "u1").tobytes(),
                pack_blob(bytes(self.gaps)),
                pack_blob(bytes(self.patches)),
            )
        )


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the file, segment after segment."""
    cursor = Cursor(residue, "residue of a segmented file")
    geometries = [Geometry.read(cursor) for _ in range(_count(cursor, "<I", 1 << 20))]
    recipes = [Recipe.read(cursor) for _ in range(_count(cursor, "<H", 1 << 16))]
    n_segments = _count(cursor, "<I", MAX_SEGMENTS)
    image, step, gap, recipe, flags = (
        cursor.array(dtype, n_segments) for dtype in ("<u4", "<i8", "<u8", "<u2", "u1")
    )
    gaps, patches = _Pieces(cursor, "gaps"), _Pieces(cursor, "patches")
    cursor.end()
    _check_images(cursor, geometries, images)
    index = np.cumsum(step)
    bands = _Bands(images, geometries)
    for i in range(n_segments):
        before = gaps.take(int(gap[i]))
        breaks: list[tuple[int, bytes]] = []
        if flags[i] & BROKEN:
            before, breaks = take_breaks(cursor, before)
        page, at = int(image[i]), int(index[i])
        if page >= len(images) or recipe[i] >= len(recipes) or flags[i] > (EDGE | PATCHED | BROKEN):
            raise cursor.damaged("an image and a recipe of each segment", (page, int(recipe[i])))
        if not 0 <= at < geometries[page].n_segments:
            raise cursor.damaged(f"one of {geometries[page].n_segments} segments", at)
        how = recipes[int(recipe[i])]
        told = before  # what the recipe needs to know
        if how.encoding in encodings.WITH_PLAN:
            before, told = take_plan(cursor, before)
        yield before
        if how.encoding is Encoding.JPEG:
            yield from broken(_jpeg_segment(cursor, images[page], geometries[page].box(at)), breaks)
            continue
        rows = to_rows(geometries[page], bands.read(page, at), edge=bool(flags[i] & EDGE))
        if flags[i] & PATCHED:
            rows = rows ^ np.frombuffer(patches.take(rows.size), np.uint8).reshape(rows.shape)
        yield from broken(encodings.replay(how, rows, told), breaks)
    yield gaps.rest()
    patches.end()


def _jpeg_segment(cursor: Cursor, image: Image, box: Box) -> bytes:
    if image.jpeg_tile is None:
        raise cursor.damaged("an image of JPEG tiles", "samples")
    return JpegTile.from_bytes(image.jpeg_tile(box.row, box.column)).segment


class _Pieces:
    """Hand out a blob piece by piece."""

    def __init__(self, cursor: Cursor, name: str) -> None:
        self._cursor, self._name = cursor, name
        self._data, self._at = cursor.blob(), 0

    def take(self, n_bytes: int) -> bytes:
        if n_bytes > len(self._data) - self._at:
            raise self._cursor.damaged(f"{n_bytes} bytes of {self._name}", "fewer")
        self._at += n_bytes
        return self._data[self._at - n_bytes : self._at]

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self._at != len(self._data):
            raise self._cursor.damaged(f"the end of {self._name}", "more bytes")


class _Bands:
    """Read strips in bands of many, so that an image made of tiles is not decoded row by row."""

    def __init__(self, images: Sequence[Image], geometries: Sequence[Geometry]) -> None:
        self._images, self._geometries = images, geometries
        self._page, self._first = -1, 0
        self._band: Samples = np.empty((0, 0, 0), np.uint8)

    def read(self, page: int, index: int) -> Samples:
        """Return the samples of a segment, (h, w, c)."""
        geometry = self._geometries[page]
        box = geometry.box(index)
        plane = slice(box.plane, box.plane + geometry.segment_channels)
        if geometry.tiled:
            samples = self._images[page].window(box.row, box.column, box.height, box.width)
            return samples[..., plane]
        row_bytes = geometry.width * geometry.channels * geometry.dtype.itemsize
        strips = max(1, _BAND_BYTES // (row_bytes * geometry.segment_height))
        size = strips * geometry.segment_height
        first = box.row // size * size
        if (page, first) != (self._page, self._first):
            height = min(size, geometry.height - first)
            self._band = self._images[page].window(first, 0, height, geometry.width)
            self._page, self._first = page, first
        return self._band[box.row - first : box.row - first + box.height, :, plane]


def _count(cursor: Cursor, layout: str, limit: int) -> int:
    (count,) = cursor.unpack(layout)
    if count > limit:
        raise cursor.damaged(f"a count of at most {limit}", count)
    return int(count)


def _check_images(cursor: Cursor, geometries: Sequence[Geometry], images: Sequence[Image]) -> None:
    expected = [((g.height, g.width, g.channels), g.dtype) for g in geometries]
    given = [(image.shape, image.dtype) for image in images]
    if expected != given:
        raise cursor.damaged(f"images {expected[:4]}", given[:4])


def _segments_in(
    geometry: Geometry, row: int, column: int, height: int, width: int
) -> Iterator[int]:
    """Yield the indices of the segments that a window touches."""
    tall, wide = geometry.segment_height, geometry.segment_width
    for plane in range(geometry.channels if geometry.planar else 1):
        for down in range(row // tall, -(-(row + height) // tall)):
            for across in range(column // wide, -(-(column + width) // wide)):
                yield (plane * geometry.down + down) * geometry.across + across


def _overlap(
    box: Box, row: int, column: int, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where the box lies in the window, and where the window lies in the box."""
    top, bottom = max(row, box.row), min(row + height, box.row + box.height)
    left, right = max(column, box.column), min(column + width, box.column + box.width)
    return (
        (slice(top - row, bottom - row), slice(left - column, right - column)),
        (slice(top - box.row, bottom - box.row), slice(left - box.column, right - box.column)),
    )
