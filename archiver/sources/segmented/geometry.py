"""The cutting of a raster into segments: strips, tiles, or frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from archiver.sources.contract import MAX_SIDE, MAX_WHOLE_BYTES
from archiver.sources.cursor import Cursor

_LAYOUT = "<IIIIIBBB"
_FLAGS = (
    *("signed", "big_endian", "planar", "predictor", "tiled", "bottom_up", "reversed"),
    "floating",
)
_MAX_CHANNELS = 1 << 16
ODD_BITS = (3, 5, 6, 7, *range(9, 16))  # bits of which no whole number fills a byte


@dataclass(frozen=True)
class Box:
    """The part of a raster that one segment holds."""

    row: int
    column: int
    height: int
    width: int
    plane: int


@dataclass(frozen=True)
class Geometry:
    """A raster and how a file cuts it into segments.

    Segments are counted plane by plane, top to bottom, left to right, whatever their order in the
    file.  Strips end with the raster; tiles are padded to their full size.
    """

    height: int
    width: int
    channels: int
    segment_height: int
    segment_width: int
    bits: int  # 1 to 16, 32, 64
    row_align: int = 1  # rows are padded with zeros to a multiple of this many bytes
    signed: bool = False
    big_endian: bool = False
    planar: bool = False  # one plane of segments per channel
    predictor: bool = False  # horizontal differences: see `splits_bytes`
    tiled: bool = False
    bottom_up: bool = False  # rows of a segment from the last to the first
    reversed: bool = False  # channels from the last to the first
    floating: bool = False  # IEEE 754, 16, 32 or 64 bits

    @classmethod
    def plain(
        cls, height: int, width: int, channels: int, dtype: np.dtype[np.generic]
    ) -> Geometry | None:
        """Return a raster as an array holds it, None if its samples are of no type known here."""
        if dtype.kind not in "buif" or dtype.itemsize not in (1, 2, 4, 8):
            return None
        geometry = cls(
            *(height, width, channels, 1, width, 8 * dtype.itemsize),
            signed=dtype.kind == "i",
            big_endian=dtype.str.startswith(">"),
            floating=dtype.kind == "f",
        )
        return geometry if geometry.is_sound else None

    def pack(self) -> bytes:
        """Write what :meth:`read` reads, 23 bytes."""
        flags = sum(getattr(self, name) << bit for bit, name in enumerate(_FLAGS))
        sizes = (self.height, self.width, self.channels, self.segment_height, self.segment_width)
        return struct.pack(_LAYOUT, *sizes, self.bits, self.row_align, flags)

    @classmethod
    def read(cls, cursor: Cursor) -> Geometry:
        """Read a geometry from a residue; IntegrityError if it makes no sense."""
        *numbers, flags = cursor.unpack(_LAYOUT)
        named = {name: bool(flags >> bit & 1) for bit, name in enumerate(_FLAGS)}
        geometry = cls(*numbers, **named)
        if flags >> len(_FLAGS) or not geometry.is_sound:
            raise cursor.damaged("a raster cut into segments", geometry)
        return geometry

    @property
    def is_sound(self) -> bool:
        """Whether all values are possible and a segment fits in memory."""
        sides = (self.height, self.width, self.segment_height, self.segment_width)
        return (
            all(1 <= side <= MAX_SIDE for side in sides)
            and 1 <= self.channels <= _MAX_CHANNELS
            and self.bits in (1, 2, 4, 8, *ODD_BITS, 16, 32, 64)
            and self.row_align in (1, 4)
            and (self.bits >= 8 or not self.predictor)
            and not (self.bits in ODD_BITS and (self.predictor or self.signed or self.floating))
            and (self.bits >= 16 or not self.floating)
            and not (self.floating and self.signed and not self.predictor)
            and (self.tiled or self.segment_width == self.width)
            and (self.tiled or self.segment_height <= self.height)
            and self.row_bytes * self.segment_height <= MAX_WHOLE_BYTES
        )

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Sample type in memory."""
        kind = "f" if self.floating else "i" if self.signed else "u"
        return np.dtype(f"{kind}{-(-self.bits // 8)}")

    @property
    def splits_bytes(self) -> bool:
        """Whether the predictor is that of Adobe's TIFF Technical Note 3, for floats.

        A row is all first bytes of its samples, then all second ones, ..., then differences of
        bytes.  "Signed" says so, which floats are anyway.
        """
        return self.predictor and self.floating and self.signed

    @property
    def segment_channels(self) -> int:
        """Channels inside one segment."""
        return 1 if self.planar else self.channels

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a segment."""
        n_bytes = (self.segment_width * self.segment_channels * self.bits + 7) // 8
        return -(-n_bytes // self.row_align) * self.row_align

    @property
    def across(self) -> int:
        """Segments side by side."""
        return -(-self.width // self.segment_width)

    @property
    def down(self) -> int:
        """Segments on top of each other."""
        return -(-self.height // self.segment_height)

    @property
    def n_segments(self) -> int:
        """Segments of all planes."""
        return self.across * self.down * (self.channels if self.planar else 1)

    def box(self, index: int) -> Box:
        """Return what segment ``index`` holds of the raster."""
        plane, rest = divmod(index, self.across * self.down)
        row, column = (
            block * side
            for block, side in zip(
                divmod(rest, self.across), (self.segment_height, self.segment_width), strict=True
            )
        )
        height = min(self.segment_height, self.height - row)
        return Box(row, column, height, min(self.segment_width, self.width - column), plane)

    def n_rows(self, box: Box) -> int:
        """Rows of bytes in the segment of ``box``."""
        return self.segment_height if self.tiled else box.height
