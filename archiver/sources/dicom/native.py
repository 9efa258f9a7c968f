"""The frames of pixel data that DICOM stores plainly: integers, floats, bits, 4:2:2."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from archiver.image import PLANES_VIEW, YCBCR_VIEW, view_of
from archiver.sources.contract import Held, Unsupported
from archiver.sources.dicom.header import DOUBLES, FLOATS, UNDEFINED, Header
from archiver.sources.segmented import planes
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import Page

_FLOATING = {FLOATS: 32, DOUBLES: 64}
_LEAST_BITS = 64  # of a frame of bits
_BITS = (8, 16, 32, 64)


def find(path: Path | Held, header: Header) -> list[Page]:
    """Return a page for each frame."""
    if not header.tag or header.length == UNDEFINED:
        raise Unsupported("DICOM: no native pixel data")
    if header.tag not in _FLOATING and header.number("BitsAllocated", 0) == 1:
        return _bits(path, header)
    if header.colour.endswith("422") and header.number("SamplesPerPixel", 1) == 3:
        return _halved(header)
    geometry = raster(header)
    end = header.offset + header.length
    if header.big_endian and geometry.bits == 8 and header.vr == "OW":
        return _swapped(geometry, header)
    pages = planes.frames(geometry, header.offset, header.frames, end)
    how = view(header, geometry)
    return [replace(page, view=how) for page in pages]


def raster(header: Header) -> Geometry:
    """Return the raster of one frame; all allocated bits are samples, used or not."""
    channels, bits = header.number("SamplesPerPixel", 1), header.number("BitsAllocated", 0)
    width, planar = header.number("Columns", 0), header.number("PlanarConfiguration", 0)
    bits = _FLOATING.get(header.tag, bits)
    if bits not in _BITS or header.colour.endswith("420"):
        raise Unsupported(f"DICOM: {bits} bits, {header.colour or 'no photometric interpretation'}")
    geometry = Geometry(
        height=header.number("Rows", 0),
        width=width,
        channels=channels,
        segment_height=1,
        segment_width=width,
        bits=bits,
        signed=header.number("PixelRepresentation", 0) == 1 and header.tag not in _FLOATING,
        big_endian=header.big_endian and bits > 8,
        planar=channels > 1 and planar == 1,
        floating=header.tag in _FLOATING,
    )
    if not geometry.is_sound:
        raise Unsupported(f"DICOM: a frame of {geometry.height} x {geometry.width} x {channels}")
    return geometry


def view(header: Header, geometry: Geometry) -> int:
    """Return how samples are to be read: without bits that are not used."""
    if geometry.floating:
        return 0
    if header.is_ycbcr and geometry.bits == 8 and geometry.channels == 3:
        return YCBCR_VIEW
    stored = header.number("BitsStored", geometry.bits)
    return view_of(geometry.dtype, stored, signed=geometry.signed)


def _whole(geometry: Geometry, header: Header, n_bytes: int) -> list[int]:
    """Return where frames of ``n_bytes`` bytes begin."""
    n, has = header.frames, header.length
    if not 1 <= n <= planes.MAX_FRAMES or n * n_bytes > has:
        raise Unsupported(f"{has} bytes for {n} frames of {n_bytes}")
    return [header.offset + i * n_bytes for i in range(n)]


def _halved(header: Header) -> list[Page]:
    """Return frames of which two pixels share their colour, as planes: two bytes a pixel."""
    height, width = header.number("Rows", 0), header.number("Columns", 0)
    geometry = Geometry(2 * height, width, 1, 2 * height, width, 8)
    bits = header.number("BitsAllocated", 0)
    if bits != 8 or not header.is_ycbcr or width % 2 or not geometry.is_sound:
        raise Unsupported(f"DICOM: {header.colour} of {bits} bits, {height} x {width}")
    length, lead = 2 * height * width, struct.pack("<I", width)
    how, n = Compression.YBR_422, np.array([length], np.int64)
    starts = _whole(geometry, header, length)
    at = (np.array([start], np.int64) for start in starts)
    return [Page(geometry, how, offset, n, lead=lead, view=PLANES_VIEW) for offset in at]


def _swapped(geometry: Geometry, header: Header) -> list[Page]:
    """Return frames of bytes in words of the other order; an odd one has a byte more."""
    geometry = replace(geometry, segment_height=geometry.height)
    n_planes = geometry.channels if geometry.planar else 1
    plane = geometry.height * geometry.row_bytes
    if not geometry.is_sound or (plane % 2 and (header.frames > 1 or n_planes > 1)):
        raise Unsupported("DICOM: frames that begin within a word")
    length = plane + plane % 2
    lengths = np.full(n_planes, length, np.int64)
    offsets = np.arange(n_planes, dtype=np.int64) * length
    starts = _whole(geometry, header, n_planes * length)
    how, seen = Compression.SWAPPED, view(header, geometry)
    return [Page(geometry, how, start + offsets, lengths, view=seen) for start in starts]


def _bits(path: Path | Held, header: Header) -> list[Page]:
    """Return frames of eight samples a byte, which may begin within one."""
    height, width = header.number("Rows", 0), header.number("Columns", 0)
    channels, n = header.number("SamplesPerPixel", 1), header.frames
    geometry = Geometry(height, width, 1, height, width, 8)
    size = height * width
    if channels != 1 or not geometry.is_sound or size < _LEAST_BITS:
        raise Unsupported(f"DICOM: 1 bits, {height} x {width} x {channels}")
    if not 1 <= n <= planes.MAX_FRAMES or n * size > 8 * header.length:
        raise Unsupported(f"{header.length} bytes for {n} frames of {size} bits")
    pages = []
    with path.open("rb") as file:
        for start in range(0, n * size, size):
            first, end = -(-start // 8), -(-(start + size) // 8)
            file.seek(header.offset + max(0, first - 1))
            lead = bytes([8 * first - start]) + file.read(1)
            at = np.array([header.offset + first], np.int64), np.array([end - first], np.int64)
            pages.append(Page(geometry, Compression.BITS, *at, lead=lead))
    return pages
