"""The choice how a tile is coded by the order of its samples, if at all.

All that is possible is coded by a fast setting of JPEG XL; what comes out smallest goes on to the
codecs that take their time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from archiver.codec import classic
from archiver.codec.transforms import ordered, ordinals, pieces, scale_offset
from archiver.codec.transforms.ordered import MOST, Form, Ordered, Split, Table
from archiver.codec.transforms.ordinals import Ordinals
from archiver.codec.transforms.pieces import Numbers
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.image import Samples

_TABLE_LEVEL = 19  # of zstd, for some kilobytes
_HIGH_BITS = (16, 12, 8)  # tried
_GAIN_OF_FILL = 2  # bits that all others need less
_SPARSE = 1.9  # times as many values could be between lowest and highest as there are: ranks pay
_GAIN = 0.99  # of what other numbers take: what is compared is a guess

Found = tuple[Ordered, Samples]


def find(tile: Samples, other: tuple[ScaleOffset, Samples] | None) -> Found | None:
    """Return the numbers that promise to be the smallest for a tile, None if its own or others do.

    ``other`` are numbers that were found in another way.
    """
    if not ordered.is_possible(tile.dtype, tile.size):
        return None
    rivals = [(0, tile)] if other is None else [(len(other[0].to_bytes(0)), other[1])]
    if other is None and scale_offset.is_wide(tile.dtype):
        rivals = []
    elif not _is_sparse(rivals[0][1]):
        return None
    found = list(candidates(tile, has_splits=not rivals))
    sizes = [_GAIN * (head + _size(of)) for head, of in rivals]
    sizes += [len(one.rest) + _size(of) for one, of in found]
    least = int(np.argmin(sizes)) - len(rivals) if sizes else -1
    return _finished(*found[least]) if least >= 0 else None


def candidates(tile: Samples, *, has_splits: bool = True) -> Iterator[Found]:
    """Yield ranks, if there are not too many, then high bits, then those of differences."""
    samples = Ordinals.of(tile)
    numbers = samples.numbers(tile)
    entries, ranks = np.unique(numbers, return_inverse=True)
    yield from _as_ranks(samples, entries, ranks.reshape(tile.shape))
    if has_splits:
        yield from _as_splits(samples, numbers, entries)


def _is_sparse(tile: Samples) -> bool:
    """Whether many values between the lowest and the highest, at equal steps, do not occur."""
    if tile.dtype.itemsize < 2:
        return False
    counts = np.bincount(classic.to_unsigned(tile).reshape(-1))
    present = np.flatnonzero(counts)
    steps = np.diff(present)
    n_possible = int(steps.sum()) // max(1, int(np.gcd.reduce(steps))) + 1
    return present.size * _SPARSE < n_possible


def _as_ranks(samples: Ordinals, entries: Numbers, ranks: NDArray[np.intp]) -> Iterator[Found]:
    if entries.size <= MOST:
        table = Table(entries)
        rest = table.to_bytes(samples.dtype.itemsize, pieces.QUICK.zstd)
        yield Ordered(samples, table, rest), ranks.astype(f"u{table.n_bytes}")


def _as_splits(samples: Ordinals, numbers: Numbers, entries: Numbers) -> Iterator[Found]:
    """Yield a tile's high and low bits for some numbers of high bits, and of its differences."""
    fill, low, high = _span(entries)
    seen = set()
    for wanted in _HIGH_BITS:
        shift = max(0, (high - low).bit_length() - wanted)
        lowest = low >> shift << shift  # low bits stay as they are: they may be equal in all
        shift += (high - lowest >> shift) + (fill is not None) >= MOST
        if shift not in seen:
            yield _split(samples, numbers, Form.HIGH_BITS, shift, low >> shift << shift, fill)
        seen.add(shift)
    rest = ordinals.differences(numbers, samples.bits)
    bits = int(rest.max()).bit_length()
    yield _split(samples, rest, Form.DIFFERENCES, max(0, bits - 1) // 16 * 16, 0, None)


def _span(entries: Numbers) -> tuple[int | None, int, int]:
    """Return the ordinal, first or last, that is far from all others, if any, and their range."""
    low, high = int(entries[0]), int(entries[-1])
    if entries.size < 3:
        return None, low, high
    ends = ((low, int(entries[1]), high), (high, low, int(entries[-2])))
    fill, first, last = min(ends, key=lambda end: end[2] - end[1])
    if (last - first).bit_length() + _GAIN_OF_FILL <= (high - low).bit_length():
        return fill, first, last
    return None, low, high


def _split(
    samples: Ordinals, numbers: Numbers, form: Form, shift: int, lowest: int, fill: int | None
) -> Found:
    own = numbers - np.uint64(lowest)
    low = own & np.uint64((1 << shift) - 1)
    high = own >> np.uint64(shift)
    if fill is not None:
        is_fill = numbers == fill
        low[is_fill] = 0
        high = np.where(is_fill, 0, high + ordinals.ONE)
    n_bytes = 1 if int(high.max()) <= 255 else 2
    how = Split(form, n_bytes, shift, lowest, low, fill)
    return Ordered(samples, how, how.to_bytes(pieces.QUICK)), high.astype(f"u{n_bytes}")


def _size(numbers: Samples) -> int:
    return len(pieces.smallest(numbers, pieces.QUICK).payload)


def _finished(found: Ordered, numbers: Samples) -> Found:
    """Return the same, coded as small as it goes."""
    how = found.how
    if isinstance(how, Table):
        rest = how.to_bytes(found.samples.dtype.itemsize, _TABLE_LEVEL)
    else:
        rest = how.to_bytes(pieces.FULL)
    return Ordered(found.samples, how, rest), numbers
