"""FORMAT.md is enough: codestreams of JPEG 2000 come from samples and plans, with NumPy.

The reader owes nothing to archiver, which one test asks for plans of what OpenJPEG wrote.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_read_plans import Cursor

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]
Bands = list[tuple[str, Pair, Array]]  # name, first row and column, coefficients
Tree = dict[tuple[int, int, int], list[int]]  # least values of nodes, and whether they have them


def smooth(height: int, width: int, channels: int = 1, top: int = 255) -> Array:
    """An image that compresses: waves and a little noise."""
    y, x, c = np.ogrid[:height, :width, :channels]
    waves = 0.5 + 0.2 * np.sin(y / 9 + c) + 0.2 * np.cos(x / 7 - y / 20)
    noise = np.random.default_rng(8).normal(0, top / 400, waves.shape)
    return (waves * top + noise).astype("u1" if top < 256 else "u2").squeeze()


SMALL = {"codeblock_size": (16, 16), "num_resolutions": 3}
PRECINCTS = {"precinct_size": (32, 32), **SMALL}
ODD = {"offset": (5, 3), "tile_size": (67, 43), "tile_offset": (3, 1), **PRECINCTS}
CASES: dict[str, tuple[Array, dict[str, Any]]] = {
    "grey": (smooth(40, 37), {}),
    "colours": (smooth(33, 70, 3), {"mct": 1, "progression": "RPCL", **PRECINCTS}),
    "uint16": (smooth(40, 37, top=4095), {"progression": "RLCP", "num_resolutions": 1}),
    "layers": (smooth(90, 90), {"quality_layers": [40, 20, 9, 4, 1], **SMALL}),
    "tiles": (smooth(70, 81, 3), {"tile_size": (32, 32), "progression": "CPRL", **SMALL}),
    "offsets": (smooth(77, 66), {"progression": "PCRL", **ODD}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plan_and_samples_give_the_codestream(name: str) -> None:
    """A codestream of OpenJPEG, and one with other ends of blocks, come back from their plans."""
    from archiver.sources.jpeg2000 import plan

    samples, options = CASES[name]
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "JPEG2000", irreversible=False, no_jp2=True, **options)
    stream = file.getvalue()
    rows = samples.reshape(len(samples), -1).view(np.uint8)
    found = plan.find(rows, stream) or b""
    assert 0 < len(found) < len(stream) / 2
    assert codestream(rows, found) == stream
    at = 9 + int.from_bytes(found[1:9], "little")
    n = int.from_bytes(found[at : at + 4], "little")
    tails = b"\1" * n + struct.pack("<Q", n) + bytes(range(n))
    other = codestream(rows, found[: at + 4] + tails)
    assert codestream(rows, plan.find(rows, other) or b"") == other != stream


@pytest.mark.parametrize("style", [0, 2, 8, 16, 32, 58])
def test_a_plan_by_hand_gives_a_codestream(style: int) -> None:
    """OpenJPEG reads one block in each style that is allowed, as no archiver wrote it."""
    samples = smooth(18, 13)
    code = Coder(samples.astype(int) - 128, "LL", style).code(19)
    packet = int(f"110111110110110{len(code):08b}0", 2).to_bytes(3, "big")
    start = b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 41, 0, 13, 18, 0, 0, 13, 18, 0, 0, 1)
    start += b"\7\1\1\xff\x52\0\x0c\0\0\0\1\0\0\4\4" + bytes([style, 1])
    start += b"\xff\x5c\0\4\x20\x40\xff\x90\0\x0a\0\0" + struct.pack(">I", 17 + len(code))
    start += b"\0\1\xff\x93" + packet
    data = struct.pack("<BQ", 1, len(start) + 2) + start + b"\xff\xd9"
    stream = codestream(samples, data + struct.pack("<IBQ", 1, 2, 2) + code[-2:])
    assert stream == start + code + b"\xff\xd9"
    with Image.open(io.BytesIO(stream)) as image:
        assert np.array_equal(np.asarray(image), samples)


def lift(x: Array, start: int) -> tuple[Array, Array]:
    """Low and high coefficients of columns whose first row has the number ``start``."""
    odd, n = start % 2, len(x)
    if n < 2:
        return (x << odd)[odd:], (x << odd)[1 - odd :]
    y = np.pad(x, [(2 + odd, 2 + (1 + odd + n) % 2), (0, 0)], "reflect")
    y[1::2] -= (y[:-2:2] + y[2::2]) >> 1
    y[2:-1:2] += (y[1:-2:2] + y[3::2] + 2) >> 2
    return y[2 + 2 * odd : 2 + odd + n : 2], y[3 : 2 + odd + n : 2]


def resolutions(x: Array, top: int, left: int, levels: int) -> list[tuple[Pair, Pair, Bands]]:
    """Resolutions of a channel of a tile, the lowest first: first row and column, size, bands."""
    if not levels:
        return [((top, left), x.shape, [("LL", (top, left), x)])]
    low, high = lift(x, top)
    (ll, hl), (lh, hh) = (lift(half.T, left) for half in (low, high))
    y, x_, y_high, x_high = -(-top // 2), -(-left // 2), top // 2, left // 2
    bands = [("HL", (y, x_high), hl.T), ("LH", (y_high, x_), lh.T), ("HH", (y_high, x_high), hh.T)]
    return [*resolutions(ll.T, y, x_, levels - 1), ((top, left), x.shape, bands)]


class Bits:
    """The bits of packet headers, in which a byte after 0xFF has seven."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at, self.left, self.byte = data, at, 0, 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            if not self.left:
                self.left = 7 if self.byte == 0xFF else 8
                self.byte, self.at = self.data[self.at], self.at + 1
            self.left -= 1
            value = 2 * value + (self.byte >> self.left & 1)
        return value

    def passes(self) -> int:
        """A number of coding passes (table B.4)."""
        for base, count in ((1, 1), (2, 1), (3, 2), (6, 5)):
            if (value := self.take(count)) < (1 << count) - 1:
                return base + value
        return 37 + self.take(7)


