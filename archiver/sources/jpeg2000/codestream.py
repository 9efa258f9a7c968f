"""The markers of a JPEG 2000 codestream (ISO/IEC 15444-1, annex A), as far as we write it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from archiver.sources.contract import Unsupported
from archiver.sources.jpeg2000.styles import CAUSAL, RESET, SYMBOLS

SOC, SOT, SOD, EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
SOP, EPH = 0xFF91, 0xFF92  # within tiles
_SIZ, _COD, _CAP = 0xFF51, 0xFF52, 0xFF50
_PLAIN = {0xFF5C, 0xFF64, 0xFF63, 0xFF55, 0xFF57, 0xFF58}  # QCD, COM, CRG, TLM, PLM, PLT
_STYLES = RESET | CAUSAL | 0x10 | SYMBOLS  # 0x10 says how a block ends
_HIGH_THROUGHPUT = 0x40  # style of blocks
_PRECINCTS, _SOP, _EPH = 1, 2, 4  # of the style of coding
_MAX_BITS = 16
_MAX_LEVELS = 32
_SOT_BYTES = 12


@dataclass(frozen=True)
class Header:
    """What the main header says."""

    x0: int  # of the image on the canvas
    y0: int
    x1: int
    y1: int
    tile_width: int
    tile_height: int
    tile_x0: int
    tile_y0: int
    channels: int
    bits: int
    signed: bool
    progression: int
    layers: int
    colour: bool  # the first three channels are transformed
    levels: int
    block_width: int  # powers of two, as is all that follows
    block_height: int
    style: int  # of blocks
    precincts: tuple[tuple[int, int], ...]  # width and height, by resolution
    has_sop: bool
    has_eph: bool

    @property
    def is_fast(self) -> bool:
        """Whether blocks are those of High-Throughput JPEG 2000."""
        return bool(self.style & _HIGH_THROUGHPUT)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.y1 - self.y0, self.x1 - self.x0, self.channels

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type that samples are handed on in."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{1 if self.bits <= 8 else 2}")

    @property
    def across(self) -> int:
        """Tiles side by side."""
        return -(-(self.x1 - self.tile_x0) // self.tile_width)

    @property
    def down(self) -> int:
        """Tiles one below the other."""
        return -(-(self.y1 - self.tile_y0) // self.tile_height)

    def tile(self, number: int) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 of a tile on the canvas."""
        row, column = divmod(number, self.across)
        left = self.tile_x0 + column * self.tile_width
        top = self.tile_y0 + row * self.tile_height
        return (
            *(max(left, self.x0), max(top, self.y0)),
            *(min(left + self.tile_width, self.x1), min(top + self.tile_height, self.y1)),
        )

    @classmethod
    def of(cls, stream: bytes) -> Header:
        """Read the main header; Unsupported if the stream is not reversible, or of a rare kind."""
        size = coding = capabilities = b""
        for marker, body, _ in _segments(stream):
            if marker == _SIZ and not size:
                size = body
            elif marker == _COD and not coding:
                coding = body
            elif marker == _CAP and not capabilities:
                capabilities = body
            elif marker not in _PLAIN:
                raise Unsupported(f"JPEG 2000 with marker {marker:#06x}")
        try:
            header = cls(*_size(size), *_coding(coding))
        except (struct.error, IndexError, TypeError, ValueError) as error:
            raise Unsupported("JPEG 2000 whose header is damaged") from error
        if header.colour and header.channels < 3:
            raise Unsupported("JPEG 2000 in colour of fewer than three channels")
        if header.is_fast != bool(capabilities):
            raise Unsupported("JPEG 2000 of two kinds of blocks")
        return header


def header_size(stream: bytes) -> int:
    """Return how many bytes the main header has."""
    return max((end for _, _, end in _segments(stream)), default=2)


