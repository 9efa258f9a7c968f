"""The pass over a segmented file that finds, for every segment, the recipe that rebuilds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from archiver.image import Samples
from archiver.sources.bit_packing import Bytes
from archiver.sources.contract import Fidelity, Held, Split, Unsupported
from archiver.sources.deflate import settings as deflate_settings
from archiver.sources.segmented import encodings, jpeg_frames
from archiver.sources.segmented.asides import BREAK_BYTES, pack_breaks, pack_plan
from archiver.sources.segmented.encodings import Compression, Encoding, Match, Recipe
from archiver.sources.segmented.geometry import Box, Geometry
from archiver.sources.segmented.planes import Volume, joined_tiny, small_strips
from archiver.sources.segmented.rows import from_rows, to_rows
from archiver.sources.segmented.segments import (
    BROKEN,
    EDGE,
    MAX_SEGMENTS,
    PATCHED,
    Page,
    PageReader,
    Table,
)

_MAX_RESIDUE = 64 << 20  # bytes that are not samples, held in memory
_TRIALS = 4  # failures, after which a file that is mostly failures is given up early
_KEPT_SHARE = 10  # at most a tenth of the payload may be kept as it is
_FREE_COST, _COST_PER_BYTE = 4_000_000, 4  # microseconds that planning may take
_SEGMENT_COST = 150
_SEGMENT_COSTS = {  # of a segment, however small
    Compression.DEFLATE: 200,
    Compression.DEFLATE_OLD: 200,
    **dict.fromkeys(encodings.ZSTD, 400),
    Compression.LZW: 5000,  # a whole file for libtiff
    Compression.LZMA: 2000,
    **dict.fromkeys(encodings.LERC, 2000),
}
_DEFAULTS = {
    Compression.LZW: Recipe(Encoding.LZW_LIBTIFF),
    Compression.PACKBITS: Recipe(Encoding.PACKBITS_IMAGECODECS),
    Compression.DEFLATE: Recipe(Encoding.ZLIB, deflate_settings.DEFAULT),
    Compression.DEFLATE_OLD: Recipe(Encoding.ZLIB, deflate_settings.DEFAULT),
}


def split(path: Path | Held, pages: Sequence[Page], *, fidelity: Fidelity) -> Split:
    """Find all recipes; Unsupported if too much of the file cannot be rebuilt from samples."""
    pages = joined_tiny(path, pages)
    recipes = _Pass(path, pages, fidelity)
    recipes.run()
    achieved = Fidelity.SAMPLES if recipes.encoded_again else Fidelity.BYTES
    reader = PageReader(path, pages)
    return Split(reader.images(), recipes.table.pack(), achieved, recipes.note, reader.forget)


def split_volume(path: Path | Held, volume: Volume, *, fidelity: Fidelity) -> Split:
    """Split a file of one volume without compression; Unsupported if it ends too early."""
    parts = split(path, volume.pages(path), fidelity=fidelity)
    return replace(parts, images=volume.neighbours(parts.images))


def cut_plain(page: Page) -> Page:
    """Cut unencoded strips into smaller ones, so that a window reads only its own rows."""
    old = page.geometry
    rows = small_strips(old).segment_height
    if page.compression is not Compression.NONE or old.tiled or old.segment_height <= rows:
        return page
    if old.down > 1:  # all strips have to be cut evenly
        rows = max(n for n in range(1, rows + 1) if old.segment_height % n == 0)
    new = replace(old, segment_height=rows)
    if new.n_segments > MAX_SEGMENTS:
        raise Unsupported("too many strips")
    plane, down = np.divmod(np.arange(new.n_segments), new.down)
    strip, inside = np.divmod(down * rows, old.segment_height)
    offsets = page.offsets[plane * old.down + strip] + inside * old.row_bytes
    lengths = np.minimum(rows, old.height - down * rows) * old.row_bytes
    present = page.lengths[plane * old.down + strip] > 0
    return Page(new, page.compression, offsets, np.where(present, lengths, 0))


@dataclass(frozen=True)
class _Segment:
    """A strip, tile or frame as the file has it."""

    page: Page
    number: int  # of the page
    index: int
    stored: bytes


class _Pass:
    """One pass in the order of the file."""

    def __init__(self, path: Path | Held, pages: Sequence[Page], wanted: Fidelity) -> None:
        self._path, self._pages, self._wanted = path, pages, wanted
        self.table = Table([page.geometry for page in pages])
        self.encoded_again = 0
        self._hints: dict[int, Recipe] = {}
        self._at = 0  # everything in the file before it is in the table or in the gaps
        self._gap_bytes = 0  # gap since the last segment
        self._found_bytes = self._kept_bytes = self._failures = 0

    @property
    def note(self) -> str:
        """What was given up."""
        if self.encoded_again:
            return f"{self.encoded_again} strips or tiles compressed again"
        return f"{self._failures} strips or tiles kept as they are" if self._failures else ""

    def run(self) -> None:
        """Walk over the file."""
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            _check_cost(self._pages, size)
            for number, index, offset, length in _in_file_order(self._pages, size):
                self._fill_gap(file, offset)
                file.seek(offset)
                self._segment(_Segment(self._pages[number], number, index, file.read(length)))
            self._fill_gap(file, size)
        if self._kept_bytes * _KEPT_SHARE > self._kept_bytes + self._found_bytes:
            raise Unsupported("encoder parameters of strips or tiles not found")
        if not self.table.image:
            raise Unsupported("no strips or tiles")

    def _fill_gap(self, file: BinaryIO, end: int) -> None:
        n_bytes = end - self._at
        if n_bytes + len(self.table.gaps) > _MAX_RESIDUE:
            raise Unsupported("too many bytes that are not samples")
        file.seek(self._at)
        self.table.gaps += file.read(n_bytes)
        self._gap_bytes += n_bytes
        self._at = end

    def _segment(self, segment: _Segment) -> None:
        """Add a segment, or leave its bytes to the next gap if no recipe gives them."""
        page, stored = segment.page, segment.stored
        box = page.geometry.box(segment.index)
        stream = page.stream(stored)
        if page.is_jpeg:
            check_jpeg(page, box, stream)
            self._add(segment, encodings.JPEG, len(stream))
            return
        if page.compression in encodings.FRAMES:
            self._frame(segment)
            return
        n_bytes = page.geometry.n_rows(box) * page.geometry.row_bytes
        raw, used = encodings.decode(page.compression, stream, n_bytes)
        rows = np.frombuffer(raw, np.uint8).reshape(-1, page.geometry.row_bytes)
        hint = self._hints.get(segment.number)
        match = encodings.find(page.compression, rows, stream, used, hint)
        again = match is None and self._wanted is Fidelity.SAMPLES
        if again:
            match = _encode_again(page.compression, rows, len(stored))
        if match is None:
            self._keep(len(stored))
            return
        self._hints[segment.number] = match.recipe
        flags = self._padding(page.geometry, rows, from_rows(page.geometry, raw, box))
        told = pack_plan(match.plan) if match.plan else b""
        self._add(segment, match.recipe, match.used, told=told, flags=flags)
        if again:
            self._blank(len(stored) - match.used)

    def _frame(self, segment: _Segment) -> None:
        """Add a JPEG whose header goes to the gap, and whose scan is rebuilt."""
        page, stream = segment.page, segment.page.stream(segment.stored)
        header = stream[: jpeg_frames.Header.of(stream).size]
        box = page.geometry.box(segment.index)
        n_bytes = page.geometry.n_rows(box) * page.geometry.row_bytes
        raw, _ = encodings.decode(page.compression, stream, n_bytes)
        rows = np.frombuffer(raw, np.uint8).reshape(-1, page.geometry.row_bytes)
        encoded = jpeg_frames.encode(rows, jpeg_frames.header_in(header))
        if not stream[len(header) :].startswith(encoded):
            self._keep(len(segment.stored))
            return
        recipe, told, first = encodings.JPEG_SCAN, header, len(header)
        if any(at < len(header) for at in page.breaks):  # then it cannot stand in the gap
            recipe, told, first = encodings.JPEG_FRAME, pack_plan(header), 0
        self._add(segment, recipe, len(header) + len(encoded), told=told, first=first)

    def _add(
        self,
        segment: _Segment,
        recipe: Recipe,
        used: int,
        *,
        told: bytes = b"",
        first: int = 0,
        flags: int = 0,
    ) -> None:
        """Add a segment of ``used`` bytes, beside those that interrupt it in what is stored.

        ``told`` is what the recipe needs to know, which goes to the gap; the segment's ``first``
        bytes are in it.
        """
        interrupting = (
            at for i, at in enumerate(segment.page.breaks) if at - BREAK_BYTES * i < used
        )
        breaks = [
            (at - BREAK_BYTES * i - first, segment.stored[at : at + BREAK_BYTES])
            for i, at in enumerate(interrupting)
        ]
        before = told + (pack_breaks(breaks) if breaks else b"")
        self.table.gaps += before
        flags |= BROKEN if breaks else 0
        gap_bytes = self._gap_bytes + len(before)
        self.table.add(segment.number, segment.index, gap_bytes, recipe, flags)
        size = used + BREAK_BYTES * len(breaks)
        self._found_bytes += size
        self._gap_bytes, self._at = 0, self._at + size

    def _padding(self, geometry: Geometry, rows: Bytes, samples: Samples) -> int:
        """Return the flags that say how padding is made, with a patch where no rule fits."""
        computed = to_rows(geometry, samples, edge=False)
        if np.array_equal(computed, rows):
            return 0
        if geometry.tiled and np.array_equal(to_rows(geometry, samples, edge=True), rows):
            return EDGE
        if rows.size + len(self.table.patches) > _MAX_RESIDUE:
            raise Unsupported("too much padding that is not zero")
        self.table.patches += (computed ^ rows).tobytes()
        return PATCHED

    def _keep(self, n_bytes: int) -> None:
        self._failures += 1
        self._kept_bytes += n_bytes
        if self._failures >= _TRIALS and self._kept_bytes > self._found_bytes:
            raise Unsupported("encoder parameters of strips or tiles not found")

    def _blank(self, n_bytes: int) -> None:
        """Fill the rest of a segment that became shorter, so that no offset moves."""
        self.encoded_again += 1
        self.table.gaps += bytes(n_bytes)
        self._gap_bytes = n_bytes
        self._at += n_bytes


def _check_cost(pages: Sequence[Page], size: int) -> None:
    """Refuse segments that hold too little for the time that each takes."""
    costs = (
        _SEGMENT_COSTS.get(page.compression, _SEGMENT_COST) * len(page.offsets) for page in pages
    )
    if sum(costs) > _FREE_COST + _COST_PER_BYTE * size:
        count = sum(len(page.offsets) for page in pages)
        raise Unsupported(f"{count} strips or tiles, too small for the time that each takes")


def check_jpeg(page: Page, box: Box, stored: bytes) -> None:
    """Refuse a segment that is no JPEG of the size of its box, or more."""
    tile = page.jpeg_tile(stored)
    try:
        height, width, channels = tile.samples().shape
    except Exception as error:
        raise Unsupported(f"a JPEG tile does not decode: {error}") from error
    geometry = page.geometry
    fits = height in (box.height, geometry.segment_height)
    fits &= width in (box.width, geometry.segment_width)
    if tile.segment != stored or not fits or channels != geometry.channels:
        raise Unsupported(f"a JPEG tile of {height} x {width} x {channels} samples")


def _encode_again(compression: Compression, rows: Bytes, limit: int) -> Match | None:
    """Return a recipe if what it writes fits into the place of the original."""
    recipe = _DEFAULTS.get(compression)
    if recipe is None:
        return None
    encoded = encodings.replay(recipe, rows)
    if encodings.decode(compression, encoded, rows.size)[0] != rows.tobytes():
        return None
    return Match(recipe, len(encoded)) if len(encoded) <= limit else None


def _in_file_order(pages: Sequence[Page], size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (page, index, offset, length) of all segments, which must not overlap."""
    if sum(len(page.offsets) for page in pages) > MAX_SEGMENTS:
        raise Unsupported("too many strips or tiles")
    number = np.concatenate([np.full(len(page.offsets), i) for i, page in enumerate(pages)])
    index = np.concatenate([np.arange(len(page.offsets)) for page in pages])
    offset = np.concatenate([page.offsets for page in pages])
    length = np.concatenate([page.lengths for page in pages])
    order = np.flatnonzero(length)
    order = order[np.argsort(offset[order], kind="stable")]
    end = offset[order] + length[order]
    if np.any(offset[order] < 0) or np.any(length < 0) or np.any(end > size) or np.any(end < 0):
        raise Unsupported("strips or tiles outside the file")
    if np.any(offset[order][1:] < end[:-1]):
        raise Unsupported("strips or tiles overlap")
    columns = (column[order].tolist() for column in (number, index, offset, length))
    yield from zip(*columns, strict=True)
