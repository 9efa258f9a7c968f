"""LZW and PackBits as two encoders of TIFF write them (FORMAT.md, "Strips of TIFF").

The rules are theirs, the loops our own: no version of a library decides about the bytes of a file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archiver.compiled import compiled
from archiver.sources.bit_packing import Bytes

_CLEAR, _END, _FIRST_FREE = 256, 257, 258  # codes of LZW
_LEAST_WIDTH, _MOST_WIDTH = 9, 12  # of a code, in bits
_FULL, _FULL_LIBTIFF = 4096, 4094  # codes at which the table is cleared
_CHECK = 10_000  # bytes after which libtiff asks whether its table still pays
_MOST = 128  # bytes of a packet
_BASE, _COPY, _RUN, _JOIN = 0, 1, 2, 3  # states of libtiff's PackBits


def lzw(rows: Bytes, *, libtiff: bool) -> bytes:
    """Return the codes of rows (R, bytes) together, as imagecodecs or libtiff writes them."""
    data = np.ascontiguousarray(rows).reshape(-1)
    out = np.empty(2 * data.size + 64, np.uint8)  # 12 bits a byte at most, and what clears
    return out[: _lzw(data, libtiff, out)].tobytes()


def pack_bits(rows: Bytes, *, libtiff: bool) -> bytes:
    """Return the packets of rows (R, bytes), each by itself, by imagecodecs' rule or libtiff's."""
    rows = np.ascontiguousarray(rows)
    out = np.empty(2 * rows.size + 2 * len(rows), np.uint8)
    return out[: _pack_rows(rows, libtiff, out)].tobytes()


@compiled
def _lzw(data: Any, libtiff: bool, out: Any) -> int:
    if not data.size:
        return 0
    table = np.zeros((_FULL, 256), np.int32)  # code, if its era is this one
    era, full = 1, _FULL_LIBTIFF if libtiff else _FULL
    width, free, taken, due, best, start = _LEAST_WIDTH, _FIRST_FREE, 1, _CHECK, 0, 0
    bits = _put(out, 0, _CLEAR, width)
    known = int(data[0])
    for i in range(1, data.size):
        byte, taken = int(data[i]), taken + 1
        code = table[known, byte]
        if code >> 12 == era:
            known = code & (_FULL - 1)
            continue
        bits = _put(out, bits, known, width)
        table[known, byte] = era << 12 | free
        free, known = free + 1, byte
        clear = free == full
        if not clear and free == 1 << width:
            width += 1
        elif not clear and libtiff and taken >= due:
            due = taken + _CHECK
            ratio = _ratio(taken, bits - start)
            clear, best = ratio <= best, ratio
        if clear:
            bits = _put(out, bits, _CLEAR, width)
            width, free, taken, best, start = _LEAST_WIDTH, _FIRST_FREE, 0, 0, bits - width
            era += 1
    return _end(out, bits, known, free, width, libtiff)


@compiled
def _end(out: Any, bits: int, known: int, free: int, width: int, libtiff: bool) -> int:
    """Write the last code and the end; return the bytes of all."""
    bits = _put(out, bits, known, width)
    free += 1
    if libtiff and free == _FULL_LIBTIFF:
        bits = _put(out, bits, _CLEAR, width)
        width = _LEAST_WIDTH
    elif free == 1 << width and width < _MOST_WIDTH:
        width += 1
    bits = _put(out, bits, _END, width)
    if bits % 8 == 0 and not libtiff:
        out[bits >> 3] = 0
        bits += 8
    return (bits + 7) >> 3


@compiled
def _ratio(taken: int, written: int) -> int:
    """Return libtiff's ratio of bytes taken to bits written, in 256ths."""
    if taken < 1 << 23:
        return 256 * taken // written
    return taken // (written >> 8)


@compiled
def _put(out: Any, bits: int, code: int, width: int) -> int:
    """Write ``code`` after so many ``bits``, highest first; return how many there are then."""
    at, used = bits >> 3, bits & 7
    value = code << (24 - width - used)
    out[at] = value >> 16 if used == 0 else out[at] | value >> 16
    out[at + 1], out[at + 2] = (value >> 8) & 255, value & 255
    return bits + width


@compiled
def _pack_rows(rows: Any, libtiff: bool, out: Any) -> int:
    size = 0
    for i in range(rows.shape[0]):
        size = _join(rows[i], out, size) if libtiff else _look_ahead(rows[i], out, size)
    return size


@compiled
def _run(row: Any, at: int) -> int:
    """Return how many bytes from ``at`` on are equal."""
    end = at + 1
    while end < row.size and row[end] == row[at]:
        end += 1
    return end - at


@compiled
def _pair(row: Any, at: int, end: int) -> int:
    """Return the first place from ``at`` on of two equal bytes before ``end``, -1 for none."""
    for i in range(at, min(end, row.size) - 1):
        if row[i] == row[i + 1]:
            return i
    return -1


@compiled
def _look_ahead(row: Any, out: Any, start: int) -> int:
    """Write one row by imagecodecs' rule: a short run between copies does not end them."""
    size, at, most = start, 0, start + row.size + -(-row.size // _MOST)
    while at < row.size:
        end = at + _MOST + 1
        pair = _pair(row, at, end)
        if pair == at:
            n = min(_run(row, at), _MOST)
            fails = size + 2 > most
        else:
            if pair >= 0 and _run(row, pair) == 2:
                after = _pair(row, pair + 2, end)
                pair = after if after > pair + 2 else pair
            n = min((row.size if pair < 0 else pair) - at, _MOST)
            fails = size + 1 + n >= most
        if fails:
            return _copy(row, out, start)
        if pair == at:
            out[size], out[size + 1] = 257 - n, row[at]
            size += 2
        else:
            size = _copy(row[at : at + n], out, size)
        at += n
    return size


@compiled
def _copy(row: Any, out: Any, size: int) -> int:
    """Write copies of 128 bytes, the last one of fewer."""
    for at in range(0, row.size, _MOST):
        n = min(_MOST, row.size - at)
        out[size] = n - 1
        out[size + 1 : size + 1 + n] = row[at : at + n]
        size += 1 + n
    return size


@compiled
def _join(row: Any, out: Any, size: int) -> int:
    """Write one row by libtiff's rule: a run of two between copies becomes part of them."""
    state, at, first = _BASE, 0, 0
    while at < row.size:
        byte, n = row[at], _run(row, at)
        at += n
        while n > 0:
            if state == _JOIN:
                state = _RUN
                if n == 1 and out[size - 2] == 255 and out[first] < 126:
                    out[first] += 2
                    out[size - 2] = out[size - 1]
                    state = _BASE if out[first] == 127 else _COPY
            if n > 1:
                out[size], out[size + 1] = 257 - min(n, _MOST), byte
                size, state = size + 2, _JOIN if state == _COPY else _RUN
            elif state == _COPY:
                out[first] += 1
                out[size] = byte
                size, state = size + 1, _BASE if out[first] == 127 else _COPY
            else:
                first, state = size, _COPY
                out[size], out[size + 1] = 0, byte
                size += 2
            n -= _MOST
    return size
