"""The search for the JPEGs that samples were decoded from; for the writer alone, in floats.

Where blocks begin shows by how many high coefficients are zero; the steps by how close the others
lie to their multiples, colour and subsampling by what the coefficients, decoded again, give.  One
JPEG after the other is looked for, each in what those before it leave: parts of a tile may have
grids and qualities of their own.  Nothing here needs to be exact: it ends in coefficients that are
stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.codec.jpeg import t81
from archiver.codec.jpeg.t81 import SIDE
from archiver.codec.transforms.from_jpeg.fit import Fit, Mask, Trace, Uint8, to_ycc
from archiver.codec.transforms.from_jpeg.grid import (
    FEW,
    MOST_PATCHES,
    Evidence,
    Floats,
    Place,
    belonging,
    blocks,
    forward,
)
from archiver.codec.transforms.from_jpeg.pixels import MOST, Ints, Mode

LEAST_SIDE, MOST_PIXELS = 64, 1 << 20  # of a tile
_MOST_JPEGS = 8  # in a tile
_MOST_TRIES = 4  # of grids, one after the other in vain
_ENOUGH = 0.03  # share of a tile that is left: no more JPEGs are looked for
_LEAST_FIT = 0.45  # mean cosine of the distance to multiples
_LEAST_SEEN = 1.5  # magnitude of a coefficient that tells something of its step
LEAST_EXACT = 0.6  # share of samples that come out exactly
_SURE = 0.9
_QUALITIES = range(10, 98)


def find(tile: Uint8) -> list[Trace]:
    """Return the JPEGs that most of a tile (H, W, C) of 1 or 3 channels was decoded from."""
    if min(tile.shape[:2]) < LEAST_SIDE or tile[..., 0].size > MOST_PIXELS:
        return []
    seen = tile[..., 0].astype(np.float64) if tile.shape[2] == 1 else to_ycc(tile)[..., 0]
    evidence, free = Evidence.of(seen), np.ones(seen.shape, np.bool_)
    jpegs: list[Trace] = []
    tried: list[Place] = []
    while len(jpegs) < _MOST_JPEGS and len(tried) < _MOST_TRIES and free.mean() > _ENOUGH:
        grid = next(iter(evidence.grids(free, tried)), None)
        if grid is None:
            break
        tried.append(grid)
        if trace := _at(tile, seen, grid, free):
            jpegs.append(trace)
            free &= ~trace.covers
            tried = []
    return jpegs


def _at(tile: Uint8, seen: Floats, grid: Place, free: Mask) -> Trace | None:
    """Return the JPEG whose blocks begin at a grid in what is ``free`` of a tile."""
    chosen = belonging(seen, grid, free)
    if chosen.sum() < FEW // 2:
        return None
    wanted = np.zeros(free.shape, np.bool_)
    place = wanted[grid[0] :, grid[1] :][: chosen.shape[0] * SIDE, : chosen.shape[1] * SIDE]
    place[:] = np.kron(chosen, np.ones((SIDE, SIDE), np.bool_))
    best, best_fit = LEAST_EXACT, None
    for mode, tables in _candidates(tile, seen, grid, chosen):
        if mode is Mode.RGB and best > _SURE:
            break
        for origin in _origins(grid, mode):
            fit = Fit(tile, mode, tables, origin, wanted)
            if fit.height and fit.width and (exact := fit.exact()) > best:
                best, best_fit = exact, fit
    return best_fit.refined(free) if best_fit else None


def _candidates(
    tile: Uint8, seen: Floats, grid: Place, chosen: Mask
) -> Iterator[tuple[Mode, tuple[Ints, Ints]]]:
    """Yield what the JPEG may have been, given where its blocks begin and which are its own."""
    whole = chosen & _unclipped(tile, grid)
    whole = whole if whole.sum() >= FEW else chosen
    if quality := _quality(seen, grid, whole):
        tables = t81.steps(t81.LUMA, quality), t81.steps(t81.CHROMA, quality)
        if tile.shape[2] == 1:
            yield Mode.GREY, (tables[0], tables[0])
            return
        yield from ((mode, tables) for mode in (Mode.QUARTER, Mode.FULL, Mode.WIDE))
    if tile.shape[2] == 3 and (quality := _quality(tile[..., 1], grid, whole)):
        # channels that were coded as they are, as Aperio's scanners do
        luma = t81.steps(t81.LUMA, quality)
        chroma = t81.steps(t81.CHROMA, quality)
        yield from ((Mode.RGB, (luma, others)) for others in (luma, chroma))


def _origins(grid: Place, mode: Mode) -> Iterator[Place]:
    """Yield where the first whole MCU may begin."""
    down, across = mode.factors
    for row in range(down):
        for column in range(across):
            yield grid[0] + SIDE * row, grid[1] + SIDE * column


def _unclipped(tile: Uint8, grid: Place) -> Mask:
    """Return which blocks hold no sample at either end of the range."""
    is_clipped = ((tile == 0) | (tile == MOST)).any(-1)
    return np.logical_not(blocks(is_clipped[grid[0] :, grid[1] :]).any((2, 3)))


def _quality(plane: NDArray[Any], grid: Place, chosen: Mask) -> int:
    """Return the quality whose steps fit the chosen blocks of a plane; 0 if none does."""
    patches = blocks(plane[grid[0] :, grid[1] :])[chosen]
    values = forward(patches[:: -(-len(patches) // MOST_PATCHES)]).reshape(-1, SIDE * SIDE)
    best, best_quality = _LEAST_FIT, 0
    for quality in _QUALITIES:
        steps = t81.steps(t81.LUMA, quality).reshape(-1)
        is_seen = np.abs(values) > np.minimum(_LEAST_SEEN, steps / 2)
        is_seen[:, 0] = False
        fit = np.cos(2 * np.pi * (values / steps)[is_seen])
        if len(fit) >= FEW and fit.mean() > best:
            best, best_quality = float(fit.mean()), quality
    return best_quality
