"""What the payload of a tile rebuilt from a JPEG holds: the JPEG, its place, and the remainder.

Layout (FORMAT.md, "From JPEG"; little-endian)::

    u1 mode | u1 row | u1 column | 3 x u1 level | u4 length, JPEG as a JPEG tile's payload |
    u1 codec, payload

Differences are counted from a level of each channel, that of what is around the JPEG: so the rest
has no edges, and differences of -1 are no farther from 0 than those of 1.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archiver.codec.classic import Dtype, Shape
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.transforms.from_jpeg import coded, pixels, stream
from archiver.codec.transforms.from_jpeg.fit import Trace
from archiver.codec.transforms.from_jpeg.pixels import Coefficients, Mode
from archiver.errors import IntegrityError
from archiver.image import Samples

_HEADER = struct.Struct("<BBB3sI")
_NO_HEADER = bytes(3)  # of a JPEG tile's payload: nothing here is part of a file
_BARE = bytes([7]) + _NO_HEADER  # a form of its own: coefficients without the header of a JPEG
MOST_PLACE = 15  # row and column of the first whole MCU
_EXACT = 0.995  # share of samples beyond which the level is 0: then hardly a difference is left
Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class FromJpeg:
    """A JPEG in a tile: ``samples`` (h, w, C), what it decodes to, lie at ``row``, ``column``."""

    mode: Mode
    row: int
    column: int
    levels: bytes
    payload: bytes
    samples: Uint8

    @classmethod
    def of(cls, tile: Samples, jpegs: Sequence[Trace]) -> FromJpeg | None:
        """Return the one JPEG that was found in a tile, None if there are more or parts of one."""
        if len(jpegs) != 1 or not jpegs[0].is_plain:
            return None
        [trace] = jpegs
        payload = _payload(trace.coefficients)
        samples = pixels.decode(trace.coefficients)
        mode, no_levels = trace.coefficients.mode, bytes(3)
        plain = cls(mode, trace.row, trace.column, no_levels, payload, samples)
        inside = plain.forward(tile)[plain._place]
        if (inside == 0).mean() > _EXACT:
            return plain
        means = tile.reshape(-1, tile.shape[2]).mean(0).astype(np.uint8)
        return replace(plain, levels=means.tobytes().ljust(3, b"\0"))

    def inside(self, shape: Shape, dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the remainder: those of the tile."""
        return shape, dtype

    def forward(self, tile: Samples) -> Uint8:
        """Return the remainder of a tile: differences, modulo 256, and all that is around."""
        out = tile.astype(np.uint8)
        out[self._place] += self._level - self.samples
        return out

    def back(self, remainder: Samples, _dtype: Dtype | None = None) -> Uint8:
        """Return the tile of which ``remainder`` was left.

        IntegrityError if it is of another shape.
        """
        out = remainder.astype(np.uint8)
        if out.ndim != 3 or out[self._place].shape != self.samples.shape:
            raise IntegrityError(
                f"tile rebuilt from a JPEG: {self.samples.shape} samples in a tile of "
                f"{remainder.shape}"
            )
        out[self._place] += self.samples - self._level
        return out

    @property
    def _level(self) -> Uint8:
        return np.frombuffer(self.levels, np.uint8)[: self.mode.channels]

    @property
    def _place(self) -> tuple[slice, slice]:
        height, width = self.samples.shape[:2]
        return slice(self.row, self.row + height), slice(self.column, self.column + width)

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the remainder follows."""
        place = self.mode, self.row, self.column
        head = _HEADER.pack(*place, self.levels, len(self.payload))
        return head + self.payload + bytes([codec])

    @classmethod
    def split(cls, payload: bytes, shape: Shape, dtype: Dtype) -> tuple[FromJpeg, int, bytes]:
        """Return this, codec id and payload of the remainder of a tile.

        IntegrityError if it makes no sense.
        """
        check_type(shape, dtype)
        end = _end(payload)
        if end >= len(payload):
            raise IntegrityError(
                f"tile rebuilt from a JPEG: payload of {len(payload)} bytes, too few"
            )
        mode, row, column, levels, _ = _HEADER.unpack_from(payload)
        if mode not in Mode._value2member_map_ or max(row, column) > MOST_PLACE:
            raise IntegrityError(f"tile rebuilt from a JPEG: mode {mode} at {row}, {column}")
        kept, room = payload[_HEADER.size : end], (shape[0] - row, shape[1] - column)
        if Mode(mode).channels != shape[2]:
            raise IntegrityError(f"tile rebuilt from a JPEG: mode {mode} in a tile of {shape}")
        samples = pixels.decode(_coefficients(kept, Mode(mode), room))
        jpeg = cls(Mode(mode), row, column, levels, kept, samples)
        return jpeg, payload[end], payload[end + 1 :]

    @staticmethod
    def peek(payload: bytes | memoryview) -> tuple[int, int]:
        """Return the codec id of the remainder, -1 if none is there, and where it begins."""
        end = _end(payload)
        return (payload[end] if end < len(payload) else -1), end + 1


def check_type(shape: Shape, dtype: Dtype) -> None:
    """Raise IntegrityError for tiles that no JPEG decodes to."""
    if dtype != np.uint8 or shape[2] not in (1, 3):
        raise IntegrityError(f"tile rebuilt from a JPEG: of {shape} {dtype}")


def _payload(coefficients: Coefficients) -> bytes:
    """Return a JPEG as it is stored: bare coefficients, else as it is."""
    bare = coded.encode(coefficients, ContextState.fresh())
    if bare:
        return _BARE + bare
    return jpeg_tile.encode_as_is(jpeg_tile.as_tile(_NO_HEADER + stream.to_bytes(coefficients)))


def _coefficients(payload: bytes, mode: Mode, room: tuple[int, int]) -> Coefficients:
    """Return the coefficients of a stored JPEG of at most ``room`` rows and columns."""
    if payload.startswith(_BARE):
        return coded.decode(payload[len(_BARE) :], mode, room, ContextState.fresh())
    if not jpeg_tile.is_bounded(payload, room):
        raise IntegrityError(f"tile rebuilt from a JPEG: no plain JPEG of at most {room} in it")
    data = jpeg_tile.decode(payload)[len(_NO_HEADER) :]
    return stream.from_bytes(data, mode, room)


def _end(payload: bytes | memoryview) -> int:
    """Return where the codec id of the remainder is, which may be beyond the end."""
    if len(payload) < _HEADER.size:
        return len(payload)
    return _HEADER.size + int(_HEADER.unpack_from(payload)[-1])
