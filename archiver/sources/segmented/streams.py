"""Files around one deflate stream that holds the samples: gzip, and volumes that compress them.

Residue (FORMAT.md, "Residue of GZIP"), little-endian:

    u1 layout version (1)
    u1 format of what is inside
    7 bytes zlib settings, whose header is not used
    blob head      the file up to the deflate stream
    blob tail      what follows the stream: CRC-32, length, anything else
    blob residue   that of what is inside, as a segmented file
    blob plan      of the deflate stream, if the encoder is PLANNED; else there is none
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from archiver.image import Image
from archiver.sources.contract import (
    LAYOUT_VERSION,
    MAX_WHOLE_BYTES,
    Fidelity,
    Format,
    Held,
    Split,
    Unsupported,
)
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.deflate import settings as deflate_settings
from archiver.sources.segmented import segments

INSIDE = (
    Format.NIFTI,
    Format.NUMPY,
    Format.DICOM,
    Format.NRRD,
    Format.METAIMAGE,
    Format.MGH,
)
_FIXED = 10  # bytes of a header of gzip without options
_CRC, _EXTRA, _NAME, _COMMENT = 2, 4, 8, 16  # options
_CLASS = {2: b"\x78\xda", 4: b"\x78\x01"}  # by the byte "extra flags": the zlib header of such
_GZIP_TRAILER, _ZLIB_TRAILER = 8, 4
_MAGIC = b"\x1f\x8b\x08"


@dataclass(frozen=True)
class Deflated:
    """A file that holds a raw deflate stream from ``start`` on, and ``trailer`` bytes after it.

    ``header`` is the zlib header of streams that are likely made like this one.
    """

    data: bytes
    start: int
    header: bytes
    trailer: int
    name: str

    @classmethod
    def gzip(cls, data: bytes, start: int, name: str) -> Deflated:
        """Return the member of gzip that begins at ``start``, or raise Unsupported."""
        first = start + _header_bytes(data[start:])
        header = _CLASS.get(data[start + 8], deflate_settings.DEFAULT.header)
        return cls(data, first, header, _GZIP_TRAILER, name)

    @classmethod
    def zlib(cls, data: bytes, start: int, name: str) -> Deflated:
        """Return the zlib stream (RFC 1950) that begins at ``start``, or raise Unsupported."""
        header = data[start : start + 2]
        if len(header) < 2 or header[0] & 15 != 8 or int.from_bytes(header, "big") % 31:
            raise Unsupported("no zlib stream where one should be")
        return cls(data, start + 2, header, _ZLIB_TRAILER, name)

    def head(self, n_bytes: int) -> bytes:
        """Return the first bytes inside."""
        return self._inflate(n_bytes)[0]

    def split(
        self, inside: Format, split_inside: Callable[..., Split], *, fidelity: Fidelity
    ) -> Split:
        """Split what is inside, and find how it was deflated; Unsupported if that fails."""
        raw, used = self._inflate(MAX_WHOLE_BYTES)
        end = self.start + used
        if end + self.trailer > len(self.data):
            raise Unsupported("cut off, or too large to hold in memory")
        content = split_inside(Held(raw, self.name), fidelity=Fidelity.BYTES)
        adler = struct.pack(">I", zlib.adler32(raw))
        made = deflate_settings.find(raw, self.header + self.data[self.start : end] + adler)
        note = content.note
        if made is None:
            if fidelity is not Fidelity.SAMPLES:
                raise Unsupported("deflate parameters not found")
            made = deflate_settings.Made(deflate_settings.DEFAULT)
            note = "deflate parameters not found, compressed again"
            deflate_settings.encode_again(raw)
        parts = (self.data[: self.start], self.data[end:], content.residue)
        residue = bytes([LAYOUT_VERSION, inside]) + made.settings.pack()
        residue += b"".join(map(pack_blob, parts if not made.plan else (*parts, made.plan)))
        achieved = Fidelity.BYTES if note == content.note else Fidelity.SAMPLES
        return Split(content.images, residue, achieved, note, content.forget)

    def _inflate(self, limit: int) -> tuple[bytes, int]:
        """Return at most ``limit`` bytes, and the length of the stream if that is all there is."""
        stream = memoryview(self.data)[self.start :]
        decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        raw = decompressor.decompress(stream, limit)
        more = b""
        if not decompressor.eof:
            more = decompressor.decompress(decompressor.unconsumed_tail, 1)  # the end may be there
        used = len(stream) - len(decompressor.unused_data)
        return raw, used if decompressor.eof and not more else len(stream)


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the file."""
    cursor = Cursor(residue, "residue of a file around a deflate stream")
    (inside,) = cursor.unpack("<B")
    settings = deflate_settings.Settings.read(cursor)
    head, tail, inner = (cursor.blob() for _ in range(3))
    made = deflate_settings.Made.read(settings, cursor)
    cursor.end()
    if inside not in INSIDE:
        raise cursor.damaged("the format of a file that may be inside", inside)
    raw = b"".join(segments.rebuild(inner, images))
    yield head
    yield deflate_settings.replay(raw, made)[2:-4]
    yield tail


def _header_bytes(data: bytes) -> int:
    """Return the length of the header (RFC 1952)."""
    if len(data) < _FIXED + _GZIP_TRAILER or not data.startswith(_MAGIC):
        raise Unsupported("gzip cut off, or none where one should be")
    flags, at = data[3], _FIXED
    if flags & _EXTRA:
        at += 2 + int.from_bytes(data[at : at + 2], "little")
    for option in (_NAME, _COMMENT):
        if flags & option:
            at = data.find(b"\0", at) + 1
            if at < _FIXED:
                raise Unsupported("gzip with a damaged header")
    return at + (2 if flags & _CRC else 0)
