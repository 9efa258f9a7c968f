"""Tiles that are coded by the order of their samples: ranks and a table, or high and low bits.

A CT with a slope in float32, an index computed of two bands, temperatures in steps of 0.02: a tile
has some thousand different values, and neighbours are near each other in the *order* of these
values.  The codecs for 8 and 16 bits take the ranks, and a table says what they mean.  Where there
are too many values for that, the codecs take the high bits of the samples' numbers, or of what a
plain prediction leaves of these; the low bits go along in pieces.

FORMAT.md, "Ordered tiles".
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import zstandard

from archiver.codec import classic
from archiver.codec.classic import Shape
from archiver.codec.transforms import ordinals, pieces
from archiver.codec.transforms.ordinals import Ordinals
from archiver.codec.transforms.pieces import Effort, Numbers
from archiver.errors import IntegrityError
from archiver.image import Samples

MOST = 65536  # entries of a table
MAX_SAMPLES = 1 << 22  # of a tile that may be one: ordinals take 8 bytes
_HEADER = struct.Struct("<BBBI")
_TABLE = struct.Struct("<HB")
_SPLIT = struct.Struct("<BBBQQ")


class Form(IntEnum):
    """On-disk ids of what the numbers of a tile are."""

    RANKS = 0  # in a table
    HIGH_BITS = 1  # the low ones in pieces
    DIFFERENCES = 2  # likewise, of what a prediction leaves


@dataclass(frozen=True)
class Table:
    """Ranks: ``entries`` are the ordinals of a tile, ascending."""

    entries: Numbers

    form = Form.RANKS

    @property
    def n_bytes(self) -> int:
        """Bytes of a rank."""
        return 1 if self.entries.size <= 256 else 2

    def to_bytes(self, width: int, level: int) -> bytes:
        """Return the table: differences in ``width`` bytes under zstd, by entries or by bytes."""
        steps = np.diff(self.entries, prepend=np.uint64(0))
        steps[1:] -= ordinals.ONE
        plain = steps.astype(f"<u{width}").view(np.uint8).reshape(-1, width)
        zstd = zstandard.ZstdCompressor(level, write_content_size=False)
        packed = [zstd.compress(plain.tobytes()), zstd.compress(plain.T.tobytes())]
        layout = int(len(packed[1]) < len(packed[0]))
        return _TABLE.pack(self.entries.size - 1, layout) + packed[layout]

    @classmethod
    def from_bytes(cls, data: bytes, samples: Ordinals, n_samples: int) -> Table:
        """Return the table of a tile of so many samples; IntegrityError if it makes no sense."""
        if len(data) < _TABLE.size:
            raise IntegrityError(f"ordered tile: table of {len(data)} bytes, expected more")
        last, layout = _TABLE.unpack_from(data)
        if last >= n_samples or layout > 1:
            raise IntegrityError(
                f"ordered tile of {n_samples} samples: table of {last + 1} entries, layout {layout}"
            )
        width = samples.dtype.itemsize
        plain = classic.inflate(data[_TABLE.size :], (last + 1) * width)
        found = np.frombuffer(plain, np.uint8)
        rows = found.reshape(width, -1).T if layout else found.reshape(-1, width)
        steps = np.ascontiguousarray(rows).view(f"<u{width}")[:, 0].astype(np.uint64)
        steps[1:] += ordinals.ONE
        entries = np.cumsum(steps, dtype=np.uint64)
        if (entries[1:] <= entries[:-1]).any() or entries[-1] > samples.mask:
            raise IntegrityError(f"ordered tile of {samples.dtype}: its table does not ascend")
        return cls(entries)

    def ordinals(self, ranks: Samples, bits: int) -> Numbers:
        """Return the ordinals of ranks; IntegrityError if one is none."""
        if ranks.size and int(ranks.max()) >= self.entries.size:
            raise IntegrityError(
                f"ordered tile: rank {ranks.max()}, expected one of {self.entries.size}"
            )
        found: Numbers = self.entries[ranks]
        return found


@dataclass(frozen=True)
class Split:
    """High bits of numbers less ``lowest``, above ``shift`` others, which are ``low``.

    The numbers are ordinals or, of the form `DIFFERENCES`, what a prediction leaves of them.  If
    there is a ``hole``, high bits of 0 stand for this ordinal, and all others are one more.
    """

    form: Form
    n_bytes: int  # of the high bits
    shift: int
    lowest: int
    low: Numbers
    fill: int | None = None

    def to_bytes(self, effort: Effort) -> bytes:
        """Return what is needed beside the high bits."""
        fields = self.n_bytes, self.shift, self.fill is not None, self.lowest, self.fill or 0
        return _SPLIT.pack(*fields) + pieces.encode(self.low, self.shift, effort)

    @classmethod
    def from_bytes(cls, data: bytes, form: Form, samples: Ordinals, shape: Shape) -> Split:
        """Return that of a tile; IntegrityError if it makes no sense."""
        if len(data) < _SPLIT.size:
            raise IntegrityError(f"ordered tile: {len(data)} bytes of low bits, expected more")
        n_bytes, shift, has_fill, lowest, fill = _SPLIT.unpack_from(data)
        is_sound = (
            n_bytes in (1, 2)
            and shift < samples.bits
            and has_fill in (0, 1)
            and max(lowest, fill) <= samples.mask
            and (has_fill or not fill)
            and not (has_fill and form is Form.DIFFERENCES)
        )
        if not is_sound:
            raise IntegrityError(f"ordered tile of {samples}: impossible {data[: _SPLIT.size]!r}")
        low = pieces.decode(data[_SPLIT.size :], shape, shift)
        return cls(form, n_bytes, shift, lowest, low, fill if has_fill else None)

    def ordinals(self, high: Samples, bits: int) -> Numbers:
        """Return the ordinals, of so many bits, of a tile of high bits."""
        own = high.astype(np.uint64) - np.uint64(self.fill is not None)
        numbers = np.uint64(self.lowest) + (own << np.uint64(self.shift)) + self.low
        if self.form is Form.DIFFERENCES:
            numbers = ordinals.sums(numbers & np.uint64((1 << bits) - 1), bits)
        if self.fill is None:
            return numbers
        return np.where(high == 0, np.uint64(self.fill), numbers)


@dataclass(frozen=True)
class Ordered:
    """How numbers of 8 or 16 bits stand for the samples of a tile."""

    samples: Ordinals
    how: Table | Split
    rest: bytes  # as which ``how`` is stored

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the numbers."""
        return np.dtype(f"u{self.how.n_bytes}")

    def wide(self, numbers: Samples, dtype: np.dtype[np.generic]) -> Samples:
        """Return the samples, of type ``dtype``, that numbers stand for."""
        return self.samples.samples(self.how.ordinals(numbers, self.samples.bits)).view(dtype)

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the numbers follows."""
        header = _HEADER.pack(self.how.form, self.samples.zeros, codec, len(self.rest))
        return header + self.rest

    @classmethod
    def split(
        cls, payload: bytes, shape: Shape, dtype: np.dtype[np.generic]
    ) -> tuple[Ordered, int, bytes]:
        """Return this, codec id and payload of the numbers of a tile (H, W, C).

        IntegrityError if it makes no sense.
        """
        if len(payload) < _HEADER.size:
            raise IntegrityError(f"ordered tile: payload of {len(payload)} bytes, expected more")
        form, zeros, codec, length = _HEADER.unpack_from(payload)
        end = _HEADER.size + length
        n_samples = math.prod(shape)
        is_sound = zeros < 8 * dtype.itemsize and end <= len(payload)
        if not is_sound or not is_possible(dtype, n_samples) or form not in list(Form):
            raise IntegrityError(
                f"ordered tile of {shape} {dtype}: impossible form {form}, {zeros} zeros, "
                f"{length} bytes"
            )
        samples, data = Ordinals(dtype, zeros), payload[_HEADER.size : end]
        how: Table | Split
        if form == Form.RANKS:
            how = Table.from_bytes(data, samples, n_samples)
        else:
            how = Split.from_bytes(data, Form(form), samples, shape)
        return cls(samples, how, data), codec, payload[end:]


def is_possible(dtype: np.dtype[np.generic], n_samples: int) -> bool:
    """Whether such tiles may be ordered ones: numbers of more than 8 bits, not too many."""
    return dtype.kind in "uif" and dtype.itemsize in (2, 4, 8) and n_samples <= MAX_SAMPLES
