"""Where the blocks of a JPEG begin in samples: the evidence of small patches for each place.

High coefficients are zero where blocks begin, and nowhere else.  What is smooth says nothing, and a
tile may hold JPEGs of several grids: so patches that hold something speak, each for its region.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg.t81 import SIDE

MOST_PATCHES, CELL = 300, 256  # so many in a part of that side
REGION = 128  # side of a part that may have a grid of its own
FEW = 40  # patches or blocks that are enough to judge by
_QUIET = 1.0  # magnitude of a coefficient that is zero but for the rounding of samples
_LEAST_RANGE = 6.0  # of the samples of a patch that says something
_LEAST_LOUD = 200  # coefficients elsewhere: fewer say nothing
_LOUD = (0.85, 0.7)  # share of what is loud elsewhere, in the whole and in a region, at most
_BEST = 0.05  # share of blocks that are surely quieter, if any are
_WIDTH = 2 * SIDE - 1  # of a patch: each of 64 blocks begins in its first one
Floats = NDArray[np.float64]
Place = tuple[int, int]

_ANGLE = np.outer(np.arange(SIDE), 2 * np.arange(SIDE) + 1) * (np.pi / (2 * SIDE))
COSINES = np.cos(_ANGLE) * np.where(np.arange(SIDE)[:, None] == 0, 8**-0.5, 0.5)
HIGH = np.add.outer(np.arange(SIDE), np.arange(SIDE)) >= SIDE - 1
_EACH = np.zeros((SIDE, SIDE, _WIDTH))  # frequency, where a block begins, sample
for _start in range(SIDE):
    _EACH[:, _start, _start : _start + SIDE] = COSINES
_FORWARD = np.ascontiguousarray(_EACH.reshape(-1, _WIDTH), np.float32)


@dataclass(frozen=True)
class Evidence:
    """How many high coefficients are not zero, of ``loud`` (n, 64) for each place of a patch."""

    rows: NDArray[np.int64]  # where the patches begin
    columns: NDArray[np.int64]
    loud: NDArray[np.int64]

    @classmethod
    def of(cls, plane: Floats) -> Evidence:
        """Look at the patches of a plane (H, W) that are not smooth, so many at most."""
        rows, columns = ((n - _WIDTH) // SIDE + 1 for n in plane.shape)
        windows = np.lib.stride_tricks.sliding_window_view(plane, (_WIDTH, _WIDTH))
        windows = windows[: rows * SIDE : SIDE, : columns * SIDE : SIDE]
        first = plane[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
        ranges = first.max((1, 3)) - first.min((1, 3))
        busy = np.flatnonzero(ranges.reshape(-1) >= _LEAST_RANGE)
        most = max(MOST_PATCHES, MOST_PATCHES * plane.size // CELL**2)
        busy = busy[:: -(-max(1, len(busy)) // most)]
        down, across = np.divmod(busy, columns)
        patches = windows[down, across].astype(np.float32)
        return cls(down * SIDE, across * SIDE, _loud(patches))

    def grids(self, free: NDArray[np.bool_], but: Collection[Place]) -> list[Place]:
        """Return where blocks may begin in what is ``free`` (H, W), the likeliest first."""
        near = free[self.rows + SIDE - 1, self.columns + SIDE - 1]
        votes = np.zeros(SIDE * SIDE)
        across = -(-free.shape[1] // REGION)
        regions = self.rows // REGION * across + self.columns // REGION
        for region in (None, *np.unique(regions[near])):
            chosen = near if region is None else near & (regions == region)
            if chosen.sum() >= FEW // 2:
                self._vote(votes, self.loud[chosen].sum(0), _LOUD[region is not None])
        order = np.argsort(-votes, kind="stable")
        places = [divmod(int(i), SIDE) for i in order if votes[i] > 0]
        return [place for place in places if place not in but]

    def _vote(self, votes: Floats, loud: NDArray[np.int64], most: float) -> None:
        usual, best = float(np.median(loud)), int(loud.argmin())
        if usual >= _LEAST_LOUD and loud[best] < most * usual:
            votes[best] += usual - float(loud[best])


def _loud(patches: NDArray[np.float32]) -> NDArray[np.int64]:
    n = len(patches)
    half = np.matmul(patches - np.float32(128), _FORWARD.T)  # (n, row, place x frequency)
    both = np.abs(np.matmul(_FORWARD, half)).reshape(n, SIDE, SIDE, SIDE, SIDE)
    is_loud = both >= _QUIET  # frequency, row of the place, frequency, column
    counts = np.zeros((n, SIDE, SIDE), np.int64)
    for frequency in range(SIDE):
        least = SIDE - 1 - frequency
        counts += is_loud[:, frequency, :, least:].sum(2)
    return counts.reshape(n, SIDE * SIDE)


def blocks(plane: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the whole blocks (rows, columns, 8, 8) of a plane."""
    rows, columns = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    whole = plane[: rows * SIDE, : columns * SIDE]
    return whole.reshape(rows, SIDE, columns, SIDE).transpose(0, 2, 1, 3)


def forward(blocks: NDArray[np.generic]) -> Floats:
    """Return the cosine transform of blocks (..., 8, 8) of samples."""
    out: Floats = COSINES @ (blocks.astype(np.float64) - 128) @ COSINES.T
    return out


def belonging(plane: Floats, grid: Place, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which whole blocks at a grid are quieter, with those around, than half a block off.

    Only blocks in what is ``free`` (H, W) are.
    """
    here = around(_loudness(plane, grid))
    off = _loudness(plane, ((grid[0] + SIDE // 2) % SIDE, (grid[1] + SIDE // 2) % SIDE))
    missing = [(0, max(0, n - m)) for n, m in zip(here.shape, off.shape, strict=True)]
    there = around(np.pad(off, missing)[: here.shape[0], : here.shape[1]])
    told = (there > 0) & blocks(free[grid[0] :, grid[1] :]).all((2, 3))
    if not told.any():
        return told
    ratio = here / np.maximum(there, 1)
    most = (1 + min(1.0, float(np.quantile(ratio[told], _BEST)))) / 2
    belongs: NDArray[np.bool_] = told & (ratio <= most)
    return belongs


def _loudness(plane: Floats, grid: Place) -> Floats:
    high = forward(blocks(plane[grid[0] :, grid[1] :]))[..., HIGH]
    counts: Floats = (np.abs(high) >= _QUIET).sum(-1).astype(np.float64)
    return counts


def around(values: Floats, reach: int = 2) -> Floats:
    """Return the sums of values (H, W) and those around, ``reach`` in each direction."""
    for axis in (0, 1):
        wide = np.pad(values, [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)])
        total = np.cumsum(wide, axis)
        n, width = values.shape[axis], 2 * reach + 1
        values = np.take(total, range(width, width + n), axis) - np.take(total, range(n), axis)
    return values
