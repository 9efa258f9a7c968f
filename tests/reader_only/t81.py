"""Baseline JPEG as T.81 has it: segments, Huffman codes, the scan of given coefficients.

For tests that read formats from their text: nothing of archiver is in it.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator

from PIL import Image

Place = tuple[int, int]  # vertical and horizontal frequency
Block = dict[Place, int]  # coefficients
ZIGZAG = sorted(
    itertools.product(range(8), repeat=2), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1])
)


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments after SOI, up to SOS."""
    at, marker = 2, 0
    while marker != 0xDA:
        at += len(data[at + 1 :]) - len(data[at + 1 :].lstrip(b"\xff"))  # fill bytes
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : end]
        at = end


def dictionary() -> bytes:
    """Return tables of all qualities, a JFIF header, and the Huffman tables K.3, K.5, K.4, K.6."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=50)
    found = list(segments(stream.getvalue()))
    out = b""
    for q in range(1, 101):
        p = 5000 // q if q < 50 else 200 - 2 * q
        for number, table in enumerate(body[1:] for marker, body in found if marker == 0xDB):
            scaled = [min(max((s * p + 50) // 100, 1), 255) for s in table]
            out += bytes([0xFF, 0xDB, 0, 67, number, *scaled])
    out += bytes.fromhex("FFD8FFE000104A46494600010100000100010000")
    huffman = (body for marker, body in found if marker == 0xC4)
    return out + b"".join(struct.pack(">HH", 0xFFC4, len(body) + 2) + body for body in huffman)


class Frame:
    """What the segments before a scan say; without restarts."""

    def __init__(self, head: bytes) -> None:
        tables: dict[int, list[int]] = {}
        codes: dict[int, dict[int, str]] = {}
        for marker, body in segments(head):
            while marker == 0xDB and body:
                kind, size = ("B", 64) if body[0] < 16 else ("H", 128)
                tables[body[0] & 15] = list(struct.unpack(f">64{kind}", body[1 : 1 + size]))
                body = body[1 + size :]
            while marker == 0xC4 and body:
                codes[body[0]], body = _huffman(body)
            if marker in (0xC0, 0xC1):
                frame = body
            if marker == 0xDA:
                self.codes = [(codes[x >> 4], codes[16 + (x & 15)]) for x in body[2:-3:2]]
        self.steps = [tables[number] for number in frame[8::3]]
        self.factors = [(x & 15, x >> 4) if frame[5] > 1 else (1, 1) for x in frame[7::3]]
        sides = struct.unpack(">HH", frame[1:5])
        self.mcus = [-(-s // (8 * max(f[i] for f in self.factors))) for i, s in enumerate(sides)]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of blocks of each component."""
        return [(self.mcus[0] * down, self.mcus[1] * across) for down, across in self.factors]

    def scan(self, planes: list[dict[Place, Block]]) -> bytes:
        """Return the scan of the blocks of each component, by row and column."""
        bits, guess = "", [0] * len(planes)
        for row, column in itertools.product(*map(range, self.mcus)):
            for i, (down, across) in enumerate(self.factors):
                for y, x in itertools.product(range(down), range(across)):
                    block = planes[i][row * down + y, column * across + x]
                    values = [block.get(place, 0) for place in ZIGZAG]
                    bits += _block_bits([values[0] - guess[i], *values[1:]], *self.codes[i])
                    guess[i] = values[0]
        bits += "1" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def _huffman(body: bytes) -> tuple[dict[int, str], bytes]:
    """Return the codes of a table, and what follows it."""
    code, at, found = 0, 17, {}
    for bits in range(1, 17):
        for _ in range(body[bits]):
            found[body[at]] = f"{code:0{bits}b}"
            code, at = code + 1, at + 1
        code <<= 1
    return found, body[at:]


def _block_bits(values: list[int], dc: dict[int, str], ac: dict[int, str]) -> str:
    out, run = "", 0
    for k, value in enumerate(values):
        if k and not value:
            run += 1
            continue
        size = abs(value).bit_length()
        out += "".join(ac[0xF0] for _ in range(run // 16))
        out += ac[run % 16 * 16 + size] if k else dc[size]
        out += f"{value + (value < 0) * (2**size - 1):0{size}b}" if size else ""
        run = 0
    return out + (ac[0] if run else "")
