"""FORMAT.md is enough: ordered tiles are read with NumPy and zstandard alone.

Written from the text of the section "Ordered tiles".
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from test_read_series import left_of

SHAPE = (11, 14, 1)
FOLDER = Path(__file__).parents[1] / "vectors" / "codec-v1"
TILES = sorted(FOLDER.glob("ordered-*.tile"))


@pytest.mark.parametrize("path", TILES, ids=lambda path: path.stem)
def test_an_ordered_tile_reads_from_the_text_alone(path: Path) -> None:
    """Numbers and what they mean give the samples, whatever the form."""
    payload = path.read_bytes()
    digest, code = path.with_suffix(".sha256").read_text().split()
    form, zeros, codec, n = struct.unpack("<BBBI", payload[:7])
    size = int(code[1])
    w = 8 * size - zeros
    meaning, rest = payload[7 : 7 + n], payload[7 + n :]
    o = ranked(meaning, rest, codec, size) if form == 0 else split(meaning, rest, codec, w, form)
    top = 1 << (w - 1)
    if code[0] == "i":
        q = [x ^ top for x in o]
    elif code[0] == "f":
        q = [x - top if x >= top else (1 << w) - 1 - x for x in o]
    else:
        q = o
    samples = np.array([x << zeros for x in q], f"<u{size}").reshape(SHAPE)
    assert hashlib.sha256(samples.tobytes()).hexdigest() == digest


def test_there_are_ordered_tiles_of_every_form() -> None:
    """The test above runs on something."""
    assert {path.read_bytes()[0] for path in TILES} == {0, 1, 2}


def ranked(meaning: bytes, rest: bytes, codec: int, size: int) -> list[int]:
    """Return ordinals: entries of a table."""
    m, layout = struct.unpack("<HB", meaning[:3])
    plain = np.frombuffer(unpacked(meaning[3:]), np.uint8)
    assert plain.size == (m + 1) * size
    rows = plain.reshape(size, -1).T if layout else plain.reshape(-1, size)
    steps = [int.from_bytes(row.tobytes(), "little") for row in rows]
    entries = steps[:1]
    for step in steps[1:]:
        entries.append(entries[-1] + 1 + step)
    return [entries[r] for r in numbers_of(rest, codec, 1 if m < 256 else 2)]


def split(meaning: bytes, rest: bytes, codec: int, w: int, form: int) -> list[int]:
    """Return ordinals: high bits above low ones, or what a prediction leaves."""
    n_bytes, shift, has_hole, lowest, hole = struct.unpack("<BBBQQ", meaning[:19])
    low, at, left = [0] * (11 * 14), 19, shift
    while left:
        bits = left % 16 or 16
        left -= bits
        codec_of_piece, length = struct.unpack_from("<BI", meaning, at)
        piece = numbers_of(meaning[at + 5 : at + 5 + length], codec_of_piece, 1 + (bits > 8))
        low = [a + (b << left) for a, b in zip(low, piece, strict=True)]
        at += 5 + length
    assert at == len(meaning)
    high = numbers_of(rest, codec, n_bytes)
    found = []
    for number, part in zip(high, low, strict=True):
        is_hole = has_hole and number == 0
        o = (lowest + ((number - has_hole) << shift) + part) % (1 << w)
        found.append(hole if is_hole else o)
    return found if form == 1 else summed(found, w)


def summed(found: list[int], w: int) -> list[int]:
    """Return ordinals, given what left + above - above left does not foresee."""
    o = np.zeros((12, 15), object)
    for i, d in enumerate(found):
        r, c = i // 14 + 1, i % 14 + 1
        step = d // 2 if d % 2 == 0 else -(d + 1) // 2
        o[r, c] = (step + o[r, c - 1] + o[r - 1, c] - o[r - 1, c - 1]) % (1 << w)
    return [int(x) for x in o[1:, 1:].reshape(-1)]


def numbers_of(payload: bytes, codec: int, n_bytes: int) -> list[int]:
    """Return the numbers of a tile under one of the codecs of the vectors."""
    if codec == 4:
        model = (FOLDER / "deep.model").read_bytes()
        return [int(x) for x in left_of(payload, model, 1, 8 * n_bytes).reshape(-1)]
    plain: Any = np.frombuffer(unpacked(payload) if codec == 2 else payload, np.uint8)
    if codec == 1:
        plain = np.tile(plain, 11 * 14)
    if codec == 2:
        plain = plain.reshape(n_bytes, -1).T.copy().reshape(-1)
    return [int(x) for x in plain.view(f"<u{n_bytes}")]


def unpacked(frame: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(frame)
