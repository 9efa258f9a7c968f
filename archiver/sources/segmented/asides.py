"""What a gap ends with that is not the file's: plans of segments, and what breaks them up.

FORMAT.md, "Residue of segmented files".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from archiver.errors import IntegrityError
from archiver.sources.cursor import Cursor

BREAK_BYTES = 8  # the head of a DICOM fragment
_BREAK = struct.Struct(f"<I{BREAK_BYTES}s")


def joined(span: bytes, breaks: Sequence[int]) -> bytes:
    """Return a segment without the bytes that interrupt it at ``breaks``."""
    starts = [0, *(at + BREAK_BYTES for at in breaks)]
    return b"".join(span[a:b] for a, b in zip(starts, [*breaks, len(span)], strict=True))


def broken(segment: bytes, breaks: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield a segment with the bytes that interrupt it, each before the byte of that number.

    IntegrityError unless the numbers ascend within the segment.
    """
    start = 0
    for at, between in breaks:
        if not start <= at <= len(segment):
            raise IntegrityError(
                f"a segment of {len(segment)} bytes: expected breaks in order, found one at {at}"
                f" after {start}; the archive is damaged, run `archiver verify` on it"
            )
        yield segment[start:at] + between
        start = at
    yield segment[start:]


def pack_breaks(breaks: Sequence[tuple[int, bytes]]) -> bytes:
    """Return what follows the gap before a broken segment."""
    packed = b"".join(_BREAK.pack(at, held) for at, held in breaks)
    return packed + struct.pack("<H", len(breaks))


def pack_plan(plan: bytes) -> bytes:
    """Return what follows the gap before a segment that is rebuilt by a plan."""
    return plan + struct.pack("<I", len(plan))


def take_plan(cursor: Cursor, gap: bytes) -> tuple[bytes, bytes]:
    """Split what :func:`pack_plan` wrote from the gap that it follows."""
    end = len(gap) - 4
    start = end - (int.from_bytes(gap[-4:], "little") if end >= 0 else 0)
    if min(start, end) < 0:
        raise cursor.damaged("the plan of a segment", "fewer bytes")
    return gap[:start], gap[start:end]


def take_breaks(cursor: Cursor, gap: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """Split what :func:`pack_breaks` wrote from the gap that it follows."""
    end = len(gap) - 2
    start = end - _BREAK.size * (int.from_bytes(gap[-2:], "little") if end >= 0 else 0)
    if min(start, end) < 0:
        raise cursor.damaged("breaks of a segment", "fewer bytes")
    return gap[:start], list(_BREAK.iter_unpack(gap[start:end]))
