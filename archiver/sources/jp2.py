"""JPEG 2000 files: bare codestreams, and those in boxes (ISO/IEC 15444-1, annex I)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from archiver.sources.contract import MAX_WHOLE_BYTES, Fidelity, Split, Unsupported
from archiver.sources.jpeg2000 import codestream
from archiver.sources.segmented import find_recipes
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import Page

MAGIC = b"\0\0\0\x0cjP  \r\n\x87\n"
MAGIC_BARE = b"\xff\x4f\xff\x51"
_CODESTREAM = b"jp2c"
_MAX_BOXES = 1 << 12


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a file of one reversible codestream, or raise Unsupported."""
    with path.open("rb") as file:
        start, end = _codestream(file)
        if end - start > MAX_WHOLE_BYTES:
            raise Unsupported(f"JPEG 2000: {end - start} bytes in one piece")
        file.seek(start)
        header = codestream.Header.of(file.read(end - start))
    height, width, channels = header.shape
    bits = 8 * header.dtype.itemsize
    geometry = Geometry(height, width, channels, height, width, bits, signed=header.signed)
    if not geometry.is_sound:
        raise Unsupported(f"JPEG 2000: {height} x {width} x {channels} samples in one piece")
    where, length = (np.array([value], np.int64) for value in (start, end - start))
    page = Page(geometry, Compression.JPEG_2000, where, length)
    return find_recipes.split(path, [page], fidelity=fidelity)


def _codestream(file: BinaryIO) -> tuple[int, int]:
    """Return where the first codestream begins and ends."""
    size, at = file.seek(0, 2), 0
    file.seek(0)
    if file.read(4) == MAGIC_BARE:
        return 0, size
    for _ in range(_MAX_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind, first = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1 and len(head) == 16:
            (length,), first = struct.unpack(">Q", head[8:]), 16
        end = at + length if length else size
        if end < at + first or end > size:
            break
        if kind == _CODESTREAM:
            return at + first, end
        at = end
    raise Unsupported("JPEG 2000: no codestream in its boxes")
