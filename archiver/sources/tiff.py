"""TIFF structure: which strips and tiles of which pages hold samples, by tifffile.

Classic and BigTIFF, both byte orders, all pages and sub-IFDs.  Every byte that is not a strip or
tile stays in the residue, so tags (GeoTIFF, OME, vendors') need not be understood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from archiver.sources import tiff_stacks
from archiver.sources.contract import MAX_SIDE, Fidelity, Split, Unsupported
from archiver.sources.jpeg2000.codestream import Header
from archiver.sources.quiet import quiet
from archiver.sources.segmented import find_recipes, planes
from archiver.sources.segmented.encodings import CODESTREAMS, LERC, Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import MAX_SEGMENTS, Page

_MAX_PAGES = 1 << 16
_MANY_PAGES, _TINY_PAGE = 2048, 512  # each takes a millisecond to plan, so it should hold something
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _CHANNELS, _STRIP_ROWS, _STRIP_LENGTHS, _PLANAR = 273, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_LENGTHS = 317, 322, 323, 324, 325
_SAMPLE_FORMAT, _SUBSAMPLING, _NODATA = 339, 530, 42113
_JPEG_TABLES, _MAX_TABLES = 347, 1 << 15
_LERC_PARAMETERS = 50674  # version, and what compresses it once more
_LERC_BY_OUTER = {1: Compression.LERC_DEFLATE, 2: Compression.LERC_ZSTD}
_FAX = "compressed as fax (CCITT {}): there is no encoder here to write it again"
_NO_ENCODER = "compressed by {}: its encoder cannot be found again"
_REASONS = {
    2: _FAX.format("RLE"),
    3: _FAX.format("group 3"),
    4: _FAX.format("group 4"),
    6: "old-style JPEG, whose tables are not where its segments are",
    34933: _NO_ENCODER.format("PNG"),
    50001: _NO_ENCODER.format("WebP, lossless or not"),
    50002: _NO_ENCODER.format("JPEG XL"),
    52546: _NO_ENCODER.format("JPEG XL"),
}
_COMPLEX_INTEGER, _COMPLEX = 5, 6  # sample formats
_FLOAT, _SIGNED = 3, 2
_GREY, _RGB, _YCBCR = (0, 1), 2, 6  # photometric interpretations


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a TIFF file, or raise Unsupported."""
    pages, reasons = list[Page](), list[str]()
    size = path.stat().st_size
    with quiet("tifffile"), tifffile.TiffFile(path) as tif:
        for number, ifd in enumerate(_ifds(tif.pages, set())):
            if number == _MANY_PAGES and _payload(pages) < number * _TINY_PAGE:
                raise Unsupported(f"TIFF: thousands of pages of less than {_TINY_PAGE} bytes each")
            try:
                page = find_recipes.cut_plain(_page(ifd, tif.byteorder == ">"))
                _check_codestream(tif.filehandle, page)
                pages.append(page)
            except Unsupported as reason:
                reasons.append(str(reason))
        pages = tiff_stacks.with_frames(path, pages, size)
        neighbours = tiff_stacks.neighbours(tif, len(pages))
    if not pages or (reasons and 2 * _payload(pages) < size):
        raise Unsupported(f"TIFF: {reasons[0] if reasons else 'no pages'}")
    try:
        parts = find_recipes.split(path, pages, fidelity=fidelity)
    except Unsupported as reason:
        raise Unsupported(f"TIFF: {reason}") from reason
    skipped = f"{len(reasons)} pages kept as they are: {reasons[0]}" if reasons else ""
    note = "; ".join(filter(None, (skipped, parts.note)))
    images = tuple(replace(image, neighbours=neighbours) for image in parts.images)
    return replace(parts, images=images, note=note and f"TIFF: {note}")


def _payload(pages: Sequence[Page]) -> int:
    """Return the stored bytes of samples."""
    return sum(int(page.lengths.sum()) for page in pages)


