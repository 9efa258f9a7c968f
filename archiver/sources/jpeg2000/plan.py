"""The plan of a JPEG 2000 codestream: what has to be known beside its samples.

Plan (FORMAT.md, "Plan of JPEG 2000"), little-endian:

    u1    layout version (1)
    blob  the codestream without the code of its blocks
    u4 n  n x u1: for each block how many bytes of its code, at its end, are not those that annex
          C.2.9 gives; blob: all these bytes

Blocks are those that have a code: tile by tile, in each by channel, resolution, precinct, band,
row and column.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from archiver.image import Samples
from archiver.sources.bit_packing import Bytes
from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.jpeg2000 import blocks, throughput, wavelet
from archiver.sources.jpeg2000.blocks import Band
from archiver.sources.jpeg2000.codestream import Header, TilePart, header_size, tile_part
from archiver.sources.jpeg2000.packets import Block, Tile, check_counts

MAX_SAMPLES = 1 << 26
_GAIN, _FEW = 1 << 8, 1 << 21  # samples that come of one byte, or anyway: more is a bomb
_MAX_TAIL = 24  # bytes in which the end of a block may differ
_LEFT_OUT = 6  # passes: an encoder that leaves out more was told to lose something
_SHARE = 8  # a plan of one byte for so many of the stream is good enough, beside its head
_HEAD_COST = 512
Key = tuple[int, int]  # tile, block
Ints = NDArray[np.int32]


@dataclass
class _Walk:
    """A codestream in its order: ``parts`` are literal bytes, or a block and how many of its."""

    header: Header
    tiles: dict[int, Tile] = field(default_factory=dict)
    parts: list[tuple[bytes, Key | None, int]] = field(default_factory=list)

    @classmethod
    def over(cls, data: bytes, *, whole: bool) -> _Walk:
        """Walk over a codestream, or over its remainder without the code of its blocks."""
        walk = cls(Header.of(data))
        check_counts(walk.header)
        at = header_size(data)
        walk._add(data[:at])
        while head := tile_part(data, at):
            at = walk._tile_part(data, at, head, whole=whole)
        walk._add(data[at:])
        return walk

    def _add(self, literal: bytes) -> None:
        self.parts.append((literal, None, 0))

    def _tile_part(self, data: bytes, at: int, head: TilePart, *, whole: bool) -> int:
        """Walk over a tile-part at ``at``; return where it ends."""
        if head.tile >= self.header.across * self.header.down:
            raise Unsupported("JPEG 2000 with a tile outside the image")
        number, end = head.tile, at + head.head
        self._add(data[at:end])
        tile = self._tile(number)
        left = head.size - head.head if head.size else -1
        while left and not tile.is_done:
            start = end
            end, bodies = tile.packet(data, start)
            self._add(data[start:end])
            size = end - start
            for block, n_bytes in bodies:
                key = number, block.number
                body = data[end : end + n_bytes] if whole else b""
                if whole and len(body) != n_bytes:
                    raise Unsupported("JPEG 2000 that ends within a packet")
                self.parts.append((body, key, n_bytes))
                end += len(body)
                size += n_bytes
            left = left - size if head.size else left
            if head.size and left < 0:
                raise Unsupported("JPEG 2000 whose tile-parts end within packets")
        if left > 0:
            raise Unsupported("JPEG 2000 with more than its packets in a tile")
        return end

    def _tile(self, number: int) -> Tile:
        if number not in self.tiles:
            self.tiles[number] = Tile(self.header, number)
        return self.tiles[number]

    def coded(self) -> list[Key]:
        """Return the blocks that have a code, in the order of a plan."""
        return [
            (number, i)
            for number, tile in sorted(self.tiles.items())
            for i, block in enumerate(tile.blocks)
            if block.n_bytes
        ]

    def codes(self, samples: Ints) -> dict[Key, bytes]:
        """Return the code of every block of samples (H, W, C), as annex C.2.9 ends it."""
        if self.header.is_fast:
            return self._fast_codes(samples)
        return {
            (number, block.number): _code(
                bands[block.resolution, block.band], block, self.header.style
            )
            for number, tile in self.tiles.items()
            for bands, coded in self._bands(number, tile, samples)
            for block in coded
        }

    def _fast_codes(self, samples: Ints) -> dict[Key, bytes]:
        """Return the code of every block as OpenJPH makes it."""
        throughput.check_encoder()
        made = _Walk.over(throughput.encode(samples, self.header), whole=True)
        there = made.codes_there()
        codes = {
            (number, block.place): there[number, i]
            for number, tile in made.tiles.items()
            for i, block in enumerate(tile.blocks)
            if block.n_bytes
        }
        mine = {key: self.tiles[key[0]].blocks[key[1]] for key in self.coded()}
        if any(block.passes != 1 for block in mine.values()):
            raise Unsupported("high-throughput JPEG 2000 of several passes")
        return {key: codes.get((key[0], block.place), b"") for key, block in mine.items()}

    def codes_there(self) -> dict[Key, bytes]:
        """Return the code of every block, as the codestream has it."""
        there: dict[Key, list[bytes]] = {}
        for body, key, _ in self.parts:
            if key:
                there.setdefault(key, []).append(body)
        return {key: b"".join(bodies) for key, bodies in there.items()}

    def _bands(
        self, number: int, tile: Tile, samples: Ints
    ) -> Iterator[tuple[dict[tuple[int, Band], Ints], list[Block]]]:
        """Yield the sub-bands of the channels of a tile, and their blocks that have a code."""
        header = self.header
        coded: dict[int, list[Block]] = {}
        for block in tile.blocks:
            if block.n_bytes:
                coded.setdefault(block.channel, []).append(block)
        left, top, right, bottom = header.tile(number)
        rows = slice(top - header.y0, bottom - header.y0)
        region = samples[rows, left - header.x0 : right - header.x0]
        if coded and header.colour:
            region = wavelet.decorrelated(region)
        for channel, blocks_of in coded.items():
            yield wavelet.bands(region[..., channel], top, left, header.levels), blocks_of


def _code(band: Ints, block: Block, style: int) -> bytes:
    """Return the code of a block; of passes that an encoder left out there are few."""
    values = np.ascontiguousarray(band[block.where])
    planes = int(np.abs(values).max(initial=0)).bit_length()
    left_out = 3 * planes - 2 - block.passes
    if not 0 <= left_out <= _LEFT_OUT:
        raise Unsupported("JPEG 2000 of which passes were left out")
    return blocks.encode(values, block.band, style, planes, block.passes)


def decode(stream: bytes) -> Samples:
    """Return the samples (H, W, C) of a reversible codestream."""
    header = Header.of(stream)
    n_samples = math.prod(header.shape)
    if n_samples > min(MAX_SAMPLES, max(_FEW, _GAIN * len(stream))):
        raise Unsupported(f"JPEG 2000 of {n_samples} samples in {len(stream)} bytes")
    check_counts(header)
    samples = np.asarray(imagecodecs.jpeg2k_decode(stream, verbose=0))
    return samples.reshape(header.shape).astype(header.dtype, copy=False)


def find(rows: Bytes, stream: bytes) -> bytes | None:
    """Return the plan of a codestream whose samples are rows (H, bytes); None if it is too large.

    Unsupported if it is of a kind that has no plan.
    """
    walk = _Walk.over(stream, whole=True)
    there = walk.codes_there()
    codes = walk.codes(_samples(rows, walk.header))
    tails = [_tail(codes[key], there[key]) for key in walk.coded()]
    if None in tails:
        return None
    skeleton = b"".join(literal for literal, key, _ in walk.parts if not key)
    plan = _pack(skeleton, [tail for tail in tails if tail is not None])
    return plan if len(plan) <= _HEAD_COST + len(stream) // _SHARE else None


def replay(rows: Bytes, plan: bytes) -> bytes:
    """Return the codestream of rows (H, bytes) by its plan; any error if that is damaged."""
    cursor = Cursor(plan, "plan of JPEG 2000")
    skeleton = cursor.blob()
    (n,) = cursor.unpack("<I")
    lengths, tails, at = cursor.array("u1", n), cursor.blob(), 0
    cursor.end()
    walk = _Walk.over(skeleton, whole=False)
    codes, keys = walk.codes(_samples(rows, walk.header)), walk.coded()
    if len(keys) != n or int(lengths.sum()) != len(tails):
        raise cursor.damaged(f"{len(keys)} blocks and their tails", (n, len(tails)))
    for (number, i), length in zip(keys, lengths.tolist(), strict=True):
        kept = walk.tiles[number].blocks[i].n_bytes - length
        if not 0 <= kept <= len(codes[number, i]):
            raise cursor.damaged(f"a code of {kept} bytes and its tail", len(codes[number, i]))
        codes[number, i] = codes[number, i][:kept] + tails[at : at + length]
        at += length
    done = dict.fromkeys(keys, 0)
    out = []
    for literal, key, n_bytes in walk.parts:
        if key and n_bytes:
            literal = codes[key][done[key] : done[key] + n_bytes]
            done[key] += n_bytes
        out.append(literal)
    return b"".join(out)


def _tail(ours: bytes, theirs: bytes) -> bytes | None:
    """Return the end of their code, from where it differs on; None if that is too much."""
    start = max(0, len(theirs) - _MAX_TAIL)
    if ours[:start] != theirs[:start]:
        return None
    while start < len(theirs) and ours[start : start + 1] == theirs[start : start + 1]:
        start += 1
    return theirs[start:]


def _samples(rows: Bytes, header: Header) -> Ints:
    """Return samples (H, W, C) around zero."""
    if rows.size != math.prod(header.shape) * header.dtype.itemsize:
        raise Unsupported(f"rows of {rows.shape} bytes for samples {header.shape} {header.dtype}")
    plain = np.ascontiguousarray(rows).reshape(-1).view(header.dtype).reshape(header.shape)
    samples = plain.astype(np.int32)
    return samples if header.signed else samples - np.int32(1 << (header.bits - 1))


def _pack(skeleton: bytes, tails: list[bytes]) -> bytes:
    lengths = bytes(len(tail) for tail in tails)
    head = struct.pack("<B", LAYOUT_VERSION) + pack_blob(skeleton)
    return head + struct.pack("<I", len(tails)) + lengths + pack_blob(b"".join(tails))
