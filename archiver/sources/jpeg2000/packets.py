"""The packets of JPEG 2000: which parts of which blocks follow (ISO/IEC 15444-1, annex B).

tile -> channels -> resolutions -> precincts -> bands -> blocks
packet = one layer of one precinct: a header in bits, then bytes of its blocks
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from archiver.sources.contract import Unsupported
from archiver.sources.jpeg2000.blocks import Band
from archiver.sources.jpeg2000.codestream import Header

MAX_BLOCKS = 1 << 18  # of an image, as are the others
MAX_PACKETS = 1 << 18
MAX_BANDS = 1 << 17  # of all channels and tiles
_FIRST_LENGTH_BITS = 3
_MAX_PLANES = 64


@dataclass
class Block:
    """A code-block: where it lies in its band, and what its packets said so far.

    ``number`` counts the blocks of its tile.
    """

    channel: int
    resolution: int
    band: Band
    top: int  # in the band
    left: int
    height: int
    width: int
    passes: int = 0
    length_bits: int = _FIRST_LENGTH_BITS
    n_bytes: int = 0
    number: int = 0

    @property
    def place(self) -> tuple[int, ...]:
        """What tells it from the other blocks of its tile, however they are counted."""
        sides = self.top, self.left, self.height, self.width
        return (self.channel, self.resolution, self.band, *sides)

    @property
    def where(self) -> tuple[slice, slice]:
        """Its rows and columns in the band."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class _TagTree:
    """Numbers (rows, columns) of which a header tells lower bounds, coarse ones first (B.10.2)."""

    def __init__(self, rows: int, columns: int) -> None:
        self._levels: list[tuple[int, list[int], list[bool]]] = []
        while True:
            self._levels.append((columns, [0] * (rows * columns), [False] * (rows * columns)))
            if rows * columns <= 1:
                break
            rows, columns = (rows + 1) // 2, (columns + 1) // 2

    def read(self, bits: _Bits, row: int, column: int, limit: int) -> int:
        """Return the number if it is below ``limit``, else a number that is not."""
        low = 0
        for level in range(len(self._levels) - 1, -1, -1):
            columns, lows, known = self._levels[level]
            at = (row >> level) * columns + (column >> level)
            lows[at] = low = max(low, lows[at])
            while lows[at] < limit and not known[at]:
                if bits.read():
                    known[at] = True
                else:
                    lows[at] += 1
            low = lows[at]
        return low


@dataclass
class _PrecinctBand:
    """The blocks of a band in a precinct, row by row, and what their headers share."""

    columns: int
    blocks: list[Block]
    included: _TagTree
    planes: _TagTree


_NO_BLOCKS = _PrecinctBand(0, [], _TagTree(0, 0), _TagTree(0, 0))


@dataclass
class _Precinct:
    """A part of a resolution of a channel."""

    channel: int
    resolution: int
    number: int
    y: int  # where it begins on the canvas
    x: int
    bands: list[_PrecinctBand] = field(default_factory=list)


_PROGRESSIONS: tuple[Callable[[int, _Precinct], tuple[int, ...]], ...] = (
    lambda layer, p: (layer, p.resolution, p.channel, p.number),
    lambda layer, p: (p.resolution, layer, p.channel, p.number),
    lambda layer, p: (p.resolution, p.y, p.x, p.channel, p.number, layer),
    lambda layer, p: (p.y, p.x, p.channel, p.resolution, p.number, layer),
    lambda layer, p: (p.channel, p.y, p.x, p.resolution, p.number, layer),
)


