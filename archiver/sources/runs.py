"""Own streams of PackBits packets: RLE frames of DICOM, and strips that no known encoder wrote.

A packet repeats one byte or copies some; encoders differ in when they do which.  A plan says what
this one decided: the packets are foreseen by a simple rule, and the exceptions are kept.  A plan
needs no library (FORMAT.md, "Plan of runs"), little-endian:

    u1 layout version (1)
    u1 least run that begins a packet, u1 least run that ends a copy
    u4 bytes of a plane after which a packet ends: a row; 0: nowhere
    u1 n           n planes: u1 place of the plane's byte among n, blob of what stands before its
                   packets, u4 m exceptions: m x u4 number of the packet minus that of the exception
                   before, m x u1 its first byte
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from archiver.errors import IntegrityError
from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.packing import Bytes
from archiver.sources.wire import Cursor, pack_blob

MAX_PLANES = 15  # of an RLE frame
_HEAD = struct.Struct("<16I")  # of an RLE frame: how many planes, and where they begin
_MOST = 128  # bytes of a packet
_GAIN = 64  # bytes that come of one, at most
_SHARE = 3  # a plan of one byte for so many of the stream is good enough
_RULES = ((2, 2), (2, 3), (3, 3))


@dataclass(frozen=True)
class Rule:
    """How packets are foreseen: by runs of at least ``starts``, ``ends``, within rows."""

    starts: int
    ends: int
    row: int


@dataclass
class Plane:
    """One plane of a stream: the ``place`` of its byte, what is ``before`` it, its exceptions."""

    place: int
    before: bytes
    exceptions: dict[int, int] = field(default_factory=dict)  # number of a packet -> control


# --- frames of DICOM (PS3.5, annex G) ------------------------------------------------------------


def frame_starts(stored: bytes) -> list[int]:
    """Return where the planes of an RLE frame begin; Unsupported if its head is damaged."""
    if len(stored) < _HEAD.size:
        raise Unsupported("an RLE frame that ends within its head")
    count, *starts = _HEAD.unpack_from(stored)
    starts = starts[:count]
    is_sound = 1 <= count <= MAX_PLANES and starts == sorted(starts) and starts[0] >= _HEAD.size
    if not is_sound or starts[-1] > len(stored):
        raise Unsupported("an RLE frame whose head is damaged")
    return starts


def frame_places(n_planes: int, sample_bytes: int) -> list[int]:
    """Return which byte of a pixel each plane holds: channel by channel, the highest first."""
    return [i + sample_bytes - 1 - 2 * (i % sample_bytes) for i in range(n_planes)]


def decode_frame(stored: bytes, n_bytes: int, sample_bytes: int) -> bytes:
    """Return the little-endian samples of an RLE frame, all channels of a pixel together."""
    starts = frame_starts(stored)
    n_planes, n_pixels = len(starts), n_bytes // len(starts)
    if n_planes % sample_bytes or n_pixels * n_planes != n_bytes:
        raise Unsupported(f"an RLE frame of {n_planes} planes for {n_bytes} bytes")
    if n_bytes > _GAIN * len(stored):
        raise Unsupported("an RLE frame of fewer bytes than its samples take")
    pixels = np.empty((n_pixels, n_planes), np.uint8)
    for place, start, end in zip(
        frame_places(n_planes, sample_bytes), starts, [*starts[1:], len(stored)], strict=True
    ):
        plane = np.frombuffer(_decoded(stored[start:end], n_pixels), np.uint8)
        if len(plane) != n_pixels:
            raise Unsupported(f"a plane of {len(plane)} bytes, expected {n_pixels}")
        pixels[:, place] = plane
    return pixels.tobytes()


def _decoded(packets: bytes, n_bytes: int) -> bytes:
    padded = n_bytes + 2 * _MOST  # an encoder may pad the last packet
    return bytes(imagecodecs.packbits_decode(packets, out=padded))[:n_bytes]


# --- plans ---------------------------------------------------------------------------------------


def find_frame(rows: Bytes, stored: bytes, sample_bytes: int) -> tuple[bytes, int] | None:
    """Return the plan of an RLE frame of rows (H, bytes), and how many bytes it gives."""
    starts = frame_starts(stored)
    places = frame_places(len(starts), sample_bytes)
    return _find(rows, stored, starts, places)


def find_strip(rows: Bytes, stored: bytes) -> tuple[bytes, int] | None:
    """Return the plan of a strip of rows (H, bytes), and how many bytes it gives."""
    return _find(rows, stored, [0], [0])


def _find(
    rows: Bytes, stored: bytes, starts: Sequence[int], places: Sequence[int]
) -> tuple[bytes, int] | None:
    values = rows.reshape(-1, len(places))
    at, packets, before = 0, [], []
    for start in starts:
        found = _packets(stored, start, len(values))
        if found is None or start < at:
            return None
        before.append(stored[at:start])
        packets.append(found[0])
        at = found[1]
    plans = []
    for (least, ends), row in ((r, n) for r in _RULES for n in (rows.shape[1] // len(places), 0)):
        rule = Rule(least, ends, row)
        planes = [Plane(*one) for one in zip(places, before, strict=True)]
        for plane, controls in zip(planes, packets, strict=True):
            plane.exceptions = _exceptions(controls, values[:, plane.place], rule)
        plans.append(_pack(rule, planes))
    best = min(plans, key=len)
    return (best, at) if len(best) * _SHARE <= at + _HEAD.size * _SHARE else None


def _packets(stored: bytes, at: int, n: int) -> tuple[NDArray[np.int64], int] | None:
    """Return the first bytes of the packets that give ``n`` bytes, and where they end."""
    controls, done = [], 0
    while done < n:
        if at >= len(stored) or stored[at] == _MOST:
            return None
        control = stored[at]
        controls.append(control)
        done += control + 1 if control < _MOST else 257 - control
        at += control + 2 if control < _MOST else 2
    is_whole = done == n and at <= len(stored)
    return (np.array(controls, np.int64), at) if is_whole else None


def _exceptions(controls: NDArray[np.int64], values: Bytes, rule: Rule) -> dict[int, int]:
    counts = np.where(controls < _MOST, controls + 1, 257 - controls)
    places = np.cumsum(counts) - counts
    numbers = np.flatnonzero(_foreseen(values, rule)[places] != controls)
    return dict(zip(numbers.tolist(), controls[numbers].tolist(), strict=True))


def replay(rows: Bytes, plan: bytes) -> bytes:
    """Return the stream of rows (H, bytes) by its plan; IntegrityError if that is damaged."""
    cursor = Cursor(plan, "plan of runs")
    rule, planes = _read(cursor)
    if not planes or rows.size % len(planes):
        raise cursor.damaged("planes of all bytes", len(planes))
    values = rows.reshape(-1, len(planes))
    parts: list[bytes] = []
    for plane in planes:
        if plane.place >= len(planes):
            raise cursor.damaged(f"one of {len(planes)} planes", plane.place)
        parts.append(plane.before)
        parts += _written(np.ascontiguousarray(values[:, plane.place]), plane, rule)
    return b"".join(parts)


def _written(values: Bytes, plane: Plane, rule: Rule) -> Iterator[bytes]:
    foreseen, flat = _foreseen(values, rule).tolist(), values.tobytes()
    at = number = 0
    while at < len(flat):
        control = plane.exceptions.get(number)
        if control is None:
            control = foreseen[at]
        count = control + 1 if control < _MOST else 257 - control
        if control == _MOST or at + count > len(flat):
            raise IntegrityError(
                f"plan of runs: expected a packet of at most {len(flat) - at} bytes, found first"
                f" byte {control}; the archive is damaged, run `archiver verify` on it"
            )
        yield bytes([control]) + flat[at : at + (count if control < _MOST else 1)]
        at += count
        number += 1


def _foreseen(values: Bytes, rule: Rule) -> NDArray[np.int64]:
    """Return the first byte of the packet that a simple encoder would begin at each byte."""
    n, row = len(values), rule.row or len(values)
    places = np.arange(n)
    row_ends = np.minimum((places // row + 1) * row, n)
    is_last = np.append(values[1:] != values[:-1], True) | (places + 1 == row_ends)
    runs = _next(np.flatnonzero(is_last) + 1, places + 1) - places
    long = np.append(np.flatnonzero(runs >= rule.ends), n)
    copies = np.minimum(_next(long, places + 1), row_ends) - places
    repeat, copy = 257 - np.minimum(runs, _MOST), np.minimum(copies, _MOST) - 1
    return np.where(runs >= rule.starts, repeat, copy)


def _next(sorted_places: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first of the places that is at or after each of ``after``."""
    found: NDArray[np.int64] = sorted_places[
        np.minimum(np.searchsorted(sorted_places, after), len(sorted_places) - 1)
    ]
    return found


