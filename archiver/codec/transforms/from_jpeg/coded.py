"""The JPEG of a tile as coded coefficients: its header follows from size, mode and quality.

Layout (FORMAT.md, "From JPEG"; little-endian)::

    u2 height | u2 width | u1 quality, + 128 if chroma has table K.2 | stream
"""

from __future__ import annotations

import struct

import numpy as np

from archiver.codec.jpeg import planes, t81
from archiver.codec.jpeg.baseline import Header
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.transforms.from_jpeg import stream
from archiver.codec.transforms.from_jpeg.pixels import Coefficients, Ints, Mode
from archiver.errors import IntegrityError

_HEAD = struct.Struct("<HHB")
_HAS_CHROMA = 128


def encode(coefficients: Coefficients, state: ContextState) -> bytes:
    """Return what is stored of coefficients, b"" if their steps are no standard ones.

    ``state`` learns from it.
    """
    quality = _quality(coefficients.tables)
    if not quality:
        return b""
    room = len(stream.to_bytes(coefficients))
    ordered = stream.planes_of(coefficients)
    coded = planes.encode(
        ordered, _header(coefficients.mode, coefficients.shape, quality), state, room
    )
    return b"" if coded is None else _HEAD.pack(*coefficients.shape, quality) + coded


def decode(data: bytes, mode: Mode, room: tuple[int, int], state: ContextState) -> Coefficients:
    """Return the coefficients that :func:`encode` was given; IntegrityError if they do not decode.

    They may have no more rows and columns of samples than ``room``; ``state`` learns from them.
    """
    if len(data) < _HEAD.size:
        raise IntegrityError(f"tile rebuilt from a JPEG: {len(data)} bytes of coefficients")
    height, width, quality = _HEAD.unpack_from(data)
    stream.check_sides(mode, (height, width), room)
    if not 1 <= quality & ~_HAS_CHROMA <= 100:
        raise IntegrityError(f"tile rebuilt from a JPEG: quality {quality}")
    blocks = planes.decode(data[_HEAD.size :], _header(mode, (height, width), quality), state)
    coefficients = stream.coefficients_of(mode, blocks, _tables(quality))
    if not stream.is_codable(coefficients):
        raise IntegrityError("tile rebuilt from a JPEG: coefficients that no JPEG has")
    return coefficients


def _tables(quality: int) -> tuple[Ints, Ints]:
    of_others = t81.CHROMA if quality & _HAS_CHROMA else t81.LUMA
    scale = quality & ~_HAS_CHROMA
    return t81.steps(t81.LUMA, scale), t81.steps(of_others, scale)


def _quality(tables: tuple[Ints, Ints]) -> int:
    """Return what says both tables, 0 if nothing does."""
    for quality in t81.QUALITIES:
        for flag in (_HAS_CHROMA, 0):
            pair = zip(_tables(quality | flag), tables, strict=True)
            if all(np.array_equal(steps, known) for steps, known in pair):
                return quality | flag
    return 0


def _header(mode: Mode, shape: tuple[int, int], quality: int) -> Header:
    return Header.of(stream.header(mode, shape, _tables(quality)))