class _Bits:
    """The bits of a packet header: after a byte of ones the next one has seven (B.10.1)."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self.at = data, at
        self._left = self._byte = 0

    def read(self) -> int:
        """Return the next bit."""
        if not self._left:
            if self.at >= len(self._data):
                raise Unsupported("JPEG 2000 that ends within a packet")
            self._left = 7 if self._byte == 0xFF else 8
            self._byte = self._data[self.at]
            self.at += 1
        self._left -= 1
        return (self._byte >> self._left) & 1

    def number(self, n: int) -> int:
        """Return the number that ``n`` bits are."""
        value = 0
        for _ in range(n):
            value = value << 1 | self.read()
        return value

    def end(self) -> int:
        """Return where the header ends."""
        return self.at + (self._byte == 0xFF)


def check_counts(header: Header) -> None:
    """Refuse an image of too many tiles, packets or blocks, before anything is made for them."""
    tiles, levels = header.across * header.down, header.levels
    n_bands = tiles * header.channels * (3 * levels + 1)
    if n_bands > MAX_BANDS:
        raise Unsupported(f"JPEG 2000 of {n_bands} sub-bands")
    packets = blocks = 0
    for resolution in range(levels + 1):
        wide, tall = header.precincts[resolution]
        reduced, inner = levels - resolution, resolution > 0
        rows = _cuts(_edges(header, 1), reduced, tall)
        packets += rows * _cuts(_edges(header, 0), reduced, wide)
        # one row and column more than there may be: those that a band's origin adds
        height, width = (
            min(header.block_height, tall - inner),
            min(header.block_width, wide - inner),
        )
        down = _cuts(_edges(header, 1), reduced + inner, height) + header.down
        across = _cuts(_edges(header, 0), reduced + inner, width) + header.across
        blocks += down * across * (3 if inner else 1)
    if packets * header.channels * header.layers > MAX_PACKETS:
        raise Unsupported("JPEG 2000 of too many packets")
    if blocks * header.channels > MAX_BLOCKS:
        raise Unsupported("JPEG 2000 of too many blocks")


def _edges(header: Header, axis: int) -> list[tuple[int, int]]:
    """Return where the tiles begin and end, by columns (axis 0) or rows."""
    step = 1 if axis == 0 else header.across
    boxes = (header.tile(i * step) for i in range(header.down if axis else header.across))
    return [(box[axis], box[axis + 2]) for box in boxes]


def _cuts(edges: Sequence[tuple[int, int]], reduced: int, size: int) -> int:
    """Return into how many pieces of ``2 ** size`` all edges are cut, reduced."""
    scaled = [(_ceil(start, reduced), _ceil(end, reduced)) for start, end in edges]
    return sum(_ceil(end, size) - (start >> size) for start, end in scaled if end > start)


class Tile:
    """The packets of one tile, in their order."""

    def __init__(self, header: Header, number: int) -> None:
        self._header = header
        self._box = header.tile(number)
        precincts = list(self._precincts())
        self._order = self._packets(precincts)
        self._next = 0
        self.blocks = [b for precinct in precincts for band in precinct.bands for b in band.blocks]
        for number, block in enumerate(self.blocks):
            block.number = number

    @property
    def is_done(self) -> bool:
        """Whether all packets were read."""
        return self._next == len(self._order)

    def packet(self, data: bytes, at: int) -> tuple[int, list[tuple[Block, int]]]:
        """Read the header of the next packet at ``at``.

        Returns where it ends, and the blocks that follow with their numbers of bytes.
        """
        layer, precinct = self._order[self._next]
        self._next += 1
        if self._header.has_sop and data[at : at + 2] == b"\xff\x91":
            at += 6
        bits = _Bits(data, at)
        parts: list[tuple[Block, int]] = []
        if bits.read():
            for band in precinct.bands:
                parts += _contributions(bits, band, layer)
        at = bits.end()
        if self._header.has_eph:
            if data[at : at + 2] != b"\xff\x92":
                raise Unsupported("JPEG 2000 whose packet headers do not end as announced")
            at += 2
        return at, parts

    def _packets(self, precincts: Sequence[_Precinct]) -> list[tuple[int, _Precinct]]:
        """Return layer and precinct of all packets, in their order (B.12)."""
        key = _PROGRESSIONS[self._header.progression]
        packets = [(layer, p) for layer in range(self._header.layers) for p in precincts]
        return sorted(packets, key=lambda packet: key(*packet))

    def _precincts(self) -> Iterator[_Precinct]:
        """Yield all precincts by channel, resolution and number."""
        for channel in range(self._header.channels):
            for resolution in range(self._header.levels + 1):
                yield from self._precincts_of(channel, resolution)

    def _precincts_of(self, channel: int, resolution: int) -> Iterator[_Precinct]:
        header, (left, top, right, bottom) = self._header, self._box
        reduced = header.levels - resolution
        x0, y0, x1, y1 = (_ceil(v, reduced) for v in (left, top, right, bottom))
        wide, tall = header.precincts[resolution]
        if x1 <= x0 or y1 <= y0:
            return
        number = 0
        for row in range(y0 >> tall, _ceil(y1, tall)):
            for column in range(x0 >> wide, _ceil(x1, wide)):
                y = max(top, row << (tall + reduced))
                x = max(left, column << (wide + reduced))
                precinct = _Precinct(channel, resolution, number, y, x)
                for band in (Band.LL,) if not resolution else (Band.HL, Band.LH, Band.HH):
                    precinct.bands.append(self._band(precinct, band, row, column))
                yield precinct
                number += 1

    def _band(self, precinct: _Precinct, band: Band, row: int, column: int) -> _PrecinctBand:
        """Cut a band, as far as it lies in a precinct, into blocks (B.7)."""
        header, resolution = self._header, precinct.resolution
        wide, tall = (size - (resolution > 0) for size in header.precincts[resolution])
        x0, y0, x1, y1 = self._band_box(resolution, band)
        left, right = max(x0, column << wide), min(x1, (column + 1) << wide)
        top, bottom = max(y0, row << tall), min(y1, (row + 1) << tall)
        width, height = min(header.block_width, wide), min(header.block_height, tall)
        if right <= left or bottom <= top:
            return _NO_BLOCKS
        rows = range(top >> height, _ceil(bottom, height))
        columns = range(left >> width, _ceil(right, width))
        blocks = []
        for down in rows:
            for across in columns:
                y, x = max(top, down << height), max(left, across << width)
                end_y, end_x = (
                    min(bottom, (down + 1) << height),
                    min(right, (across + 1) << width),
                )
                place = (y - y0, x - x0, end_y - y, end_x - x)
                blocks.append(Block(precinct.channel, resolution, band, *place))
        trees = (_TagTree(len(rows), len(columns)) for _ in range(2))
        return _PrecinctBand(len(columns), blocks, *trees)

    def _band_box(self, resolution: int, band: Band) -> tuple[int, int, int, int]:
        """Return x0, y0, x1, y1 of a band of the tile (B.5)."""
        levels = self._header.levels
        level = levels - resolution + (resolution > 0)
        right = (band & 1) << level >> 1
        down = (band >> 1) << level >> 1
        x0, y0, x1, y1 = self._box
        return (
            *(_ceil(x0 - right, level), _ceil(y0 - down, level)),
            *(_ceil(x1 - right, level), _ceil(y1 - down, level)),
        )


def _contributions(bits: _Bits, band: _PrecinctBand, layer: int) -> Iterator[tuple[Block, int]]:
    """Yield the blocks that a packet has bytes of (B.10.3 to B.10.7)."""
    for number, block in enumerate(band.blocks):
        row, column = divmod(number, band.columns)
        if block.passes:
            if not bits.read():
                continue
        elif band.included.read(bits, row, column, layer + 1) > layer:
            continue
        else:
            limit = 1
            while band.planes.read(bits, row, column, limit) >= limit:
                limit += 1
                if limit > _MAX_PLANES:
                    raise Unsupported("JPEG 2000 of too many empty planes")
        passes = _passes(bits)
        while bits.read():
            block.length_bits += 1
            if block.length_bits > 32:
                raise Unsupported("JPEG 2000 of too long blocks")
        n_bytes = bits.number(block.length_bits + passes.bit_length() - 1)
        block.passes += passes
        block.n_bytes += n_bytes
        yield block, n_bytes


def _passes(bits: _Bits) -> int:
    """Read a number of passes (table B.4)."""
    if not bits.read():
        return 1
    if not bits.read():
        return 2
    more = bits.number(2)
    if more < 3:
        return 3 + more
    more = bits.number(5)
    return 6 + more if more < 31 else 37 + bits.number(7)


def _ceil(value: int, shift: int) -> int:
    return -(-value >> shift)