def _pack(rule: Rule, planes: Sequence[Plane]) -> bytes:
    parts = [struct.pack("<BBBIB", LAYOUT_VERSION, rule.starts, rule.ends, rule.row, len(planes))]
    for plane in planes:
        parts += [struct.pack("<B", plane.place), pack_blob(plane.before)]
        parts.append(struct.pack("<I", len(plane.exceptions)))
        parts.append(np.diff([*plane.exceptions], prepend=0).astype("<u4").tobytes())
        parts.append(bytes(plane.exceptions.values()))
    return b"".join(parts)


def _read(cursor: Cursor) -> tuple[Rule, list[Plane]]:
    starts, ends, row, n = cursor.unpack("<BBIB")
    if min(starts, ends) < 2:
        raise cursor.damaged("runs of at least 2", min(starts, ends))
    planes = []
    for _ in range(n):
        (place,) = cursor.unpack("<B")
        before = cursor.blob()
        (m,) = cursor.unpack("<I")
        steps = cursor.array("<u4", m).astype(np.int64)
        if (steps[1:] < 1).any():
            raise cursor.damaged("exceptions in order", "others")
        numbers = np.cumsum(steps).tolist()
        planes.append(Plane(place, before, dict(zip(numbers, cursor.take(m), strict=True))))
    cursor.end()
    return Rule(starts, ends, row), planes