def _segments(stream: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and where it ends, up to the first tile-part."""
    at = 2
    if stream[:2] != SOC.to_bytes(2, "big"):
        raise Unsupported("no JPEG 2000 codestream")
    while len(stream) >= at + 4:
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == SOT:
            return
        end = at + 2 + length
        if marker < 0xFF00 or length < 2 or end > len(stream):
            break
        yield marker, stream[at + 4 : end], end
        at = end
    raise Unsupported("JPEG 2000 whose markers are damaged")


def _size(body: bytes) -> tuple[int, int, int, int, int, int, int, int, int, int, bool]:
    _, x1, y1, x0, y0, width, height, left, top, n = struct.unpack_from(">H8IH", body)
    kinds = {body[i : i + 3] for i in range(36, 36 + 3 * n, 3)}
    if len(kinds) != 1 or len(body) != 36 + 3 * n:
        raise Unsupported("JPEG 2000 whose channels differ")
    [kind] = kinds
    bits, signed = (kind[0] & 0x7F) + 1, bool(kind[0] & 0x80)
    if kind[1:] != b"\1\1" or bits > _MAX_BITS:
        raise Unsupported(f"JPEG 2000 of {bits} bits, or with smaller channels")
    is_sound = left <= x0 < x1 and top <= y0 < y1 and width and height
    if not is_sound or left + width <= x0 or top + height <= y0:
        raise Unsupported("JPEG 2000 of no size")
    return x0, y0, x1, y1, width, height, left, top, n, bits, signed


def _coding(
    body: bytes,
) -> tuple[int, int, bool, int, int, int, int, tuple[tuple[int, int], ...], bool, bool]:
    how, progression, layers, colour = struct.unpack_from(">BBHB", body)
    levels, width, height, style, wavelet = body[5:10]
    if wavelet != 1:
        raise Unsupported("JPEG 2000 that is not reversible")
    if style & ~_STYLES and style != _HIGH_THROUGHPUT:
        raise Unsupported(f"JPEG 2000 with blocks of style {style:#04x}")
    sound = levels <= _MAX_LEVELS and width + height <= 8 and progression <= 4 and colour <= 1
    if not sound or not layers or how > (_PRECINCTS | _SOP | _EPH):
        raise Unsupported("JPEG 2000 whose header makes no sense")
    sizes = body[10 : 11 + levels] if how & _PRECINCTS else b"\xff" * (levels + 1)
    precincts = tuple((size & 15, size >> 4) for size in sizes)
    if len(precincts) != levels + 1 or not all(all(size) for size in precincts[1:]):
        raise Unsupported("JPEG 2000 whose precincts make no sense")
    flags = bool(how & _SOP), bool(how & _EPH)
    return progression, layers, colour == 1, levels, width + 2, height + 2, style, precincts, *flags


@dataclass(frozen=True)
class TilePart:
    """What a tile-part begins with: ``size`` bytes in all, 0: up to the end; ``head`` of them."""

    tile: int
    size: int
    head: int


def tile_part(data: bytes, at: int) -> TilePart | None:
    """Read the head of a tile-part; None if the codestream ends here."""
    if data[at : at + 2] == EOC.to_bytes(2, "big"):
        return None
    if len(data) < at + _SOT_BYTES or data[at : at + 4] != b"\xff\x90\0\x0a":
        raise Unsupported("JPEG 2000 whose tile-parts are damaged")
    tile, size = struct.unpack_from(">HI", data, at + 4)
    end = at + _SOT_BYTES
    while data[end : end + 2] != SOD.to_bytes(2, "big"):
        if len(data) < end + 4:
            raise Unsupported("JPEG 2000 whose tile-parts are damaged")
        marker, length = struct.unpack_from(">HH", data, end)
        if marker not in _PLAIN or length < 2:
            raise Unsupported(f"JPEG 2000 with marker {marker:#06x} in a tile")
        end += 2 + length
    return TilePart(tile, size, end + 2 - at)
