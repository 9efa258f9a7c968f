"""The plan of a Zstandard frame: the frame, in which literals are left out.

Plan (FORMAT.md, "Plan of Zstandard"): u1 layout version (1), then the frame without

    the bytes of raw blocks
    in other blocks: raw literals, and the streams of Huffman codes, lengths included; the stream
        of sequences, in whose place stand u4, u4 lengths of two pieces: their bits without those
        of offsets that are nearest, and for each offset whether it is not
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from archiver.errors import IntegrityError
from archiver.sources import nearest
from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.zstd import literals, sequences
from archiver.sources.zstd.bits import Bytes

MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_BYTES = 256 << 20
_RAW, _REPEATED, _CODED = 0, 1, 2  # types of blocks, and of literals; literals may be
_CODED_AS_BEFORE = 3
_MAX_BLOCK = 1 << 17


@dataclass(frozen=True)
class Made:
    """The plan of a frame, and how many bytes the frame takes."""

    plan: bytes
    used: int


def make(raw: bytes, frame: bytes) -> Made | None:
    """Return the plan by which ``raw`` becomes the start of ``frame``, None if it has none."""
    if max(len(raw), len(frame)) > _MAX_BYTES:
        return None
    walk = _Walk(np.frombuffer(frame, np.uint8), np.frombuffer(raw, np.uint8), is_plan=False)
    try:
        walk.run()
    except Unsupported:
        return None
    plan = bytes([LAYOUT_VERSION]) + bytes(walk.out)
    return Made(plan, walk.at) if replay(raw, plan) == frame[: walk.at] else None


def replay(raw: bytes, plan: bytes) -> bytes:
    """Return the frame; IntegrityError for a plan that is not one for ``raw``."""
    data = np.frombuffer(plan, np.uint8)
    walk = _Walk(data[1:], np.frombuffer(raw, np.uint8), is_plan=True)
    try:
        if plan[:1] != bytes([LAYOUT_VERSION]):
            raise Unsupported(f"layout version {plan[:1].hex()}, expected {LAYOUT_VERSION}")
        walk.run()
        if walk.at != data.size - 1:
            raise Unsupported("bytes after the frame")
    except Unsupported as error:
        raise IntegrityError(
            f"plan of a Zstandard frame: {error}; the archive is damaged, run `archiver verify`"
        ) from error
    return bytes(walk.out)


@dataclass
class _Walk:
    """One pass over a frame or its plan, which writes the other one."""

    data: Bytes
    raw: Bytes
    is_plan: bool
    out: bytearray = field(default_factory=bytearray)
    at: int = 0
    done: int = 0  # bytes of ``raw``
    code: literals.Code | None = None
    links: nearest.Links = field(default_factory=lambda: np.zeros((2, 0), np.int32))
    reader: sequences.Reader = field(default_factory=sequences.Reader)

    def run(self) -> None:
        """Walk over the frame; Unsupported if it is none, or none of ``raw``."""
        if self.copy(4) != MAGIC:
            raise Unsupported("no Zstandard frame")
        if self.raw.size <= nearest.MAX_BYTES:
            self.links = nearest.links(self.raw)
        flags = self.copy(1)[0]
        if flags & 0x0B:
            raise Unsupported("a dictionary, or bits that are reserved")
        single = flags >> 5 & 1
        self.copy((not single) + (1 if single else 0, 2, 4, 8)[flags >> 6])
        is_last = False
        while not is_last:
            head = int.from_bytes(self.copy(3), "little")
            is_last = bool(head & 1)
            self.block(head >> 1 & 3, head >> 3)
        self.copy(4 if flags & 4 else 0)
        if self.done != self.raw.size:
            raise Unsupported(f"{self.done} bytes, expected {self.raw.size}")

    def copy(self, n: int) -> bytes:
        """Take bytes that a frame and its plan share."""
        piece = self.data[self.at : self.at + n].tobytes()
        if len(piece) != n or n < 0:
            raise Unsupported("a frame that is cut off")
        self.at += n
        self.out += piece
        return piece

    def known(self, n: int) -> Bytes:
        """Take bytes from the raw ones."""
        if n > self.raw.size - self.done:
            raise Unsupported("more bytes than there are")
        self.done += n
        return self.raw[self.done - n : self.done]

    def leave(self, stream: bytes) -> None:
        """Leave out bytes that follow from the raw ones, or put them back."""
        if self.is_plan:
            self.out += stream
        elif self.data[self.at : self.at + len(stream)].tobytes() == stream:
            self.at += len(stream)
        else:
            raise Unsupported("literals in another code")

    def block(self, kind: int, size: int) -> None:
        """Walk over one block."""
        if kind == _RAW:
            self.leave(self.known(size).tobytes())
        elif kind == _REPEATED:
            byte = self.copy(1)
            if self.known(size).tobytes().strip(byte):
                raise Unsupported("a byte that is not repeated")
        elif kind == _CODED and size <= _MAX_BLOCK:
            self.coded(size)
        else:
            raise Unsupported("a block that is none")

    def coded(self, size: int) -> None:
        """Walk over a block of literals and sequences, ``size`` bytes in the frame.

        Sequences say which bytes are literals, but stand behind them.
        """
        end = self.done_bytes + size
        kind, n_literals, n_stream, single = self.literals_head()
        head = b""
        if kind == _REPEATED:
            head = self.copy(1)
        elif kind == _CODED:
            self.code, n_head = literals.described(self.data[self.at : self.at + n_stream])
            self.copy(n_head)
            n_stream -= n_head
        n_section = end - self.done_bytes - n_stream
        if min(n_section, n_stream) < 0:
            raise Unsupported("a block that is cut off")
        if self.is_plan:
            lengths, section = self.planned_section(n_section)
        else:
            start = self.at + n_stream
            lengths, section = self.section(self.data[start : start + n_section], n_section)
        stream = self.stream(kind, self.literals(lengths, n_literals), head, single=single)
        if len(stream) != n_stream:
            raise Unsupported("literals in another code")
        self.leave(stream)
        self.out += section
        self.at += 0 if self.is_plan else n_section

    def section(self, data: Bytes, n_section: int) -> tuple[sequences.Lengths, bytes]:
        """Return the lengths of the sequences of a block, and what a plan says of them."""
        if data.size != n_section:
            raise Unsupported("a block that is cut off")
        n, n_head = self.reader.head(data)
        if n == 0:
            if n_head != n_section:
                raise Unsupported("a block that is longer than its sections")
            return np.zeros((0, 2), np.int64), data.tobytes()
        where = self.raw, self.links, self.done
        lengths, bits, flags = self.reader.reduced(data[n_head:], n, where)
        sizes = struct.pack("<II", len(bits), len(flags.rstrip(b"\0")))
        return lengths, data[:n_head].tobytes() + sizes + bits + flags.rstrip(b"\0")

    def planned_section(self, n_section: int) -> tuple[sequences.Lengths, bytes]:
        """Return the lengths of the sequences of a block, and its section of them."""
        data = self.data[self.at :]
        n, n_head = self.reader.head(data)
        section = data[:n_head].tobytes()
        self.at += n_head
        lengths = np.zeros((0, 2), np.int64)
        if n:
            if n > self.raw.size:
                raise Unsupported("more sequences than bytes")
            n_bits, n_flags = struct.unpack("<II", self.plan_bytes(8).tobytes())
            bits, flags = self.plan_bytes(n_bits), self.plan_bytes(n_flags)
            where = self.raw, self.links, self.done
            lengths, stream = self.reader.whole(bits, flags, n, where)
            section += stream
        if len(section) != n_section:
            raise Unsupported("sequences of another length")
        return lengths, section

    def plan_bytes(self, n: int) -> Bytes:
        """Take bytes that only a plan has."""
        if n > self.data.size - self.at:
            raise Unsupported("a plan that is cut off")
        self.at += n
        return self.data[self.at - n : self.at]

    @property
    def done_bytes(self) -> int:
        """How many bytes of the frame are done."""
        return len(self.out) if self.is_plan else self.at

    def literals_head(self) -> tuple[int, int, int, bool]:
        """Return type, number, bytes (with their tree) of literals, and whether in one stream."""
        peek = int(self.data[self.at]) if self.at < self.data.size else 0
        kind, form = peek & 3, peek >> 2 & 3
        if kind in (_RAW, _REPEATED):
            n_head, shift = ((1, 3), (2, 4), (1, 3), (3, 4))[form]
            n = int.from_bytes(self.copy(n_head), "little") >> shift
            return kind, n, n if kind == _RAW else 0, True
        n_head, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
        value = int.from_bytes(self.copy(n_head), "little") >> 4
        mask = (1 << bits) - 1
        return kind, value & mask, value >> bits & mask, form == 0

    def literals(self, lengths: sequences.Lengths, n_literals: int) -> Bytes:
        """Return the literals of a block, by the lengths of its sequences."""
        n_after = n_literals - int(lengths[:, 0].sum())
        if n_after < 0:
            raise Unsupported("more literals than there are")
        runs = np.append(lengths.reshape(-1), n_after)
        block = self.known(int(runs.sum()))
        plain: Bytes = block[np.repeat(np.arange(runs.size) % 2 == 0, runs)]
        return plain

    def stream(self, kind: int, plain: Bytes, head: bytes, *, single: bool) -> bytes:
        """Return the bytes that stand for literals in the frame."""
        if kind == _RAW:
            return plain.tobytes()
        if kind == _REPEATED:
            if plain.tobytes().strip(head):
                raise Unsupported("a literal that is not repeated")
            return b""
        if self.code is None:
            raise Unsupported("a Huffman tree that there is not")
        return literals.encode(plain, self.code, single=single)
