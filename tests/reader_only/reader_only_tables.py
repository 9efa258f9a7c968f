"""The tables of FORMAT.md, in Python's integers: what e and roots of two give, rounded.

Powers of e are fixed-point numbers of 128 bits, too small by less than one part in 2^100; what is
rounded is never that near to a half.
"""

from __future__ import annotations

from bisect import bisect_left

ONE = 2**128


def powers_of_e(d: int, n: int) -> list[int]:
    """Return e^(i/d) for i = 0..n, times 2^128."""
    power, term, k = 0, ONE, 0
    while term:
        power, k = power + term, k + 1
        term //= d * k
    powers = [ONE]
    for _ in range(n):
        powers.append(powers[-1] * power >> 128)
    return powers


def sigmoids(size: int, most: int) -> list[int]:
    """Return rint(size / (1 + e^(-i/256))) for i = -most..most."""
    upper = []
    for power in powers_of_e(256, most):
        q, r = divmod(size * power, power + ONE)
        assert power == ONE or abs(2 * r - power - ONE) > power >> 80
        upper.append(q + (2 * r > power + ONE))
    return [size - value for value in upper[:0:-1]] + upper


def logits() -> list[int]:
    """Return rint(256 ln((i + 1/2) / (4095.5 - i))), at most 2047 and at least -2047."""
    halves = powers_of_e(512, 2 * 2047)[1::2]  # e^((n + 1/2)/256)
    upper = [bisect_left(halves, (2 * i + 1) * ONE // (8191 - 2 * i)) for i in range(2048, 4096)]
    return [-value for value in reversed(upper)] + upper


def weights() -> list[int]:
    """Return W[d] = rint(256 * 2^(-d/16)): the 16th powers decide.  256 / 2^9 goes to 0."""
    table, n = [], 256
    for d in range(255):
        while n and (2 * n - 1) ** 16 << d >= 512**16:
            n -= 1
        table.append(n)
    return table


def inverse_scales() -> dict[int, tuple[int, int]]:
    """Return n and k of S[s] = 4 * 2^(-s/16), rounded to n / 2^k with n of 8 bits."""
    table = {}
    for s in range(-80, 105):
        octave, sixteenths = divmod(32 - s, 16)
        n = max(n for n in range(128, 257) if (2 * n - 1) ** 16 < 256**16 << sixteenths)
        table[s] = (n, 7 - octave)
    return table
