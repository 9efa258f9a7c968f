"""Baseline JPEGs (ITU-T T.81) as what is before the scan, coefficients, and what is after it.

Taken are 8-bit Huffman-coded JPEGs (SOF0, SOF1) of 1 to 4 components in one scan, which pad with
ones and use no code that they need not; all others are for other codecs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from archiver.codec.jpeg import huffman
from archiver.codec.jpeg.huffman import Blocks, Ints, Lookups

MAX_COEFFICIENTS = 1 << 26  # of all components, in whole MCUs: two bytes for each
_SOI = b"\xff\xd8"
_FRAMES, _OTHER_FRAMES = (0xC0, 0xC1), {*range(0xC2, 0xD0)} - {0xC4, 0xC8, 0xCC}
_DHT, _DAC, _SOS, _DQT, _DRI = 0xC4, 0xCC, 0xDA, 0xDB, 0xDD
_NO_BODY = {0x01, *range(0xD0, 0xDA)}
_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xff]")  # of a scan: a marker that is no RST
_MOST_BLOCKS = 10  # of an MCU
_MOST_FACTOR = 4


@dataclass(frozen=True)
class Component:
    """One colour: sampling factors, and the numbers of its tables."""

    id: int
    across: int
    down: int
    steps: int
    dc: int = 0
    ac: int = 0


@dataclass
class Header:
    """What the markers before the scan say."""

    height: int = 0
    width: int = 0
    components: list[Component] = field(default_factory=list)
    steps: dict[int, Ints] = field(default_factory=dict)  # tables of 64, zigzag order
    codes: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # by 16 * class + number
    restart: int = 0
    size: int = 0  # where the scan begins

    @classmethod
    def of(cls, data: bytes) -> Header:
        """Read the markers up to a scan; ValueError if it is of another kind."""
        header = cls()
        try:
            for marker, body, end in _markers(data):
                header._take(marker, body)
                if marker == _SOS:
                    header.size = end
                    header._check()
                    return header
        except (KeyError, IndexError, struct.error) as error:
            raise ValueError(f"no baseline JPEG: {error!r}") from error
        raise ValueError("no baseline JPEG: no scan")

    def _take(self, marker: int, body: bytes) -> None:
        if marker in _FRAMES:
            self._take_frame(body)
        elif marker in _OTHER_FRAMES or marker == _DAC:
            raise ValueError("no baseline JPEG")
        elif marker == _DQT:
            self._take_steps(body)
        elif marker == _DHT:
            self._take_codes(body)
        elif marker == _DRI:
            self.restart = struct.unpack(">H", body)[0]
        elif marker == _SOS:
            self._take_scan(body)

    def _take_frame(self, body: bytes) -> None:
        precision, self.height, self.width, n = struct.unpack_from(">BHHB", body)
        if precision != 8 or self.components or len(body) != 6 + 3 * n:
            raise ValueError("frame of another kind")
        for id, factors, steps in struct.iter_unpack("BBB", body[6:]):
            self.components.append(Component(id, factors >> 4, factors & 15, steps))

    def _take_steps(self, segment: bytes) -> None:
        body = memoryview(segment)
        while body:
            wide, number = body[0] >> 4, body[0] & 15
            size = 64 << min(wide, 1)
            kind = ">u2" if wide else "u1"
            self.steps[number] = np.frombuffer(body[1 : 1 + size], kind).astype(np.int64)
            body = body[1 + size :]

    def _take_codes(self, segment: bytes) -> None:
        body = memoryview(segment)
        while body:
            end = 17 + sum(body[1:17])
            taken = sum(count << (15 - bits) for bits, count in enumerate(body[1:17]))
            if len(body) < end or taken > 1 << 16:
                raise ValueError("no Huffman table")
            self.codes[body[0]] = bytes(body[1:17]), bytes(body[17:end])
            body = body[end:]

    def _take_scan(self, body: bytes) -> None:
        n = body[0]
        if n != len(self.components) or len(body) != 4 + 2 * n or body[-3:] != b"\0\x3f\0":
            raise ValueError("scan of another kind")
        for i, (id, tables) in enumerate(struct.iter_unpack("BB", body[1 : 1 + 2 * n])):
            component = self.components[i]
            if component.id != id:
                raise ValueError("components out of order")
            known = component.id, component.across, component.down, component.steps
            self.components[i] = Component(*known, tables >> 4, tables & 15)

    def _check(self) -> None:
        n_blocks = [component.across * component.down for component in self.components]
        factors = [f for component in self.components for f in (component.across, component.down)]
        good = 1 <= len(n_blocks) <= 4 and min(factors) >= 1 and max(factors) <= _MOST_FACTOR
        good = good and (len(n_blocks) == 1 or sum(n_blocks) <= _MOST_BLOCKS)
        good = good and self.height * self.width > 0
        if not good or sum(64 * n * m for n, m in self.shapes) > MAX_COEFFICIENTS:
            raise ValueError("frame of another kind")
        for component in self.components:
            steps = self.steps[component.steps]
            if len(steps) != 64 or not steps.all():
                raise ValueError("steps of zero")
            if not {component.dc, 16 + component.ac} <= set(self.codes):
                raise ValueError("no Huffman table")

    @property
    def factors(self) -> list[tuple[int, int]]:
        """Rows and columns of blocks that an MCU has of each component."""
        if len(self.components) == 1:
            return [(1, 1)]
        return [(component.down, component.across) for component in self.components]

    @property
    def mcus(self) -> tuple[int, int]:
        """Rows and columns of MCUs."""
        down, across = (8 * max(of) for of in zip(*self.factors, strict=True))
        return -(-self.height // down), -(-self.width // across)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of blocks of each component."""
        rows, columns = self.mcus
        return [(rows * down, columns * across) for down, across in self.factors]

    @property
    def of_mcu(self) -> Ints:
        """The component of each block of an MCU."""
        n_blocks = [down * across for down, across in self.factors]
        return np.repeat(np.arange(len(n_blocks)), n_blocks)

    @property
    def tables(self) -> list[Ints]:
        """The steps of each component, zigzag order."""
        return [self.steps[component.steps] for component in self.components]


