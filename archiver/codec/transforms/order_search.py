"""The choice how a tile is coded by the order of its samples, if at all.

All that is possible is coded by a fast setting of JPEG XL; what comes out smallest goes on to the
codecs that take their time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from archiver.codec import classic
from archiver.codec.transforms import order_forms, ordinals, pieces, scale_offset
from archiver.codec.transforms.order_forms import MOST, Form, Split, Table
from archiver.codec.transforms.ordinals import Ordinals
from archiver.codec.transforms.pieces import Numbers
from archiver.image import Samples

_TABLE_LEVEL = 19  # of zstd, for some kilobytes
_HIGH_BITS = (16, 12, 8)  # tried
_GAIN_OF_FILL = 2  # bits that all others need less
_SPARSE = 1.9  # times as many values could be between lowest and highest as there are: ranks pay
_GAIN = 0.99  # of what other numbers take: what is compared is a guess


@dataclass(frozen=True)
class Guess:
    """One way to order a tile: what its ``numbers`` mean, and as which bytes that is stored."""

    samples: Ordinals
    how: Table | Split
    stored: bytes
    numbers: Samples


def find(tile: Samples, rival: tuple[int, Samples] | None) -> Guess | None:
    """Return the numbers that promise to be the smallest for a tile, None if its own or others do.

    ``rival`` are numbers that were found in another way, after the bytes that it takes to say.
    """
    if not order_forms.is_possible(tile.dtype, tile.size):
        return None
    rivals = [rival or (0, tile)]
    if rival is None and scale_offset.is_wide(tile.dtype):
        rivals = []
    elif not _is_sparse(rivals[0][1]):
        return None
    guesses = list(candidates(tile, has_splits=not rivals))
    sizes = [_GAIN * (head + _size(numbers)) for head, numbers in rivals]
    sizes += [len(guess.stored) + _size(guess.numbers) for guess in guesses]
    least = int(np.argmin(sizes)) - len(rivals) if sizes else -1
    return _finished(guesses[least]) if least >= 0 else None


def candidates(tile: Samples, *, has_splits: bool = True) -> Iterator[Guess]:
    """Yield ranks, if there are not too many, then high bits, then those of differences."""
    samples = Ordinals.of(tile)
    numbers = samples.numbers(tile)
    entries, ranks = np.unique(numbers, return_inverse=True)
    if entries.size <= MOST:
        table = Table(entries)
        stored = table.to_bytes(samples.dtype.itemsize, pieces.QUICK.zstd)
        in_tile = ranks.reshape(tile.shape).astype(f"u{table.n_bytes}")
        yield Guess(samples, table, stored, in_tile)
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


def _as_splits(samples: Ordinals, numbers: Numbers, entries: Numbers) -> Iterator[Guess]:
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
    left = ordinals.differences(numbers, samples.bits)
    bits = int(left.max()).bit_length()
    yield _split(samples, left, Form.DIFFERENCES, max(0, bits - 1) // 16 * 16, 0, None)


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
) -> Guess:
    low = (numbers - np.uint64(lowest)) & np.uint64((1 << shift) - 1)
    if fill is not None:
        low[numbers == fill] = 0
    high = order_forms.high_bits(numbers, shift, lowest, fill)
    n_bytes = 1 if int(high.max()) <= 255 else 2
    how = Split(form, n_bytes, shift, lowest, low, fill)
    return Guess(samples, how, how.to_bytes(pieces.QUICK), high.astype(f"u{n_bytes}"))


def _size(numbers: Samples) -> int:
    return len(classic.smallest(numbers, pieces.QUICK).payload)


def _finished(guess: Guess) -> Guess:
    """Return the same, coded as small as it goes."""
    how = guess.how
    if isinstance(how, Table):
        return replace(guess, stored=how.to_bytes(guess.samples.dtype.itemsize, _TABLE_LEVEL))
    return replace(guess, stored=how.to_bytes(pieces.FULL))
