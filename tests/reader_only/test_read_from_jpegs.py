"""FORMAT.md is enough: a tile of several JPEGs is read with Python, NumPy and libjpeg alone.

Written from the text of the section "From several JPEGs".
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard
from PIL import Image
from reader_only_jpeg_coder import Coder
from reader_only_jpeg_scan import scan_of
from test_read_coefficients import born_head

VECTOR = Path(__file__).parents[1] / "vectors" / "codec-v1" / "born-several"
UNITS = {1: (1, 1), 2: (1, 2), 3: (2, 2), 4: (1, 1)}  # blocks of the first component


def test_a_tile_of_several_jpegs_reads_from_the_text_alone() -> None:
    """One memory reads all; units of zeros are left out; what is left gives the rest."""
    payload = VECTOR.with_suffix(".tile").read_bytes()
    digest, *sides = VECTOR.with_suffix(".sha256").read_text().split()
    n, *levels = payload[:4]
    heads = [struct.unpack_from("<BHHI", payload, 4 + 9 * i) for i in range(n)]
    at, coder, found = 4 + 9 * n, Coder(), []
    for mode, row, column, length in heads:
        data = payload[at : at + length]
        at += length
        height, width, quality = struct.unpack("<HHB", data[:5])
        head = born_head(mode, height, width, quality)
        scan = scan_of(head, coder.begin(data[5:]), 1023)
        inside = np.asarray(Image.open(io.BytesIO(head + scan + b"\xff\xd9")))
        found.append((row, column, inside, outline(scan, mode, height, width)))
    assert [is_in.all() for *_, is_in in found] == [False, True]
    assert payload[at] == 2
    shape = tuple(map(int, sides))
    rest = zstandard.ZstdDecompressor().decompress(payload[at + 1 :], int(np.prod(shape)))
    tile = np.frombuffer(rest, np.uint8).reshape(shape).copy()
    for row, column, inside, is_in in found:
        part = tile[row : row + len(inside), column : column + inside.shape[1]]
        part[is_in] += (inside - np.array(levels, np.uint8))[is_in]
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def outline(scan: bytes, mode: int, height: int, width: int) -> np.ndarray:
    """Return which samples are in units that are not all zero."""
    down, across = UNITS[mode]
    rows, columns = height // 8 // down, width // 8 // across
    components = [0] * (down * across) + [1, 2]
    blocks, guess, holds = blocks_of(scan), [0, 0, 0], []
    for _ in range(rows * columns):
        is_zero = True
        for c in components:
            difference, has_others = next(blocks)
            guess[c] += difference
            is_zero &= guess[c] == 0 and not has_others
        holds.append(not is_zero)
    return np.kron(np.reshape(holds, (rows, columns)), np.ones((8 * down, 8 * across), bool))


def blocks_of(scan: bytes) -> Iterator[tuple[int, bool]]:
    """Yield the difference of DC of every block, and whether it has other coefficients."""
    data = scan.replace(b"\xff\0", b"\xff")
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    symbols = sorted({16 * run + size for run in range(16) for size in range(1, 11)} | {0, 0xF0})
    at = 0
    while len(bits) - at >= 12:
        size = int(bits[at : at + 4], 2)
        word = bits[at + 4 : at + 4 + size]
        at += 4 + size
        value = int(word or "0", 2)
        difference = value if word[:1] == "1" else value - (1 << size) + 1
        k, has_others = 1, False
        while k < 64:
            symbol = symbols[int(bits[at : at + 8], 2)]
            at += 8
            if symbol == 0:
                break
            at += symbol & 15
            has_others |= symbol != 0xF0
            k += (symbol >> 4) + 1
        yield difference, has_others
