"""The limits of the exact-arithmetic grid: steps, ranges, and how far a sum may reach.

What they are for says `grid`, which does the same arithmetic with tensors.
"""

from __future__ import annotations

LEVEL = 127  # largest activation level entering a product
WEIGHT = 127  # largest weight mantissa
MIN_EXPONENT, MAX_EXPONENT = -10, 4  # weight exponents, one per output row
STEP_BITS = 10
STEP = 2.0**-STEP_BITS  # every accumulated sum is a multiple of this many levels
STREAM_LIMIT = 2048.0  # |residual stream|, |bias|, in levels
EXACT_LIMIT = 2.0**24 * STEP  # float32 holds every multiple of STEP up to here
