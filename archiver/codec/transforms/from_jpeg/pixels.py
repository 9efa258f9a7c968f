"""The decoding of JPEG coefficients to samples: exactly what libjpeg's default decoder gives.

The inverse transform is the integer one of Loeffler, Ligtenberg and Moschytz (1989) as in libjpeg's
``jidctint.c``, chroma is enlarged by its triangle filter ("fancy upsampling"), colour converted in
16-bit fixed point.  All in integers: the same on every machine
(FORMAT.md, "From JPEG").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg.t81 import SIDE

Ints = NDArray[np.int64]
MIDDLE, MOST = 128, 255
_FRACTION, _PASS = 13, 2  # bits of the constants, and kept between the two passes


class Mode(IntEnum):
    """Colour and subsampling; on-disk ids, append only."""

    GREY = 0
    FULL = 1  # Y, Cb, Cr of one size
    WIDE = 2  # chroma of half the width
    QUARTER = 3  # of half the width and height
    RGB = 4  # channels as they are

    @property
    def channels(self) -> int:
        """Components, and channels of the samples."""
        return 1 if self is Mode.GREY else 3

    @property
    def factors(self) -> tuple[int, int]:
        """How many rows and columns of samples one of chroma stands for."""
        return {Mode.WIDE: (1, 2), Mode.QUARTER: (2, 2)}.get(self, (1, 1))


@dataclass(frozen=True)
class Coefficients:
    """Quantised coefficients of a JPEG of whole MCUs.

    ``planes`` are (rows, columns, 8, 8) blocks of each component, ``tables`` (8, 8) the steps of
    the first component and of the others.
    """

    mode: Mode
    planes: tuple[Ints, ...]
    tables: tuple[Ints, Ints]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of samples."""
        rows, columns = self.planes[0].shape[:2]
        return rows * SIDE, columns * SIDE


def decode(coefficients: Coefficients) -> NDArray[np.uint8]:
    """Return the samples (H, W, C)."""
    first, *others = (
        component(plane, coefficients.tables[min(c, 1)])
        for c, plane in enumerate(coefficients.planes)
    )
    if not others:
        return first[..., None].astype(np.uint8)
    if coefficients.mode is Mode.RGB:
        return np.stack([first, *others], -1).astype(np.uint8)
    blue, red = (enlarged(plane, coefficients.mode) for plane in others)
    return _to_rgb(first, blue, red)


def component(blocks: Ints, table: Ints) -> Ints:
    """Return the samples (H, W) of a component's blocks (rows, columns, 8, 8)."""
    clipped: Ints = np.clip(unclipped(blocks, table), 0, MOST)
    return clipped


def unclipped(blocks: Ints, table: Ints) -> Ints:
    """Return them as they are before the range is looked at."""
    values = (blocks * table).astype(np.int64)
    columns = _inverse(np.swapaxes(values, -1, -2), _FRACTION - _PASS)
    samples = _inverse(np.swapaxes(columns, -1, -2), _FRACTION + _PASS + 3) + MIDDLE
    rows, across = blocks.shape[:2]
    return samples.transpose(0, 2, 1, 3).reshape(rows * SIDE, across * SIDE)


def enlarged(plane: Ints, mode: Mode) -> Ints:
    """Return chroma (H, W) at the size of luma."""
    if mode is Mode.WIDE:
        return _twice(plane, (1, 2), 2, 0)
    if mode is not Mode.QUARTER:
        return plane
    above, below = np.vstack([plane[:1], plane[:-1]]), np.vstack([plane[1:], plane[-1:]])
    tall = np.empty((2 * len(plane), plane.shape[1]), np.int64)
    tall[0::2], tall[1::2] = 3 * plane + above, 3 * plane + below
    return _twice(tall, (8, 7), 4, 2)


def _twice(plane: Ints, halves: tuple[int, int], shift: int, ends: int) -> Ints:
    """Return rows of twice the width: three parts the nearer sample, one the farther."""
    before = np.hstack([plane[:, :1], plane[:, :-1]])
    after = np.hstack([plane[:, 1:], plane[:, -1:]])
    out = np.empty((len(plane), 2 * plane.shape[1]), np.int64)
    out[:, 0::2] = (3 * plane + before + halves[0]) >> shift
    out[:, 1::2] = (3 * plane + after + halves[1]) >> shift
    rounding = halves if ends else (0, 0)  # of the outermost, which have one neighbour
    out[:, 0] = ((plane[:, 0] << ends) + rounding[0]) >> (shift if ends else 0)
    out[:, -1] = ((plane[:, -1] << ends) + rounding[1]) >> (shift if ends else 0)
    return out


def _to_rgb(luma: Ints, blue: Ints, red: Ints) -> NDArray[np.uint8]:
    half = 1 << 15
    blue, red = blue - MIDDLE, red - MIDDLE
    channels = (
        luma + ((91881 * red + half) >> 16),
        luma + ((-22554 * blue - 46802 * red + half) >> 16),
        luma + ((116130 * blue + half) >> 16),
    )
    clipped: NDArray[np.int64] = np.clip(np.stack(channels, -1), 0, MOST)
    return clipped.astype(np.uint8)


def _inverse(rows: Ints, shift: int) -> Ints:
    """Return the inverse transform of rows (..., 8), descaled by ``shift`` bits."""
    v = [rows[..., i] for i in range(SIDE)]
    middle = (v[2] + v[6]) * 4433
    low, high = middle - v[6] * 15137, middle + v[2] * 6270
    total, rest = (v[0] + v[4]) << _FRACTION, (v[0] - v[4]) << _FRACTION
    even = total + high, rest + low, rest - low, total - high
    a, b, c, d = v[7] + v[1], v[5] + v[3], v[7] + v[3], v[5] + v[1]
    both = (c + d) * 9633
    a, b, c, d = a * -7373, b * -20995, c * -16069 + both, d * -3196 + both
    odd = (
        v[1] * 12299 + a + d,
        v[3] * 25172 + b + c,
        v[5] * 16819 + b + d,
        v[7] * 2446 + a + c,
    )
    sums = [e + o for e, o in zip(even, odd, strict=True)]
    differences = [e - o for e, o in zip(even, odd, strict=True)]
    stacked: Ints = np.stack(sums + differences[::-1], -1)
    return (stacked + (1 << (shift - 1))) >> shift
