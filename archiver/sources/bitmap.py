"""BMP and PNM without compression: one raster after a header, rows in one piece."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from archiver.sources.contract import Fidelity, Split, Unsupported
from archiver.sources.segmented import find_recipes, planes
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import Page

_HEADER_BYTES = 4096
_BMP_BITS = {1: (1, 1), 2: (1, 2), 4: (1, 4), 8: (1, 8), 24: (3, 8), 32: (4, 8)}  # channels, bits
_PNM_CHANNELS = {b"P4": 1, b"P5": 1, b"P6": 3}
_PNM_FIELD = rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,10})"
_BI_RGB, _BI_BITFIELDS = 0, 3


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a BMP or PNM file, or raise Unsupported."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        size = file.seek(0, 2)
    geometry, offset = _read_bmp(head) if head[:2] == b"BM" else _read_pnm(head)
    if min(geometry.height, geometry.width) < 1:
        raise Unsupported("bitmap: empty")
    if offset + geometry.height * geometry.row_bytes > size:
        raise Unsupported("bitmap: cut off")
    return find_recipes.split(path, [_strips(geometry, offset)], fidelity=fidelity)


def _read_bmp(head: bytes) -> tuple[Geometry, int]:
    offset, header_bytes = struct.unpack_from("<II", head, 10)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", head, 18)
        compression = _BI_RGB
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", head, 18)
    plain = compression == _BI_RGB or (compression == _BI_BITFIELDS and bits == 32)
    if not plain or bits not in _BMP_BITS:
        raise Unsupported(f"bitmap: BMP of {bits} bits, compression {compression}")
    channels, depth = _BMP_BITS[bits]
    geometry = Geometry(
        height=abs(height),
        width=width,
        channels=channels,
        segment_height=1,
        segment_width=width,
        bits=depth,
        row_align=4,
        bottom_up=height > 0,
        reversed=channels == 3,
    )
    return geometry, int(offset)


def _read_pnm(head: bytes) -> tuple[Geometry, int]:
    kind = head[:2]
    n_fields = 2 if kind == b"P4" else 3
    match = re.match(rb"P[456]" + _PNM_FIELD * n_fields + rb"\s", head)
    if match is None:
        raise Unsupported("bitmap: PNM header")
    width, height, *top = map(int, match.groups())
    if top and not 0 < top[0] < 1 << 16:
        raise Unsupported("bitmap: PNM of more than 16 bits")
    geometry = Geometry(
        height=height,
        width=width,
        channels=_PNM_CHANNELS[kind],
        segment_height=1,
        segment_width=width,
        bits=(16 if top[0] > 255 else 8) if top else 1,
        big_endian=True,
    )
    return geometry, match.end()


def _strips(geometry: Geometry, offset: int) -> Page:
    """Cut the raster into strips; counted from the top although BMP stores the last row first."""
    if not geometry.is_sound:
        raise Unsupported("bitmap: sizes that are not supported")
    strips = planes.small_strips(geometry)
    first = np.arange(strips.n_segments, dtype=np.int64) * strips.segment_height
    rows = np.minimum(strips.segment_height, geometry.height - first)
    start = geometry.height - first - rows if geometry.bottom_up else first
    row_bytes = geometry.row_bytes
    return Page(strips, Compression.NONE, offset + start * row_bytes, rows * row_bytes)
