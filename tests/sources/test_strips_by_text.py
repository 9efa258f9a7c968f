"""Strips of TIFF as FORMAT.md says that their encoders write them, in plain Python.

Written from the section "Strips of TIFF"; the known answers there, and what archiver writes, must
agree.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from archiver.sources.segmented import encodings
from archiver.sources.segmented.encodings import Encoding, Recipe

TEXT = (Path(__file__).parents[2] / "manifests" / "FORMAT.md").read_text()
MOST = 128  # bytes of a packet


def lzw(data: bytes, encoding: int) -> bytes:
    """Codes of all bytes; encoding 2 or 3."""
    codes: list[str] = []
    width, free, table, taken, written, due, best = 9, 258, {}, 1, 0, 10000, 0

    def write(code: int) -> None:
        nonlocal written
        codes.append(f"{code:0{width}b}")
        written += width

    write(256)
    w = data[0]
    for c in data[1:]:
        taken += 1
        if (w, c) in table:
            w = table[w, c]
            continue
        write(w)
        table[w, c], free, w = free, free + 1, c
        clear = free == (4096 if encoding == 2 else 4094)
        if not clear and free == 2**width:
            width += 1
        elif not clear and encoding == 3 and taken >= due:
            due = taken + 10000
            ratio = 256 * taken // written if taken < 2**23 else taken // (written // 256)
            clear, best = ratio <= best, ratio
        if clear:
            table, free, taken, written, best = {}, 258, 0, 0, 0
            write(256)
            width = 9
    write(w)
    free += 1
    if encoding == 3 and free == 4094:
        write(256)
        width = 9
    elif free == 2**width and width < 12:
        width += 1
    write(257)
    bits = "".join(codes)
    more = -len(bits) % 8 or (8 if encoding == 2 else 0)
    return int(bits + "0" * more, 2).to_bytes((len(bits) + more) // 8, "big")


def looking_ahead(row: bytes) -> bytes:
    """Packets of a row; encoding 4."""
    most, out, p = len(row) + -(-len(row) // MOST), b"", 0

    def run(q: int) -> int:
        return len(row[q:]) - len(row[q:].lstrip(row[q : q + 1]))

    def pair(q: int) -> int | None:
        ends = range(q, min(p + 129, len(row)) - 1)
        return next((i for i in ends if row[i] == row[i + 1]), None)

    while p < len(row):
        d = pair(p)
        if d == p:
            n = min(run(p), MOST)
            out += bytes([257 - n, row[p]])
        else:
            after = None if d is None or run(d) != 2 else pair(d + 2)
            if d is not None and after is not None and after > d + 2:
                d = after
            n = min((len(row) if d is None else d) - p, MOST)
            out += bytes([n - 1]) + row[p : p + n]
        if len(out) + (d != p) > most:
            starts = range(0, len(row), MOST)
            copies = (row[i : i + MOST] for i in starts)
            return b"".join(bytes([len(copy) - 1]) + copy for copy in copies)
        p += n
    return out


def joining(row: bytes) -> bytes:
    """Packets of a row; encoding 5."""
    out, state, first = bytearray(), "BASE", 0
    for b, group in groupby(row):
        n = len(list(group))
        while n > 0:
            if state == "JOIN":
                if n == 1 and out[-2] == 255 and out[first] < 126:
                    out[first] += 2
                    out[-2] = out[-1]
                    state = "BASE" if out[first] == 127 else "COPY"
                else:
                    state = "RUN"
            if n == 1 and state == "COPY":
                out[first] += 1
                out.append(b)
                state = "BASE" if out[first] == 127 else state
            elif n == 1:
                first, state = len(out), "COPY"
                out += bytes([0, b])
            else:
                state = "JOIN" if state == "COPY" else "RUN"
                out += bytes([257 - min(n, MOST), b])
            n -= MOST
    return bytes(out)


def by_row(encode: Callable[[bytes], bytes]) -> Callable[[np.ndarray], bytes]:
    """Return an encoder of rows, each by itself."""
    return lambda rows: b"".join(encode(row.tobytes()) for row in rows)


ENCODERS = {
    2: lambda rows: lzw(rows.tobytes(), 2),
    3: lambda rows: lzw(rows.tobytes(), 3),
    4: by_row(looking_ahead),
    5: by_row(joining),
}


def strip(seed: int) -> np.ndarray:
    """Return rows of noise of many kinds, with runs."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(rng.integers(1, 6)):
        values = rng.integers(0, rng.choice([1, 2, 3, 16, 256]), rng.integers(1, 9000))
        parts.append(np.repeat(values, rng.integers(1, rng.choice([2, 3, 5]), values.size)))
    flat = np.concatenate(parts).astype(np.uint8)
    width = int(rng.choice([1, 2, 37, 127, 128, 129, 130, 131, 300, 601]))
    return np.resize(flat, (max(1, flat.size // width), width))


@pytest.mark.parametrize("encoding", ENCODERS)
def test_encoders_of_the_text_give_the_known_answers(encoding: int) -> None:
    """No library is asked: the answers in the text are those of its rules."""
    i = np.arange(1 << 17, dtype=np.uint64)
    x = (i * 2654435761 % 2**32) >> 16
    probe = (((x >> 8) & (x >> 4) & 31) + i // 64 % 7 * 8).astype(np.uint8).reshape(256, 512)
    answer = f"{zlib.crc32(ENCODERS[encoding](probe)):08x}"
    assert re.search(rf"^\| {encoding} \| {answer} \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("seed", range(6))
def test_encoders_of_the_text_are_those_of_archiver(encoding: int, seed: int) -> None:
    """The rules of the text give what the libraries write."""
    rows = strip(seed)
    assert ENCODERS[encoding](rows) == encodings.replay(Recipe(Encoding(encoding)), rows)


@pytest.mark.parametrize("n", [1, 2, 7, 254, 255, 256, 509, 510, 511, 655, 1022, 3835, 3836, 3838])
def test_codes_end_where_their_width_changes(n: int) -> None:
    """Where the table is about to grow, or the last code ends a byte."""
    rng = np.random.default_rng(n)
    for _ in range(4):
        rows = rng.integers(0, rng.choice([2, 256]), (1, n)).astype(np.uint8)
        for encoding in (2, 3):
            assert ENCODERS[encoding](rows) == encodings.replay(Recipe(Encoding(encoding)), rows)
