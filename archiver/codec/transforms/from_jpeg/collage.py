"""What the payload of a tile holds that was put together of JPEGs: them, and the remainder.

Layout (FORMAT.md, "From several JPEGs"; little-endian)::

    u1 n | 3 x u1 level | n times: u1 mode, u2 row, u2 column, u4 length | n times coefficients |
    u1 codec, payload

The JPEGs of a tile learn from each other: one `ContextState` codes them all.  Units (MCUs) of zeros
are not part of them, so that a JPEG may have any outline.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.classic import Dtype, Shape
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.jpeg.t81 import SIDE
from archiver.codec.transforms.from_jpeg import coded, pixels, stream, traces
from archiver.codec.transforms.from_jpeg.fit import Mask, Trace, Uint8
from archiver.codec.transforms.from_jpeg.pixels import Coefficients, Mode
from archiver.codec.transforms.from_jpeg.tile import FromJpeg, check_type
from archiver.errors import IntegrityError
from archiver.image import Samples

MOST_JPEGS = 8
_HEAD, _EACH = struct.Struct("<B3s"), struct.Struct("<BHHI")
_EXACT = 0.995  # share of samples that come out, beyond which the level is 0
_FULL = 0.9  # share of the tile that JPEGs cover, likewise


@dataclass(frozen=True)
class Piece:
    """One JPEG of a collage: ``samples`` (h, w, C) at ``row``, ``column``, where it ``holds``."""

    mode: Mode
    row: int
    column: int
    payload: bytes
    samples: Uint8
    holds: Mask

    @classmethod
    def of(cls, coefficients: Coefficients, row: int, column: int, payload: bytes) -> Piece:
        """Return what coefficients decode to."""
        unit = tuple(SIDE * factor for factor in coefficients.mode.factors)
        holds = np.kron(stream.units(coefficients), np.ones(unit, np.bool_))
        return cls(coefficients.mode, row, column, payload, pixels.decode(coefficients), holds)

    def place(self, tile: NDArray[Any]) -> NDArray[Any]:
        """Return the part of a tile that it lies in, a view; IntegrityError if it is too small."""
        height, width = self.samples.shape[:2]
        covered = tile[self.row : self.row + height, self.column : self.column + width]
        if covered.shape[:2] != (height, width):
            raise IntegrityError(
                f"tile of JPEGs: {self.samples.shape} samples at {self.row}, {self.column} "
                f"of {tile.shape}"
            )
        return covered


@dataclass(frozen=True)
class FromJpegs:
    """The JPEGs of a tile, in their order."""

    pieces: tuple[Piece, ...]
    levels: bytes = bytes(3)

    @classmethod
    def find(cls, tile: Samples) -> tuple[FromJpeg | FromJpegs, Samples] | None:
        """Return the JPEGs of a tile (H, W, C) of uint8, C 1 or 3, and the remainder.

        As a `FromJpeg` where it is one whole JPEG; None if there are none.
        """
        traced = traces.find(tile.astype(np.uint8, copy=False))
        jpegs = FromJpeg.of(tile, traced) or cls.of(tile, traced)
        return (jpegs, jpegs.forward(tile)) if jpegs else None

    @classmethod
    def of(cls, tile: Samples, jpegs: Sequence[Trace]) -> FromJpegs | None:
        """Return the JPEGs that were found in a tile, None if they cannot be stored."""
        pieces, state = [], ContextState.fresh()
        for trace in jpegs[:MOST_JPEGS]:
            trial = state.copy()
            if payload := coded.encode(trace.coefficients, trial):
                pieces.append(Piece.of(trace.coefficients, trace.row, trace.column, payload))
                state = trial
        return cls(tuple(pieces))._levelled(tile) if pieces else None

    def _levelled(self, tile: Samples) -> FromJpegs:
        """Return it with the levels that leave no edges, if there is something to leave."""
        remainder, is_around = self.forward(tile), np.ones(tile.shape[:2], np.bool_)
        for piece in self.pieces:
            piece.place(is_around)[piece.holds] = False
        if (remainder[~is_around] == 0).mean() > _EXACT and is_around.mean() < 1 - _FULL:
            return self
        around = tile[is_around] if is_around.any() else tile.reshape(-1, tile.shape[2])
        means = around.mean(0).astype(np.uint8)
        return FromJpegs(self.pieces, means.tobytes().ljust(3, b"\0"))

    def inside(self, shape: Shape, dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the remainder: those of the tile."""
        return shape, dtype

    def forward(self, tile: Samples) -> Uint8:
        """Return the remainder of a tile: differences, modulo 256, and all that is around."""
        out = tile.astype(np.uint8)
        for piece in self.pieces:
            piece.place(out)[piece.holds] -= self._above_level(piece)
        return out

    def back(self, remainder: Samples, _dtype: Dtype | None = None) -> Uint8:
        """Return the tile of which ``remainder`` was left.

        IntegrityError if it is of another shape.
        """
        out = remainder.astype(np.uint8)
        for piece in self.pieces:
            piece.place(out)[piece.holds] += self._above_level(piece)
        return out

    def _above_level(self, piece: Piece) -> Uint8:
        level = np.frombuffer(self.levels, np.uint8)[: piece.mode.channels]
        above: Uint8 = (piece.samples - level)[piece.holds]
        return above

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the remainder follows."""
        heads = [_EACH.pack(p.mode, p.row, p.column, len(p.payload)) for p in self.pieces]
        head = _HEAD.pack(len(self.pieces), self.levels) + b"".join(heads)
        return head + b"".join(p.payload for p in self.pieces) + bytes([codec])

    @classmethod
    def split(cls, payload: bytes, shape: Shape, dtype: Dtype) -> tuple[FromJpegs, int, bytes]:
        """Return this, codec id and payload of the remainder of a tile.

        IntegrityError if it makes no sense.
        """
        check_type(shape, dtype)
        end = _end(payload)
        if end >= len(payload):
            raise IntegrityError(f"tile of JPEGs: payload of {len(payload)} bytes, too few")
        n, levels = _HEAD.unpack_from(payload)
        if not 1 <= n <= MOST_JPEGS:
            raise IntegrityError(f"tile of JPEGs: {n} of them, expected 1 to {MOST_JPEGS}")
        start, pieces, state = _HEAD.size + n * _EACH.size, [], ContextState.fresh()
        for i in range(n):
            mode, row, column, length = _EACH.unpack_from(payload, _HEAD.size + i * _EACH.size)
            if mode not in Mode._value2member_map_ or Mode(mode).channels != shape[2]:
                raise IntegrityError(f"tile of JPEGs: mode {mode} in a tile of {shape}")
            room, data = (shape[0] - row, shape[1] - column), payload[start : start + length]
            decoded = coded.decode(data, Mode(mode), room, state)
            pieces.append(Piece.of(decoded, row, column, data))
            start += length
        return cls(tuple(pieces), levels), payload[end], payload[end + 1 :]

    @staticmethod
    def peek(payload: bytes | memoryview) -> tuple[int, int]:
        """Return the codec id of the remainder, -1 if none is there, and where it begins."""
        end = _end(payload)
        return (payload[end] if end < len(payload) else -1), end + 1


def _end(payload: bytes | memoryview) -> int:
    """Return where the codec id of the remainder is, which may be beyond the end."""
    n = payload[0] if payload else 0
    start = _HEAD.size + n * _EACH.size
    if len(payload) < start:
        return len(payload)
    lengths = (_EACH.unpack_from(payload, _HEAD.size + i * _EACH.size)[-1] for i in range(n))
    return start + sum(int(length) for length in lengths)
