"""Tiles that are coded by the order of their samples: ranks and a table, or high and low bits.

A CT with a slope in float32, an index computed of two bands, temperatures in steps of 0.02: a tile
has some thousand different values, and neighbours are near each other in the *order* of these
values.  The codecs for 8 and 16 bits take the ranks, and a table says what they mean.  Where there
are too many values for that, the codecs take the high bits of the samples' numbers, or of what a
plain prediction leaves of these; the low bits go along in pieces.

FORMAT.md, "Ordered tiles".
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from archiver.codec.classic import Dtype, Shape
from archiver.codec.transforms import order_search
from archiver.codec.transforms.order_forms import Form, Split, Table, is_possible
from archiver.codec.transforms.order_search import Guess
from archiver.codec.transforms.ordinals import Ordinals
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.errors import IntegrityError
from archiver.image import Samples

_HEADER = struct.Struct("<BBBI")
_CODEC_AT = 2


@dataclass(frozen=True)
class Ordered:
    """How numbers of 8 or 16 bits stand for the samples of a tile."""

    samples: Ordinals
    how: Table | Split
    stored: bytes  # as which ``how`` is kept

    @property
    def dtype(self) -> Dtype:
        """Type of the numbers."""
        return np.dtype(f"u{self.how.n_bytes}")

    @property
    def is_for_models(self) -> bool:
        """Whether the numbers are like what models are trained on: high bits are not."""
        return isinstance(self.how, Table)

    @classmethod
    def of(cls, guess: Guess) -> Ordered:
        """Return what was found for a tile."""
        return cls(guess.samples, guess.how, guess.stored)

    @classmethod
    def find(
        cls, tile: Samples, scaled: tuple[ScaleOffset, Samples] | None = None
    ) -> tuple[Ordered, Samples] | None:
        """Return this and the numbers that promise to be the smallest for a tile.

        None if its own numbers or others do; ``scaled`` are such, with what they take to say.
        """
        rival = (len(scaled[0].to_bytes(0)), scaled[1]) if scaled else None
        guess = order_search.find(tile, rival)
        return (cls.of(guess), guess.numbers) if guess else None

    def to_bytes(self, codec: int) -> bytes:
        """Return what a payload begins with; that of ``codec`` for the numbers follows."""
        header = _HEADER.pack(self.how.form, self.samples.zeros, codec, len(self.stored))
        return header + self.stored

    @classmethod
    def split(cls, payload: bytes, shape: Shape, dtype: Dtype) -> tuple[Ordered, int, bytes]:
        """Return this, codec id and payload of the numbers of a tile (H, W, C).

        IntegrityError if it makes no sense.
        """
        if len(payload) < _HEADER.size:
            raise IntegrityError(f"ordered tile: payload of {len(payload)} bytes, expected more")
        form, zeros, codec, length = _HEADER.unpack_from(payload)
        end = _HEADER.size + length
        n_samples = math.prod(shape)
        is_sound = zeros < 8 * dtype.itemsize and end <= len(payload)
        if not is_sound or not is_possible(dtype, n_samples) or form not in list(Form):
            raise IntegrityError(
                f"ordered tile of {shape} {dtype}: impossible form {form}, {zeros} zeros, "
                f"{length} bytes"
            )
        samples, data = Ordinals(dtype, zeros), payload[_HEADER.size : end]
        how: Table | Split
        if form == Form.RANKS:
            how = Table.from_bytes(data, samples, n_samples)
        else:
            how = Split.from_bytes(data, Form(form), samples, shape)
        return cls(samples, how, data), codec, payload[end:]

    @staticmethod
    def peek(payload: bytes | memoryview) -> tuple[int, int]:
        """Return the codec id of the numbers, -1 if none is there, and where they begin."""
        if len(payload) < _HEADER.size:
            return (payload[_CODEC_AT] if len(payload) > _CODEC_AT else -1), len(payload)
        return payload[_CODEC_AT], _HEADER.size + int(_HEADER.unpack_from(payload)[-1])

    def inside(self, shape: Shape, _dtype: Dtype) -> tuple[Shape, Dtype]:
        """Return shape and type of the numbers."""
        return shape, self.dtype

    def forward(self, tile: Samples) -> Samples:
        """Return the numbers that stand for samples."""
        return self.how.numbers(self.samples.numbers(tile), self.samples.bits)

    def back(self, numbers: Samples, dtype: Dtype) -> Samples:
        """Return the samples, of type ``dtype``, that numbers stand for."""
        return self.samples.samples(self.how.ordinals(numbers, self.samples.bits)).view(dtype)
