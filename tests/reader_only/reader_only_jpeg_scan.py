"""The scan of a baseline JPEG from coded coefficients, in Python's integers."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from reader_only_jpeg_blocks import ZIGZAG, Block, Plane, Values
from reader_only_jpeg_coder import Coder

Codes = dict[int, str]  # of the symbols of a Huffman table, in zeros and ones


def scan_of(head: bytes, coder: Coder, most: int) -> bytes:
    """Return the scan that T.81 writes of the coefficients; head: the JPEG's bytes before it."""
    held: dict[int, bytes] = {}  # what segments of a kind hold, together
    for segment in segments(head):
        held[segment[1]] = held.get(segment[1], b"") + segment[4:]
    frame = held.get(0xC0) or held[0xC1]
    factors = [(x & 15, x >> 4) if frame[5] > 1 else (1, 1) for x in frame[7::3]]
    sides = struct.unpack(">HH", frame[1:5])
    high, wide = (-(-s // (8 * max(f[i] for f in factors))) for i, s in enumerate(sides))
    steps, planes = steps_of(held[0xDB]), list[Plane]()
    for (v, h), i in zip(factors, frame[8::3], strict=True):
        planes.append(Plane(planes[:], high * v, wide * h, steps[i]))
        for row in range(high * v):
            for column in range(wide * h):
                Block(planes[-1], row, column).read(coder)
        assert all(abs(x) <= most for block in planes[-1].blocks.values() for x in block)
    codes = codes_of(held[0xC4])
    tables = [(codes[x >> 4], codes[16 + (x & 15)]) for x in held[0xDA][2:-3:2]]
    mcus = [(row, column) for row in range(high) for column in range(wide)]
    step, out = int.from_bytes(held.get(0xDD, b""), "big") or len(mcus), b""
    for start in range(0, len(mcus), step):
        out += bytes([0xFF, 0xD0 + (start // step - 1) % 8]) if start else b""
        bits = interval_bits(planes, factors, tables, mcus[start : start + step])
        out += int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return out


def segments(data: bytes) -> Iterator[bytes]:
    """Yield the segments after SOI, SOS last."""
    at, marker = 2, 0
    while marker != 0xDA:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker != 0xFF:
            yield data[at:end]
        at = end if marker != 0xFF else at + 1


def steps_of(data: bytes) -> dict[int, Values]:
    """Return the steps of the tables of DQT, row by row."""
    steps = {}
    while data:
        table, kind = [0] * 64, "H" if data[0] >> 4 else "B"
        size = struct.calcsize(f">64{kind}")
        for (v, u), step in zip(ZIGZAG, struct.unpack_from(f">64{kind}", data, 1), strict=True):
            table[8 * v + u] = step
        steps[data[0] & 15], data = table, data[1 + size :]
    return steps


def codes_of(data: bytes) -> dict[int, Codes]:
    """Return the codes of the tables of DHT."""
    codes = {}
    while data:
        table, code, at = dict[int, str](), 0, 17
        for n in range(1, 17):
            for symbol in data[at : at + data[n]]:
                table[symbol] = f"{code:0{n}b}"
                code += 1
            at, code = at + data[n], 2 * code
        codes[data[0]], data = table, data[at:]
    return codes


def interval_bits(
    planes: list[Plane],
    factors: list[tuple[int, int]],
    tables: list[tuple[Codes, Codes]],
    mcus: list[tuple[int, int]],
) -> str:
    """Return the bits of some MCUs that start from fresh predictions, padded with ones."""
    bits, guess = "", [0] * 4
    for row, column in mcus:
        for c, (plane, (v, h)) in enumerate(zip(planes, factors, strict=True)):
            for y in range(v):
                for x in range(h):
                    block = plane.blocks[row * v + y, column * h + x]
                    bits += block_bits(block[0] - guess[c], block, *tables[c])
                    guess[c] = block[0]
    return bits + "1" * (-len(bits) % 8)


def block_bits(dc: int, block: Values, *tables: Codes) -> str:
    """Return a block's bits; dc: what is left of it."""
    bits, run = "", 0
    for k, value in enumerate([dc, *(block[8 * v + u] for v, u in ZIGZAG[1:])]):
        if value or not k:
            size, table = abs(value).bit_length(), tables[min(k, 1)]
            bits += "".join(table[0xF0] for _ in range(run // 16)) + table[run % 16 * 16 + size]
            bits += f"{value + (value < 0) * (2**size - 1):0{size}b}" if size else ""
        run = 0 if value or not k else run + 1
    return bits + (tables[1][0] if run else "")
