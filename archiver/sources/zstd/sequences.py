"""The sequences of a block (RFC 8878, 3.1.1.3.2): how long its literals and matches are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.contract import Unsupported
from archiver.sources.nearest import Links, distance
from archiver.sources.zstd import tables
from archiver.sources.zstd.bits import Bytes, bits_at, last_bit
from archiver.sources.zstd.tables import BASE, BITS, SYMBOL, Table

Lengths = NDArray[np.int64]  # (n, 2): literals, then the match
Where = tuple[Bytes, Links, int]  # what the frame decodes to, its links, and where the block begins
_PREDEFINED, _SINGLE, _DESCRIBED = 0, 1, 2
_LITERAL_BITS = np.array([0] * 16 + [1, 1, 1, 1, 2, 2, 3, 3, 4, *range(6, 17)], np.int64)
_MATCH_BITS = np.array(
    [0] * 32 + [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, *range(7, 17)],
    np.int64,
)
_MOST_OFFSET = 31
# normalised counts where a block describes none, log of their sum, log of the largest sum
_LITERALS = ([4, 3, *[2] * 6, *[2] * 5, *[1] * 3, *[2] * 9, 3, 2, *[1] * 5, *[-1] * 4], 6, 9)
_OFFSETS = ([*[1] * 6, *[2] * 3, *[1] * 15, *[-1] * 5], 5, 8)
_MATCHES = ([1, 4, 3, *[2] * 6, *[1] * 37, *[-1] * 7], 6, 9)
_KINDS = (
    (*_LITERALS, len(_LITERAL_BITS) - 1),
    (*_OFFSETS, _MOST_OFFSET),
    (*_MATCHES, len(_MATCH_BITS) - 1),
)


def _bases(bits: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    return first + np.concatenate(([0], np.cumsum(1 << bits)[:-1]))


_LITERAL_BASE, _MATCH_BASE = _bases(_LITERAL_BITS, 0), _bases(_MATCH_BITS, 3)


_NO_TABLE: Table = np.zeros((0, 3), np.int64)


class _Source(NamedTuple):
    """Sequences as a frame has them, or a plan: then with flags of the distances it states."""

    bits: Bytes
    flags: Bytes
    is_plan: bool


class _Walked(NamedTuple):
    """Room for what sequences say."""

    lengths: Lengths
    fields: Lengths  # values and widths of numbers, as the other one has them
    odd: Bytes  # of a frame: which distances a plan states


@dataclass
class Reader:
    """Read sections of one frame: a block may use the tables of the block before it."""

    _tables: list[Table] = field(default_factory=lambda: 3 * [_NO_TABLE])

    def head(self, section: Bytes) -> tuple[int, int]:
        """Return the number of sequences, and the bytes of counts, modes and tables before them."""
        n, at = _count(section)
        if n == 0:
            return 0, at
        modes = int(section[at : at + 1].sum())
        at += 1
        for kind in range(3):
            at += self._take_table(section[at:], kind, modes >> (6 - 2 * kind) & 3)
        if modes & 3 or at > section.size:
            raise Unsupported("modes of sequences that are reserved, or tables that are cut off")
        return n, at

    def reduced(self, stream: Bytes, n: int, where: Where) -> tuple[Lengths, bytes, bytes]:
        """Return the lengths of ``n`` sequences, their bits as a plan has them, and its flags."""
        source = _Source(stream, np.zeros(0, np.uint8), is_plan=False)
        lengths, values, widths, flags = self._walk(source, n, where)
        return lengths, _forward(values, widths), np.packbits(flags, bitorder="little").tobytes()

    def whole(self, bits: Bytes, flags: Bytes, n: int, where: Where) -> tuple[Lengths, bytes]:
        """Return the lengths of ``n`` sequences, and their stream."""
        source = _Source(bits, flags, is_plan=True)
        lengths, values, widths, _ = self._walk(source, n, where)
        return lengths, _backward(values, widths)

    def _walk(
        self, source: _Source, n: int, where: Where
    ) -> tuple[Lengths, Lengths, Lengths, Bytes]:
        lengths, fields = np.zeros((n, 2), np.int64), np.zeros((2, 6 * n + 3), np.int64)
        walked = _Walked(lengths, fields, np.zeros(n, np.uint8))
        codes = (_LITERAL_BITS, _LITERAL_BASE, _MATCH_BITS, _MATCH_BASE)
        decoders = (self._tables[0], self._tables[1], self._tables[2])
        count = _walk(source, decoders, codes, where, walked)
        if count < 0:
            raise Unsupported("sequences that do not end where their bits do")
        return lengths, fields[0, :count], fields[1, :count], walked.odd

    def _take_table(self, data: Bytes, kind: int, mode: int) -> int:
        """Set the table of a kind; return how many bytes describe it."""
        counts, log, most_log, most_symbol = _KINDS[kind]
        used = 0
        if mode == _PREDEFINED:
            self._tables[kind] = tables.spread(np.array(counts, np.int64), log)
        elif mode == _SINGLE:
            if data.size == 0 or data[0] > most_symbol:
                raise Unsupported("a code of sequences that is none")
            self._tables[kind], used = tables.single(int(data[0])), 1
        elif mode == _DESCRIBED:
            self._tables[kind], used = tables.described(data, most_log, most_symbol)
        elif not self._tables[kind].size:
            raise Unsupported("a table of sequences that there is not")
        return used


def _count(section: Bytes) -> tuple[int, int]:
    """Return the number of sequences, and the bytes that state it."""
    head = [int(byte) for byte in section[:3]] + [0, 0]
    used = 1 if head[0] < 128 else 2 if head[0] < 255 else 3
    if used > section.size:
        raise Unsupported("a block without a section of sequences")
    if used == 1:
        return head[0], 1
    return (
        ((head[0] - 128 << 8) + head[1], 2) if used == 2 else (head[1] + (head[2] << 8) + 0x7F00, 3)
    )


def _forward(values: Lengths, widths: Lengths) -> bytes:
    """Return numbers one after the other, the lowest bit of the first one first."""
    at = np.cumsum(widths) - widths
    return _placed(values, widths, at, int(widths.sum()))


def _backward(values: Lengths, widths: Lengths) -> bytes:
    """Return numbers as Zstandard has them: the last one first, then a bit that is set."""
    total = int(widths.sum())
    at = np.append(total - np.cumsum(widths), total)
    return _placed(np.append(values, 1), np.append(widths, 1), at, total + 1)


def _placed(values: Lengths, widths: Lengths, at: Lengths, n_bits: int) -> bytes:
    out = np.zeros(n_bits // 8 + 8, np.uint8)
    _place(values, widths, at, out)
    return out[: (n_bits + 7) // 8].tobytes()


@compiled
def _place(values: Lengths, widths: Lengths, at: Lengths, out: Bytes) -> None:
    for i in range(values.size):
        value, byte = values[i] << (at[i] & 7), at[i] >> 3
        while value:
            out[byte] |= np.uint8(value & 255)
            value, byte = value >> 8, byte + 1


@compiled
def _walk(
    source: _Source, decoders: tuple[Table, Table, Table],
    codes: tuple[Lengths, Lengths, Lengths, Lengths], where: Where, walked: _Walked,
) -> Any:  # fmt: skip
    """Read sequences as a frame or a plan has them; fill in fields as the other has them.

    Return the number of fields; -1 unless all bits were needed.
    """
    bits, flags, is_plan = source
    lengths, fields, odd = walked
    raw, linked, at_raw = where
    literal_bits, literal_base, match_bits, match_base = codes
    state, flag = np.zeros(3, np.int64), 0
    at, count = _begin(source, decoders, state, fields)
    for i in range(lengths.shape[0]):
        if at < 0 or at > 8 * bits.size:
            return -1
        literal, match = decoders[0][state[0], SYMBOL], decoders[2][state[2], SYMBOL]
        offset, value = decoders[1][state[1], SYMBOL], 0
        if not is_plan:
            at, value = _take(bits, at, offset, is_plan)
        at, more = _take(bits, at, match_bits[match], is_plan)
        at, most = _take(bits, at, literal_bits[literal], is_plan)
        lengths[i, 0], lengths[i, 1] = literal_base[literal] + most, match_base[match] + more
        at_raw += lengths[i, 0]
        stated = offset < 2
        if not stated:
            low, high = max(1, (1 << offset) - 3), (2 << offset) - 4
            last = distance(raw, linked, at_raw, lengths[i, 1], low, high)
            guess = last + 3 - (1 << offset) if last else -1
            if is_plan:
                stated = flag < 8 * flags.size and flags[flag >> 3] >> (flag & 7) & 1
                value = guess
            else:
                stated = guess != value
                odd[flag] = stated
            flag += 1
        if is_plan and stated:
            at, value = _take(bits, at, offset, is_plan)
        if value < 0:
            return -1
        at_raw += lengths[i, 1]
        if is_plan:
            count = _add(fields, count, value, offset)
        count = _add(fields, count, more, match_bits[match])
        count = _add(fields, count, most, literal_bits[literal])
        if stated and not is_plan:
            count = _add(fields, count, value, offset)
        if i + 1 == lengths.shape[0]:
            break
        for k in (0, 2, 1):
            at, count = _advance(source, at, decoders[k], state[k : k + 1], fields, count)
    done = 0 <= 8 * bits.size - at < 8 if is_plan else at == 0
    return count if done else -1


@compiled
def _begin(
    source: _Source, decoders: tuple[Table, Table, Table], state: Lengths, fields: Lengths
) -> Any:
    """Read the first states; return where to go on, and the number of fields."""
    at, count = 0 if source.is_plan else last_bit(source.bits), 0
    for i in range(3):
        log = 0
        while 1 << log < decoders[i].shape[0]:
            log += 1
        at, state[i] = _take(source.bits, at, log, source.is_plan)
        count = _add(fields, count, state[i], log)
    return at, count


@compiled
def _advance(
    source: _Source, at: int, decoder: Table, state: Lengths, fields: Lengths, count: int
) -> Any:
    """Read the next of a state (1,); return where to go on, and the number of fields."""
    width = decoder[state[0], BITS]
    at, low = _take(source.bits, at, width, source.is_plan)
    state[0] = decoder[state[0], BASE] + low
    return at, _add(fields, count, low, width)


@compiled
def _take(bits: Bytes, at: int, n: int, is_forward: bool) -> Any:
    """Return where to go on, and the number of ``n`` bits there."""
    if is_forward:
        return at + n, bits_at(bits, at, n)
    return at - n, bits_at(bits, at - n, n)


@compiled
def _add(fields: Lengths, count: int, value: int, width: int) -> Any:
    fields[0, count], fields[1, count] = value, width
    return count + 1