def _ifds(pages: Any, seen: set[int]) -> Iterator[Any]:
    """Yield all IFDs, sub-IFDs after their parent; Unsupported when they form a cycle."""
    for page in pages:
        if page.offset in seen or len(seen) >= _MAX_PAGES:
            raise Unsupported("IFDs in a cycle, or too many")
        seen.add(page.offset)
        yield page
        if page.subifds:
            yield from _ifds(page.pages, seen)


def _page(ifd: Any, big_endian: bool) -> Page:
    """Return where the samples of one IFD lie; Unsupported for what is not understood."""
    tags = ifd.tags
    compression = _compression(tags)
    geometry = _geometry(tags, big_endian)
    _check(geometry, compression)
    offsets_tag, lengths_tag = (
        (_TILE_OFFSETS, _TILE_LENGTHS) if geometry.tiled else (_STRIP_OFFSETS, _STRIP_LENGTHS)
    )
    offsets = _numbers(tags, offsets_tag)
    n_plain = geometry.segment_height * geometry.row_bytes
    plain = np.array([n_plain], np.int64) if geometry.n_segments == 1 else None
    lengths = _numbers(tags, lengths_tag) if lengths_tag in tags else plain
    if lengths is None or not len(offsets) == len(lengths) == geometry.n_segments:
        raise Unsupported(f"{len(offsets)} strips or tiles, expected {geometry.n_segments}")
    if np.any(lengths == 0) and (_NODATA in tags or compression is Compression.JPEG):
        raise Unsupported("absent tiles that stand for something else than zeros")
    if compression is Compression.NONE:
        lengths = _plain_lengths(geometry, lengths)
    if compression is Compression.JPEG:
        return _jpeg_page(tags, Page(geometry, compression, offsets, lengths))
    return Page(geometry, compression, offsets, lengths)


def _jpeg_page(tags: Any, page: Page) -> Page:
    """Return a page of JPEGs with what its tags say about them."""
    kind, tables = tags.valueof(_PHOTOMETRIC), tags.valueof(_JPEG_TABLES, b"")
    expected = {1: _GREY, 3: (_RGB, _YCBCR)}.get(page.geometry.channels, ())
    if kind not in expected or page.geometry.bits != 8 or page.geometry.planar:
        raise Unsupported(f"JPEG of {page.geometry.channels} channels, photometric {kind}")
    if not isinstance(tables, bytes) or len(tables) > _MAX_TABLES:
        raise Unsupported("JPEG tables that are none")
    return replace(page, jpeg_tables=tables, jpeg_converts=kind == _YCBCR)


def _check_codestream(file: Any, page: Page) -> None:
    """Refuse a page of JPEG 2000 that is not reversible, by the header of its first segment."""
    if page.compression not in CODESTREAMS:
        return
    first = int(np.flatnonzero(page.lengths)[0]) if page.lengths.any() else 0
    offset, length = int(page.offsets[first]), int(page.lengths[first])
    if not 0 <= offset <= offset + length <= file.size:
        raise Unsupported("strips or tiles outside the file")
    file.seek(offset)
    header = Header.of(file.read(min(length, _MAX_TABLES)))
    geometry = page.geometry
    if (
        geometry.floating
        or header.shape[2] != geometry.segment_channels
        or header.dtype.itemsize != (geometry.dtype.itemsize)
    ):
        raise Unsupported(f"JPEG 2000 of {header.shape[2]} channels of {header.bits} bits")


