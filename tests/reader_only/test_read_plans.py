"""FORMAT.md is enough: deflate plans and the residues around them are read with NumPy and zlib.

Everything here was written from the text of manifests/FORMAT.md; what zlib's functions do, from
its trees.c. `sources/test_deflated_by_text.py` compares it with archiver.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_this_file_does_not_import_archiver() -> None:
    """The reader below owes nothing to the package."""
    lines = Path(__file__).read_text().splitlines()
    assert not [line for line in lines if line.startswith(("import archiver", "from archiver"))]


@pytest.mark.parametrize("raw", [b"", b"a", b"ab" * 40, bytes(range(256)) * 2])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_plan_by_hand_gives_a_stream(raw: bytes, kind: int) -> None:
    """One block of literals, as no archiver wrote it."""
    head = struct.pack("<BHBHHH", 1, 8, 3, 8, 8, 32767) + bytes(56)
    blocks = struct.pack("<IBIH", 1, kind + 4, len(raw), 0)
    assert zlib.decompress(replay(raw, head + blocks + bytes(8)), -15) == raw


class Cursor:
    """A residue or a plan, read from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        assert self.take("<B") == 1, "layout version"

    def bytes(self, count: int) -> bytes:
        assert count <= len(self.data) - self.at, "a field is cut"
        self.at += count
        return self.data[self.at - count : self.at]

    def fields(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))

    def take(self, form: str) -> int:
        return int(self.fields(form)[0])

    def column(self, count: int, form: str) -> list[int]:
        return [int(n) for n in np.frombuffer(self.bytes(count * int(form[1])), "<" + form)]

    def blob(self) -> bytes:
        return self.bytes(self.take("<Q"))

    def end(self) -> None:
        assert self.at == len(self.data), "bytes after the last field"


