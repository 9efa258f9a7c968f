"""What the numbers of an ordered tile mean: ranks in a table, or high bits above low ones.

FORMAT.md, "Ordered tiles".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import zstandard

from archiver.codec import classic
from archiver.codec.classic import Dtype, Effort, Shape
from archiver.codec.transforms import ordinals, pieces
from archiver.codec.transforms.ordinals import Ordinals
from archiver.codec.transforms.pieces import Numbers
from archiver.errors import IntegrityError
from archiver.image import Samples

MOST = 65536  # entries of a table
MAX_SAMPLES = 1 << 22  # of a tile that may be ordered: ordinals take 8 bytes
_TABLE = struct.Struct("<HB")
_SPLIT = struct.Struct("<BBBQQ")


def is_possible(dtype: Dtype, n_samples: int) -> bool:
    """Whether such tiles may be ordered: numbers of more than 8 bits, not too many."""
    return dtype.kind in "uif" and dtype.itemsize in (2, 4, 8) and n_samples <= MAX_SAMPLES


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
        octets = np.frombuffer(plain, np.uint8)
        rows = octets.reshape(width, -1).T if layout else octets.reshape(-1, width)
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
        numbers: Numbers = self.entries[ranks]
        return numbers

    def numbers(self, ordinals: Numbers, bits: int) -> Samples:
        """Return the ranks of ordinals, all of which are in the table."""
        return np.searchsorted(self.entries, ordinals).astype(f"u{self.n_bytes}")


@dataclass(frozen=True)
class Split:
    """High bits of numbers less ``lowest``, above ``shift`` others, which are ``low``.

    The numbers are ordinals or, of the form `DIFFERENCES`, what a prediction leaves of them.  If
    there is a ``fill``, high bits of 0 stand for this ordinal, and all others are one more.
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
        above = high.astype(np.uint64) - np.uint64(self.fill is not None)
        numbers = np.uint64(self.lowest) + (above << np.uint64(self.shift)) + self.low
        if self.form is Form.DIFFERENCES:
            numbers = ordinals.sums(numbers & np.uint64((1 << bits) - 1), bits)
        if self.fill is None:
            return numbers
        return np.where(high == 0, np.uint64(self.fill), numbers)

    def numbers(self, ordinals_: Numbers, bits: int) -> Samples:
        """Return the high bits of ordinals of so many bits."""
        is_plain = self.form is Form.HIGH_BITS
        numbers = ordinals_ if is_plain else ordinals.differences(ordinals_, bits)
        return high_bits(numbers, self.shift, self.lowest, self.fill).astype(f"u{self.n_bytes}")


def high_bits(numbers: Numbers, shift: int, lowest: int, fill: int | None) -> Numbers:
    """Return the bits above ``shift`` of numbers less ``lowest``, 0 of the fill."""
    high = (numbers - np.uint64(lowest)) >> np.uint64(shift)
    return high if fill is None else np.where(numbers == fill, 0, high + ordinals.ONE)