def _geometry(tags: Any, big_endian: bool) -> Geometry:
    height, width = _number(tags, _HEIGHT), _number(tags, _WIDTH)
    channels, planar = _number(tags, _CHANNELS, 1), _number(tags, _PLANAR, 1) == 2
    bits, kinds = _same(tags, _BITS, 1), _same(tags, _SAMPLE_FORMAT, 1)
    predictor, tiled = _number(tags, _PREDICTOR, 1), _TILE_WIDTH in tags
    if kinds in (_COMPLEX_INTEGER, _COMPLEX):  # two numbers, side by side
        if (planar and channels > 1) or predictor > 1:
            raise Unsupported("complex samples in planes, or with a predictor")
        kinds = _SIGNED if kinds == _COMPLEX_INTEGER else _FLOAT
        bits, channels = bits // 2, 2 * channels
    if kinds == 3 and bits not in (16, 32, 64):
        raise Unsupported(f"{bits}-bit floating point")
    if predictor not in (1, 2, 3) or (predictor == 3 and kinds != 3):
        raise Unsupported(f"predictor {predictor}")
    if _compression(tags) in (Compression.NONE, *CODESTREAMS, *LERC):
        predictor = 1  # libtiff does not look at it
    if _number(tags, _FILL_ORDER, 1) != 1:
        raise Unsupported("reversed bit order")
    is_ycbcr = tags.valueof(_PHOTOMETRIC) == _YCBCR
    is_jpeg = _compression(tags) is Compression.JPEG
    if is_ycbcr and not is_jpeg and _numbers(tags, _SUBSAMPLING, (2, 2)).max() > 1:
        raise Unsupported("subsampled chroma")
    return Geometry(
        height=height,
        width=width,
        channels=channels,
        segment_height=_number(tags, _TILE_HEIGHT)
        if tiled
        else min(height, _number(tags, _STRIP_ROWS, MAX_SIDE)),
        segment_width=_number(tags, _TILE_WIDTH) if tiled else width,
        bits=bits,
        signed=kinds == 2 or predictor == 3,  # of floats: how they are predicted
        floating=kinds == 3,
        big_endian=big_endian and _compression(tags) not in CODESTREAMS,
        planar=planar and channels > 1,
        predictor=predictor > 1,
        tiled=tiled,
    )


def _check(geometry: Geometry, compression: Compression) -> None:
    """Refuse what cannot be cut into segments that fit in memory."""
    strips = compression is Compression.NONE and not geometry.tiled
    cut = planes.small_strips(geometry) if strips else geometry
    if not cut.is_sound or geometry.n_segments > MAX_SEGMENTS:
        raise Unsupported(
            f"{geometry.width} x {geometry.height} x {geometry.channels} samples of"
            f" {geometry.bits} bits in pieces of {geometry.segment_width} x"
            f" {geometry.segment_height}"
        )


def _compression(tags: Any) -> Compression:
    value = _number(tags, _COMPRESSION, 1)
    if value not in Compression._value2member_map_:
        raise Unsupported(_REASONS.get(value, f"compression {value} ({_name(value)})"))
    if value == Compression.LERC and _LERC_PARAMETERS in tags:
        return _LERC_BY_OUTER.get(int(_numbers(tags, _LERC_PARAMETERS)[-1]), Compression.LERC)
    return Compression(value)


def _name(compression: int) -> str:
    """Return how tifffile calls a compression."""
    try:
        return tifffile.COMPRESSION(compression).name
    except ValueError:
        return "unknown"


def _plain_lengths(geometry: Geometry, lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the bytes of samples of each segment; what a strip has beyond them is a gap."""
    rows = [geometry.n_rows(geometry.box(i)) for i in range(geometry.n_segments)]
    expected = np.array(rows, np.int64) * geometry.row_bytes
    if np.any((lengths < expected) & (lengths > 0)) and len(lengths) > 1:
        raise Unsupported("strips or tiles with too few bytes")
    return np.where(lengths > 0, expected, 0)


def _numbers(tags: Any, code: int, default: Any = None) -> np.ndarray[Any, Any]:
    value = tags.valueof(code, default)
    if value is None or isinstance(value, (str, bytes)):
        raise Unsupported(f"tag {code} is missing")
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "iu" or array.ndim != 1 or len(array) == 0:
        raise Unsupported(f"tag {code} is not numbers")
    if array.max() > np.iinfo(np.int64).max:
        raise Unsupported(f"tag {code} is too large")
    return array.astype(np.int64)


def _number(tags: Any, code: int, default: int | None = None) -> int:
    value = int(_numbers(tags, code, default)[0])
    if not 0 < value <= 0xFFFFFFFF:
        raise Unsupported(f"tag {code} is {value}")
    return value


def _same(tags: Any, code: int, default: int) -> int:
    values = _numbers(tags, code, default)
    if np.any(values != values[0]):
        raise Unsupported(f"channels differ in tag {code}")
    return int(values[0])
