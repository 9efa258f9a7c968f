"""The frames of compressed pixel data in DICOM: whose fragments are whose, what each holds.

item (table of offsets)  item  item ...  end        an item is a tag, a length, and a fragment
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as Pillow

from archiver.image import YCBCR_VIEW, view_of
from archiver.sources.contract import Held, Unsupported
from archiver.sources.dicom import native as dicom_native
from archiver.sources.dicom.header import UNDEFINED, Header
from archiver.sources.jpeg2000 import codestream
from archiver.sources.segmented import find_recipes, jpeg_frames, planes, runs
from archiver.sources.segmented.asides import BREAK_BYTES, joined
from archiver.sources.segmented.encodings import RLE, Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import Page

_JPEG = ("50", "51", "53", "55")  # as far as they have 8 bits
_SYNTAXES = {
    **{f"1.2.840.10008.1.2.4.{last}": Compression.JPEG for last in _JPEG},
    "1.2.840.10008.1.2.4.57": Compression.JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": Compression.JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": Compression.JPEG_LS,
    "1.2.840.10008.1.2.4.81": Compression.JPEG_LS,
    "1.2.840.10008.1.2.4.90": Compression.JPEG_2000,
    "1.2.840.10008.1.2.4.91": Compression.JPEG_2000,
    "1.2.840.10008.1.2.4.201": Compression.JPEG_2000,
    "1.2.840.10008.1.2.4.202": Compression.JPEG_2000,
    "1.2.840.10008.1.2.4.203": Compression.JPEG_2000,
}
_RLE = "1.2.840.10008.1.2.5"
_RLE_OF = {8 * n_bytes: how for how, n_bytes in RLE.items()}  # by bits
_RLE_HEAD = 64  # bytes of offsets, the first of which is their size
_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_END_OF_JPEG = b"\xff\xd9"
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
Fragment = tuple[int, int]  # offset and length


@dataclass(frozen=True)
class Frames:
    """The frames that can be taken apart, and why others cannot, if there are any."""

    pages: list[Page]
    note: str = ""


def is_known(syntax: str) -> bool:
    """Whether frames of that transfer syntax may be taken apart."""
    return syntax in _SYNTAXES or syntax == _RLE


def find(path: Path | Held, header: Header) -> Frames:
    """Return a page for each frame; Unsupported if none can be taken apart."""
    with path.open("rb") as file:
        table, *fragments = _fragments(file, header.offset) or [(header.offset, 0)]
        groups = _grouped(file, table, fragments, header)
        pages: list[Page] = []
        faults: list[str] = []
        for group in groups:
            try:
                pages.append(_page(file, group, header))
            except Unsupported as error:
                faults.append(str(error))
    if not pages:
        raise Unsupported(faults[0])
    return Frames(pages, _told(faults, len(groups)))


def decodable(path: Path | Held, pages: Sequence[Page]) -> Frames:
    """Return the pages of JPEGs that decode to samples of their geometry."""
    good: list[Page] = []
    faults: list[str] = []
    with path.open("rb") as file:
        for page in pages:
            file.seek(int(page.offsets[0]))
            stored = file.read(int(page.lengths[0]))
            try:
                find_recipes.check_jpeg(page, page.geometry.box(0), page.stream(stored))
                good.append(page)
            except Unsupported as error:
                faults.append(str(error))
    if not good:
        raise Unsupported(faults[0])
    return Frames(good, _told(faults, len(pages)))


def _told(faults: Sequence[str], n: int) -> str:
    return f"{len(faults)} of {n} frames kept as they are: {faults[0]}" if faults else ""


def _fragments(file: BinaryIO, offset: int) -> list[Fragment]:
    """Return offset and length of every item of encapsulated pixel data."""
    fragments: list[Fragment] = []
    for _ in range(planes.MAX_FRAMES + 1):
        file.seek(offset)
        item = file.read(BREAK_BYTES)
        if len(item) < BREAK_BYTES:
            raise Unsupported("DICOM: pixel data that ends too early")
        *tag, length = struct.unpack("<HHI", item)
        if tuple(tag) == _SEQUENCE_END:
            return fragments
        if tuple(tag) != _ITEM or length == UNDEFINED:
            raise Unsupported("DICOM: damaged fragments")
        fragments.append((offset + BREAK_BYTES, length))
        offset += BREAK_BYTES + length
    raise Unsupported("DICOM: too many fragments")


def _grouped(
    file: BinaryIO, table: Fragment, fragments: Sequence[Fragment], header: Header
) -> list[list[Fragment]]:
    """Return the fragments of each frame, as a table of offsets or their first bytes tell."""
    n_frames = header.frames
    if n_frames == 1 and fragments:
        return [list(fragments)]
    filled = [fragment for fragment in fragments if fragment[1]]
    if filled and len(filled) == n_frames:
        return [[fragment] for fragment in filled]
    file.seek(table[0])
    basic = [n for (n,) in struct.iter_unpack("<I", file.read(table[1] // 4 * 4))]
    for offsets in (basic, header.frame_offsets):
        if len(offsets) == n_frames and fragments:
            first = fragments[0][0]
            groups = _cut(fragments, {first + offset for offset in offsets})
            if len(groups) == n_frames:
                return groups
    groups = _cut(fragments, {start for start, length in fragments if _begins(file, start, length)})
    if len(groups) != n_frames or not groups:
        raise Unsupported(f"DICOM: {len(fragments)} fragments for {n_frames} frames")
    return groups


def _cut(fragments: Sequence[Fragment], starts: set[int]) -> list[list[Fragment]]:
    """Return fragments in groups that begin at ``starts``; none if the first does not."""
    groups: list[list[Fragment]] = []
    for fragment in fragments:
        if fragment[0] in starts:
            groups.append([])
        if not groups:
            return []
        groups[-1].append(fragment)
    return groups


def _begins(file: BinaryIO, start: int, length: int) -> bool:
    """Whether a fragment looks like the first one of a frame."""
    file.seek(start)
    head = file.read(min(length, 8))
    is_rle = len(head) == 8 and 1 <= head[0] <= 15 and head[1:] == b"\0\0\0\x40\0\0\0"
    return is_rle or head.startswith(_STARTS)


def _page(file: BinaryIO, fragments: Sequence[Fragment], header: Header) -> Page:
    """Return the page of one frame, without the byte that pads its last fragment."""
    offset = fragments[0][0]
    breaks = tuple(start - BREAK_BYTES - offset for start, _ in fragments[1:])
    file.seek(offset)
    span = file.read(sum(fragments[-1]) - offset)
    whole = joined(span, breaks)
    if header.syntax == _RLE:
        return _rle_page(offset, span, whole, breaks, header)
    stream = whole[: whole.rfind(_END_OF_JPEG) + len(_END_OF_JPEG)]
    inside = [at for i, at in enumerate(breaks) if at - BREAK_BYTES * i < len(stream)]
    length = len(stream) + BREAK_BYTES * len(inside)
    how = _SYNTAXES[header.syntax]
    geometry, view = _described(how, stream, header)
    if not geometry.is_sound or geometry.channels not in (1, 3):
        shape = geometry.height, geometry.width, geometry.channels
        raise Unsupported("DICOM: a frame of {} x {} x {}".format(*shape))
    at, n = np.array([offset], np.int64), np.array([length], np.int64)
    converts = header.colour.startswith("YBR")
    return Page(geometry, how, at, n, b"", converts, breaks, view=view)


def _described(how: Compression, stream: bytes, header: Header) -> tuple[Geometry, int]:
    """Return the raster of a frame as its own header says, and how it is to be read."""
    stored, signed = header.number("BitsStored", 0), header.number("PixelRepresentation", 0) == 1
    if how is Compression.JPEG:
        height, width, channels = _jpeg_shape(stream)
        return Geometry(height, width, channels, height, width, 8), 0
    if how is Compression.JPEG_2000:
        told = codestream.Header.of(stream)
        height, width, channels = told.shape
        bits = 8 * told.dtype.itemsize
        if channels == 1:
            stored = told.bits if told.signed != signed else bits
    else:
        lossless = jpeg_frames.Header.of(stream)
        height, width, channels = lossless.shape
        bits = 8 * lossless.dtype.itemsize
        if how is Compression.JPEG_LS and signed:
            stored = lossless.precision
    geometry = Geometry(height, width, channels, height, width, bits, signed=signed and bits == 16)
    if bits < header.number("BitsAllocated", bits) and stored > bits:
        signed = False  # a sample of fewer bits in a wider one is not negative
    if header.is_ycbcr and bits == 8 and channels == 3:
        return geometry, YCBCR_VIEW
    return geometry, view_of(geometry.dtype, stored, signed=signed)


def _jpeg_shape(stream: bytes) -> tuple[int, int, int]:
    try:
        with Pillow.open(io.BytesIO(stream), formats=["JPEG"]) as image:
            return image.height, image.width, len(image.getbands())
    except Exception as error:  # whatever it raises on what it does not know
        raise Unsupported("DICOM: a frame that is no JPEG of 8 bits") from error


def _rle_page(
    offset: int, span: bytes, whole: bytes, breaks: tuple[int, ...], header: Header
) -> Page:
    geometry = replace(dicom_native.raster(header), planar=False, big_endian=False)
    geometry = replace(geometry, segment_height=geometry.height)
    n_planes = geometry.row_bytes // geometry.width
    if not geometry.is_sound or geometry.height * geometry.row_bytes > runs.MAX_BYTES:
        raise Unsupported(f"DICOM: an RLE frame of {geometry.height} x {geometry.width}")
    if whole[:4] != struct.pack("<I", n_planes) or geometry.bits not in _RLE_OF:
        raise Unsupported(f"DICOM: an RLE frame of other than {n_planes} planes")
    at, n = np.array([offset], np.int64), np.array([len(span)], np.int64)
    how, view = _RLE_OF[geometry.bits], dicom_native.view(header, geometry)
    return Page(geometry, how, at, n, breaks=breaks, view=view)
