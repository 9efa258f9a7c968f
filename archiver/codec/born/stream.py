"""Own the bytes of a baseline JPEG (T.81) made of coefficients: what libjxl is given to transcode.

Its Huffman codes are of one length, for a transcoder does not look at them: 4 bits for a category
of differences of DC, 8 for a run and a category of AC, in rising order.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.born.pixels import Coefficients, Ints, Mode
from archiver.codec.dct.standard import SIDE, ZIGZAG
from archiver.compiled import compiled
from archiver.errors import IntegrityError

MAX_SIDE = 1 << 12  # of a tile
MAX_COEFFICIENT, MAX_DC = 1023, 1023  # magnitudes
_DC = bytes(range(12))
_AC = bytes(sorted({16 * run + size for run in range(16) for size in range(1, 11)} | {0x00, 0xF0}))
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_ADOBE = b"Adobe\0\x64\0\0\0\0\0"  # no transform: channels are colours
_SAMPLING = {Mode.WIDE: 0x21, Mode.QUARTER: 0x22}
Bytes = NDArray[np.uint8]


def is_codable(found: Coefficients) -> bool:
    """Whether a baseline JPEG can hold these coefficients and steps."""
    most = max(int(np.abs(plane).max(initial=0)) for plane in found.planes)
    steps = [int(table.max()) for table in found.tables]
    return most <= MAX_COEFFICIENT and max(steps) <= 255 and max(found.shape) <= MAX_SIDE


def to_bytes(found: Coefficients) -> bytes:
    """Return the JPEG of coefficients that :func:`is_codable` accepts."""
    blocks, components = _interleaved(found)
    out = np.empty(blocks.size * 6 + 64, np.uint8)
    size = _write(blocks, components, _code_of(_AC), out)
    return header(found.mode, found.shape, found.tables) + out[:size].tobytes() + _EOI


def from_bytes(stream: bytes, mode: Mode, room: tuple[int, int]) -> Coefficients:
    """Return the coefficients of a JPEG that :func:`to_bytes` wrote.

    IntegrityError if it did not, or if the JPEG has more rows or columns than ``room``.
    """
    try:
        tables, frame = _tables(stream, mode)
        height, width = struct.unpack_from(">HH", stream, frame + 5)
    except (struct.error, ValueError) as error:
        raise IntegrityError("tile born as JPEG: a JPEG without a header") from error
    down, across = (SIDE * factor for factor in mode.factors)
    if not (0 < height <= room[0] and 0 < width <= room[1]) or height % down or width % across:
        raise IntegrityError(f"tile born as JPEG: a JPEG of {height} x {width}")
    head = header(mode, (height, width), tables)
    if not stream.startswith(head) or not stream.endswith(_EOI):
        raise IntegrityError("tile born as JPEG: a JPEG of another kind")
    n_mcus = height // down * (width // across)
    components = np.tile(_components(mode), n_mcus)
    blocks = np.zeros((len(components), SIDE * SIDE), np.int64)
    symbols = np.frombuffer(_AC, np.uint8).astype(np.int64)
    scan = np.frombuffer(stream, np.uint8)[len(head) : -len(_EOI)]
    if not _read(scan, components, symbols, blocks):
        raise IntegrityError("tile born as JPEG: its code does not decode")
    return Coefficients(mode, _planes(blocks, mode, (height, width)), tables)


def header(mode: Mode, shape: tuple[int, int], tables: tuple[Ints, Ints]) -> bytes:
    """Return all that comes before the scan."""
    kinds = 1 if mode is Mode.GREY else 2
    parts = [_SOI]
    if mode is Mode.RGB:
        parts.append(_segment(0xEE, _ADOBE))
    for number, table in enumerate(tables[:kinds]):
        steps = table.reshape(-1)[ZIGZAG].astype(np.uint8).tobytes()
        parts.append(_segment(0xDB, bytes([number]) + steps))
    n = mode.channels
    sampling = [_SAMPLING.get(mode, 0x11)] + [0x11] * (n - 1)
    frame = struct.pack(">BHHB", 8, *shape, n)
    frame += b"".join(bytes([c + 1, sampling[c], min(c, 1)]) for c in range(n))
    scan = bytes([n]) + b"".join(bytes([c + 1, 0]) for c in range(n)) + b"\0\x3f\0"
    lengths_dc = bytes(len(_DC) if bits == 4 else 0 for bits in range(1, 17))
    lengths_ac = bytes(len(_AC) if bits == 8 else 0 for bits in range(1, 17))
    parts += [_segment(0xC0, frame), _segment(0xC4, b"\0" + lengths_dc + _DC)]
    parts += [_segment(0xC4, b"\x10" + lengths_ac + _AC), _segment(0xDA, scan)]
    return b"".join(parts)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _tables(stream: bytes, mode: Mode) -> tuple[tuple[Ints, Ints], int]:
    """Return the steps that a header states, one table or two, and where they end."""
    found = []
    at = len(_SOI) + (len(_segment(0xEE, _ADOBE)) if mode is Mode.RGB else 0)
    for _ in range(1 if mode is Mode.GREY else 2):
        steps = np.zeros(SIDE * SIDE, np.int64)
        steps[ZIGZAG] = np.frombuffer(stream[at + 5 : at + 5 + SIDE * SIDE], np.uint8)
        found.append(steps.reshape(SIDE, SIDE))
        at += 5 + SIDE * SIDE
    return (found[0], found[-1]), at


def _components(mode: Mode) -> NDArray[np.int64]:
    """Return the component of each block of an MCU."""
    down, across = mode.factors
    return np.array([0] * (down * across) + [1, 2][: 2 * (mode is not Mode.GREY)], np.int64)


def _interleaved(found: Coefficients) -> tuple[Ints, NDArray[np.int64]]:
    """Return all blocks (n, 64) in zigzag order, MCU by MCU, and the component of each."""
    parts = []
    for c, plane in enumerate(found.planes):
        down, across = (1, 1) if c else found.mode.factors
        rows, columns = plane.shape[0] // down, plane.shape[1] // across
        flat = plane.reshape(rows, down, columns, across, -1)[..., ZIGZAG]
        parts.append(flat.transpose(0, 2, 1, 3, 4).reshape(rows * columns, down * across, -1))
    blocks = np.concatenate(parts, 1)
    components = np.tile(_components(found.mode), len(blocks))
    return np.ascontiguousarray(blocks.reshape(-1, SIDE * SIDE)), components


def _planes(blocks: Ints, mode: Mode, shape: tuple[int, int]) -> tuple[Ints, ...]:
    """Return the planes that `_interleaved` took."""
    down, across = mode.factors
    rows, columns = shape[0] // (SIDE * down), shape[1] // (SIDE * across)
    mcus, planes, at = blocks.reshape(rows * columns, -1, SIDE * SIDE), [], 0
    for c in range(mode.channels):
        high, wide = (1, 1) if c else (down, across)
        part = mcus[:, at : at + high * wide].reshape(rows, columns, high, wide, -1)
        plain = np.empty_like(part)
        plain[..., ZIGZAG] = part
        ordered = plain.transpose(0, 2, 1, 3, 4)
        planes.append(ordered.reshape(rows * high, columns * wide, SIDE, SIDE))
        at += high * wide
    return tuple(planes)


def _code_of(symbols: bytes) -> NDArray[np.int64]:
    """Return the code of each symbol, by its value."""
    codes = np.zeros(256, np.int64)
    codes[np.frombuffer(symbols, np.uint8)] = np.arange(len(symbols))
    return codes


@compiled
def _category(value: int) -> Any:
    magnitude, bits = abs(value), 0
    while magnitude:
        magnitude >>= 1
        bits += 1
    return bits


@compiled
def _put(state: Any, out: Bytes, value: int, bits: int) -> None:
    """Append bits; ``state`` holds those that wait, how many, and where the next byte goes."""
    state[0] = (state[0] << bits) | (value & ((1 << bits) - 1))
    state[1] += bits
    while state[1] >= 8:
        state[1] -= 8
        byte = (state[0] >> state[1]) & 0xFF
        state[0] &= (1 << state[1]) - 1
        out[state[2]] = byte
        state[2] += 1
        if byte == 0xFF:
            out[state[2]] = 0
            state[2] += 1


@compiled
def _write(blocks: Ints, components: Any, codes: Any, out: Bytes) -> Any:
    """Write the scan of blocks (n, 64); return its size."""
    state, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for n in range(len(blocks)):
        component = components[n]
        value = blocks[n, 0] - last[component]
        last[component] = blocks[n, 0]
        size = _category(value)
        _put(state, out, size, 4)
        _put(state, out, value if value > 0 else value - 1, size)
        run = 0
        for k in range(1, 64):
            value = blocks[n, k]
            if value == 0:
                run += 1
                continue
            while run > 15:
                _put(state, out, codes[0xF0], 8)
                run -= 16
            size = _category(value)
            _put(state, out, codes[16 * run + size], 8)
            _put(state, out, value if value > 0 else value - 1, size)
            run = 0
        if run:
            _put(state, out, codes[0], 8)
    if state[1]:
        _put(state, out, 0x7F, 8 - state[1])
    return state[2]


@compiled
def _take(scan: Bytes, state: Any, bits: int) -> Any:
    """Read bits; -1 beyond the end."""
    while state[1] < bits:
        if state[2] >= scan.size:
            return -1
        byte = int(scan[state[2]])
        state[2] += 1
        if byte == 0xFF:
            if state[2] >= scan.size or scan[state[2]] != 0:
                return -1
            state[2] += 1
        state[0] = (state[0] << 8) | byte
        state[1] += 8
    state[1] -= bits
    value = state[0] >> state[1]
    state[0] &= (1 << state[1]) - 1
    return value


@compiled
def _signed(value: int, size: int) -> Any:
    return value if size == 0 or value >> (size - 1) else value - (1 << size) + 1


@compiled
def _read(scan: Bytes, components: Any, symbols: Any, blocks: Ints) -> Any:
    """Fill blocks (n, 64) of zeros from a scan; return whether it could be read."""
    state, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for n in range(len(blocks)):
        size = _take(scan, state, 4)
        if size < 0 or size > 11:
            return False
        value = _take(scan, state, size)
        if value < 0:
            return False
        component = components[n]
        last[component] += _signed(value, size)
        blocks[n, 0] = last[component]
        k = 1
        while k < 64:
            code = _take(scan, state, 8)
            if code < 0 or code >= symbols.size:
                return False
            symbol = symbols[code]
            if symbol == 0:
                break
            size = symbol & 15
            k += symbol >> 4
            if k > 63:
                return False
            if size:
                value = _take(scan, state, size)
                if value < 0:
                    return False
                blocks[n, k] = _signed(value, size)
            k += 1
    return state[2] == scan.size and state[1] < 8
