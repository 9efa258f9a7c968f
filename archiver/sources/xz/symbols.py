"""LZMA, bit by bit: from one range coder to another, where one of them has no literals.

Both have the same probabilities, since those of literals are apart.  With literals on the side that
is read, a stream becomes a plan; with literals on the side that is written, a plan a stream.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources import nearest
from archiver.sources.nearest import Links

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]
# where probabilities lie
_STATES, _PLACES, _HALF = 12, 16, 1 << 10
_IS_MATCH, _IS_LONG = 0, _STATES * _PLACES
_IS_REP = 2 * _STATES * _PLACES
_IS_LATER = _IS_REP + _STATES  # three of them: not the last distance, not the one before, ...
_SLOTS = _IS_LATER + 3 * _STATES  # four trees of 64
_SPECIAL = _SLOTS + 4 * 64
_ALIGN = _SPECIAL + 128
_LENGTHS = _ALIGN + 16  # of matches, and of repeated ones: two choices, trees of 8, 8 and 256
_MEDIUM, _LONG, _LENGTH_SIZE = 2 + 8 * _PLACES, 2 + 16 * _PLACES, 2 + 16 * _PLACES + 256
_LITERALS = _LENGTHS + 2 * _LENGTH_SIZE
_LITERAL_SIZE = 0x300
_NEAREST = _LITERALS + (_LITERAL_SIZE << 4)  # of a plan alone, by lengths
_FLAGS = 16
_WIDTHS = _NEAREST + _FLAGS  # of a plan alone: of distances that are not the nearest
N_PROBABILITIES = _WIDTHS + 64
# of a reader: range, code, place; of a writer: low, range, byte held, bytes held, place
RANGE, CODE, READ_AT = 0, 1, 2
LOW, WIDE, CACHE, HELD, WRITE_AT = 0, 1, 2, 3, 4
_TOP, _FULL = 1 << 24, (1 << 32) - 1
# of a coder: state, the last four distances less 1, position since the dictionary was empty
STATE, DISTANCES, POSITION = 0, 1, 5
N_CODER = 6
_LEAST = 2  # bytes of a match


class Sides(NamedTuple):
    """What is read and what is written: bytes, and the state of their range coder."""

    data: Bytes
    reader: Numbers
    out: Bytes
    writer: Numbers


class Linked(NamedTuple):
    """Bytes that are not coded, and where each stood last."""

    raw: Bytes
    links: Links


@compiled
def start_reading(data: Bytes, at: int, reader: Numbers) -> None:
    """Begin to read at a place of the bytes."""
    reader[RANGE], reader[CODE], reader[READ_AT] = _FULL, 0, at + 5
    for i in range(1, 5):
        reader[CODE] = reader[CODE] << 8 | (data[at + i] if at + i < data.size else 0)


@compiled
def start_writing(writer: Numbers) -> None:
    """Begin to write at the place where the writer is."""
    writer[LOW], writer[WIDE], writer[CACHE], writer[HELD] = 0, _FULL, 0, 1


@compiled
def _shift(out: Bytes, writer: Numbers) -> None:
    """Write the byte that is final; what does not fit is left out, and told by the place."""
    if writer[LOW] < 0xFF000000 or writer[LOW] > _FULL:
        carry = writer[LOW] >> 32
        byte = writer[CACHE]
        while writer[HELD]:
            if writer[WRITE_AT] < out.size:
                out[writer[WRITE_AT]] = (byte + carry) & 255
            writer[WRITE_AT] += 1
            writer[HELD] -= 1
            byte = 255
        writer[CACHE] = writer[LOW] >> 24 & 255
    writer[HELD] += 1
    writer[LOW] = (writer[LOW] & 0x00FFFFFF) << 8


@compiled
def finish_writing(out: Bytes, writer: Numbers) -> None:
    """Write the five last bytes."""
    for _ in range(5):
        _shift(out, writer)


@compiled
def _get(probability: int, data: Bytes, reader: Numbers) -> Any:
    bound = (reader[RANGE] >> 11) * probability
    bit = 0
    if reader[CODE] < bound:
        reader[RANGE] = bound
    else:
        reader[CODE] -= bound
        reader[RANGE] -= bound
        bit = 1
    if reader[RANGE] < _TOP:
        _next(data, reader)
    return bit


@compiled
def _next(data: Bytes, reader: Numbers) -> None:
    byte = data[reader[READ_AT]] if reader[READ_AT] < data.size else 0
    reader[READ_AT] += 1
    reader[CODE] = (reader[CODE] << 8 | byte) & _FULL
    reader[RANGE] <<= 8


@compiled
def _put(probability: int, bit: int, out: Bytes, writer: Numbers) -> None:
    bound = (writer[WIDE] >> 11) * probability
    if bit:
        writer[LOW] += bound
        writer[WIDE] -= bound
    else:
        writer[WIDE] = bound
    if writer[WIDE] < _TOP:
        writer[WIDE] <<= 8
        _shift(out, writer)


@compiled
def _learn(probabilities: Numbers, i: int, bit: int) -> None:
    p = probabilities[i]
    probabilities[i] = p - (p >> 5) if bit else p + ((1 << 11) - p >> 5)


@compiled
def _bit(probabilities: Numbers, i: int, sides: Sides) -> Any:
    """Read a bit, write it, learn it."""
    data, reader, out, writer = sides
    bit = _get(probabilities[i], data, reader)
    _put(probabilities[i], bit, out, writer)
    _learn(probabilities, i, bit)
    return bit


@compiled
def _known(probabilities: Numbers, i: int, bit: int, sides: Sides, is_read: bool) -> Any:
    """Read a bit, or write the bit that is known, and learn it."""
    data, reader, out, writer = sides
    if is_read:
        bit = _get(probabilities[i], data, reader)
    else:
        _put(probabilities[i], bit, out, writer)
    _learn(probabilities, i, bit)
    return bit


@compiled
def _known_even(bit: int, sides: Sides, is_read: bool) -> Any:
    """Read a bit that has no probability, or write the bit that is known."""
    data, reader, out, writer = sides
    if is_read:
        reader[RANGE] >>= 1
        bit = 1 if reader[CODE] >= reader[RANGE] else 0
        reader[CODE] -= reader[RANGE] * bit
        if reader[RANGE] < _TOP:
            _next(data, reader)
        return bit
    writer[WIDE] >>= 1
    writer[LOW] += writer[WIDE] * bit
    if writer[WIDE] < _TOP:
        writer[WIDE] <<= 8
        _shift(out, writer)
    return bit


@compiled
def _tree(probabilities: Numbers, first: int, n: int, sides: Sides) -> Any:
    """Return a number of ``n`` bits, the highest first."""
    value = 1
    for _ in range(n):
        value = value << 1 | _bit(probabilities, first + value, sides)
    return value - (1 << n)


@compiled
def _length(probabilities: Numbers, first: int, place: int, sides: Sides) -> Any:
    if not _bit(probabilities, first, sides):
        return _LEAST + _tree(probabilities, first + 2 + 8 * place, 3, sides)
    if not _bit(probabilities, first + 1, sides):
        return _LEAST + 8 + _tree(probabilities, first + _MEDIUM + 8 * place, 3, sides)
    return _LEAST + 16 + _tree(probabilities, first + _LONG, 8, sides)


@compiled
def _known_tree(
    probabilities: Numbers, first: int, n: int, value: int, sides: Sides, is_read: bool
) -> Any:
    """Read or write a number of ``n`` bits, the highest first."""
    node = 1
    for i in range(n - 1, -1, -1):
        node = node << 1 | _known(probabilities, first + node, value >> i & 1, sides, is_read)
    return node - (1 << n)


@compiled
def _known_tree_from_lowest(
    probabilities: Numbers, first: int, n: int, value: int, sides: Sides, is_read: bool
) -> Any:
    node, out = 1, 0
    for i in range(n):
        bit = _known(probabilities, first + node, value >> i & 1, sides, is_read)
        node = node << 1 | bit
        out |= bit << i
    return out


@compiled
def _width(value: int) -> Any:
    n = 0
    while value >> n:
        n += 1
    return n


@compiled
def _coded(probabilities: Numbers, length: int, distance: int, sides: Sides, is_read: bool) -> Any:
    """Read or write a distance less 1 as LZMA has it."""
    slot = distance
    if distance > 3:
        n = _width(distance) - 1
        slot = 2 * n + (distance >> n - 1 & 1)
    first = _SLOTS + 64 * min(length - _LEAST, 3)
    slot = _known_tree(probabilities, first, 6, slot, sides, is_read)
    if slot < 4:
        return slot
    n = (slot >> 1) - 1
    base = (2 | slot & 1) << n
    low = distance - base
    if slot < 14:
        first = _SPECIAL + base - slot
        return base + _known_tree_from_lowest(probabilities, first, n, low, sides, is_read)
    high = 0
    for i in range(n - 1, 3, -1):
        high |= _known_even(low >> i & 1, sides, is_read) << i
    return base + high + _known_tree_from_lowest(probabilities, _ALIGN, 4, low, sides, is_read)


@compiled
def _told(
    probabilities: Numbers, length: int, distance: int, guess: int, sides: Sides, is_read: bool
) -> Any:
    """Read or write a distance less 1 as a plan has it: the ``guess``, or another."""
    flag = _NEAREST + min(length - _LEAST, _FLAGS - 1)
    if not _known(probabilities, flag, int(distance != guess), sides, is_read):
        return guess
    n = _known_tree(probabilities, _WIDTHS, 6, _width(distance), sides, is_read)
    value = 1 if n else 0
    for i in range(n - 2, -1, -1):
        value = value << 1 | _known_even(distance >> i & 1, sides, is_read)
    return value


@compiled
def _literal(
    probabilities: Numbers, first: int, byte: int, other: int, sides: Sides, is_read: bool
) -> Any:
    """Read or write a literal, and learn it; return whether it is ``byte``.

    ``other`` is the byte at the last distance, -1 after a literal.
    """
    data, reader, out, writer = sides
    node, follows = 1, other >= 0
    for i in range(7, -1, -1):
        at = first + node
        if follows:
            at += (1 + (other >> i & 1)) << 8
        bit = byte >> i & 1
        if is_read:
            if _get(probabilities[at], data, reader) != bit:
                return False
        else:
            _put(probabilities[at], bit, out, writer)
        _learn(probabilities, at, bit)
        follows = follows and other >> i & 1 == bit
        node = node << 1 | bit
    return True


@compiled
def _match(
    linked: Linked, at: int, base: int, coder: Numbers, place: int, probabilities: Numbers,
    sides: Sides, is_stream: bool,
) -> Any:  # fmt: skip
    """Read and write a match, after the bit that says so; return its length.

    It begins ``at`` that place, the dictionary at ``base``.
    """
    state, later = coder[STATE], 0
    if not _bit(probabilities, _IS_REP + state, sides):
        length = _length(probabilities, _LENGTHS, place, sides)
        guess = nearest.distance(linked.raw, linked.links, at, length, 1, at - base) - 1
        if is_stream:
            distance = _coded(probabilities, length, 0, sides, True)
            _told(probabilities, length, distance, guess, sides, False)
        else:
            distance = _told(probabilities, length, 0, guess, sides, True)
            if distance < 0:
                return 0
            _coded(probabilities, length, distance, sides, False)
        coder[STATE], later = 7 if state < 7 else 10, 3
    else:
        while later < 3 and _bit(probabilities, _IS_LATER + later * _STATES + state, sides):
            later += 1
        distance = coder[DISTANCES + later]
        if later == 0 and not _bit(probabilities, _IS_LONG + state * _PLACES + place, sides):
            coder[STATE] = 9 if state < 7 else 11
            return 1
        length = _length(probabilities, _LENGTHS + _LENGTH_SIZE, place, sides)
        coder[STATE] = 8 if state < 7 else 11
    for i in range(later, 0, -1):
        coder[DISTANCES + i] = coder[DISTANCES + i - 1]
    coder[DISTANCES] = distance
    return length


@compiled
def chunk(
    linked: Linked, start: int, end: int, properties: int, coder: Numbers, probabilities: Numbers,
    sides: Sides, is_stream: bool,
) -> Any:  # fmt: skip
    """Turn the chunk of the bytes from ``start`` to ``end`` of ``linked``; False: it is none.

    ``is_stream`` says that literals are on the side that is read.
    """
    raw = linked.raw
    context, low_places, places = properties % 9, properties // 9 % 5, properties // 45
    at, base = start, start - coder[POSITION]
    while at < end:
        place, state = coder[POSITION] & (1 << places) - 1, coder[STATE]
        if not _bit(probabilities, _IS_MATCH + state * _PLACES + place, sides):
            before = int(raw[at - 1]) if at > base else 0
            which = (coder[POSITION] & (1 << low_places) - 1) << context | before >> 8 - context
            other = -1
            if state >= 7:
                if coder[DISTANCES] >= at - base:
                    return False
                other = int(raw[at - coder[DISTANCES] - 1])
            first = _LITERALS + _LITERAL_SIZE * which
            if not _literal(probabilities, first, int(raw[at]), other, sides, is_stream):
                return False
            coder[STATE] = 0 if state < 4 else state - 3 if state < 10 else state - 6
            length = 1
        else:
            length = _match(linked, at, base, coder, place, probabilities, sides, is_stream)
            if length == 0:
                return False
        at += length
        coder[POSITION] += length
        has_room = sides.writer[WRITE_AT] <= sides.out.size
        if not has_room or sides.reader[READ_AT] > sides.data.size + 5:
            return False
    return at == end


def fresh() -> Numbers:
    """Return probabilities that have learned nothing."""
    return np.full(N_PROBABILITIES, _HALF, np.int64)