@dataclass(eq=False)
class Block:
    """A code-block, its row and column in a precinct, and what packets said of it so far."""

    values: Array
    band: str
    place: Pair
    levels: int
    trees: tuple[Tree, Tree]  # of the layers that name blocks first, of the planes of zeros
    size, passes, length_bits = 0, 0, 3

    def below(self, bits: Bits, tree: Tree, most: int) -> bool:
        """Whether the value of a tag tree (B.10.2) here is below ``most``."""
        least = 0
        for level in reversed(range(self.levels)):
            node = tree[level, self.place[0] >> level, self.place[1] >> level]
            least = max(node[0], least)
            while least < most and not node[1]:
                node[1] = bits.take(1)
                least += not node[1]
            node[0] = least
        return least < most

    def read(self, bits: Bits, layer: int) -> int:
        """The number of bytes that a packet adds."""
        if not (bits.take(1) if self.passes else self.below(bits, self.trees[0], layer + 1)):
            return 0
        assert self.passes or self.below(bits, self.trees[1], 38), "planes of zeros"
        passes = bits.passes()
        while bits.take(1):
            self.length_bits += 1
        count = bits.take(self.length_bits + passes.bit_length() - 1)
        self.passes, self.size = self.passes + passes, self.size + count
        return count


Packet = tuple[tuple[int, ...], int, list[Block]]  # its place in the order, layer, blocks
ORDERS = ("lrcyx", "rlcyx", "ryxcl", "yxcrl", "cyxrl")
Part = tuple[int, list[tuple[Block, int]]]  # where a packet header ends, bytes of blocks


def pieces(start: int, size: int, log: int, inner: int, number: int) -> list[slice]:
    """What blocks cut out of a side of a band, inside a precinct."""
    a, b = max(start, number << inner), min(start + size, number + 1 << inner)
    numbers = range(a >> log, -(-b >> log)) if a < b else range(0)
    return [slice(max(n << log, a) - start, min(n + 1 << log, b) - start) for n in numbers]


