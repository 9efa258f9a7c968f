"""The cutting of a raster into segments (strips, tiles) and the bytes of each before encoding.

samples (h, w, C)  ->  flip, reorder  ->  pad to the segment  ->  predictor  ->  rows of bytes
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from archiver.image import Samples
from archiver.sources.bit_packing import Bytes, pack_bits, pack_odd, unpack_bits, unpack_odd
from archiver.sources.contract import MAX_SIDE, MAX_WHOLE_BYTES
from archiver.sources.cursor import Cursor

_LAYOUT = "<IIIIIBBB"
_FLAGS = (
    *("signed", "big_endian", "planar", "predictor", "tiled", "bottom_up", "reversed"),
    "floating",
)
_MAX_CHANNELS = 1 << 16
_ODD = (3, 5, 6, 7, *range(9, 16))  # bits of which no whole number fills a byte


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
            and self.bits in (1, 2, 4, 8, *_ODD, 16, 32, 64)
            and self.row_align in (1, 4)
            and (self.bits >= 8 or not self.predictor)
            and not (self.bits in _ODD and (self.predictor or self.signed or self.floating))
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

    def to_rows(self, samples: Samples, *, edge: bool) -> Bytes:
        """Turn the samples of a segment (h, w, c) into rows of bytes (R, row_bytes).

        Padding of tiles is zero, or repeats the last row and column if ``edge``.
        """
        ordered = samples[::-1] if self.bottom_up else samples
        ordered = ordered[..., ::-1] if self.reversed else ordered
        full = self._pad(ordered, edge=edge).view(self._unsigned)
        if self.splits_bytes:
            return self._to_split_bytes(full)
        if self.predictor:
            full = np.diff(full, axis=1, prepend=full.dtype.type(0))
        plain = self._to_bytes(full)
        if plain.shape[1] == self.row_bytes:
            return plain
        return np.pad(plain, ((0, 0), (0, self.row_bytes - plain.shape[1])))

    def from_rows(self, raw: bytes, box: Box) -> Samples:
        """Turn the bytes of a segment into the samples of ``box``, (h, w, c)."""
        rows = np.frombuffer(raw, np.uint8).reshape(self.n_rows(box), self.row_bytes)
        values = self.segment_width * self.segment_channels
        full: Samples
        if self.bits in _ODD:
            full = unpack_odd(rows, self.bits, values).astype(self._unsigned)
        elif self.bits < 8:
            full = unpack_bits(rows, self.bits, values)
        elif self.splits_bytes:
            full = self._from_split_bytes(rows)
        else:
            used = np.ascontiguousarray(rows[:, : values * self.bits // 8])
            full = used.view(self._stored).astype(self._unsigned, copy=False)
        full = full.reshape(len(rows), self.segment_width, self.segment_channels)
        if self.predictor and not self.splits_bytes:
            full = np.cumsum(full, axis=1, dtype=full.dtype)
        cut = full.view(self.dtype)[: box.height, : box.width]
        cut = cut[::-1] if self.bottom_up else cut
        return cut[..., ::-1] if self.reversed else cut

    @property
    def _unsigned(self) -> np.dtype[np.generic]:
        return np.dtype(f"u{self.dtype.itemsize}")

    @property
    def _stored(self) -> np.dtype[np.generic]:
        return self._unsigned.newbyteorder(">" if self.big_endian else "<")

    def _pad(self, samples: Samples, *, edge: bool) -> Samples:
        rows = (self.segment_height if self.tiled else samples.shape[0]) - samples.shape[0]
        columns = self.segment_width - samples.shape[1]
        if rows == columns == 0:
            return np.ascontiguousarray(samples)
        return np.pad(samples, ((0, rows), (0, columns), (0, 0)), "edge" if edge else "constant")

    def _to_split_bytes(self, full: Samples) -> Bytes:
        """Return rows of samples (R, w, c) as differences of their bytes, the highest first."""
        n, size = len(full), full.dtype.itemsize
        high_first = full.astype(full.dtype.newbyteorder(">")).view(np.uint8).reshape(n, -1, size)
        planes = high_first.transpose(0, 2, 1).reshape(n, -1, self.segment_channels)
        return np.diff(planes, axis=1, prepend=np.uint8(0)).reshape(n, -1)

    def _from_split_bytes(self, rows: Bytes) -> Samples:
        """Return the samples (R, w * c) of rows that `_to_split_bytes` gives."""
        n, size = len(rows), self.dtype.itemsize
        steps = rows.reshape(n, -1, self.segment_channels)
        planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(n, size, -1)
        high_first = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">u{size}")
        return high_first.reshape(n, -1).astype(self._unsigned)

    def _to_bytes(self, full: Samples) -> Bytes:
        if self.bits in _ODD:
            return pack_odd(full.reshape(len(full), -1).astype(np.uint16), self.bits)
        if self.bits < 8:
            return pack_bits(full.reshape(len(full), -1).astype(np.uint8), self.bits)
        return full.astype(self._stored).reshape(len(full), -1).view(np.uint8)
