"""The plan of a deflate stream: what has to be known beside the bytes that it inflates to.

Plan (FORMAT.md, "Deflate plan"), little-endian:

    u1         layout version (1)
    how matches are looked for: u2 candidates   u1 least match   u2 one that is long enough
               u2 longest that is looked into   u2 largest distance - 1
    56 bytes   table: a bit for each context, 1: the match is taken
    u4 n       n blocks, in columns: u1 type + 4 if last   u4 tokens, or bytes if stored
               u2 bits of the stored header, 0: as predicted
    u4 n       n exceptions, in columns: u4 tokens since the last one   u2 length   u2 distance - 1
    u4 n       n bytes: the bits of stored headers
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.sources.contract import LAYOUT_VERSION
from archiver.sources.cursor import Cursor
from archiver.sources.deflate import bitstream, matches
from archiver.sources.deflate.matches import Effort, Exceptions

EFFORTS: tuple[Effort, ...] = (
    (128, 3, 128, 258, 32506),  # zlib 6
    (4096, 3, 258, 258, 32506),  # 8, 9
    (16, 3, 16, 258, 32506),  # 4, 5
    (16, 3, 16, 5, 32506),  # 1, 2, 3
    (128, 4, 128, 258, 32506),  # zlib-ng 6
    (4096, 4, 258, 258, 32506),  # 7, 8, 9
    (16, 4, 16, 258, 32506),  # 3, 4, 5
    (4, 4, 8, 4, 32506),  # 2
    (1, 4, 258, 0, 32506),  # 1
    (64, 3, 64, 258, 32768),  # libdeflate
)
_HEAD = "<HBHHH"
_LAST = 4  # flag of a block's type
_TRIAL = 1 << 16  # tokens that an effort is chosen by
# Comparisons: of any stream, a file may have a million; of each byte; of each byte of large ones,
# where a second goes by for every 2^28 of them.
_LEAST_WORK, _MOST_PER_BYTE, _WORK_PER_BYTE, _MUCH_WORK = 1 << 22, 512, 64, 1 << 28
_MAX_BYTES = 64 << 20  # of what is deflated, and of the stream
_BLOCK_BYTES = 7  # of a plan for each block
_EXCEPTION_BYTES = 4  # of a plan, about, once that is compressed
_MAX_DEPTH = 1 << 12
_MAX_STORED = 0xFFFF  # bytes of a stored block
_BITS_PER_BYTE = 16  # at most: 15 for a literal, 48 for a match of three bytes
Bytes = NDArray[np.uint8]
Contexts = NDArray[np.uint16]


@dataclass(frozen=True)
class _Stream:
    """A deflate stream in tokens."""

    tokens: tuple[NDArray[np.uint16], NDArray[np.uint16]]  # lengths, distances
    blocks: NDArray[np.int64]
    headers: Bytes
    n_bytes: int


def make(raw: bytes, stream: bytes) -> bytes | None:
    """Return the plan by which ``raw`` becomes the deflate ``stream``, or None if there is none."""
    data = np.frombuffer(raw, np.uint8)
    if not raw or max(len(raw), len(stream)) > _MAX_BYTES:
        return None
    read = _read(data, np.frombuffer(stream, np.uint8))
    if read is None:
        return None
    plan = _pack(data, read)
    if plan is None or len(plan) >= len(stream) or replay(raw, plan) != stream:
        return None
    return plan


def replay(raw: bytes, plan: bytes) -> bytes:
    """Return the deflate stream; IntegrityError for a plan that is not one for ``raw``."""
    data = np.frombuffer(raw, np.uint8)
    cursor = Cursor(plan, "plan of a deflate stream")
    effort, table, blocks, exceptions, headers = _unpack(cursor, data.size)
    is_coded = blocks[:, bitstream.TYPE] != bitstream.STORED
    n_tokens = int(blocks[is_coded, bitstream.COUNT].sum())
    tokens = (np.zeros(n_tokens, np.uint16), np.zeros(n_tokens, np.uint16))
    if matches.expand(data, blocks, effort, table, exceptions, tokens) != data.size:
        raise cursor.damaged(f"tokens for {data.size} bytes", "others")
    n_bits = _BITS_PER_BYTE * data.size + len(blocks) * bitstream.MAX_BLOCK_BITS
    out = np.zeros(n_bits // 8 + 8, np.uint8)
    n_bytes = bitstream.write(data, tokens, blocks, headers, out)
    if n_bytes < 0:
        raise cursor.damaged("a code for every token", "none for some")
    return out[:n_bytes].tobytes()


def _read(raw: Bytes, stream: Bytes) -> _Stream | None:
    tokens = (np.zeros(raw.size, np.uint16), np.zeros(raw.size, np.uint16))
    # more blocks, or more bits of odd headers, and the plan would hardly be smaller than the stream
    blocks = np.zeros((1 + stream.size // _BLOCK_BYTES, bitstream.COLUMNS), np.int64)
    headers = np.zeros(4 * stream.size, np.uint8)
    n, n_blocks, n_bits, end = bitstream.read(stream, raw, tokens, blocks, headers)
    if n < 0 or end != 8 * stream.size:
        return None
    return _Stream(
        (tokens[0][:n], tokens[1][:n]), blocks[:n_blocks].copy(), headers[:n_bits], stream.size
    )


def _pack(raw: Bytes, read: _Stream) -> bytes | None:
    effort = _best_effort(raw, read)
    compared = _compare(raw, read, effort) if effort else None
    if effort is None or compared is None:
        return None
    contexts, kinds, _ = compared
    table = _table(contexts, kinds)
    odd = np.flatnonzero(kinds != table[contexts])
    lengths, distances = (column[odd] for column in read.tokens)
    blocks = read.blocks
    columns = (
        (blocks[:, bitstream.TYPE] + _LAST * blocks[:, bitstream.LAST]).astype("u1"),
        blocks[:, bitstream.COUNT].astype("<u4"),
        blocks[:, bitstream.HEADER].astype("<u2"),
        np.array([odd.size], "<u4"),
        np.diff(odd, prepend=0).astype("<u4"),
        lengths.astype("<u2"),
        (distances - (lengths > 0)).astype("<u2"),
        np.array([(read.headers.size + 7) // 8], "<u4"),
        np.packbits(read.headers, bitorder="little"),
    )
    *search, window = effort
    return b"".join(
        (
            struct.pack("<B" + _HEAD[1:], LAYOUT_VERSION, *search, window - 1),
            np.packbits(table, bitorder="little").tobytes(),
            struct.pack("<I", len(blocks)),
            *(column.tobytes() for column in columns),
        )
    )


def _best_effort(raw: Bytes, read: _Stream) -> Effort | None:
    """Return the effort that has the fewest exceptions, or the least work among equals.

    The beginning tells.  None if a plan would not be smaller than the stream, or take too long.
    """
    start, n_bytes = _beginning(read)
    share = max(1.0, raw.size / max(1, n_bytes))
    rated: list[tuple[int, int, Effort]] = []
    for effort in EFFORTS:
        compared = _compare(raw[: n_bytes + matches.MAX_MATCH], start, effort)
        if compared is not None and compared[2] * share <= most_work(raw.size):
            rated.append((_n_odd(*compared[:2]), compared[2], effort))
    n_odd, _, best = min(rated, default=(0, 0, None))
    return best if n_odd * share * _EXCEPTION_BYTES < read.n_bytes else None


def _beginning(read: _Stream) -> tuple[_Stream, int]:
    """Return the first tokens of a stream, and how many bytes they make."""
    blocks = read.blocks.copy()
    is_coded = blocks[:, bitstream.TYPE] != bitstream.STORED
    counts = np.where(is_coded, blocks[:, bitstream.COUNT], 0)
    room = np.clip(_TRIAL - (np.cumsum(counts) - counts), 0, counts)
    blocks[is_coded, bitstream.COUNT] = room[is_coded]
    blocks = blocks[: 1 + int(np.searchsorted(np.cumsum(counts), _TRIAL))]
    n = int(room[: len(blocks)].sum())
    lengths, distances = (column[:n] for column in read.tokens)
    stored = int(blocks[blocks[:, bitstream.TYPE] == bitstream.STORED, bitstream.COUNT].sum())
    n_bytes = stored + int(np.maximum(lengths, 1).sum(dtype=np.int64))
    return _Stream((lengths, distances), blocks, read.headers, read.n_bytes), n_bytes


def most_work(n_bytes: int) -> int:
    """Return how many comparisons may be spent on so many bytes: some match everywhere."""
    return _LEAST_WORK + max(min(_MOST_PER_BYTE * n_bytes, _MUCH_WORK), _WORK_PER_BYTE * n_bytes)


def _n_odd(contexts: Contexts, kinds: Bytes) -> int:
    return int(np.count_nonzero(kinds != _table(contexts, kinds)[contexts]))


def _compare(raw: Bytes, read: _Stream, effort: Effort) -> tuple[Contexts, Bytes, int] | None:
    """Return context and kind of all tokens, and the work it took; None if that is too much."""
    n = read.tokens[0].size
    contexts, kinds = np.zeros(n, np.uint16), np.zeros(n, np.uint8)
    most = most_work(raw.size)
    work = matches.compare(raw, read.tokens, read.blocks, effort, contexts, kinds, most)
    return (contexts, kinds, int(work)) if work >= 0 else None


def _table(contexts: Contexts, kinds: Bytes) -> Bytes:
    """Return what most tokens of each context are: MATCH or LITERAL."""
    n_of = np.zeros((matches.N_CONTEXTS, 3), np.int64)
    for start in range(0, contexts.size, _TRIAL):  # bincount takes 8 bytes for each
        piece = slice(start, start + _TRIAL)
        n_of += np.bincount(contexts[piece] * 3 + kinds[piece], minlength=n_of.size).reshape(-1, 3)
    return (n_of[:, matches.MATCH] > n_of[:, matches.LITERAL]).astype(np.uint8)


def _unpack(cursor: Cursor, size: int) -> tuple[Effort, Bytes, NDArray[Any], Exceptions, Bytes]:
    """Return effort, table, blocks, exceptions and bits of headers, all within their bounds."""
    depth, least, nice, inside, window = cursor.unpack(_HEAD)
    table = np.unpackbits(cursor.array("u1", matches.N_CONTEXTS // 8), bitorder="little")
    (n_blocks,) = cursor.unpack("<I")
    kinds, counts, bits = (cursor.array(dtype, n_blocks) for dtype in ("u1", "<u4", "<u2"))
    (n_odd,) = cursor.unpack("<I")
    gaps, lengths, distances = (cursor.array(dtype, n_odd) for dtype in ("<u4", "<u2", "<u2"))
    (n_header,) = cursor.unpack("<I")
    headers = np.unpackbits(cursor.array("u1", n_header), bitorder="little")
    cursor.end()
    blocks = np.stack([kinds & 3, kinds >> 2, counts, bits], 1).astype(np.int64)
    if depth > _MAX_DEPTH or least not in (3, 4) or n_blocks == 0:
        raise cursor.damaged("an effort and blocks", (depth, least, n_blocks))
    if (blocks[:, bitstream.TYPE] > bitstream.DYNAMIC).any() or (kinds >> 2 > 1).any():
        raise cursor.damaged("types of blocks", set(kinds.tolist()))
    stored = blocks[blocks[:, bitstream.TYPE] == bitstream.STORED, bitstream.COUNT]
    if (stored > _MAX_STORED).any() or counts.sum(dtype=np.uint64) > size:
        raise cursor.damaged(f"blocks of {size} bytes", "longer ones")
    if bits.max() > bitstream.MAX_HEADER_BITS:
        raise cursor.damaged("headers of blocks", f"one of {bits.max()} bits")
    if not 0 <= 8 * n_header - int(bits.sum(dtype=np.uint64)) < 8:
        raise cursor.damaged("the bits of all headers", n_header)
    exceptions = (
        np.cumsum(gaps, dtype=np.int64),
        lengths.astype(np.int64),
        distances.astype(np.int64) + (lengths > 0),
    )
    return (depth, least, nice, inside, window + 1), table, blocks, exceptions, headers