def precinct(bands: Bands, logs: list[int], inner: list[int], place: Pair) -> list[Block]:
    """The blocks of a precinct."""
    found = []
    for name, corner, values in bands:
        rows, columns = map(pieces, corner, values.shape, logs, inner, place)
        trees: tuple[Tree, Tree] = defaultdict(lambda: [0, 0]), defaultdict(lambda: [0, 0])
        levels = max(len(rows) - 1, len(columns) - 1, 0).bit_length() + 1
        for (i, y), (j, x) in itertools.product(enumerate(rows), enumerate(columns)):
            found.append(Block(values[y, x], name, (i, j), levels, trees))
    return found


def read_tiles(siz: bytes, cod: bytes, rows: Array) -> Iterator[list[Packet]]:
    """The packets of each tile, of what SIZ and COD say."""
    _, right, below, x, y, across, down, x0, y0, channels = struct.unpack(">H8IH", siz[:36])
    assert siz[36:] == bytes([siz[36], 1, 1]) * channels, "channels"
    signed, bits = siz[36] > 127, siz[36] % 128 + 1
    assert bits <= 16, "bits"
    samples = np.frombuffer(rows.tobytes(), f"<{'ui'[signed]}{1 + (bits > 8)}").astype(int)
    samples = samples.reshape(below - y, right - x, channels) - (0 if signed else 1 << bits - 1)
    for top, left in itertools.product(range(y0, below, down), range(x0, right, across)):
        a, b = max(top, y), max(left, x)
        part = samples[a - y : top + down - y, b - x : left + across - x]
        yield list(read_tile(cod, [*np.moveaxis(part, 2, 0)], a, b))


def read_tile(cod: bytes, planes: list[Array], top: int, left: int) -> Iterator[Packet]:
    """The packets of a tile, by channel, resolution and precinct."""
    coded, order, _, _, colour, levels, log_x, log_y, style, wavelet = cod[:10]
    assert (coded & 6, style & ~58, wavelet) == (0, 0, 1), "SOP, EPH, style or wavelet"
    if colour:
        red, green, blue = planes[:3]
        planes[:3] = (red + 2 * green + blue) >> 2, blue - green, red - green
    for c, plane in enumerate(planes):
        for r, (corner, size, bands) in enumerate(resolutions(plane, top, left, levels)):
            logs = divmod(cod[10 + r] if coded & 1 else 255, 16)
            inner = [log - (r > 0) for log in logs]
            logs_block = [min(inner[0], log_y + 2), min(inner[1], log_x + 2)]
            sides = zip(corner, size, logs, strict=True)
            counts = [range(n >> log, -(-n - m >> log)) for n, m, log in sides]
            for i, j in itertools.product(*counts) if all(size) else ():
                found = precinct(bands, logs_block, inner, (i, j))
                y, x = i << logs[0] + levels - r, j << logs[1] + levels - r
                for layer in range(int.from_bytes(cod[2:4], "big")):
                    places = {"l": layer, "r": r, "c": c, "y": max(y, top), "x": max(x, left)}
                    yield tuple(places[n] for n in ORDERS[order]), layer, found


def codestream(rows: Array, data: bytes) -> bytes:
    """The codestream of a plan of JPEG 2000."""
    plan = Cursor(data)
    skeleton = plan.blob()
    lengths, tails = plan.bytes(plan.take("<I")), io.BytesIO(plan.blob())
    plan.end()
    assert sum(lengths) == len(tails.getvalue()), "tails"
    assert skeleton[:2] == b"\xff\x4f", "SOC"
    found, at = markers(skeleton, 2, 0xFF90, "51 52 5c 64 63 55 57 58")
    tiles = list(read_tiles(found[0xFF51], found[0xFF52], rows))
    parts = list(read_packets(skeleton, at, tiles))
    blocks = dict.fromkeys(block for tile in tiles for _, _, some in tile for block in some)
    codes = {}
    for block, length in zip([b for b in blocks if b.size], lengths, strict=True):
        code = Coder(block.values, block.band, found[0xFF52][8]).code(block.passes)
        assert length <= block.size <= len(code) + length, "tail"
        codes[block] = io.BytesIO(code[: block.size - length] + tails.read(length))
    out, at = b"", 0
    for end, named in parts:
        out += skeleton[at:end] + b"".join(codes[block].read(n) for block, n in named if n)
        at = end
    return out + skeleton[at:]


