"""The Huffman code of literals (RFC 8878, 4.2): its tree, and the streams that it makes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.contract import Unsupported
from archiver.sources.zstd import tables
from archiver.sources.zstd.bits import Bytes, bits_at, last_bit
from archiver.sources.zstd.tables import BASE, BITS, SYMBOL, Table

# for each byte: its code, and how many bits that has (0: none)
Code = NDArray[np.int64]
_DIRECT = 128  # a description whose first byte is at least this has weights of 4 bits
_MOST_LOG, _MOST_WEIGHT, _MOST_BITS = 6, 12, 11
_STREAMS = 4
_JUMPS = 6  # bytes that state the lengths of the first three streams


def described(data: Bytes) -> tuple[Code, int]:
    """Return the code that the start of ``data`` describes, and the bytes of its description."""
    if data.size == 0:
        raise Unsupported("a Huffman tree without a description")
    first = int(data[0])
    if first >= _DIRECT:
        n = first - _DIRECT + 1
        used = 1 + (n + 1) // 2
        packed = data[1:used]
        weights = np.stack([packed >> 4, packed & 15], 1).reshape(-1)[:n].astype(np.int64)
    else:
        used = 1 + first
        weights = _coded_weights(data[1:used])
    if used > data.size or weights.size > 255 or weights.max(initial=0) > _MOST_WEIGHT:
        raise Unsupported("a Huffman tree that is none")
    return _code(weights), used


def encode(literals: Bytes, code: Code, *, single: bool) -> bytes:
    """Return one stream of the literals, or four of them and how long they are."""
    if (code[literals, 1] == 0).any():
        raise Unsupported("a literal without a code")
    n = literals.size if single else (literals.size + _STREAMS - 1) // _STREAMS
    starts = range(0, max(1, n if single else _STREAMS * n), max(1, n))
    streams = [_stream(literals[start : start + n], code) for start in starts]
    if single:
        return streams[0]
    if max(len(stream) for stream in streams[:-1]) > 0xFFFF:
        raise Unsupported("streams of literals that are too long")
    jumps = b"".join(len(stream).to_bytes(2, "little") for stream in streams[:-1])
    return jumps + b"".join(streams)


def _coded_weights(data: Bytes) -> NDArray[np.int64]:
    table, used = tables.described(data, _MOST_LOG, _MOST_WEIGHT)
    out = np.zeros(256, np.int64)
    n = _decode_weights(np.ascontiguousarray(data[used:]), table, out)
    if n < 0:
        raise Unsupported("a Huffman tree that is none")
    return out[:n]


@compiled
def _decode_weights(data: Bytes, table: Table, out: NDArray[np.int64]) -> Any:
    """Fill in weights by two states in turn, until the bits are used up; -1: too many."""
    log = 0
    while 1 << log < table.shape[0]:
        log += 1
    at = last_bit(data) - 2 * log
    if at < 0:
        return -1
    states = (bits_at(data, at + log, log), bits_at(data, at, log))
    n = 0
    while n + 2 <= out.size:
        now, other = states
        out[n] = table[now, SYMBOL]
        n += 1
        at -= table[now, BITS]
        if at < 0:
            out[n] = table[other, SYMBOL]
            return n + 1
        states = (other, table[now, BASE] + bits_at(data, at, table[now, BITS]))
    return -1


def _code(weights: NDArray[np.int64]) -> Code:
    """Return the code of weights; that of the last byte follows from the others."""
    total = int((1 << weights[weights > 0] - 1).sum())
    if total == 0:
        raise Unsupported("a Huffman tree that is none")
    most_bits = total.bit_length()
    rest = (1 << most_bits) - total
    if rest & rest - 1 or most_bits > _MOST_BITS:
        raise Unsupported("a Huffman tree that is none")
    weights = np.append(weights, rest.bit_length())
    bits = np.where(weights > 0, most_bits + 1 - weights, 0)
    code = np.zeros((256, 2), np.int64)
    code[: bits.size, 1] = bits
    following = 0
    for weight in range(1, most_bits + 1):  # the longest codes are the lowest numbers
        for byte in np.flatnonzero(weights == weight):
            code[byte, 0] = following >> weight - 1
            following += 1 << weight - 1
    return code


def _stream(literals: Bytes, code: Code) -> bytes:
    n_bits = int(code[literals, 1].sum())
    out = np.zeros(n_bits // 8 + 1, np.uint8)
    _write(literals, code, out)
    return out.tobytes()


@compiled
def _write(literals: Bytes, code: Code, out: Bytes) -> Any:
    """Write the codes from the last literal to the first, then a bit that is set."""
    value, held, at = 0, 0, 0
    for i in range(literals.size - 1, -1, -1):
        value |= code[literals[i], 0] << held
        held += code[literals[i], 1]
        while held >= 8:
            out[at] = value & 255
            value, held, at = value >> 8, held - 8, at + 1
    out[at] = value | 1 << held
