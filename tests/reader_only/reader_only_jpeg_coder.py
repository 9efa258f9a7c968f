"""Decisions of the section "Coded coefficients" of FORMAT.md, in Python's integers."""

from __future__ import annotations

from array import array
from operator import mul

from reader_only_range_coder import clip
from reader_only_tables import logits, sigmoids

N_INPUTS, N_SETS, N_WEIGHTS = 23, 1376, 47
SQUASH = [max(16, min(65520, value)) for value in sigmoids(65536, 2047)]  # of x, it is at x + 2047
STRETCH = logits()
TRUST = [(645 * n + 2) // (10 * n + 6) for n in range(32)]
TRUST_OF = TRUST + TRUST[31:] * 96  # of every count
SHARE = [327680 // (5 * n + 9) for n in range(128)]

Context = tuple[int, int, int]


class Coder:
    """The context state after all decisions so far, and the range coder of stream after stream."""

    def __init__(self) -> None:
        self.chances = array("H", [2**15]) * (N_INPUTS << 18)
        self.counts = bytearray(N_INPUTS << 18)
        self.weights: dict[int, list[int]] = {}  # of sets in use; set s of mixer m is at 1376 m + s
        self.uses = [0] * (3 * N_SETS)
        self.blends = [[21845] * 3 for _ in range(112)]
        knots = [SQUASH[clip(128 * j - 2048, 2047) + 2047] for j in range(33)]
        self.curves = [knots[:] for _ in range(2 * 608)]

    def begin(self, stream: bytes) -> Coder:
        """Begin a stream."""
        self.low, self.high, self.bytes = 0, 2**32 - 1, iter(stream)
        self.value = int.from_bytes(bytes(next(self.bytes, 0) for _ in range(4)), "big")
        return self

    def bit(self, chance: int) -> int:
        """Return a bit that is 1 with that chance."""
        width = self.high - self.low
        middle = self.low + (width >> 16) * chance + (width % 2**16 * chance >> 16)
        y = int(self.value <= middle)
        self.low, self.high = (self.low, middle) if y else (middle + 1, self.high)
        while self.low >> 24 == self.high >> 24:
            self.low, self.high = self.low * 256 % 2**32, self.high * 256 % 2**32 + 255
            self.value = self.value * 256 % 2**32 + next(self.bytes, 0)
        return y

    def decide(self, contexts: list[Context], *places: int) -> int:
        """Return a decision and learn from it; places: three sets, a blend, two curves."""
        slots = slots_of(contexts)
        x = self.seen(slots)
        sets = [m * N_SETS + place for m, place in enumerate(places[:3])]
        rows = [self.weights.setdefault(s, [0, *[7864, 0] * 23]) for s in sets]
        mixed = [clip(sum(map(mul, row, x)) >> 16, 2047) for row in rows]
        blend = self.blends[places[3]]
        d = clip(sum(map(mul, mixed, blend)) >> 16, 2047)
        k, f = divmod(d + 2048, 128)
        curves = self.curves[places[4]], self.curves[places[5] + 608]
        q = sum(knots[k] * (128 - f) + knots[k + 1] * f >> 7 for knots in curves)
        y = self.bit(max(24, min(65512, 2 * SQUASH[d + 2047] + q >> 2)))
        for knots in curves:
            knots[k + (f >> 6)] += 65536 * y - knots[k + (f >> 6)] >> 6
        for m, s, row in zip(mixed, sets, rows, strict=True):
            self.uses[s] = min(305, self.uses[s] + 1)
            g = (65536 * y - SQUASH[m + 2047]) * (4 + 320 // (16 + self.uses[s])) >> 6
            row[: len(x)] = [w + (value * g + 2048 >> 12) for w, value in zip(row, x, strict=False)]
            wrap(row)
        error = 65536 * y - SQUASH[d + 2047]
        blend[:] = [b + (m * error * 3 + 2**17 >> 18) for b, m in zip(blend, mixed, strict=True)]
        wrap(blend)
        for place in slots:
            p, n = self.chances[place], self.counts[place]
            self.chances[place] = p + ((65536 * y - p) * SHARE[n] >> 16)
            if n < 127:
                self.counts[place] = n + 1
        return y

    def seen(self, slots: list[int]) -> list[int]:
        """Return x: what the inputs say."""
        x = [256]
        for place in slots:
            p, t = self.chances[place], TRUST_OF[self.counts[place]]
            x += STRETCH[p >> 4] * t >> 6, (p - 32768) * t >> 11
        return x


def slots_of(contexts: list[Context]) -> list[int]:
    """Return the slots of contexts, each among those of its input."""
    slots, first = [], 0
    for a, b, c in contexts:
        h = (2654435761 * a + 2246822519 * b + 3266489917 * c) % 2**32
        h = 2246822519 * (h ^ h >> 15) % 2**32
        slots.append(first + ((h ^ h >> 13) >> 14))
        first += 1 << 18
    return slots


def wrap(row: list[int]) -> None:
    """Make numbers those of 32 bits, two's complement."""
    if max(row) >= 2**31 or min(row) < -(2**31):
        row[:] = [(w + 2**31) % 2**32 - 2**31 for w in row]