def markers(data: bytes, at: int, last: int, allowed: str) -> tuple[dict[int, bytes], int]:
    """Marker segments up to a marker, and where that is."""
    found = {}
    while (name := int.from_bytes(data[at : at + 2], "big")) != last:
        assert name in [0xFF00 + n for n in bytes.fromhex(allowed)], "marker"
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        found[name], at = data[at + 4 : at + 2 + size], at + 2 + size
    return found, at


def read_packets(skeleton: bytes, at: int, tiles: list[list[Packet]]) -> Iterator[Part]:
    """Where each packet header of the skeleton ends, with the blocks and bytes it names."""
    orders = [iter(sorted(tile, key=lambda packet: packet[0])) for tile in tiles]
    while skeleton[at : at + 2] == b"\xff\x90":
        tile, size = struct.unpack_from(">HI", skeleton, at + 4)
        assert size, "a tile-part of unknown length, which is not read here"
        end, at = at + size, markers(skeleton, at + 12, 0xFF93, "5c 64 58")[1] + 2
        while at < end:
            _, layer, blocks = next(orders[tile])
            bits = Bits(skeleton, at)
            named = [(block, block.read(bits, layer)) for block in (blocks if bits.take(1) else [])]
            at = bits.at + (bits.byte == 0xFF)
            end -= sum(count for _, count in named)
            yield at, named
        assert at == end, "a tile-part ends in a packet"
    assert skeleton[at : at + 2] == b"\xff\xd9", "EOC"


QE = "560134011801 0AC105210221560154014801380130012401 1C011601560154015101480138013401 3001"
QE += "28012401 22011C01180116011401120111010AC109C108A10521044102A1022101410111008500490025"
QES = struct.unpack(">47H", bytes.fromhex(QE + "00150009000500015601"))
NEXT = [1, 2, 3, 4, 5, 38, 7, 8, 9, 10, 11, 12, 13, 29, *range(15, 46), 45, 46]  # if as foreseen
ELSE = [1, 6, 9, 12, 29, 33, 6, 14, 14, 14, 17, 18, 20, 21, 14, *range(14, 20), *range(19, 44), 46]
RUN, UNIFORM = 17, 18