Planes = list[Blocks]  # of each component (rows, columns, 64), zigzag order


@dataclass(frozen=True)
class Parts:
    """A JPEG in parts: ``before`` ends with the header of the scan, ``after`` begins with EOI."""

    before: bytes
    header: Header
    planes: Planes
    after: bytes

    @classmethod
    def of(cls, data: bytes) -> Parts:
        """Take a JPEG apart; ValueError if it is of another kind or would not come back."""
        header = Header.of(data)
        end = _END.search(data, header.size)
        stop = end.start() if end else len(data)
        scan = np.frombuffer(data, np.uint8)[header.size : stop]
        rows, columns = header.mcus
        tables = [np.stack(of_components) for of_components in zip(*_lookups(header), strict=True)]
        blocks = huffman.read(scan, rows * columns, header.restart, header.of_mcu, *tables)
        if blocks is None or _scan_of(blocks, header) != scan.tobytes():
            raise ValueError("a scan that would not come back")
        return cls(data[: header.size], header, _planes(blocks, header), data[stop:])

    def to_bytes(self) -> bytes:
        """Return the JPEG; ValueError if its tables have no code for a coefficient."""
        scan = _scan_of(_blocks(self.planes, self.header), self.header)
        return self.before + scan + self.after


def _scan_of(blocks: Blocks, header: Header) -> bytes:
    rows, columns = header.mcus
    dc = np.stack([huffman.codes(*header.codes[component.dc]) for component in header.components])
    ac = np.stack(
        [huffman.codes(*header.codes[16 + component.ac]) for component in header.components]
    )
    scan = huffman.write(blocks, rows * columns, header.restart, header.of_mcu, dc, ac)
    if not scan.size:
        raise ValueError("no Huffman code for a coefficient")
    return scan.tobytes()


def _lookups(header: Header) -> Iterator[tuple[Lookups, Lookups]]:
    for component in header.components:
        yield (
            huffman.lookup(*header.codes[component.dc]),
            huffman.lookup(*header.codes[16 + component.ac]),
        )


def _markers(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and end of every segment; ValueError where none is."""
    if not data.startswith(_SOI):
        raise ValueError("no baseline JPEG: no SOI")
    at = len(_SOI)
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("no marker")
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _NO_BODY or marker == 0:
            raise ValueError("marker without a segment")
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end < at + 4:
            raise ValueError("segment cut off")
        yield marker, data[at + 4 : end], end
        at = end


def _planes(blocks: Blocks, header: Header) -> Planes:
    """Return the blocks of each component in their places."""
    rows, columns = header.mcus
    of_mcus = blocks.reshape(rows, columns, -1, 64)
    planes, at = [], 0
    for down, across in header.factors:
        of_component = of_mcus[:, :, at : at + down * across].reshape(
            rows, columns, down, across, 64
        )
        ordered = of_component.transpose(0, 2, 1, 3, 4)
        planes.append(np.ascontiguousarray(ordered).reshape(rows * down, columns * across, 64))
        at += down * across
    return planes


def _blocks(planes: Planes, header: Header) -> Blocks:
    """Return all blocks in the order of the scan."""
    rows, columns = header.mcus
    parts = []
    for plane, (down, across) in zip(planes, header.factors, strict=True):
        of_component = plane.reshape(rows, down, columns, across, 64).transpose(0, 2, 1, 3, 4)
        parts.append(of_component.reshape(rows, columns, down * across, 64))
    return np.ascontiguousarray(np.concatenate(parts, 2).reshape(-1, 64))
