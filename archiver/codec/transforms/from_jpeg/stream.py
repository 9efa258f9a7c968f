"""The bytes of a baseline JPEG (T.81) made of coefficients, for payloads that hold one.

Its Huffman codes are of one length, for no transcoder keeps them: 4 bits for a category of
differences of DC, 8 for a run and a category of AC, in rising order.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg.baseline import Header, Parts, Planes
from archiver.codec.jpeg.t81 import SIDE, ZIGZAG, segment, steps_segment
from archiver.codec.transforms.from_jpeg.pixels import Coefficients, Ints, Mode
from archiver.errors import IntegrityError

MAX_SIDE = 1 << 12  # of a tile
MAX_COEFFICIENT = 1023  # magnitude
_DC = bytes(range(12))
_AC = bytes(sorted({16 * run + size for run in range(16) for size in range(1, 11)} | {0x00, 0xF0}))
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_ADOBE = b"Adobe\0\x64\0\0\0\0\0"  # no transform: channels are colours
_SAMPLING = {Mode.WIDE: 0x21, Mode.QUARTER: 0x22}


def is_codable(coefficients: Coefficients) -> bool:
    """Whether a baseline JPEG can hold these coefficients and steps."""
    most = max(int(np.abs(plane).max(initial=0)) for plane in coefficients.planes)
    steps = [int(table.max()) for table in coefficients.tables]
    return most <= MAX_COEFFICIENT and max(steps) <= 255 and max(coefficients.shape) <= MAX_SIDE


def to_bytes(coefficients: Coefficients) -> bytes:
    """Return the JPEG of coefficients that :func:`is_codable` accepts."""
    head = header(coefficients.mode, coefficients.shape, coefficients.tables)
    return Parts(head, Header.of(head), planes_of(coefficients), _EOI).to_bytes()


def from_bytes(stream: bytes, mode: Mode, room: tuple[int, int]) -> Coefficients:
    """Return the coefficients of a JPEG that :func:`to_bytes` wrote.

    IntegrityError if it did not, or if the JPEG has more rows or columns than ``room``.
    """
    try:
        tables, frame = _tables(stream, mode)
        height, width = struct.unpack_from(">HH", stream, frame + 5)
    except (struct.error, ValueError) as error:
        raise IntegrityError("tile rebuilt from a JPEG: a JPEG without a header") from error
    check_sides(mode, (height, width), room)
    if not stream.startswith(header(mode, (height, width), tables)):
        raise IntegrityError("tile rebuilt from a JPEG: a JPEG of another kind")
    try:
        parts = Parts.of(stream)
    except ValueError as error:
        raise IntegrityError("tile rebuilt from a JPEG: its code does not decode") from error
    if parts.after != _EOI:
        raise IntegrityError("tile rebuilt from a JPEG: a JPEG of another kind")
    return coefficients_of(mode, parts.planes, tables)


def check_sides(mode: Mode, shape: tuple[int, int], room: tuple[int, int]) -> None:
    """Refuse a JPEG that is not of whole MCUs, or larger than ``room``: IntegrityError."""
    down, across = (SIDE * factor for factor in mode.factors)
    (height, width), (most_height, most_width) = shape, room
    fits = 0 < height <= most_height and 0 < width <= most_width
    if not fits or height % down or width % across:
        raise IntegrityError(f"tile rebuilt from a JPEG: a JPEG of {height} x {width}")


def units(coefficients: Coefficients) -> NDArray[np.bool_]:
    """Return which units (MCUs) hold a coefficient that is not zero."""
    down, across = coefficients.mode.factors
    height, width = (
        n // SIDE // f for n, f in zip(coefficients.shape, coefficients.mode.factors, strict=True)
    )
    holds = np.zeros((height, width), np.bool_)
    for c, plane in enumerate(coefficients.planes):
        n_blocks = (1, 1) if c else (down, across)  # blocks in a unit
        by_unit = plane.reshape(height, n_blocks[0], width, n_blocks[1], -1)
        holds |= by_unit.any((1, 3, 4))
    return holds


def planes_of(coefficients: Coefficients) -> Planes:
    """Return the blocks of each component, zigzag order."""
    flat = [plane.reshape(*plane.shape[:2], -1)[..., ZIGZAG] for plane in coefficients.planes]
    return [np.ascontiguousarray(plane, np.int16) for plane in flat]


def coefficients_of(mode: Mode, planes: Planes, tables: tuple[Ints, Ints]) -> Coefficients:
    """Return what :func:`planes_of` was given."""
    in_rows = []
    for plane in planes:
        plain = np.empty(plane.shape, np.int64)
        plain[..., ZIGZAG] = plane
        in_rows.append(plain.reshape(*plane.shape[:2], SIDE, SIDE))
    return Coefficients(mode, tuple(in_rows), tables)


def header(mode: Mode, shape: tuple[int, int], tables: tuple[Ints, Ints]) -> bytes:
    """Return all that comes before the scan."""
    kinds = 1 if mode is Mode.GREY else 2
    parts = [_SOI]
    if mode is Mode.RGB:
        parts.append(segment(0xEE, _ADOBE))
    for number, table in enumerate(tables[:kinds]):
        parts.append(steps_segment(number, table))
    n = mode.channels
    sampling = [_SAMPLING.get(mode, 0x11)] + [0x11] * (n - 1)
    frame = struct.pack(">BHHB", 8, *shape, n)
    frame += b"".join(bytes([c + 1, sampling[c], min(c, 1)]) for c in range(n))
    scan = bytes([n]) + b"".join(bytes([c + 1, 0]) for c in range(n)) + b"\0\x3f\0"
    lengths_dc = bytes(len(_DC) if bits == 4 else 0 for bits in range(1, 17))
    lengths_ac = bytes(len(_AC) if bits == 8 else 0 for bits in range(1, 17))
    parts += [segment(0xC0, frame), segment(0xC4, b"\0" + lengths_dc + _DC)]
    parts += [segment(0xC4, b"\x10" + lengths_ac + _AC), segment(0xDA, scan)]
    return b"".join(parts)


def _tables(stream: bytes, mode: Mode) -> tuple[tuple[Ints, Ints], int]:
    """Return the steps that a header states, one table or two, and where they end."""
    tables = []
    at = len(_SOI) + (len(segment(0xEE, _ADOBE)) if mode is Mode.RGB else 0)
    for _ in range(1 if mode is Mode.GREY else 2):
        steps = np.zeros(SIDE * SIDE, np.int64)
        steps[ZIGZAG] = np.frombuffer(stream[at + 5 : at + 5 + SIDE * SIDE], np.uint8)
        tables.append(steps.reshape(SIDE, SIDE))
        at += 5 + SIDE * SIDE
    return (tables[0], tables[-1]), at
