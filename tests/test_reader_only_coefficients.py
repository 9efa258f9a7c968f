"""FORMAT.md is enough: coded coefficients of JPEG tiles are read with Python and NumPy alone.

Written from the text; only the tables of T.81 are taken, from a JPEG that Pillow writes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zstandard
from PIL import Image

VECTORS = Path(__file__).parent / "vectors" / "codec-v1"
TABLES = "58ab25bb52c2005dfae26023390f9ac1ba6cd61c21fe98da189ae8cc24e67c8f"
DICTIONARY = "19fa7c1a1fbcd8fe85c78210fe7c04e1c5e79a217394ff6a78607b7b7055a003"

ZIGZAG = sorted(np.ndindex(8, 8), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
ROWS, COLUMNS = np.array(ZIGZAG).T
CHANCES = 65536 / (1 + np.exp(np.arange(-2047, 2048) / -256))
SQUASH = [int(c) for c in np.clip(np.rint(CHANCES), 16, 65520)]  # of x, it is at x + 2047
LOGITS = 256 * np.log(np.arange(0.5, 4096) / np.arange(4095.5, 0, -1))
STRETCH = np.clip(np.rint(LOGITS), -2047, 2047).astype(np.int64)
TRUST = (645 * np.arange(32) + 2) // (10 * np.arange(32) + 6)
SHARE = 327680 // (5 * np.arange(128) + 9)
EDGES = "362 502 473 426 362 284 196 100 362 540 612 689 724 678 530 292"
EDGE = np.array(EDGES.split(), np.int64).reshape(2, 8)
FAR_EDGE = EDGE * (-1) ** np.arange(8)
HASH = np.array([2654435761, 2246822519, 3266489917])
SLOTS = np.arange(23) << 18
NAMES = "cmyk flat full grey noise quarter restarts tail wide restarts-each two factors uneven"
NAMES += " apart large primed-0+primed-1+primed-2"


@pytest.mark.parametrize("names", [*NAMES.split(), pytest.param("rgb", marks=pytest.mark.slow)])
def test_a_jpeg_tile_reads_from_the_text_alone(names: str) -> None:
    """The coefficients give the JPEG; each key is read by what the keys before it have left."""
    data = b"".join(scaled(t, t, q) for q in range(1, 101) for t in (0, 1))
    data += bytes.fromhex("FFD8FFE000104A46494600010100000100010000") + b"".join(tables_of_t81()[1])
    assert hashlib.sha256(data).hexdigest() == DICTIONARY
    words = zstandard.ZstdCompressionDict(data, zstandard.DICT_TYPE_RAWCONTENT)
    reader, coder = zstandard.ZstdDecompressor(words), Coder()
    for name in names.split("+"):
        payload = (VECTORS / f"jpeg-{name}.tile").read_bytes()
        c, b, a = struct.unpack("<3I", payload[4:16])
        head = reader.decompress(payload[16 : 16 + c], max_output_size=b + a)
        assert (payload[0], len(head)) == (5 if "+" in names else 3, b + a)
        jpeg = head[:b] + scan_of(head[:b], coder.begin(payload[16 + c :]), 16383) + head[b:]
        digest = (VECTORS / f"jpeg-{name}.sha256").read_text().strip()
        assert hashlib.sha256(payload[1:4] + jpeg).hexdigest() == digest


@pytest.mark.parametrize("name", ["grey", "full", "wide", "quarter", "rgb"])
def test_a_tile_born_as_jpeg_reads_from_the_text_alone(name: str) -> None:
    """The coefficients give a JPEG, which libjpeg decodes; with the rest it gives the samples."""
    payload = (VECTORS / f"born-bare-{name}.tile").read_bytes()
    digest, *sides = (VECTORS / f"born-bare-{name}.sha256").read_text().split()
    mode, row, column, *levels, n = struct.unpack("<BBB3BI", payload[:10])
    assert payload[10:14] + payload[10 + n : 11 + n] == b"\x07\0\0\0\x02"
    head = born_head(mode, *struct.unpack("<HHB", payload[14:19]))
    scan = scan_of(head, Coder().begin(payload[19 : 10 + n]), 1023)
    inside = np.atleast_3d(np.asarray(Image.open(io.BytesIO(head + scan + b"\xff\xd9"))))
    shape = tuple(map(int, sides))
    rest = zstandard.ZstdDecompressor().decompress(payload[11 + n :], int(np.prod(shape)))
    tile = np.frombuffer(rest, np.uint8).reshape(shape).copy()
    less = np.array(levels[: shape[2]], np.uint8)
    tile[row : row + len(inside), column : column + inside.shape[1]] += inside - less
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def test_the_tables_are_those_of_the_text() -> None:
    """The formulas give the bytes whose digest the text has."""
    data = b"".join(np.array(t, "<i4").tobytes() for t in (SQUASH, STRETCH, TRUST, SHARE, EDGE))
    assert hashlib.sha256(data).hexdigest() == TABLES


def log2(x: int, most: int = 99, bits: int = 2) -> int:
    """Return log2 or, with 3 bits, log4, of the magnitude, at most `most`, with the sign."""
    b = max(x.bit_length() - bits, 0)
    return min((b << bits - 1) + (abs(x) >> b), most) * (1 if x > 0 else -1)


class Coder:
    """The memory, and the range coder of one stream after the other."""

    def __init__(self) -> None:
        self.chances, self.counts = np.full(23 << 18, 32768), np.zeros(23 << 18, np.int64)
        self.weights = np.zeros((3 * 1376, 47), np.int32)
        self.weights[:, 1::2] = 7864
        self.uses, self.blends = [0] * (3 * 1376), [[21845] * 3 for _ in range(112)]
        knots = [SQUASH[max(0, min(4094, 128 * j - 1))] for j in range(33)]
        self.curves = [list(knots) for _ in range(2 * 608)]

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

    def decide(self, contexts: list[tuple[int, int, int]], *places: int) -> int:
        """Return a decision and learn from it; places: three sets, a blend, two curves."""
        h = (np.array(contexts) @ HASH).astype(np.uint32)
        h = (h ^ h >> 15) * np.uint32(HASH[1])
        slots = ((h ^ h >> 13) >> 14) + SLOTS[: len(h)]
        p, n = self.chances.take(slots), self.counts.take(slots)
        t = TRUST.take(np.minimum(n, 31))
        x = np.zeros(47, np.int64)  # of inputs that there are not, weights do not grow
        x[0], x[1 : 2 * len(h) : 2] = 256, STRETCH.take(p >> 4) * t >> 6
        x[2 : 2 * len(h) + 1 : 2] = (p - 32768) * t >> 11
        sets = [places[0], places[1] + 1376, places[2] + 2752]
        weights, blend = self.weights.take(sets, 0), self.blends[places[3]]
        mixed = [max(-2047, min(2047, d >> 16)) for d in (weights @ x).tolist()]
        d = max(-2047, min(2047, sum(map(int.__mul__, mixed, blend)) >> 16))
        k, f = divmod(d + 2048, 128)
        curves = self.curves[places[4]], self.curves[places[5] + 608]
        q = sum(knots[k] * (128 - f) + knots[k + 1] * f >> 7 for knots in curves)
        y = self.bit(max(24, min(65512, 2 * SQUASH[d + 2047] + q >> 2)))
        for knots in curves:
            knots[k + (f >> 6)] += 65536 * y - knots[k + (f >> 6)] >> 6
        g = []
        for i, m in enumerate(mixed):
            self.uses[sets[i]] += 1
            rate = 4 + 320 // (16 + self.uses[sets[i]])
            g.append([(65536 * y - SQUASH[m + 2047]) * rate >> 6])
            blend[i] += m * (65536 * y - SQUASH[d + 2047]) * 3 + 2**17 >> 18
        self.weights[sets] = weights + (x * np.array(g) + 2048 >> 12)
        self.chances[slots] = np.minimum(p + ((65536 * y - p) * SHARE.take(n) >> 16), 65535)
        self.counts[slots] = np.minimum(n + 1, 127)
        return y


def number(ask: Callable[[int, int, int], int], known: bool) -> int:
    """Return a number; ask: decides, of a node, a stage and a sign; known: that it is not 0."""
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
    """The coefficients of a component, with zeros around them; others: F, or F and G, or none."""

    def __init__(self, before: list[Plane], rows: int, columns: int, steps: np.ndarray) -> None:
        self.comp, self.col, self.steps = min(len(before), 3), min(len(before), 1), steps
        self.padded = np.zeros((rows + 2, columns + 3, 8, 8), np.int64)
        self.blocks, self.others = self.padded[2:, 2:-1], [p.blocks for p in before[:2]]
        self.ends: dict[tuple[int, int], int] = {}
        high, wide = before[0].blocks.shape[:2] if before else (0, 0)
        if high % rows or wide % columns:
            self.others = []
        elif high * wide > rows * columns:
            parts = self.others[0].reshape(rows, high // rows, columns, wide // columns, 8, 8)
            s, n = parts.sum((1, 3)), high // rows * (wide // columns)
            self.others[0] = np.sign(s) * (2 * np.abs(s) // n)
        if len(before) != 2 or before[1].blocks.shape != self.blocks.shape:
            del self.others[1:]


class Block:
    """One block while it is read."""

    def __init__(self, plane: Plane, row: int, column: int) -> None:
        self.plane, self.at, self.own = plane, (row, column), plane.blocks[row, column]
        self.has_above, self.has_left = row > 0, column > 0
        places = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
        blocks = [plane.padded[row + 2 + y, column + 2 + x] for y, x in places]
        self.left, self.above = blocks[:2]
        sizes = [abs(b) for b in blocks]
        self.near = (13 * sum(sizes[:2]) + 3 * sum(sizes[2:4]) + 2 * sum(sizes[4:])) // 4
        self.sides = [int(s.sum() - s[0, 0]) for s in sizes[:2]]
        grid = np.pad(sizes[0] + sizes[1], 1)
        grid[1, 1] = 0
        self.around = np.sum([grid[y : y + 8, x : x + 8] for y, x in np.ndindex(3, 3)], 0)
        self.others = [o[row, column] for o in plane.others]
        self.f, self.g = [*self.others, *[np.zeros((8, 8), np.int64)] * 2][:2]
        self.bottom = FAR_EDGE @ (self.above * plane.steps)
        self.right = FAR_EDGE @ (self.left * plane.steps).T
        self.size = np.zeros((11, 11), np.int64)  # magnitudes, from row and column -1 on
        self.total, self.apart, self.theirs = 0, 0, 0  # the last two, of the last of others

    def read(self, coder: Coder) -> None:
        """Read the coefficients."""
        self.plane.ends[self.at] = end = self.read_end(coder)
        for k in range(end, 0, -1):
            v, u = ZIGZAG[k]
            value = number(self.ac(coder, k, end), k == end)
            self.own[v, u], self.size[v + 1, u + 1] = value, abs(value)
            self.total += abs(value)
            for other in self.others[-1:]:
                self.apart += abs(value - int(other[v, u]))
                self.theirs += abs(int(other[v, u]))
        self.own[0, 0] = self.read_dc(coder)

    def read_end(self, coder: Coder) -> int:
        """Return `end`."""
        ends, col, (y, x) = self.plane.ends, self.plane.col, self.at
        e_above = ends.get((y - 1, x), ends.get((y, x - 1), 0))
        self.e_left = e_left = ends.get((y, x - 1), e_above)
        e_right = ends.get((y - 1, x + 1), e_above)
        e = (2 * e_left + 2 * e_above + e_right + ends.get((y - 1, x - 1), e_left)) // 6
        e_f, e_g = (max([0, *np.flatnonzero(o[ROWS, COLUMNS])]) for o in (self.f, self.g))
        z, (z_left, z_above) = log2(sum(self.sides)), map(log2, self.sides)
        pairs = [(e, 0), (e_left >> 1, e_above >> 1), (e_left, 0), (e_above, 0)]
        pairs += [(e_right + e_above >> 2, e_left >> 2), (e_f >> 1, e >> 2), (e_g >> 1, e_f >> 2)]
        pairs += [(z_left, z_above), (z, e >> 2), (0, 0)]
        node = 1
        for bit in range(5, -1, -1):
            sets = 512 + node + 64 * col, 576 + (e >> 1) + 32 * col, 1024 + 16 * bit + min(z, 15)
            contexts = [(4 * node + self.plane.comp, b, c) for b, c in pairs]
            node = 2 * node + coder.decide(contexts, *sets, 64 + bit, 512 + node, 512 + e)
        return node - 64

    def guesses(self, v: int, u: int) -> tuple[int, ...]:
        """Return `up_0`, `up_1`, `across_0`, `across_1`."""
        step, known = int(self.plane.steps[v, u]), self.own * self.plane.steps
        up = 8 * (self.bottom[:, u] - EDGE @ known[:, u]) // (EDGE[:, v] * step)
        over = 8 * (self.right[:, v] - EDGE @ known[v]) // (EDGE[:, u] * step)
        return (*(up * self.has_above).tolist(), *(over * self.has_left).tolist())

    def ac(self, coder: Coder, k: int, end: int) -> Callable[[int, int, int], int]:
        """Return what decides the AC coefficient of place k."""
        (v, u), comp, col = ZIGZAG[k], self.plane.comp, self.plane.col
        size = self.size[v : v + 4, u : u + 4].tolist()
        (_, _, ur, _), (_, _, r, rr), (dl, d, rd, _), (_, dd, _, _) = size
        inside = 2 * (r + d) + rd + rr + dd + ur + dl
        near, around = int(self.near[v, u]), int(self.around[v, u])
        both = log2(2 * near + 2 * inside + around, bits=3)
        near, inside, around = log2(near, 17), log2(inside, 15), log2(around, 15)
        total, apart = log2(self.total, 15), 16 * log2(self.apart, 12) + log2(self.theirs, 12)
        up, up1, over, over1 = self.guesses(v, u)
        half = int(self.has_left and self.has_above)
        m = [up + over >> half, up1 + over1 >> half]
        beside = [int(b[v, u]) for b in (self.left, self.above, self.f, self.g)]
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

    def read_dc(self, coder: Coder) -> int:
        """Return DC."""
        up, up1, over, over1 = self.guesses(0, 0)
        n = self.has_left + self.has_above
        m = (up + over + up1 + over1) // (2 * n) if n else 0
        guess = max(-16384, min(16384, m + 4 >> 3))
        left, above, *two = (int(b[0, 0]) for b in (self.left, self.above, self.f, self.g))
        spread = log2(abs(up - over) if n == 2 else 0, 20)
        slope, f, g = log2(abs(above - left), 20), *(log2(x, 15) for x in two)
        signed = [up1 + over1 - m * n, (left - guess) * self.has_left]
        signed = [log2(x, 15) for x in (*signed, (above - guess) * self.has_above)]
        count, total = int(np.count_nonzero(self.size)), log2(self.total, 15)

        def ask(node: int, stage: int, sign: int) -> int:
            a, (S, l, t) = 4 * node + self.plane.comp, (sign * x for x in signed)  # noqa: E741
            contexts = [(a, spread, 0), (a, spread, total), (a, l, t), (a, S, spread), (a, S, l)]
            contexts += [(a, S, t), (a, count, 0), (a, f, 0), (a, g, spread >> 1)]
            contexts += [(a, slope, spread >> 1)]
            sets = 640 + node, 640 + spread + 32 * stage, 1120 + count + 64 * stage
            return coder.decide(contexts, *sets, 80 + node, 576 + node, 576 + spread)

        return guess + number(ask, False)


def scan_of(head: bytes, coder: Coder, most: int) -> bytes:
    """Return the scan that T.81 writes of the coefficients; head: the JPEG's bytes before it."""
    found: dict[int, bytes] = {}  # what segments of a kind hold, together
    for segment in segments(head):
        found[segment[1]] = found.get(segment[1], b"") + segment[4:]
    steps, codes, data = {}, {}, found[0xDB]
    while data:
        n = 64 * (1 + (data[0] >> 4))
        steps[data[0] & 15] = table = np.zeros((8, 8), np.int64)
        table[ROWS, COLUMNS] = np.frombuffer(data[1 : 1 + n], f">u{n // 64}")
        data = data[1 + n :]
    data = found[0xC4]
    while data:
        sizes = [n for n in range(1, 17) for _ in range(data[n])]
        starts = itertools.accumulate((2**-n for n in sizes), initial=0.0)
        rows = zip(data[17:], sizes, starts, strict=False)
        codes[data[0]] = {symbol: f"{int(start * 2**n):0{n}b}" for symbol, n, start in rows}
        data = data[17 + len(sizes) :]
    frame = found.get(0xC0) or found[0xC1]
    factors = [(x & 15, x >> 4) if frame[5] > 1 else (1, 1) for x in frame[7::3]]
    sides = struct.unpack(">HH", frame[1:5])
    high, wide = (-(-s // (8 * max(f[i] for f in factors))) for i, s in enumerate(sides))
    planes: list[Plane] = []
    for (v, h), i in zip(factors, frame[8::3], strict=True):
        planes.append(Plane(planes[:], high * v, wide * h, steps[i]))
        for row, column in np.ndindex(high * v, wide * h):
            Block(planes[-1], row, column).read(coder)
        assert abs(planes[-1].blocks).max() <= most
    tables = [(codes[x >> 4], codes[16 + (x & 15)]) for x in found[0xDA][2:-3:2]]
    mcus, out = list(np.ndindex(high, wide)), b""
    step = int.from_bytes(found.get(0xDD, b""), "big") or len(mcus)
    for start in range(0, len(mcus), step):
        bits, guess = "", [0] * 4
        for (row, column), c in itertools.product(mcus[start : start + step], range(len(planes))):
            v, h = factors[c]
            for y, x in np.ndindex(v, h):
                block = planes[c].blocks[row * v + y, column * h + x]
                dc, *acs = block[ROWS, COLUMNS].tolist()
                bits += block_bits(dc - guess[c], acs, *tables[c])
                guess[c] = dc
        bits += "1" * (-len(bits) % 8)
        out += bytes([0xFF, 0xD0 + (start // step - 1) % 8]) if start else b""
        out += int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return out


def segments(data: bytes) -> Iterator[bytes]:
    """Yield the segments after SOI, SOS last."""
    at, marker = 2, 0
    while marker != 0xDA:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker != 0xFF:
            yield data[at:end]
        at = end if marker != 0xFF else at + 1


def block_bits(dc: int, acs: list[int], *tables: dict[int, str]) -> str:
    """Return a block's bits."""
    bits, run = "", 0
    for k, value in enumerate([dc, *acs]):
        if value or not k:
            size, table = abs(value).bit_length(), tables[min(k, 1)]
            bits += "".join(table[0xF0] for _ in range(run // 16)) + table[run % 16 * 16 + size]
            bits += f"{value + (value < 0) * (2**size - 1):0{size}b}" if size else ""
        run = 0 if value or not k else run + 1
    return bits + (tables[1][0] if run else "")


@functools.cache
def tables_of_t81() -> tuple[list[bytes], list[bytes]]:
    """Return K.1 and K.2, in zigzag order, and DHT of K.3, K.5, K.4 and K.6."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=50)
    found = list(segments(stream.getvalue()))
    return [s[5:] for s in found if s[1] == 0xDB], [s for s in found if s[1] == 0xC4]


def scaled(table: int, base: int, quality: int) -> bytes:
    """Return DQT of K.1 or K.2, scaled."""
    p = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [max(1, min(255, (s * p + 50) // 100)) for s in tables_of_t81()[0][base]]
    return bytes([0xFF, 0xDB, 0, 67, table, *steps])


def born_head(mode: int, height: int, width: int, quality: int) -> bytes:
    """Return the bytes before the scan of a JPEG that a tile was born as."""
    n, first = (3 if mode else 1), {2: 0x21, 3: 0x22}.get(mode, 0x11)
    head = b"\xff\xd8" + (b"\xff\xee\0\x0eAdobe\0\x64" + bytes(5) if mode == 4 else b"")
    head += scaled(0, 0, quality & 127)
    head += scaled(1, quality >> 7, quality & 127) if mode else b""
    head += struct.pack(">HHBHHB", 0xFFC0, 8 + 3 * n, 8, height, width, n)
    head += bytes([1, first, 0, 2, 0x11, 1, 3, 0x11, 1][: 3 * n])
    head += b"\xff\xc4\0\x1f\0" + bytes([0, 0, 0, 12, *bytes(12), *range(12)])
    symbols = sorted(tables_of_t81()[1][1][21:])
    head += b"\xff\xc4\0\xb5\x10" + bytes([*bytes(7), 162, *bytes(8), *symbols])
    head += struct.pack(">HHB", 0xFFDA, 6 + 2 * n, n) + bytes([1, 0, 2, 0, 3, 0][: 2 * n])
    return head + b"\0\x3f\0"
