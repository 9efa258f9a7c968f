"""The numbered contexts of FORMAT.md, evaluated as they stand there, decode coefficients of JPEGs.

What is around the tables is written from the pseudo-code, in whole numbers of Python alone.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import zstandard
from t81 import ZIGZAG, Block, Frame, dictionary

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "vectors" / "codec-v1"
TEXT = (ROOT.parent / "manifests" / "FORMAT.md").read_text()
Names = dict[str, Any]

SQUASH = {
    x: min(max(round(65536 / (1 + math.exp(-x / 256))), 16), 65520) for x in range(-2047, 2048)
}
STRETCH = [round(256 * math.log((i + 0.5) / (4095.5 - i))) for i in range(4096)]
STRETCH = [min(max(x, -2047), 2047) for x in STRETCH]
EDGE = [[362, 502, 473, 426, 362, 284, 196, 100], [362, 540, 612, 689, 724, 678, 530, 292]]
SECTIONS = {
    "E": "#### The end of a JPEG block",
    "A": "#### Contexts of AC",
    "D": "#### Contexts of DC",
}


def log2(x: int, bits: int = 2) -> int:
    """Return the place of a number on the scale of two steps an octave; 3 bits: of four."""
    b = max(x.bit_length() - bits, 0)
    return (b << bits - 1) + (x >> b)


def slog2(x: int) -> int:
    return min(log2(abs(x)), 15) * (1 if x > 0 else -1)


def slog4(x: int) -> int:
    return log2(abs(x), 3) * (1 if x > 0 else -1)


def expression(text: str) -> CodeType:
    """Compile a formula of the text: what stands side by side is multiplied."""
    text = re.sub(r"\\?\|(\w+)\\?\|", r"abs(\1)", text.strip())
    text = re.sub(r"\b(\d+) (?=[a-z(])", r"\1 * ", text)
    return compile(text, text, "eval")


class Tables:
    """The contexts, sets, blend and curves of a kind of decision, as FORMAT.md has them."""

    def __init__(self, kind: str) -> None:
        start = TEXT.index(SECTIONS[kind])
        part = TEXT[start : TEXT.index("\n####", start + 1)]
        numbered = re.findall(rf"\| {kind}(\d+) \| (\(.*?\)) (?=\|)", part)
        found = {int(number): expression(context) for number, context in numbered}
        assert sorted(found) == list(range(len(found)))
        self.contexts = [found[i] for i in range(len(found))]
        places = part[part.index("| sets | blend | curves |") :].split("\n\n")[0]
        rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in places.splitlines()[2:]]
        columns = zip(*rows, strict=True)
        self.sets, blend, curves = (
            [expression(cell) for cell in column if cell.strip()] for column in columns
        )
        self.places = [*blend, *curves]
        assert (len(self.sets), len(self.places)) == (3, 3)

    def evaluated(self, names: Names, count: int | None = None) -> tuple[list[Any], ...]:
        """Return contexts, sets, and blend and curves."""
        scope = {"log2": log2, "min": min, "abs": abs, **names}
        each = self.contexts[:count], self.sets, self.places
        return tuple([eval(code, {}, scope) for code in codes] for codes in each)


END, AC, DC = (Tables(kind) for kind in "EAD")


def slot(a: int, b: int, c: int) -> int:
    h = (2654435761 * a + 2246822519 * b + 3266489917 * c) % 2**32
    h ^= h >> 15
    h = 2246822519 * h % 2**32
    return (h ^ h >> 13) >> 14


def wrapped(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


class State:
    """The context state, and the range decoder of a stream."""

    def __init__(self, stream: bytes) -> None:
        self.slots: dict[tuple[int, ...], tuple[int, int]] = {}
        self.weights: dict[tuple[int, int], list[int]] = {}
        self.uses: Block = {}
        self.blends: dict[int, list[int]] = {}
        self.curves: dict[tuple[int, int], list[int]] = {}
        self.bytes = itertools.chain(stream, itertools.repeat(0))
        self.low, self.high, self.value = 0, 2**32 - 1, 0
        for _ in range(4):
            self.value = 256 * self.value + next(self.bytes)

    def bit(self, chance: int) -> int:
        d = self.high - self.low
        middle = self.low + (d >> 16) * chance + (d % 2**16 * chance >> 16)
        y = int(self.value <= middle)
        if y:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 24 == self.high >> 24:
            self.low, self.high = 256 * self.low % 2**32, 256 * self.high % 2**32 + 255
            self.value = 256 * self.value % 2**32 + next(self.bytes)
        return y

    def decide(self, contexts: list[Any], sets: list[int], places: list[int]) -> int:
        slots = [(i, slot(*context)) for i, context in enumerate(contexts)]
        known = [self.slots.get(place, (32768, 0)) for place in slots]
        x = [256]
        for p, n in known:
            t = (645 * min(n, 31) + 2) // (10 * min(n, 31) + 6)
            x += [STRETCH[p >> 4] * t >> 6, (p - 32768) * t >> 11]
        keys = list(enumerate(sets))
        weights = [self.weights.setdefault(key, [0, *[7864, 0] * 23]) for key in keys]
        sums = (sum(a * w for a, w in zip(x, row, strict=False)) >> 16 for row in weights)
        d = [min(max(s, -2047), 2047) for s in sums]
        blend = self.blends.setdefault(places[0], [21845] * 3)
        mixed = sum(a * b for a, b in zip(d, blend, strict=True)) >> 16
        mixed = min(max(mixed, -2047), 2047)
        k, f = (mixed + 2048) >> 7, (mixed + 2048) & 127
        knots = [SQUASH[min(max(128 * knot - 2048, -2047), 2047)] for knot in range(33)]
        curves = [self.curves.setdefault((e, places[1 + e]), list(knots)) for e in range(2)]
        q = sum((c[k] * (128 - f) + c[k + 1] * f) >> 7 for c in curves)
        y = self.bit(min(max((2 * SQUASH[mixed] + q) >> 2, 24), 65512))
        target = 65536 * y
        for c in curves:
            c[k + (f >> 6)] += (target - c[k + (f >> 6)]) >> 6
        for key, row, own in zip(keys, weights, d, strict=True):
            self.uses[key] = uses = min(self.uses.get(key, 0) + 1, 305)
            g = (target - SQUASH[own]) * (4 + 320 // (16 + uses)) >> 6
            for i, a in enumerate(x):
                row[i] = wrapped(row[i] + ((a * g + 2048) >> 12))
        for m, own in enumerate(d):
            step = (3 * own * (target - SQUASH[mixed]) + 2**17) >> 18
            blend[m] = wrapped(blend[m] + step)
        for place, (p, n) in zip(slots, known, strict=True):
            share = 327680 // (5 * n + 9)
            self.slots[place] = p + ((target - p) * share >> 16), min(n + 1, 127)
        return y


def number(known: bool, ask: Callable[[int, int, int], int]) -> int:
    if not known and not ask(0, 0, 1):
        return 0
    s, b = (-1 if ask(1, 1, 1) else 1), 0
    while b < 16 and ask(1 + min(b + 1, 12), 2, s):
        b += 1
    less = min(b, 1)
    for i in range(b - 2, -1, -1):
        nodes = {b - 2: 14 + min(b, 9), b - 3: 24 + min(i, 3)}
        less = 2 * less + ask(nodes.get(i, 28 + min(i, 3)), 3, s)
    return s * (less + 1)


class Grid:
    """The JPEG blocks of a JPEG component, each a mapping of (v, u); zero outside of it."""

    def __init__(self, rows: int, columns: int, steps: list[int]) -> None:
        self.rows, self.columns = rows, columns
        self.steps = dict(zip(ZIGZAG, steps, strict=True))
        self.blocks: dict[tuple[int, int], Block] = {}
        self.ends: Block = {}

    def at(self, row: int, column: int) -> Block:
        return self.blocks.get((row, column), {})


class Reader:
    """One JPEG block while it is read, with the names of the text."""

    def __init__(self, state: State, grids: list[Grid], place: tuple[int, int]) -> None:
        self.state, self.grid, self.place = state, grids[-1], place
        self.comp = min(len(grids) - 1, 3)
        self.names: Names = {"comp": self.comp, "col": min(self.comp, 1)}
        row, column = place
        offsets = {"L": (0, -1), "A": (-1, 0), "AL": (-1, -1), "AR": (-1, 1)}
        offsets |= {"LL": (0, -2), "AA": (-2, 0)}
        self.near = {n: self.grid.at(row + y, column + x) for n, (y, x) in offsets.items()}
        self.has_left, self.has_above = column > 0, row > 0
        self.seen = self._others(grids)
        self.own: Block = {}

    def _others(self, grids: list[Grid]) -> list[Block]:
        first, grid, (row, column) = grids[0], self.grid, self.place
        if grid is first or first.rows % grid.rows or first.columns % grid.columns:
            return []
        down, across = first.rows // grid.rows, first.columns // grid.columns
        covered = [
            first.at(down * row + y, across * column + x)
            for y, x in itertools.product(range(down), range(across))
        ]
        f = covered[0]
        if len(covered) > 1:
            sums = {p: sum(block.get(p, 0) for block in covered) for p in ZIGZAG}
            f = {p: (1 if s > 0 else -1) * (2 * abs(s) // len(covered)) for p, s in sums.items()}
        second = grids[1] if len(grids) == 3 else None
        if second and (second.rows, second.columns) == (grid.rows, grid.columns):
            return [f, second.at(row, column)]
        return [f]

    def read(self) -> Block:
        end = self._end()
        self.grid.ends[self.place] = self.end = end
        for k in range(end, 0, -1):
            self.own[ZIGZAG[k]] = number(k == end, self._ac(k))
        self.own[0, 0] = self._dc()
        return self.own

    def _end(self) -> int:
        ends, (y, x), names = self.grid.ends, self.place, self.names
        e_above = ends.get((y - 1, x), 0)
        e_left = ends.get((y, x - 1), e_above)
        e_above = e_above if self.has_above else e_left
        e_right, e_corner = ends.get((y - 1, x + 1), e_above), ends.get((y - 1, x - 1), e_left)
        last = [max((k for k in range(64) if o.get(ZIGZAG[k])), default=0) for o in self.seen]
        sums = [sum(abs(b.get(p, 0)) for p in ZIGZAG[1:]) for b in (self.near["L"], self.near["A"])]
        names |= dict(zip(("eF", "eG"), [*last, 0, 0], strict=False))
        names |= {"eL": e_left, "eA": e_above, "eR": e_right, "eC": e_corner}
        names |= {"e": (2 * e_left + 2 * e_above + e_right + e_corner) // 6}
        names |= {"sL": sums[0], "sA": sums[1], "z": log2(sum(sums))}
        node = 1
        for bit in range(5, -1, -1):
            here = {**names, "node": node, "bit": bit, "a": 4 * node + self.comp}
            node = 2 * node + self.state.decide(*END.evaluated(here))
        return node - 64

    def _guesses(self, v: int, u: int) -> list[int]:
        """Return up_0, up_1, across_0, across_1."""
        steps, above, left = self.grid.steps, self.near["A"], self.near["L"]
        found = [0] * 4
        for j in range(2):
            if self.has_above:
                bottom = sum(
                    above.get((i, u), 0) * steps[i, u] * EDGE[j][i] * (-1) ** i for i in range(8)
                )
                top = sum(self.own.get((i, u), 0) * steps[i, u] * EDGE[j][i] for i in range(8))
                found[j] = 8 * (bottom - top) // (EDGE[j][v] * steps[v, u])
            if self.has_left:
                right = sum(
                    left.get((v, i), 0) * steps[v, i] * EDGE[j][i] * (-1) ** i for i in range(8)
                )
                own = sum(self.own.get((v, i), 0) * steps[v, i] * EDGE[j][i] for i in range(8))
                found[2 + j] = 8 * (right - own) // (EDGE[j][u] * steps[v, u])
        return found

    def _ac(self, k: int) -> Callable[[int, int, int], int]:
        v, u = ZIGZAG[k]
        size = {name: abs(block.get((v, u), 0)) for name, block in self.near.items()}
        places = {"r": (0, 1), "d": (1, 0), "rd": (1, 1), "rr": (0, 2), "dd": (2, 0)}
        places |= {"ur": (-1, 1), "dl": (1, -1)}
        own = {n: abs(self.own.get((v + y, u + x), 0)) for n, (y, x) in places.items()}
        near = 13 * (size["L"] + size["A"]) + 3 * (size["AL"] + size["AR"])
        near = (near + 2 * (size["LL"] + size["AA"])) >> 2
        inside = 2 * (own["r"] + own["d"]) + sum(own[n] for n in ("rd", "rr", "dd", "ur", "dl"))
        around = sum(
            abs(self.near[n].get((v + y, u + x), 0))
            for n in "LA"
            for y, x in itertools.product((-1, 0, 1), repeat=2)
            if (v + y, u + x) != (0, 0)
        )
        so_far = ZIGZAG[k + 1 : self.end + 1]
        others = self.seen[-1] if self.seen else {}
        off = sum(abs(self.own[p] - others.get(p, 0)) for p in so_far)
        names = {**self.names, **own, "k": k, "end": self.end, "off": off}
        names |= {"near": min(log2(near), 17), "inside": min(log2(inside), 15)}
        names |= {"around": min(log2(around), 15), "both": log2(2 * near + 2 * inside + around, 3)}
        names |= {"sum": sum(abs(self.own[p]) for p in so_far)}
        names |= {"size": sum(abs(others.get(p, 0)) for p in so_far)}
        up, up1, across, across1 = self._guesses(v, u)
        half = int(self.has_left and self.has_above)
        m, m1 = (up + across) >> half, (up1 + across1) >> half
        f, g = ([o.get((v, u), 0) for o in self.seen] + [0, 0])[:2]
        signed = {"U": slog2(up >> 1), "X": slog2(across >> 1), "U1": slog2(up1 >> 1)}
        signed |= {"X1": slog2(across1 >> 1), "M0": slog2(m), "M1": slog2(m1), "N0": slog4(m)}
        signed |= {"N1": slog4(m1), "f2": slog2(f), "g2": slog2(g), "f4": slog4(f), "g4": slog4(g)}
        signed |= {
            "l": slog2(self.near["L"].get((v, u), 0)),
            "t": slog2(self.near["A"].get((v, u), 0)),
        }

        def ask(node: int, stage: int, s: int) -> int:
            here = {n: s * x if stage else abs(x) for n, x in signed.items()}
            here |= {"h": here["g4" if len(self.seen) == 2 else "f4"], "node": node, "stage": stage}
            here |= {"a": 4 * (64 * node + k) + self.comp, "b": 4 * node + self.comp}
            return self.state.decide(*AC.evaluated(names | here, None if self.seen else 17))

        return ask

    def _dc(self) -> int:
        up, up1, across, across1 = self._guesses(0, 0)
        n = self.has_left + self.has_above
        m = (up + across + up1 + across1) // (2 * n) if n else 0
        guess = min(max((m + 4) >> 3, -16384), 16384)
        left, above = (self.near[name].get((0, 0), 0) for name in "LA")
        f, g = ([o.get((0, 0), 0) for o in self.seen] + [0, 0])[:2]
        ac = [abs(x) for p, x in self.own.items() if p != (0, 0)]
        names = {**self.names, "spread": min(log2(abs(up - across)), 20) if n == 2 else 0}
        names |= {"slope": min(log2(abs(above - left)), 20), "sum": sum(ac)}
        names |= {"count": sum(x > 0 for x in ac), "f2": slog2(f), "g2": slog2(g)}
        signed = {"S": slog2(up1 + across1 - m * n), "l": slog2(left - guess) * self.has_left}
        signed |= {"t": slog2(above - guess) * self.has_above}

        def ask(node: int, stage: int, s: int) -> int:
            here = {name: s * x for name, x in signed.items()}
            here |= {"node": node, "stage": stage, "a": 4 * node + self.comp}
            return self.state.decide(*DC.evaluated(names | here))

        return guess + number(False, ask)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("grey", "cmyk", "wide", "apart")]


@pytest.mark.parametrize("name", ["full", "quarter", *SLOW])
def test_the_contexts_of_the_text_decode_a_tile(name: str) -> None:
    """Header, stream and the tables of FORMAT.md give the JPEG."""
    payload = (VECTORS / f"jpeg-{name}.tile").read_bytes()
    c, b, a = struct.unpack("<3I", payload[4:16])
    words = zstandard.ZstdCompressionDict(dictionary(), zstandard.DICT_TYPE_RAWCONTENT)
    both = zstandard.ZstdDecompressor(words).decompress(payload[16 : 16 + c], b + a)
    frame, state, grids = Frame(both[:b]), State(payload[16 + c :]), []
    for (rows, columns), steps in zip(frame.shapes, frame.steps, strict=True):
        grids.append(Grid(rows, columns, steps))
        for place in itertools.product(range(rows), range(columns)):
            grids[-1].blocks[place] = Reader(state, grids, place).read()
    jpeg = both[:b] + frame.scan([grid.blocks for grid in grids]) + both[b:]
    digest = (VECTORS / f"jpeg-{name}.sha256").read_text().strip()
    assert hashlib.sha256(payload[1:4] + jpeg).hexdigest() == digest
