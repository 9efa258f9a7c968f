"""The causal taps: which pixels around it a pixel may see.

A pixel of group ``t = column + 2 * row`` may depend on pixels of smaller groups only.  Kernels span
rows -3..0 and columns -3..3.
"""

from __future__ import annotations

KERNEL_ROWS, KERNEL_COLUMNS = 4, 7  # rows -3..0, columns -3..3
ABOVE, SIDE = KERNEL_ROWS - 1, KERNEL_COLUMNS // 2


def causal_taps(*, strict: bool) -> list[tuple[int, int]]:
    """Return the (row, column) kernel indices of the causal taps, in row order."""
    last = -1 if strict else 0  # the last group that may be seen, relative to the pixel's own
    return [
        (row, column)
        for row in range(KERNEL_ROWS)
        for column in range(KERNEL_COLUMNS)
        if column - SIDE + 2 * (row - ABOVE) <= last
    ]


def tap_index(row: int, column: int) -> int:
    """Return the place among the strict taps of the one at an offset from the pixel."""
    return causal_taps(strict=True).index((ABOVE + row, SIDE + column))
