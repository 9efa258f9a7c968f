"""The plan of an XZ stream.

Plan (FORMAT.md, "Plan of XZ"), little-endian:

    u1       layout version (1)
    blob     skeleton: the stream without the bytes of its LZMA2 chunks
    then     what the coder of LZMA says but literals, by one range coder
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from archiver.errors import IntegrityError
from archiver.sources import nearest
from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.xz import symbols
from archiver.sources.xz.symbols import Bytes, Linked, Numbers, Sides

MAGIC = b"\xfd7zXZ\0"
_MAX_BYTES = 256 << 20
_CHECKS = (0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64)  # bytes, by the kind of check
_DELTA, _LZMA2 = 0x03, 0x21  # filters
_CODED, _MOST_PROPERTIES, _MOST_CONTEXT = 0x80, 225, 4
_MOST_BLOCKS = 16
_CHUNK = 1 << 16  # a coded chunk is not longer


@dataclass(frozen=True)
class Made:
    """The plan of a stream, and how many bytes the stream takes."""

    plan: bytes
    used: int


def make(raw: bytes, stream: bytes) -> Made | None:
    """Return the plan by which ``raw`` becomes the start of ``stream``, None if it has none."""
    if max(len(raw), len(stream)) > _MAX_BYTES:
        return None
    data = np.frombuffer(stream, np.uint8)
    walk = _Walk(data, np.frombuffer(raw, np.uint8), None, np.zeros(data.size + 64, np.uint8))
    try:
        walk.run()
    except Unsupported:
        return None
    symbols.finish_writing(walk.coded, walk.writer)
    n_coded = int(walk.writer[symbols.WRITE_AT])
    plan = bytes([LAYOUT_VERSION]) + pack_blob(bytes(walk.out)) + walk.coded[:n_coded].tobytes()
    if n_coded > walk.coded.size or replay(raw, plan) != stream[: walk.at]:
        return None
    return Made(plan, walk.at)


def replay(raw: bytes, plan: bytes) -> bytes:
    """Return the stream; IntegrityError for a plan that is not one for ``raw``."""
    cursor = Cursor(plan, "plan of an XZ stream")
    skeleton, said = cursor.blob(), cursor.rest()
    walk = _Walk(
        np.frombuffer(skeleton, np.uint8),
        np.frombuffer(raw, np.uint8),
        np.frombuffer(said, np.uint8),
        np.zeros(_CHUNK, np.uint8),
    )
    try:
        walk.run()
        if walk.at != len(skeleton):
            raise Unsupported("bytes after the stream")
    except Unsupported as error:
        raise IntegrityError(
            f"plan of an XZ stream: {error}; the archive is damaged, run `archiver verify`"
        ) from error
    return bytes(walk.out)


@dataclass
class _Walk:
    """One pass over a stream or the skeleton of its plan, which writes the other one.

    ``said`` is what the plan says of all chunks, None if the stream is walked over; ``coded`` is
    room for that, or for one chunk.
    """

    data: Bytes
    raw: Bytes
    said: Bytes | None
    coded: Bytes
    out: bytearray = field(default_factory=bytearray)
    at: int = 0
    done: int = 0
    reader: Numbers = field(default_factory=lambda: np.zeros(3, np.int64))
    writer: Numbers = field(default_factory=lambda: np.zeros(5, np.int64))
    coder: Numbers = field(default_factory=lambda: np.zeros(symbols.N_CODER, np.int64))
    probabilities: Numbers = field(default_factory=symbols.fresh)
    properties: int = -1
    links: nearest.Links = field(default_factory=lambda: np.zeros((2, 0), np.int32))

    def run(self) -> None:
        """Walk over the stream; Unsupported if it is none, or none of ``raw``."""
        if self.said is None:
            symbols.start_writing(self.writer)
        else:
            symbols.start_reading(self.said, 0, self.reader)
        if self.copy(len(MAGIC)) != MAGIC:
            raise Unsupported("no XZ stream")
        _, kind = self.copy(2)
        self.copy(4)
        n_head, n_blocks = self.copy(1)[0], 0
        while n_head:
            n_blocks += 1
            if n_blocks > _MOST_BLOCKS:
                raise Unsupported("XZ of many blocks")
            self.block(4 * n_head + 3)
            self.copy(_CHECKS[kind & 15])
            n_head = self.copy(1)[0]
        self.index()
        self.copy(12)
        if self.done != self.raw.size:
            raise Unsupported(f"{self.done} bytes, expected {self.raw.size}")

    def copy(self, n: int) -> bytes:
        """Take bytes that a stream and its plan share."""
        piece = self.data[self.at : self.at + n].tobytes()
        if len(piece) != n:
            raise Unsupported("a stream that is cut off")
        self.at += n
        self.out += piece
        return piece

    @property
    def length(self) -> int:
        """Bytes of the stream so far."""
        return self.at if self.said is None else len(self.out)

    def block(self, n_head: int) -> None:
        """Walk over a block whose header has ``n_head`` more bytes."""
        step = _step_of(self.copy(n_head))
        start, before = self.length, self.done
        raw = self.raw
        if step:
            rest = raw[before:]
            self.raw = np.concatenate([raw[:before], rest[:step], rest[step:] - rest[:-step]])
            self.raw.flags.writeable = False  # compiled for such arrays
        if self.raw.size <= nearest.MAX_BYTES:
            self.links = nearest.links(self.raw)
        while control := self.copy(1)[0]:
            self.chunk(control)
        self.raw = raw
        self.copy(-(self.length - start) % 4)

    def chunk(self, control: int) -> None:
        """Walk over one chunk of LZMA2."""
        if control < _CODED:
            if control > 2:
                raise Unsupported("a chunk that is none")
            n = 1 + int.from_bytes(self.copy(2), "big")
            if control == 1:
                self.coder[symbols.POSITION] = 0
            self.leave(self.known(n).tobytes())
            self.coder[symbols.POSITION] += n
            return
        n = 1 + ((control & 31) << 16) + int.from_bytes(self.copy(2), "big")
        n_bytes = 1 + int.from_bytes(self.copy(2), "big")
        reset = control >> 5 & 3
        if reset == 3:
            self.coder[symbols.POSITION] = 0
        if reset >= 2:
            self.properties = self.copy(1)[0]
        if reset >= 1:
            self.probabilities = symbols.fresh()
            self.coder[: symbols.POSITION] = 0
        properties = self.properties
        if (
            not 0 <= properties < _MOST_PROPERTIES
            or properties % 9 + properties // 9 % 5 > _MOST_CONTEXT
        ):
            raise Unsupported("LZMA with properties that are none")
        self.symbols(n, n_bytes)

    def symbols(self, n: int, n_bytes: int) -> None:
        """Walk over the bits of a chunk of ``n`` raw bytes."""
        start = self.done
        self.known(n)
        if self.said is None:
            data = self.data[self.at : self.at + n_bytes]
            symbols.start_reading(data, 0, self.reader)
            sides = Sides(data, self.reader, self.coded, self.writer)
        else:
            self.writer[symbols.WRITE_AT] = 0
            symbols.start_writing(self.writer)
            sides = Sides(self.said, self.reader, self.coded, self.writer)
        is_stream = self.said is None
        fits = symbols.chunk(
            *(Linked(self.raw, self.links), start, start + n, self.properties),
            *(self.coder, self.probabilities, sides, is_stream),
        )
        if not fits:
            raise Unsupported("LZMA of other bytes")
        if is_stream:
            self.at += n_bytes
            return
        symbols.finish_writing(self.coded, self.writer)
        if self.writer[symbols.WRITE_AT] != n_bytes:
            raise Unsupported("a chunk of another length")
        self.out += self.coded[:n_bytes].tobytes()

    def known(self, n: int) -> Bytes:
        """Take bytes from the raw ones."""
        if n > self.raw.size - self.done:
            raise Unsupported("more bytes than there are")
        self.done += n
        return self.raw[self.done - n : self.done]

    def leave(self, raw: bytes) -> None:
        """Leave out bytes that are raw ones, or put them back."""
        if self.said is not None:
            self.out += raw
        elif self.data[self.at : self.at + len(raw)].tobytes() == raw:
            self.at += len(raw)
        else:
            raise Unsupported("other bytes")

    def index(self) -> None:
        """Walk over the index, behind its first byte."""
        start = self.length - 1
        for _ in range(2 * min(self.number(), self.data.size)):
            self.number()
        self.copy(-(self.length - start) % 4 + 4)

    def number(self) -> int:
        """Take a number of variable length."""
        value, shift, more = 0, 0, True
        while more and shift < 63:
            byte = self.copy(1)[0]
            value |= (byte & 127) << shift
            shift, more = shift + 7, byte >= 128
        return value


def _step_of(head: bytes) -> int:
    """Return the distance of the delta filter of a block, 0 if it has none, by its header."""
    flags, at = head[0], 1
    for bit in (0x40, 0x80):  # sizes, which are stated again by chunks
        if flags & bit:
            while at < len(head) and head[at] >= 128:
                at += 1
            at += 1
    filters = head[at : len(head) - 4].rstrip(b"\0") + b"\0"
    if flags & 0x3F == 0 and filters[:2] == bytes([_LZMA2, 1]):
        return 0
    if (
        flags & 0x3F == 1
        and filters[:2] == bytes([_DELTA, 1])
        and filters[3:5] == bytes([_LZMA2, 1])
    ):
        return filters[2] + 1
    raise Unsupported("XZ with other filters than delta and LZMA2")
