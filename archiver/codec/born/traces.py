"""Own the search for the JPEG that samples were decoded from; for the writer alone, in floats.

Where blocks begin shows by how many high coefficients are zero; the steps by how close the others
lie to their multiples, colour and subsampling by what the coefficients, decoded again, give.
Samples that were clipped say less: they are replaced by what the coefficients say, and all is
estimated again.  Nothing here needs to be exact: it ends in coefficients that are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.born import pixels, stream
from archiver.codec.born.pixels import MIDDLE, MOST, Coefficients, Ints, Mode
from archiver.codec.dct import standard
from archiver.codec.dct.standard import SIDE

LEAST_SIDE, MOST_PIXELS = 64, 1 << 20  # of a tile
MOST_BLOCKS = 300  # that the grid and the steps are looked for in
_QUIET = 1.0  # magnitude of a coefficient that is zero but for the rounding of samples
_LEAST_QUIET, _LEAST_LEAD = 0.5, 0.02  # share of high coefficients that are, and its lead
_LEAST_FIT = 0.45  # mean cosine of the distance to multiples
_LEAST_SEEN = 1.5  # magnitude of a coefficient that tells something of its step
LEAST_EXACT = 0.6  # share of samples that come out exactly
_SURE = 0.9
_QUALITIES = range(10, 98)
_ROUNDS = 3  # of replacing what was clipped
_SHARPENING = 16  # rounds of undoing the enlargement of chroma
_FEW = 40  # blocks or coefficients that are enough to judge by
Floats = NDArray[np.float64]
Uint8 = NDArray[np.uint8]

_ANGLE = np.outer(np.arange(SIDE), 2 * np.arange(SIDE) + 1) * (np.pi / (2 * SIDE))
_COSINES = np.cos(_ANGLE) * np.where(np.arange(SIDE)[:, None] == 0, 8**-0.5, 0.5)
_HIGH = np.add.outer(np.arange(SIDE), np.arange(SIDE)) >= SIDE - 1
# What blue and red chroma, from the middle, add to red, green and blue; and the way back
_FROM_CHROMA = np.array([[0, -0.344136, 1.772], [1.402, -0.714136, 0]])
_TO_CHROMA = np.linalg.pinv(_FROM_CHROMA)


@dataclass(frozen=True)
class Found:
    """A JPEG in a tile: its coefficients, and where its first sample is."""

    coefficients: Coefficients
    row: int
    column: int


def find(tile: Uint8) -> Found | None:
    """Return the JPEG that most of a tile (H, W, C) of 1 or 3 channels was decoded from."""
    if min(tile.shape[:2]) < LEAST_SIDE or tile[..., 0].size > MOST_PIXELS:
        return None
    seen = tile[..., 0].astype(np.float64) if tile.shape[2] == 1 else _to_ycc(tile)[..., 0]
    grid = _grid(seen)
    if grid is None:
        return None
    best, found = LEAST_EXACT, None
    for mode, tables in _candidates(tile, seen, grid):
        if mode is Mode.RGB and best > _SURE:
            break
        for row, column in _origins(grid, mode):
            one = _Fit(tile, mode, tables, row, column)
            if one.height and one.width and (exact := one.exact()) > best:
                best, found = exact, one
    return found.refined() if found else None


def _candidates(
    tile: Uint8, seen: Floats, grid: tuple[int, int]
) -> Iterator[tuple[Mode, tuple[Ints, Ints]]]:
    """Yield what the JPEG may have been, given where its blocks begin."""
    whole = _unclipped(tile, grid)
    if quality := _quality(seen, grid, whole):
        tables = standard.steps(standard.LUMA, quality), standard.steps(standard.CHROMA, quality)
        if tile.shape[2] == 1:
            yield Mode.GREY, (tables[0], tables[0])
            return
        yield from ((mode, tables) for mode in (Mode.QUARTER, Mode.FULL, Mode.WIDE))
    if tile.shape[2] == 3 and (quality := _quality(tile[..., 1], grid, whole)):
        # channels that were coded as they are, as Aperio's scanners do
        luma = standard.steps(standard.LUMA, quality)
        chroma = standard.steps(standard.CHROMA, quality)
        yield from ((Mode.RGB, (luma, others)) for others in (luma, chroma))


def _origins(grid: tuple[int, int], mode: Mode) -> Iterator[tuple[int, int]]:
    """Yield where the first whole MCU may begin."""
    down, across = mode.factors
    for row in range(down):
        for column in range(across):
            yield grid[0] + SIDE * row, grid[1] + SIDE * column


def _grid(plane: Floats) -> tuple[int, int] | None:
    """Return where the first whole block begins; None if there seem to be no blocks."""
    shares = np.zeros((SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            blocks = _blocks(plane[row:, column:]).reshape(-1, SIDE, SIDE)
            high = _forward(blocks[:: -(-len(blocks) // MOST_BLOCKS)])[:, _HIGH]
            shares[row, column] = (np.abs(high) < _QUIET).mean()
    best = int(shares.argmax())
    first, second = np.sort(shares.ravel())[-2:][::-1]
    if first < _LEAST_QUIET or first - second < _LEAST_LEAD:
        return None
    return best // SIDE, best % SIDE


def _unclipped(tile: Uint8, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which blocks hold no sample at either end of the range."""
    is_clipped = ((tile == 0) | (tile == MOST)).any(-1)
    return ~_blocks(is_clipped[grid[0] :, grid[1] :]).any((2, 3)).reshape(-1)


