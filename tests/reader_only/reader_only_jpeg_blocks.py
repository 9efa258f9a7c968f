"""Blocks of the section "Coded coefficients" of FORMAT.md, in Python's integers.

A block is 64 numbers, row by row: that of the frequencies v, u is at 8 v + u.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import mul

from reader_only_jpeg_coder import Coder
from reader_only_range_coder import clip

EDGE = [
    [362, 502, 473, 426, 362, 284, 196, 100],
    [362, 540, 612, 689, 724, 678, 530, 292],
]
FAR_EDGE = [[-x if i % 2 else x for i, x in enumerate(row)] for row in EDGE]
ZIGZAG = sorted(
    ((v, u) for v in range(8) for u in range(8)),
    key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]),
)
ZERO = [0] * 64
AROUND = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]  # L, A, AL, AR, LL, AA

Values = list[int]
Place = tuple[int, int]
Ask = Callable[[int, int, int], int]  # what decides, of a node, a stage and a sign


def log2(x: int, most: int = 99, bits: int = 2) -> int:
    """Return log2 or, with 3 bits, log4, of the magnitude, at most `most`, with the sign."""
    b = max(x.bit_length() - bits, 0)
    return min((b << bits - 1) + (abs(x) >> b), most) * (1 if x > 0 else -1)


def number(ask: Ask, known: bool) -> int:
    """Return a number; known: that it is not 0."""
    if not known and not ask(0, 0, 1):
        return 0
    sign, b = (-1 if ask(1, 1, 1) else 1), 0
    while b < 16 and ask(1 + min(b + 1, 12), 2, sign):
        b += 1
    less = int(b > 0)  # the magnitude less 1
    for i in range(b - 2, -1, -1):
        nodes = {b - 2: 14 + min(b, 9), b - 3: 24 + min(i, 3)}
        less = 2 * less + ask(nodes.get(i, 28 + min(i, 3)), 3, sign)
    return sign * (less + 1)


class Plane:
    """The coefficients of a component."""

    def __init__(self, before: list[Plane], rows: int, columns: int, steps: Values) -> None:
        self.comp, self.col, self.size = min(len(before), 3), min(len(before), 1), (rows, columns)
        self.steps, self.blocks, self.ends = steps, dict[Place, Values](), dict[Place, int]()
        self.looks_at: list[Plane] = []
        if before and not (before[0].size[0] % rows or before[0].size[1] % columns):
            self.looks_at = before[:1]
            if len(before) == 2 and before[1].size == self.size:
                self.looks_at = before

    def others(self, row: int, column: int) -> list[Values]:
        """Return F, or F and G, or none."""
        return [other.under(row, column, *self.size) for other in self.looks_at]

    def under(self, row: int, column: int, rows: int, columns: int) -> Values:
        """Return this component's block where another one, of fewer blocks, has one."""
        high, wide = self.size[0] // rows, self.size[1] // columns
        if high * wide == 1:
            return self.blocks[row, column]
        places = [(row * high + y, column * wide + x) for y in range(high) for x in range(wide)]
        sums = [sum(values) for values in zip(*map(self.blocks.get, places), strict=True)]
        halves = [2 * abs(s) // len(places) for s in sums]
        return [half if s > 0 else -half for s, half in zip(sums, halves, strict=True)]


class Block:
    """One block while it is read."""

    def __init__(self, plane: Plane, row: int, column: int) -> None:
        self.plane, self.at, self.own = plane, (row, column), ZERO[:]
        self.has_above, self.has_left = int(row > 0), int(column > 0)
        self.around = [plane.blocks.get((row + y, column + x), ZERO) for y, x in AROUND]
        self.left, self.above = self.around[:2]
        self.beside = [abs(a) + abs(b) for a, b in zip(self.left, self.above, strict=True)]
        self.beside[0] = 0
        self.others = plane.others(row, column)
        self.f, self.g = [*self.others, ZERO, ZERO][:2]
        values = list(map(mul, self.above, plane.steps))
        self.bottom = [[sum(map(mul, edge, values[u::8])) for u in range(8)] for edge in FAR_EDGE]
        values = list(map(mul, self.left, plane.steps))
        self.right = [
            [sum(map(mul, edge, values[v * 8 : v * 8 + 8])) for v in range(8)] for edge in FAR_EDGE
        ]
        self.total, self.apart, self.theirs = 0, 0, 0  # the last two, of the last of others

    def read(self, coder: Coder) -> None:
        """Read the coefficients."""
        end = self.read_end(coder)
        for k in range(end, 0, -1):
            v, u = ZIGZAG[k]
            value = number(self.ac(coder, k, end), k == end)
            self.own[8 * v + u] = value
            self.total += abs(value)
            for other in self.others[-1:]:
                self.apart += abs(value - other[8 * v + u])
                self.theirs += abs(other[8 * v + u])
        count = 64 - self.own.count(0)
        self.own[0] = self.read_dc(coder, count)
        self.plane.ends[self.at], self.plane.blocks[self.at] = end, self.own

    def read_end(self, coder: Coder) -> int:
        """Return `end`."""
        ends, col, (y, x) = self.plane.ends, self.plane.col, self.at
        e_above = ends.get((y - 1, x), ends.get((y, x - 1), 0))
        self.e_left = e_left = ends.get((y, x - 1), e_above)
        e_right = ends.get((y - 1, x + 1), e_above)
        e = (2 * e_left + 2 * e_above + e_right + ends.get((y - 1, x - 1), e_left)) // 6
        e_f, e_g = end_of(self.f), end_of(self.g)
        sides = [sum(map(abs, side[1:])) for side in (self.left, self.above)]
        z, (z_left, z_above) = log2(sum(sides)), map(log2, sides)
        pairs = [(e, 0), (e_left >> 1, e_above >> 1), (e_left, 0), (e_above, 0)]
        pairs += [(e_right + e_above >> 2, e_left >> 2), (e_f >> 1, e >> 2), (e_g >> 1, e_f >> 2)]
        pairs += [(z_left, z_above), (z, e >> 2), (0, 0)]
        node = 1
        for bit in range(5, -1, -1):
            sets = 512 + node + 64 * col, 576 + (e >> 1) + 32 * col, 1024 + 16 * bit + min(z, 15)
            contexts = [(4 * node + self.plane.comp, b, c) for b, c in pairs]
            node = 2 * node + coder.decide(contexts, *sets, 64 + bit, 512 + node, 512 + e)
        return node - 64

    def guesses(self, v: int, u: int) -> Values:
        """Return `up_0`, `up_1`, `across_0`, `across_1`."""
        steps, step = self.plane.steps, self.plane.steps[8 * v + u]
        column = list(map(mul, self.own[u::8], steps[u::8]))
        row = list(map(mul, self.own[8 * v : 8 * v + 8], steps[8 * v : 8 * v + 8]))
        guesses = []
        for j, edge in enumerate(EDGE):
            rise = 8 * (self.bottom[j][u] - sum(map(mul, edge, column)))
            guesses.append(rise // (edge[v] * step) * self.has_above)
        for j, edge in enumerate(EDGE):
            rise = 8 * (self.right[j][v] - sum(map(mul, edge, row)))
            guesses.append(rise // (edge[u] * step) * self.has_left)
        return guesses

    def size(self, v: int, u: int) -> int:
        """Return a magnitude of the block itself, 0 beyond it."""
        return abs(self.own[8 * v + u]) if 0 <= v < 8 and 0 <= u < 8 else 0

    def sizes_near(self, v: int, u: int) -> tuple[int, int]:
        """Return `near` and `around` before their logarithms."""
        left, above, *corners, left2, above2 = (abs(block[8 * v + u]) for block in self.around)
        near = (13 * (left + above) + 3 * sum(corners) + 2 * (left2 + above2)) // 4
        rows, columns = range(max(v - 1, 0), min(v + 2, 8)), range(max(u - 1, 0), min(u + 2, 8))
        return near, sum(self.beside[8 * y + x] for y in rows for x in columns)

    def ac(self, coder: Coder, k: int, end: int) -> Ask:
        """Return what decides the AC coefficient of place k."""
        (v, u), comp, col = ZIGZAG[k], self.plane.comp, self.plane.col
        r, d, rd = self.size(v, u + 1), self.size(v + 1, u), self.size(v + 1, u + 1)
        inside = 2 * (r + d) + rd + self.size(v, u + 2) + self.size(v + 2, u)
        inside += self.size(v - 1, u + 1) + self.size(v + 1, u - 1)
        near, around = self.sizes_near(v, u)
        both = log2(2 * near + 2 * inside + around, bits=3)
        near, inside, around = log2(near, 17), log2(inside, 15), log2(around, 15)
        total, apart = log2(self.total, 15), 16 * log2(self.apart, 12) + log2(self.theirs, 12)
        up, up1, over, over1 = self.guesses(v, u)
        half = self.has_left & self.has_above
        m = [up + over >> half, up1 + over1 >> half]
        beside = [block[8 * v + u] for block in (self.left, self.above, self.f, self.g)]
        signed = [log2(x, 15) for x in (up >> 1, over >> 1, up1 >> 1, over1 >> 1, *m, *beside)]
        signed += [log2(x, bits=3) for x in (*m, *beside[2:])]

        def ask(node: int, stage: int, sign: int) -> int:
            now = (sign * x if stage else abs(x) for x in signed)
            U, X, U1, X1, M, M1, l, t, f, g, N, N1, f1, g1 = now  # noqa: E741
            a, b, r7 = 4 * (64 * node + k) + comp, 4 * node + comp, 8 * min(r, 7)
            contexts = [(a, U, X), (a, U1, X1), (a, M, near), (a, M1, inside), (a, around, inside)]
            contexts += [(a, total, k - end), (a, l, t), (a, 32 * g + f, near >> 1), (a, M, M1)]
            contexts += [(a, r7 + min(d, 7), min(rd, 3)), (a, U, around), (a, X, around)]
            contexts += [(a, 32 * around + near, self.e_left >> 2), (b, both, 0), (b, both, M)]
            contexts += [(b, N, 0), (b, N1, both >> 1)]
            if self.others:
                contexts += [(a, f, M), (a, f, M1), (b, 32 * f + g, M1), (b, f1, both >> 1)]
                contexts += [(b, g1, both >> 1), (b, (f1, g1)[len(self.others) - 1], apart)]
            sets = k + 64 * stage + 256 * col, node + 32 * (near >> 1) + 288 * col
            places = *sets, inside + 16 * abs(M) + 256 * stage, node + 32 * col, 16 * node + inside
            return coder.decide(contexts, *places, 8 * k + min(near >> 1, 7))

        return ask

    def read_dc(self, coder: Coder, count: int) -> int:
        """Return DC; count: how many AC coefficients are not 0."""
        up, up1, over, over1 = self.guesses(0, 0)
        n = self.has_left + self.has_above
        m = (up + over + up1 + over1) // (2 * n) if n else 0
        guess = clip(m + 4 >> 3, 16384)
        left, above, *two = (block[0] for block in (self.left, self.above, self.f, self.g))
        spread = log2(abs(up - over) if n == 2 else 0, 20)
        slope, f, g = log2(abs(above - left), 20), *(log2(x, 15) for x in two)
        signed = [up1 + over1 - m * n, (left - guess) * self.has_left]
        signed = [log2(x, 15) for x in (*signed, (above - guess) * self.has_above)]
        total = log2(self.total, 15)

        def ask(node: int, stage: int, sign: int) -> int:
            a, (S, l, t) = 4 * node + self.plane.comp, (sign * x for x in signed)  # noqa: E741
            contexts = [(a, spread, 0), (a, spread, total), (a, l, t), (a, S, spread), (a, S, l)]
            contexts += [(a, S, t), (a, count, 0), (a, f, 0), (a, g, spread >> 1)]
            contexts += [(a, slope, spread >> 1)]
            sets = 640 + node, 640 + spread + 32 * stage, 1120 + count + 64 * stage
            return coder.decide(contexts, *sets, 80 + node, 576 + node, 576 + spread)

        return guess + number(ask, False)


def end_of(block: Values) -> int:
    """Return the last place in zigzag order that is not 0, DC apart."""
    return max(k for k, (v, u) in enumerate(ZIGZAG) if not k or block[8 * v + u])
