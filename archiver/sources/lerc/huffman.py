"""The Huffman code of 8-bit samples in a LERC blob: its table, and the words that it makes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.compiled import compiled
from archiver.sources.contract import Unsupported
from archiver.sources.lerc.bits import Bytes, unstuff
from archiver.sources.lerc.blob import Mask

# for each byte: its code, and how many bits that has (0: none)
Code = NDArray[np.int64]
_SIZE, _WORD = 256, 4
_HEAD = struct.Struct("<iiii")


def described(data: bytes) -> tuple[Code, int]:
    """Return the code that the start of ``data`` describes, and the bytes of its description."""
    if len(data) < _HEAD.size + 2:
        raise Unsupported("LERC without a Huffman table")
    version, size, first, end = _HEAD.unpack_from(data)
    state = data[_HEAD.size]
    wide = (4, 2, 1, 0)[state >> 6]
    at = _HEAD.size + 1 + wide
    count = int.from_bytes(data[_HEAD.size + 1 : at], "little")
    if version < 2 or size != _SIZE or not 0 <= first < end <= 2 * _SIZE or end - first > _SIZE:
        raise Unsupported("LERC with a Huffman table that is none")
    if count != end - first or state & 32 or wide == 0:
        raise Unsupported("LERC with a Huffman table that is none")
    lengths = np.zeros(count, np.int64)
    array = np.frombuffer(data, np.uint8)
    bits = state & 31
    at = unstuff(array, at, count, bits, lengths)
    if at < 0 or lengths.max() > 32:
        raise Unsupported("LERC with a Huffman table that is none")
    code = np.zeros((_SIZE, 2), np.int64)
    n_words = -(-int(lengths.sum()) // 32)
    words = np.frombuffer(data[at : at + _WORD * n_words].ljust(_WORD * n_words, b"\0"), "<u4")
    codes = "".join(f"{word:032b}" for word in words)
    start = 0
    for i, length in enumerate(lengths.tolist()):
        if length:
            code[(first + i) % _SIZE] = int(codes[start : start + length], 2), length
        start += length
    if at + _WORD * n_words > len(data):
        raise Unsupported("LERC with a Huffman table that is cut off")
    return code, at + _WORD * n_words


def encode(samples: Bytes, valid: Mask, code: Code, *, first: int, differences: bool) -> bytes:
    """Return the words of samples (height, width, bands); ``first`` is what code 0 stands for."""
    symbols = _differences(samples, valid) if differences else samples[valid].reshape(-1)
    symbols = symbols - np.uint8(first & 255)
    lengths = code[symbols, 1]
    if (lengths == 0).any():
        raise Unsupported("a sample without a code")
    out = np.zeros(-(-int(lengths.sum()) // 32), np.uint32)
    _write(symbols, code, out)
    return out.astype("<u4").tobytes()


@compiled
def _differences(samples: Bytes, valid: Mask) -> Any:
    """Return each valid sample less the one before it, or above it, band by band."""
    height, width, bands = samples.shape
    out, n = np.empty(height * width * bands, np.uint8), 0
    for band in range(bands):
        last = np.uint8(0)
        for i in range(height):
            for j in range(width):
                if not valid[i, j]:
                    continue
                before = last
                if not (j > 0 and valid[i, j - 1]) and i > 0 and valid[i - 1, j]:
                    before = samples[i - 1, j, band]
                last = samples[i, j, band]
                out[n] = last - before
                n += 1
    return out[:n]


@compiled
def _write(symbols: Bytes, code: Code, out: NDArray[np.uint32]) -> Any:
    """Write codes from the highest bit of each word on."""
    held, value, at = 0, np.uint64(0), 0
    for symbol in symbols:
        n = code[symbol, 1]
        value = value << np.uint64(n) | np.uint64(code[symbol, 0])
        held += n
        if held >= 32:
            held -= 32
            out[at] = np.uint32(value >> np.uint64(held))
            value &= (np.uint64(1) << np.uint64(held)) - np.uint64(1)
            at += 1
    if held:
        out[at] = np.uint32(value << np.uint64(32 - held))
