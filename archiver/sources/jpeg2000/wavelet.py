"""The reversible transforms of JPEG 2000: colour and wavelet 5/3 (ISO/IEC 15444-1, F and G)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archiver.sources.jpeg2000.blocks import Band

Ints = NDArray[np.int32]


def decorrelated(samples: Ints) -> Ints:
    """Return samples (H, W, C >= 3) with the first three channels as Y, U and V (annex G.2)."""
    red, green, blue = (samples[..., c] for c in range(3))
    out = samples.copy()
    out[..., 0] = (red + 2 * green + blue) >> 2
    out[..., 1], out[..., 2] = blue - green, red - green
    return out


def bands(plane: Ints, top: int, left: int, levels: int) -> dict[tuple[int, Band], Ints]:
    """Return the sub-bands of a plane (H, W) whose first sample is at (top, left) of the canvas.

    Keys are the resolution, 0 the coarsest, and the band.
    """
    sub_bands: dict[tuple[int, Band], Ints] = {}
    for resolution in range(levels, 0, -1):
        low_rows, high_rows = _split(plane, top)
        low, horizontal = (half.T for half in _split(low_rows.T, left))
        vertical, both = (half.T for half in _split(high_rows.T, left))
        sub_bands[resolution, Band.HL] = horizontal
        sub_bands[resolution, Band.LH] = vertical
        sub_bands[resolution, Band.HH] = both
        plane, top, left = low, (top + 1) // 2, (left + 1) // 2
    sub_bands[0, Band.LL] = plane
    return sub_bands


def _split(rows: Ints, first: int) -> tuple[Ints, Ints]:
    """Return the low and high half of rows (n, ...), the first of which has number ``first``."""
    odd = first % 2
    if len(rows) == 1:  # annex F.4.6
        nothing = rows[:0]
        return (nothing, rows * 2) if odd else (rows, nothing)
    if not len(rows):
        return rows, rows
    even_rows, odd_rows = rows[odd::2], rows[1 - odd :: 2]
    # mirrored at both ends: what is outside equals its image inside
    before, after = _beside(even_rows, len(odd_rows), starts_before=not odd)
    high = odd_rows - ((before + after) >> 1)
    before, after = _beside(high, len(even_rows), starts_before=bool(odd))
    low = even_rows + ((before + after + 2) >> 2)
    return low, high


def _beside(rows: Ints, n: int, *, starts_before: bool) -> tuple[Ints, Ints]:
    """Return the rows before and after each of the ``n`` rows between them."""
    number = np.arange(n)
    before = number if starts_before else number - 1
    last = len(rows) - 1
    after = before + 1
    return rows[np.where(before < 0, 0, before)], rows[np.where(after > last, last, after)]
