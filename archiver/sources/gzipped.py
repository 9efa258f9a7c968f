"""Own gzip around a file of another format, such as ``.nii.gz``: the images inside, the deflation.

Residue (FORMAT.md, "Residue of GZIP"), little-endian:

    u1 layout version (1)
    u1 format of the file inside
    7 bytes zlib settings, whose header is not used
    blob head      the file up to the deflate stream
    blob tail      what follows the stream: CRC-32, length, anything else
    blob residue   that of the file inside
    blob plan      of the deflate stream, if the encoder is PLANNED; else there is none
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from archiver.image import Image
from archiver.sources import deflate, nifti, npy, segments
from archiver.sources.contract import (
    LAYOUT_VERSION,
    MAX_WHOLE_BYTES,
    Fidelity,
    Format,
    Held,
    Split,
    Unsupported,
)
from archiver.sources.wire import Cursor, pack_blob

MAGIC = b"\x1f\x8b\x08"
_FIXED = 10  # bytes of a header without options
_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16  # options
_CLASS = {2: b"\x78\xda", 4: b"\x78\x01"}  # by the byte "extra flags": the zlib header of such
_TRAILER = 8
_SPLIT: dict[Format, Callable[..., Split]] = {Format.NIFTI: nifti.split, Format.NUMPY: npy.split}


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a gzip file of one member, or raise Unsupported."""
    if path.stat().st_size > MAX_WHOLE_BYTES:
        raise Unsupported("gzip: too large to hold in memory")
    data = path.read_bytes()
    start = _header_bytes(data)
    inside = _recognise(_inflate(data[start:], nifti.HEAD_BYTES)[0])
    raw, used = _inflate(data[start:], MAX_WHOLE_BYTES)
    end = start + used
    if end + _TRAILER > len(data):
        raise Unsupported("gzip: cut off, or too large to hold in memory")
    found = _SPLIT[inside](Held(raw, str(path)), fidelity=Fidelity.BYTES)
    header = _CLASS.get(data[8], deflate.DEFAULT.header)
    stream = header + data[start:end] + struct.pack(">I", zlib.adler32(raw))
    made, note = deflate.find(raw, stream), found.note
    if made is None:
        if fidelity is not Fidelity.SAMPLES:
            raise Unsupported("gzip: deflate parameters not found")
        made = deflate.Made(deflate.DEFAULT)
        note = "gzip: deflate parameters not found, compressed again"
        deflate.encode_again(raw)
    parts = (data[:start], data[end:], found.residue)
    residue = bytes([LAYOUT_VERSION, inside]) + made.settings.pack()
    residue += b"".join(map(pack_blob, parts if not made.plan else (*parts, made.plan)))
    achieved = Fidelity.BYTES if note == found.note else Fidelity.SAMPLES
    return Split(found.images, residue, achieved, note, found.forget)


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the file."""
    cursor = Cursor(residue, "residue of a gzip file")
    (inside,) = cursor.unpack("<B")
    settings = deflate.Settings.read(cursor)
    head, tail, inner = (cursor.blob() for _ in range(3))
    made = deflate.Made.read(settings, cursor)
    cursor.end()
    if inside not in _SPLIT:
        raise cursor.damaged("the format of a file that may be inside", inside)
    raw = b"".join(segments.rebuild(inner, images))
    yield head
    yield deflate.replay(raw, made)[2:-4]
    yield tail


def _header_bytes(data: bytes) -> int:
    """Return the length of the header (RFC 1952)."""
    if len(data) < _FIXED + _TRAILER:
        raise Unsupported("gzip: cut off")
    flags, at = data[3], _FIXED
    if flags & _EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for option in (_NAME, _COMMENT):
        if flags & option:
            at = data.find(b"\0", at) + 1
            if at < _FIXED:
                raise Unsupported("gzip: damaged header")
    return at + (2 if flags & _CRC else 0)


def _inflate(stream: bytes, limit: int) -> tuple[bytes, int]:
    """Return at most ``limit`` bytes, and the length of the stream if that is all there is."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    raw = decompressor.decompress(stream, limit)
    more = b""
    if not decompressor.eof:
        more = decompressor.decompress(decompressor.unconsumed_tail, 1)  # the end may be there
    used = len(stream) - len(decompressor.unused_data)
    return raw, used if decompressor.eof and not more else len(stream)


def _recognise(head: bytes) -> Format:
    if nifti.is_nifti(head):
        return Format.NIFTI
    if head.startswith(npy.MAGIC):
        return Format.NUMPY
    raise Unsupported("gzip: of a file without images")