class Coder:
    """The coding passes of a block (annex D) and their MQ coder (C.2)."""

    def __init__(self, values: Array, band: str, style: int) -> None:
        self.a, self.c, self.count, self.out = 0x8000, 0, 12, bytearray(1)
        self.band, self.style, self.stride = band, style, values.shape[1] + 2
        flat = np.pad(values, 1).reshape(-1)
        self.sizes, self.negative = abs(flat).tolist(), (flat < 0).tolist()
        self.signs, self.visited, self.refined = [0] * flat.size, set[int](), set[int]()
        n = np.arange(flat.size).reshape(-1, self.stride)[1:-1, 1:-1]
        self.columns = [part.tolist() for y in range(0, len(n), 4) for part in n[y : y + 4].T]

    def code(self, passes: int) -> bytes:
        """The code of so many passes."""
        planes = max(self.sizes).bit_length()
        assert 0 <= 3 * planes - 2 - passes <= 6, "number of passes"
        for n in range(passes):
            if n == 0 or self.style & 2:
                self.states, self.mps = [4] + [0] * 16 + [3, 46], [0] * 19
            for column in self.columns:
                (self.clean, self.propagate, self.refine)[n % 3](column, planes - 1 - (n + 2) // 3)
            if n % 3 == 0:
                self.visited.clear()
                for bit in (1, 0, 1, 0) if self.style & 32 else ():
                    self.encode(bit, UNIFORM)
        self.c = (self.c | 0xFFFF) - 0x8000 * ((self.c | 0xFFFF) >= self.c + self.a)
        for _ in range(2):
            self.c <<= self.count
            self.byte_out()
        return bytes(self.out[1:-1] if self.out[-1] == 0xFF else self.out[1:])

    def encode(self, bit: int, context: int) -> None:
        state, likely = self.states[context], bit == self.mps[context]
        self.a -= QES[state]
        if likely == (self.a < QES[state]):
            self.a = QES[state]
        else:
            self.c += QES[state]
        self.mps[context] ^= not likely and state in (0, 6, 14)
        if self.a < 0x8000:
            self.states[context] = (NEXT if likely else ELSE)[state]
        while self.a < 0x8000:
            self.a, self.c, self.count = self.a << 1, self.c << 1, self.count - 1
            if not self.count:
                self.byte_out()

    def byte_out(self) -> None:
        if self.out[-1] != 0xFF:
            self.out[-1] += self.c >> 27
            self.c %= 1 << 27
        self.count = 7 if self.out[-1] == 0xFF else 8
        self.out.append(self.c >> 27 - self.count)
        self.c %= 1 << 27 - self.count

    def around(self, i: int) -> tuple[list[int], list[int], list[int]]:
        """Signs of what is significant beside, above and below, and at the corners."""
        s, up, down = self.signs, i - self.stride, i + self.stride
        if self.style & 8 and i // self.stride % 4 == 0:
            down = 1  # contexts are causal: a row of zeros
        corners = [s[up - 1], s[up + 1], s[down - 1], s[down + 1]]
        return [s[i - 1], s[i + 1]], [s[up], s[down]], corners

    def context(self, i: int) -> int:
        """The context of a coefficient that is not significant (table D.1)."""
        h, v, d = (sum(map(abs, signs)) for signs in self.around(i))
        if self.band == "HH":
            n = min(h + v, 2)
            return (n, 3 + n, 6 + min(n, 1), 8, 8)[d]
        n = h + 3 * v if self.band == "HL" else 3 * h + v
        return (min(d, 2), 3, 4, 5 + (d > 0), 7, 7, 8, 8, 8)[n]

    def encode_sign(self, i: int) -> None:
        h, v = (max(-1, min(1, sum(signs))) for signs in self.around(i)[:2])
        n = 3 * h + v  # the rows of table D.3, from the last
        self.encode(self.negative[i] ^ (n < 0), 9 + abs(n))
        self.signs[i] = -1 if self.negative[i] else 1

    def propagate(self, column: list[int], plane: int, least: int = 1) -> None:
        for i in column:
            if self.signs[i] or i in self.visited or (context := self.context(i)) < least:
                continue
            self.visited.add(i)
            self.encode(self.sizes[i] >> plane & 1, context)
            if self.sizes[i] >> plane & 1:
                self.encode_sign(i)

    def refine(self, column: list[int], plane: int) -> None:
        for i in column:
            if self.signs[i] and i not in self.visited:
                context = 16 if i in self.refined else 14 + (self.context(i) > 0)
                self.encode(self.sizes[i] >> plane & 1, context)
                self.refined.add(i)

    def clean(self, column: list[int], plane: int) -> None:
        if len(column) == 4 and not any(self.signs[i] or self.context(i) for i in column):
            bits = [self.sizes[i] >> plane & 1 for i in column]
            self.encode(any(bits), RUN)
            first = [*bits, 1].index(1)
            if first < 4:
                self.encode(first >> 1, UNIFORM)
                self.encode(first & 1, UNIFORM)
                self.encode_sign(column[first])
            column = column[first + 1 :]
        self.propagate(column, plane, 0)
