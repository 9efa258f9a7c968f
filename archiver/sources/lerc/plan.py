"""The plan of a LERC blob.

Plan (FORMAT.md, "Plan of LERC"), little-endian:

    u1         layout version (1)
    blob       head: the blob up to the codes of its samples
    blob       tail: the blob after them
    u4 n       n blocks whose head no rule gives, in columns: u4 its number minus that of the one
               before   u2 length of its head
    blob       those heads
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archiver.errors import IntegrityError
from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.lerc import huffman, walk
from archiver.sources.lerc.blob import Blob, Mode

Bytes = NDArray[np.uint8]
_HUFFMAN = (Mode.HUFFMAN, Mode.HUFFMAN_OF_DIFFERENCES)
_NONE = np.zeros((0, 3), np.int64)


@dataclass(frozen=True)
class Made:
    """The plan of a blob, and how many bytes the blob takes."""

    plan: bytes
    used: int


def make(rows: Bytes, stream: bytes) -> Made:
    """Return the plan by which rows (R, bytes) become the start of ``stream``, or Unsupported."""
    blob = Blob.of(stream)
    samples = _Samples.of(rows, blob)
    data = np.frombuffer(stream[: blob.total], np.uint8)
    end, odd = blob.size, _NONE
    if blob.mode is Mode.BLOCKS:
        room = np.zeros((data.size // 4 + 1, 3), np.int64)
        count, n_bytes = walk.compare(data[end:], samples.blocks, samples.how, blob.max_error, room)
        if count < 0:
            raise Unsupported("LERC in blocks that no rule gives")
        odd, end = room[:count], end + n_bytes
    elif blob.mode is not Mode.NONE:
        end += huffman.described(stream[end:])[1] if blob.mode in _HUFFMAN else 0
        codes = samples.codes(stream[blob.size :])
        if not stream.startswith(codes, end):
            raise Unsupported("LERC in another code")
        return Made(_pack(stream[:end], data[end + len(codes) :].tobytes(), _NONE, b""), blob.total)
    heads = b"".join(
        data[blob.size + at : blob.size + at + n].tobytes() for _, at, n in odd.tolist()
    )
    return Made(_pack(stream[: blob.size], data[end:].tobytes(), odd, heads), blob.total)


def replay(rows: Bytes, plan: bytes) -> bytes:
    """Return the blob; IntegrityError for a plan that is not one for the rows."""
    cursor = Cursor(plan, "plan of a LERC blob")
    head, tail = cursor.blob(), cursor.blob()
    (count,) = cursor.unpack("<I")
    steps, lengths = cursor.array("<u4", count), cursor.array("<u2", count)
    heads = cursor.blob()
    cursor.end()
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    odd = np.stack([np.cumsum(steps, dtype=np.int64), starts, lengths.astype(np.int64)], 1)
    if int(lengths.sum(dtype=np.int64)) != len(heads):
        raise cursor.damaged("the heads of blocks", f"{len(heads)} bytes")
    try:
        blob = Blob.of(head)
        samples = _Samples.of(rows, blob)
        if blob.mode is Mode.BLOCKS:
            return head + samples.expanded(odd, np.frombuffer(heads, np.uint8)) + tail
        codes = b"" if blob.mode is Mode.NONE else samples.codes(head[blob.size :])
    except Unsupported as error:
        raise IntegrityError(
            f"plan of a LERC blob: {error}; the archive is damaged, run `archiver verify`"
        ) from error
    return head + codes + tail


def _pack(head: bytes, tail: bytes, odd: NDArray[np.int64], heads: bytes) -> bytes:
    return b"".join(
        (
            struct.pack("<B", LAYOUT_VERSION),
            pack_blob(head),
            pack_blob(tail),
            struct.pack("<I", len(odd)),
            np.diff(odd[:, 0], prepend=0).astype("<u4").tobytes(),
            odd[:, 2].astype("<u2").tobytes(),
            pack_blob(heads),
        )
    )


@dataclass(frozen=True)
class _Samples:
    """The samples of a blob, as its parts want them."""

    blob: Blob
    raw: Bytes  # (height, width, bands, bytes of a sample)

    @classmethod
    def of(cls, rows: Bytes, blob: Blob) -> _Samples:
        """Take the rows apart; they may have a channel more than the blob has bands: its mask."""
        size = blob.dtype.itemsize
        channels, rest = divmod(rows.size, blob.height * blob.width * size)
        if rest or rows.shape[0] != blob.height or channels not in (blob.bands, blob.bands + 1):
            raise Unsupported(f"LERC of {blob.width} x {blob.height} x {blob.bands} samples")
        raw = rows.reshape(blob.height, blob.width, channels, size)
        return cls(blob, raw[:, :, : blob.bands].copy())  # compiled for arrays that can be written

    @property
    def blocks(self) -> walk.Samples:
        """As the walk over blocks wants them."""
        values = self.raw.view(self.blob.dtype)[..., 0].astype(np.float64)
        return values, self.raw, self.blob.valid, not self.blob.valid.all()

    @property
    def how(self) -> NDArray[np.int64]:
        """What all blocks share."""
        return np.array([self.blob.version, self.blob.kind, self.blob.block], np.int64)

    def codes(self, table: bytes) -> bytes:
        """Return the samples that do not lie in blocks; ``table`` begins with their code."""
        if self.blob.mode is Mode.PLAIN:
            return self.raw[self.blob.valid].tobytes()
        code, _ = huffman.described(table)
        return huffman.encode(
            self.raw[..., 0],
            self.blob.valid,
            code,
            first=0 if self.blob.dtype.kind == "u" else -128,
            differences=self.blob.mode is Mode.HUFFMAN_OF_DIFFERENCES,
        )

    def expanded(self, odd: NDArray[np.int64], heads: Bytes) -> bytes:
        """Return all blocks."""
        shape = self.raw.shape[:3]
        out = np.zeros(walk.most_bytes(shape, self.blob.block, self.blob.kind), np.uint8)
        n = walk.expand(self.blocks, self.how, self.blob.max_error, odd, heads, out)
        if n < 0:
            raise Unsupported("heads of blocks that are none")
        return out[:n].tobytes()