def _quality(plane: NDArray[Any], grid: tuple[int, int], whole: NDArray[np.bool_]) -> int:
    """Return the quality whose steps fit the coefficients of a plane; 0 if none does."""
    blocks = _blocks(plane[grid[0] :, grid[1] :]).reshape(-1, SIDE, SIDE)
    if whole.sum() >= _FEW:
        blocks = blocks[whole]
    values = _forward(blocks[:: -(-len(blocks) // MOST_BLOCKS)]).reshape(-1, SIDE * SIDE)
    best, found = _LEAST_FIT, 0
    for quality in _QUALITIES:
        steps = standard.steps(standard.LUMA, quality).reshape(-1)
        seen = np.abs(values) > np.minimum(_LEAST_SEEN, steps / 2)
        seen[:, 0] = False
        fit = np.cos(2 * np.pi * (values / steps)[seen])
        if len(fit) >= _FEW and fit.mean() > best:
            best, found = float(fit.mean()), quality
    return found


class _Fit:
    """One guess: a tile as a JPEG of a mode and tables, whose MCUs begin at a place."""

    def __init__(
        self, tile: Uint8, mode: Mode, tables: tuple[Ints, Ints], row: int, column: int
    ) -> None:
        self._mode, self._tables, self._row, self._column = mode, tables, row, column
        down, across = (SIDE * factor for factor in mode.factors)
        self.height = (tile.shape[0] - row) // down * down
        self.width = (tile.shape[1] - column) // across * across
        self._part = tile[row : row + self.height, column : column + self.width]

    def exact(self) -> float:
        """Return the share of the tile's part that comes out exactly."""
        self._found = self._estimate(self._part.astype(np.float64))
        return self._share(self._found)

    def refined(self) -> Found | None:
        """Return the best coefficients; None if no baseline JPEG holds them."""
        best, found = self._share(self._found), self._found
        for _ in range(_ROUNDS):
            shares = [(self._share(one), one) for one in self._again(found)]
            share, found = max(shares, key=lambda pair: pair[0])
            if share <= best:
                break
            best, self._found = share, found
        if not stream.is_codable(self._found):
            return None
        return Found(self._found, self._row, self._column)

    def _share(self, found: Coefficients) -> float:
        return float((pixels.decode(found) == self._part).mean())

    def _estimate(self, samples: Floats) -> Coefficients:
        """Return the coefficients that samples (H, W, C) came from, most likely."""
        if not self._converts:
            return self._of_planes([samples[..., c] for c in range(samples.shape[2])])
        converted = _to_ycc(samples)
        return self._of_components(*(converted[..., c] for c in range(3)))

    def _again(self, found: Coefficients) -> Iterator[Coefficients]:
        """Yield the coefficients, given what ``found`` says of clipped samples, and of the others.

        What luma is known to be leaves less doubt of chroma, and the other way round; but faults
        of one get into the other.
        """
        planes = [
            pixels.unclipped(plane, self._tables[min(c, 1)]).astype(np.float64)
            for c, plane in enumerate(found.planes)
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
            np.rint(_forward(_blocks(plane)) / self._tables[min(c, 1)]).astype(np.int64)
            for c, plane in enumerate(planes)
        ]
        return Coefficients(self._mode, tuple(rounded), self._tables)

    def _declipped(self, raw: Floats) -> Floats:
        """Return the samples, those that were clipped as ``raw`` (H, W, C) says."""
        is_beyond = ((self._part == MOST) & (raw > MOST)) | ((self._part == 0) & (raw < 0))
        return np.where(is_beyond, raw, self._part)


def _to_ycc(samples: NDArray[Any]) -> Floats:
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


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """Return the whole blocks (rows, columns, 8, 8) of a plane."""
    rows, columns = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    whole = plane[: rows * SIDE, : columns * SIDE]
    return whole.reshape(rows, SIDE, columns, SIDE).transpose(0, 2, 1, 3)


def _forward(blocks: NDArray[Any]) -> Floats:
    """Return the cosine transform of blocks (..., 8, 8) of samples."""
    centred = blocks.astype(np.float64) - MIDDLE
    out: Floats = _COSINES @ centred @ _COSINES.T
    return out
