"""Own the sequences of a block (RFC 8878, 3.1.1.3.2): how long its literals and matches are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.contract import Unsupported
from archiver.sources.zstd import tables
from archiver.sources.zstd.bits import Bytes, bits_at, last_bit
from archiver.sources.zstd.tables import BASE, BITS, SYMBOL, Table

Lengths = NDArray[np.int64]  # (n, 2): literals, then the match
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


@dataclass
class Reader:
    """Read sections of one frame: a block may use the tables of the block before it."""

    _tables: list[Table] = field(default_factory=lambda: 3 * [_NO_TABLE])

    def lengths(self, section: Bytes) -> Lengths:
        """Return the lengths of all sequences; Unsupported for a section that is none."""
        n, at = _count(section)
        if n == 0:
            if at != section.size:
                raise Unsupported("a block that is longer than its sections")
            return np.zeros((0, 2), np.int64)
        modes = int(section[at : at + 1].sum())
        at += 1
        for kind in range(3):
            at += self._take_table(section[at:], kind, modes >> (6 - 2 * kind) & 3)
        if modes & 3:
            raise Unsupported("modes of sequences that are reserved")
        out = np.zeros((n, 2), np.int64)
        literals, offsets, matches = self._tables
        bits = (_LITERAL_BITS, _LITERAL_BASE, _MATCH_BITS, _MATCH_BASE)
        if not _decode(np.ascontiguousarray(section[at:]), literals, offsets, matches, bits, out):
            raise Unsupported("sequences that do not end where their bits do")
        return out

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


@compiled
def _decode(
    data: Bytes,
    literals: Table,
    offsets: Table,
    matches: Table,
    codes: tuple[Any, Any, Any, Any],
    out: Lengths,
) -> Any:
    """Fill in the lengths; return whether all bits were needed."""
    literal_bits, literal_base, match_bits, match_base = codes
    at = last_bit(data)
    state = np.zeros(3, np.int64)
    for i, table in enumerate((literals, offsets, matches)):
        log = 0
        while 1 << log < table.shape[0]:
            log += 1
        at -= log
        state[i] = bits_at(data, at, log)
    for i in range(out.shape[0]):
        if at < 0:
            return False
        literal, match = literals[state[0], SYMBOL], matches[state[2], SYMBOL]
        at -= offsets[state[1], SYMBOL] + match_bits[match]
        out[i, 1] = match_base[match] + bits_at(data, at, match_bits[match])
        at -= literal_bits[literal]
        out[i, 0] = literal_base[literal] + bits_at(data, at, literal_bits[literal])
        if i + 1 == out.shape[0]:
            break
        for k, table in ((0, literals), (2, matches), (1, offsets)):
            row = table[state[k]]
            at -= row[BITS]
            state[k] = row[BASE] + bits_at(data, at, row[BITS])
    return at == 0
