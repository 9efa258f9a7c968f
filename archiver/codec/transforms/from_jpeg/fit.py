"""One guess of a JPEG in samples: the coefficients that they came from, and where it holds.

Samples that were clipped say less: they are replaced by what the coefficients say, and all is
estimated again.  Units (MCUs) that do not come out are not part of the JPEG: all zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg.t81 import SIDE
from archiver.codec.transforms.from_jpeg import pixels, stream
from archiver.codec.transforms.from_jpeg.grid import Floats, Place, around, blocks, forward
from archiver.codec.transforms.from_jpeg.pixels import MIDDLE, MOST, Coefficients, Ints, Mode

_ROUNDS = 3  # of replacing what was clipped
_SHARPENING = 16  # rounds of undoing the enlargement of chroma
_HOLDS = 0.5  # share of samples of a unit, and of those around, that come out exactly
_LEAST_BLOCKS, _LEAST_SHARE = 32, 0.02  # of a JPEG, of the tile
Uint8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# What blue and red chroma, from the middle, add to red, green and blue; and the way back
_FROM_CHROMA = np.array([[0, -0.344136, 1.772], [1.402, -0.714136, 0]])
_TO_CHROMA = np.linalg.pinv(_FROM_CHROMA)


@dataclass(frozen=True)
class Trace:
    """A JPEG in a tile: its coefficients, and where its first sample is.

    ``covers`` (H, W) says which samples of the tile are in units of it that are not all zero.
    """

    coefficients: Coefficients
    row: int
    column: int
    covers: Mask

    @property
    def is_plain(self) -> bool:
        """Whether it is whole, and begins with the tile."""
        height, width = self.coefficients.shape
        return max(self.row, self.column) < 2 * SIDE and bool(self.covers.sum() == height * width)


class Fit:
    """One guess: a tile as a JPEG of a mode and tables, whose MCUs begin at a place.

    It is judged by what is ``wanted`` (H, W) of the tile.
    """

    def __init__(
        self, tile: Uint8, mode: Mode, tables: tuple[Ints, Ints], place: Place, wanted: Mask
    ) -> None:
        self._mode, self._tables, self._place, self._shape = mode, tables, place, tile.shape[:2]
        self._unit = tuple(SIDE * factor for factor in mode.factors)
        sides = zip(tile.shape, place, self._unit, strict=False)
        self.height, self.width = ((n - start) // unit * unit for n, start, unit in sides)
        self._samples = self._inside(tile)
        self._wanted = self._inside(wanted)

    def _inside(self, whole: NDArray[Any]) -> NDArray[Any]:
        row, column = self._place
        return whole[row : row + self.height, column : column + self.width]

    def exact(self) -> float:
        """Return the share of the samples wanted that come out exactly."""
        if not self._wanted.any():
            return 0.0
        self._fitted = self._estimate(self._samples.astype(np.float64))
        return self._share(self._fitted)

    def refined(self, free: Mask) -> Trace | None:
        """Return the best coefficients in what is ``free`` (H, W) of the tile, if there are any."""
        best, fitted = self._share(self._fitted), self._fitted
        for _ in range(_ROUNDS):
            shares = [(self._share(other), other) for other in self._again(fitted)]
            share, fitted = max(shares, key=lambda pair: pair[0])
            if share <= best:
                break
            best, self._fitted = share, fitted
        holds = self._holds(self._fitted, self._inside(free))
        least = max(_LEAST_BLOCKS * SIDE**2, _LEAST_SHARE * free.size)
        if holds.sum() * self._unit[0] * self._unit[1] < least:
            return None
        return self._cut(holds)

    def _holds(self, coefficients: Coefficients, free: Mask) -> Mask:
        """Return which units (rows, columns) come out, by and large."""
        exact = self._by_unit((pixels.decode(coefficients) == self._samples).mean(-1)).mean((1, 3))
        near = around(exact, 1) / around(np.ones(exact.shape), 1)
        return (near >= _HOLDS) & self._by_unit(free).all((1, 3))

    def _by_unit(self, values: NDArray[Any]) -> NDArray[Any]:
        down, across = self._unit
        return values.reshape(self.height // down, down, self.width // across, across)

    def _cut(self, holds: Mask) -> Trace | None:
        """Return the JPEG of the units that hold, no more rows and columns than they take."""
        rows, columns = (np.flatnonzero(holds.any(axis)) for axis in (1, 0))
        place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        planes = [self._kept(plane, holds[place], place) for plane in self._fitted.planes]
        kept = Coefficients(self._mode, tuple(planes), self._tables)
        if not stream.is_codable(kept):
            return None
        down, across = self._unit
        row, column = self._place[0] + down * rows[0], self._place[1] + across * columns[0]
        covers = np.zeros(self._shape, np.bool_)
        covers[row : row + kept.shape[0], column : column + kept.shape[1]] = np.kron(
            stream.units(kept), np.ones(self._unit, np.bool_)
        )
        return Trace(kept, int(row), int(column), covers)

    def _kept(self, plane: Ints, holds: Mask, place: tuple[slice, slice]) -> Ints:
        """Return the blocks of a component that are in a place, those that do not hold of zeros."""
        down, across = plane.shape[0] * self._unit[0], plane.shape[1] * self._unit[1]
        factors = down // self.height, across // self.width  # blocks in a unit
        rows, columns = (
            slice(extent.start * factor, extent.stop * factor)
            for extent, factor in zip(place, factors, strict=True)
        )
        return plane[rows, columns] * np.kron(holds, np.ones(factors, np.int64))[..., None, None]

    def _share(self, coefficients: Coefficients) -> float:
        return float((pixels.decode(coefficients) == self._samples)[self._wanted].mean())

    def _estimate(self, samples: Floats) -> Coefficients:
        """Return the coefficients that samples (H, W, C) came from, most likely."""
        if not self._converts:
            return self._of_planes([samples[..., c] for c in range(samples.shape[2])])
        converted = to_ycc(samples)
        return self._of_components(*(converted[..., c] for c in range(3)))

    def _again(self, coefficients: Coefficients) -> Iterator[Coefficients]:
        """Yield them estimated again, given what they say of clipped samples, and of the others.

        What luma is known to be leaves less doubt of chroma, and the other way round; but faults
        of one get into the other.
        """
        planes = [
            pixels.unclipped(plane, self._tables[min(c, 1)]).astype(np.float64)
            for c, plane in enumerate(coefficients.planes)
        ]
        if not self._converts:
            yield self._estimate(self._declipped(np.stack(planes, -1)))
            return
        luma, *chroma = planes
        blue, red = (pixels.enlarged(p.astype(np.int64), self._mode) - MIDDLE for p in chroma)
        colour = np.stack([blue, red], -1) @ _FROM_CHROMA
        samples = self._declipped(luma[..., None] + colour)
        yield self._estimate(samples)
        of_chroma = (samples - np.clip(luma, 0, MOST)[..., None]) @ _TO_CHROMA + MIDDLE
        of_luma = (samples - colour).mean(-1)
        yield self._of_components(of_luma, of_chroma[..., 0], of_chroma[..., 1])

    @property
    def _converts(self) -> bool:
        return self._mode not in (Mode.GREY, Mode.RGB)

    def _of_components(self, luma: Floats, blue: Floats, red: Floats) -> Coefficients:
        return self._of_planes([luma, *(_reduced(plane, self._mode) for plane in (blue, red))])

    def _of_planes(self, planes: Sequence[Floats]) -> Coefficients:
        rounded = [
            np.rint(forward(blocks(plane)) / self._tables[min(c, 1)]).astype(np.int64)
            for c, plane in enumerate(planes)
        ]
        return Coefficients(self._mode, tuple(rounded), self._tables)

    def _declipped(self, raw: Floats) -> Floats:
        """Return the samples, those that were clipped as ``raw`` (H, W, C) says."""
        is_beyond = ((self._samples == MOST) & (raw > MOST)) | ((self._samples == 0) & (raw < 0))
        return np.where(is_beyond, raw, self._samples)


def to_ycc(samples: NDArray[Any]) -> Floats:
    """Return luma and chroma (H, W, 3) of colours, as JFIF has them."""
    red, green, blue = (samples[..., c].astype(np.float64) for c in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([luma, (blue - luma) / 1.772 + MIDDLE, (red - luma) / 1.402 + MIDDLE], -1)


def _reduced(plane: Floats, mode: Mode) -> Floats:
    """Return the chroma that was enlarged to a plane (H, W): the means, sharpened."""
    down, across = mode.factors
    height, width = plane.shape
    means: Floats = plane.reshape(height // down, down, width // across, across).mean((1, 3))
    low = means
    for _ in range(_SHARPENING if across > 1 else 0):
        blurred = _blurred(low)
        low = low + (means - (_blurred(blurred.T).T if down > 1 else blurred))
    return low


def _blurred(rows: Floats) -> Floats:
    """Return what enlarging rows to twice their width, then taking means of two, makes of them."""
    before = np.hstack([rows[:, :1], rows[:, :-1]])
    after = np.hstack([rows[:, 1:], rows[:, -1:]])
    return (6 * rows + before + after) / 8