class Bits:
    """A deflate stream as it grows: its bits, lowest first."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, value: int, count: int) -> None:
        self.bits += [value >> i & 1 for i in range(count)]

    def put_code(self, code: tuple[int, int]) -> None:
        """Add a Huffman code, (value, length), from its highest bit."""
        assert code[1], "a symbol without a code"
        self.bits += [code[0] >> i & 1 for i in reversed(range(code[1]))]

    def align(self) -> None:
        self.bits += [0] * (-len(self.bits) % 8)

    def bytes(self) -> bytes:
        return np.packbits(np.array(self.bits, np.uint8), bitorder="little").tobytes()


class Matches:
    """Matches that the parameters of a plan let an encoder find."""

    def __init__(self, raw: bytes, depth: int, least: int, nice: int, window: int) -> None:
        self.raw, self.depth, self.least, self.nice, self.window = raw, depth, least, nice, window
        self.chains: dict[int, list[int]] = defaultdict(list)

    def hashed(self, p: int) -> int:
        x = int.from_bytes(self.raw[p : p + self.least], "little")
        return (x * 2654435761 % 2**32) >> 16

    def insert(self, p: int) -> None:
        self.chains[self.hashed(p)].append(p)

    def common(self, q: int, p: int, most: int) -> int:
        count = 0
        while count < most and self.raw[q + count] == self.raw[p + count]:
            count += 1
        return count

    def at(self, p: int) -> tuple[int, int]:
        """Length and distance of the match at p; (0, 0) if there is none."""
        best, left = (0, 0), min(258, len(self.raw) - p)
        if left < self.least:
            return best
        for q in self.chains[self.hashed(p)][: -self.depth - 1 : -1]:
            if p - q > self.window:
                break
            length = self.common(q, p, left)
            if length >= self.least and length > best[0]:
                best = (length, p - q)
                if length >= min(self.nice, left):
                    break
        return best

    def context(self, p: int, match: tuple[int, int], passed: bool) -> int:
        """The context of p with its match; ``passed``: the token before left its match."""
        length, distance = match
        steps = sum(n <= length for n in (12, 16, 32, 64, 128, 258))
        b = 0 if not length else length - 2 if length <= 8 else 7 + steps
        after = self.at(p + 1)[0] if length else 0
        a = min(1 + after - length, 3) if length and after >= length else 0
        s = self.least > 3 and length > 0 and self.shifts(p, length)
        return (((4 * b + a) * 2 + (distance > 4096)) * 2 + passed) * 2 + s

    def shifts(self, p: int, length: int) -> bool:
        """Whether the match after this one could begin earlier, at p + 1."""
        _, d = self.at(p + length)
        return 0 < d <= p + 1 and all(
            self.raw[i] == self.raw[i - d] for i in range(p + 1, p + length)
        )


LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99]
LENGTHS += [115, 131, 163, 195, 227, 258]
LENGTH_BITS = [0] * 8 + [i // 4 for i in range(4, 24)] + [0]
DISTANCES = [1, 2] + [1 + (2 + i % 2 << i // 2 - 1) for i in range(2, 30)]
DISTANCE_BITS = [0, 0] + [i // 2 - 1 for i in range(2, 30)]
ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
REPEATS = {16: (3, 2), 17: (3, 3), 18: (11, 7)}
FIXED = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 30


def symbols_of(length: int, distance: int) -> tuple[int, int]:
    """The symbols of a match, from 0 each."""
    ends = max(i for i, n in enumerate(LENGTHS) if n <= length)
    return ends, max(i for i, n in enumerate(DISTANCES) if n <= distance)


def codes_of(lengths: list[int]) -> list[tuple[int, int]]:
    """The canonical codes, (value, length), of code lengths."""
    codes, value = [(0, 0)] * len(lengths), 0
    for bits in range(1, 16):
        for symbol in [s for s, n in enumerate(lengths) if n == bits]:
            codes[symbol], value = (value, bits), value + 1
        value <<= 1
    return codes


def build_tree(counts: list[int], most: int) -> list[int]:
    """The code lengths of zlib, at most ``most``, up to its max_code."""
    heap = [0] + [n for n, count in enumerate(counts) if count]
    last, freq, depth = heap[-1] if len(heap) > 1 else -1, dict(enumerate(counts)), [0] * 600
    while len(heap) < 3:
        heap.append(last := last + 1) if last < 2 else heap.append(0)
        freq[heap[-1]] = 1

    def sift(k: int) -> None:
        v, j = heap[k], 2 * k
        while j < len(heap):
            if j + 1 < len(heap) and rank(heap[j + 1]) <= rank(heap[j]):
                j += 1
            if rank(v) <= rank(heap[j]):
                break
            heap[k], k, j = heap[j], j, 2 * j
        heap[k] = v

    def rank(n: int) -> tuple[int, int]:
        return freq[n], depth[n]

    for k in range((len(heap) - 1) // 2, 0, -1):
        sift(k)
    order, dad = [], {}
    for node in itertools.count(len(counts)):
        n, heap[1] = heap[1], heap[-1]
        heap.pop()
        sift(1)
        m = heap[1]
        order += [n, m]
        freq[node], depth[node] = freq[n] + freq[m], max(depth[n], depth[m]) + 1
        dad[n] = dad[m] = heap[1] = node
        sift(1)
        if len(heap) == 2:
            return gen_bitlen([*order, node], dad, last, most)
    raise AssertionError


def gen_bitlen(order: list[int], dad: dict[int, int], last: int, most: int) -> list[int]:
    """The code lengths of a tree whose nodes come in ``order``, the root last."""
    bits, over, counts = {order[-1]: 0}, 0, [0] * (most + 1)
    for n in order[-2::-1]:
        bits[n] = min(bits[dad[n]] + 1, most)
        over += bits[dad[n]] + 1 > most
        counts[bits[n]] += n <= last
    if not over:
        return [bits.get(n, 0) for n in range(last + 1)]
    while over > 0:
        short = max(i for i in range(most) if counts[i])
        counts[short] -= 1
        counts[short + 1] += 2
        counts[most] -= 1
        over -= 2
    leaves = iter([n for n in order if n <= last])
    found = {next(leaves): n for n in range(most, 0, -1) for _ in range(counts[n])}
    return [found.get(n, 0) for n in range(last + 1)]


def scan_tree(lengths: list[int]) -> list[tuple[int, int]]:
    """Code lengths as zlib sends them: symbols, each with what repeats."""
    sent, before = [], -1
    for value, group in itertools.groupby(lengths):
        left, before = len(list(group)), -1
        while left:
            most, least = (138, 3) if not value else (6, 3) if before == value else (7, 4)
            count = min(left, most)
            left -= count
            if count < least:
                sent += [(value, 0)] * count
            elif value:
                fresh = value != before
                sent += [(value, 0)] * fresh + [(16, count - fresh - 3)]
            else:
                sent.append((17, count - 3) if count <= 10 else (18, count - 11))
            before = value
    return sent


def send_all_trees(out: Bits, literals: list[int], distances: list[int]) -> None:
    sent = scan_tree(literals) + scan_tree(distances)
    counts = np.bincount([symbol for symbol, _ in sent], minlength=19)
    lengths = build_tree([int(n) for n in counts], 7)
    lengths += [0] * (19 - len(lengths))
    count = max([4] + [i + 1 for i, symbol in enumerate(ORDER) if lengths[symbol]])
    out.put(len(literals) - 257, 5)
    out.put(len(distances) - 1, 5)
    out.put(count - 4, 4)
    for symbol in ORDER[:count]:
        out.put(lengths[symbol], 3)
    codes = codes_of(lengths)
    for symbol, extra in sent:
        out.put_code(codes[symbol])
        out.put(extra, REPEATS.get(symbol, (0, 0))[1])


def stored_header(bits: list[int]) -> tuple[list[int], list[int]]:
    """The code lengths that a stored header states."""
    left = iter(bits)

    def number(count: int) -> int:
        return sum(next(left) << i for i in range(count))

    literals, distances, count = number(5) + 257, number(5) + 1, number(4) + 4
    lengths = [0] * 19
    for symbol in ORDER[:count]:
        lengths[symbol] = number(3)
    names = {code: symbol for symbol, code in enumerate(codes_of(lengths)) if code[1]}
    found: list[int] = []
    while len(found) < literals + distances:
        value, size = next(left), 1
        while (value, size) not in names:
            value, size = 2 * value + next(left), size + 1
        symbol = names[value, size]
        if symbol < 16:
            found.append(symbol)
        else:
            least, extra = REPEATS[symbol]
            found += [found[-1] if symbol == 16 else 0] * (least + number(extra))
    assert next(left, None) is None, "bits after a stored header"
    return found[:literals], found[literals:]


def send_tokens(out: Bits, tokens: list[tuple[int, int]], lengths: Any) -> None:
    """Add the tokens of a block, literals as (0, byte), and its end."""
    literals, distances = (codes_of([*n, *[0] * 300]) for n in lengths)
    for length, value in tokens:
        if not length:
            out.put_code(literals[value])
            continue
        i, j = symbols_of(length, value)
        out.put_code(literals[257 + i])
        out.put(length - LENGTHS[i], LENGTH_BITS[i])
        out.put_code(distances[j])
        out.put(value - DISTANCES[j], DISTANCE_BITS[j])
    out.put_code(literals[256])


def counted(tokens: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """The code lengths that zlib makes of the tokens of a block."""
    literals, distances = [0] * 286, [0] * 30
    literals[256] = 1
    for length, value in tokens:
        if length:
            i, j = symbols_of(length, value)
            literals[257 + i] += 1
            distances[j] += 1
        else:
            literals[value] += 1
    return build_tree(literals, 15), build_tree(distances, 15)


class Plan:
    """The fields of a plan, and the bytes that its stream inflates to."""

    def __init__(self, raw: bytes, data: bytes) -> None:
        plan = Cursor(data)
        depth, least, nice, self.inside, window = plan.fields("<HBHHH")
        assert depth <= 4096, "depth"
        assert least in (3, 4), "least"
        table = np.frombuffer(plan.bytes(56), np.uint8)
        self.table = np.unpackbits(table, bitorder="little")
        count = plan.take("<I")
        columns = (plan.column(count, form) for form in ("u1", "u4", "u2"))
        self.blocks = list(zip(*columns, strict=True))
        count = plan.take("<I")
        numbers, lengths, distances = (plan.column(count, form) for form in ("u4", "u2", "u2"))
        numbers = list(itertools.accumulate(numbers))
        assert len(set(numbers)) == count, "two exceptions for a token"
        tokens = [(n, d + (n > 0)) for n, d in zip(lengths, distances, strict=True)]
        self.exceptions = dict(zip(numbers, tokens, strict=True))
        headers = np.frombuffer(plan.bytes(plan.take("<I")), np.uint8)
        self.headers = [int(bit) for bit in np.unpackbits(headers, bitorder="little")]
        plan.end()
        self.raw, self.at, self.number = raw, 0, 0
        self.matches = Matches(raw, depth, least, nice, window + 1)

    def token(self, passed: bool) -> tuple[int, int, bool]:
        """The next token, a literal as (0, byte), and whether it left a match."""
        p = self.at
        match = self.matches.at(p)
        self.matches.insert(p)
        context = self.matches.context(p, match, passed)
        token = match if self.table[context] else (0, 0)
        length, distance = self.exceptions.pop(self.number, token)
        assert length in (0, *range(3, 259)), "length"
        assert distance in (range(1, 32769) if length else (0,)), "distance"
        self.number, self.at = self.number + 1, p + max(length, 1)
        assert self.at <= len(self.raw), "more than N bytes"
        if length <= self.inside:
            for q in range(p + 1, self.at):
                self.matches.insert(q)
        return length, distance or self.raw[p], match[0] > 0 and not length

    def stream(self) -> bytes:
        """The deflate stream."""
        out = Bits()
        for number, (kind, count, header) in enumerate(self.blocks):
            last = number == len(self.blocks) - 1
            assert kind in ((4, 5, 6) if last else (0, 1, 2)), "type of a block"
            out.put(last, 1)
            out.put(kind % 4, 2)
            if kind % 4 == 0:
                self.stored(out, count)
            else:
                self.coded(out, kind % 4, count, header)
        assert self.at == len(self.raw), "fewer than N bytes"
        assert not self.exceptions, "exceptions without a token"
        return out.bytes()

    def stored(self, out: Bits, count: int) -> None:
        assert count <= min(65535, len(self.raw) - self.at), "stored bytes"
        out.align()
        out.put(count, 16)
        out.put(count ^ 65535, 16)
        for p in range(self.at, self.at + count):
            out.put(self.raw[p], 8)
            self.matches.insert(p)
        self.at += count

    def coded(self, out: Bits, kind: int, count: int, header: int) -> None:
        tokens, passed = [], False
        for _ in range(count):
            length, value, passed = self.token(passed)
            tokens.append((length, value))
        lengths = FIXED
        if kind == 2 and header:
            bits, self.headers = self.headers[:header], self.headers[header:]
            out.bits += bits
            lengths = stored_header(bits)
        elif kind == 2:
            lengths = counted(tokens)
            send_all_trees(out, *lengths)
        send_tokens(out, tokens, lengths)


def replay(raw: bytes, data: bytes) -> bytes:
    """The deflate stream of a plan."""
    return Plan(raw, data).stream()
