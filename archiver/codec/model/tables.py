"""The three tables of the coder, in decimal arithmetic: the same on every machine.

What they are for says `frequencies`; FORMAT.md, "Frequencies".
"""

from __future__ import annotations

import decimal
from functools import lru_cache

MEAN_UNIT = 64  # coupled means are in 1/64 of a sample step
LOGIT_LIMIT = 127.0
MIN_SCALE, MAX_SCALE = -80, 104  # 2**(s/16) sample steps: 1/32 .. 90
OCTAVE = 16
SIGMOID_ONE = 8192  # T runs from 0 to 8192
SIGMOID_STEPS = 256  # entries of T per unit of its argument
SIGMOID_REACH = 10  # T covers arguments in [-10, 10]
# of an entry of T: for samples of more than 8 bits, whose steps are small, it is interpolated
HIGH_DEPTH_SUBSTEPS = 256
WEIGHT_ONE = 256  # W runs from 256 down
INVERSE_BITS = 8  # significant bits of S
_LIMIT = SIGMOID_STEPS * SIGMOID_REACH


@lru_cache(maxsize=1)
def table_values() -> tuple[list[int], list[int], list[float]]:
    """Compute T, W and S in decimal arithmetic, so that they are the same on every machine."""
    with decimal.localcontext(decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)):
        unit, two = decimal.Decimal(1), decimal.Decimal(2)
        decay, power = (-unit / SIGMOID_STEPS).exp(), unit
        upper = []  # T[i / 256] for i = 0, 1, ...; the other half is its mirror image
        for _ in range(_LIMIT + 1):
            upper.append(int((SIGMOID_ONE / (unit + power)).to_integral_value()))
            power *= decay
        weight = [
            int((WEIGHT_ONE * two ** (-unit * i / OCTAVE)).to_integral_value())
            for i in range(2 * int(LOGIT_LIMIT) + 1)
        ]
        inverse = [
            _round_bits(SIGMOID_STEPS * two ** (-unit * s / OCTAVE) / MEAN_UNIT)
            for s in range(MIN_SCALE, MAX_SCALE + 1)
        ]
    return [SIGMOID_ONE - t for t in upper[:0:-1]] + upper, weight, inverse


def _round_bits(value: decimal.Decimal) -> float:
    """Round ``value`` <= 2**(INVERSE_BITS - 1) to INVERSE_BITS significant bits."""
    exponent = 0
    while value * 2**exponent < 2 ** (INVERSE_BITS - 1):
        exponent += 1
    return float((value * 2**exponent).to_integral_value()) * 2.0**-exponent
