"""Streams of PackBits packets: RLE frames of DICOM, and strips that no known encoder wrote.

A packet repeats one byte or copies some; encoders differ in when they do which.  A plan says what
this one decided: the packets are predicted by a simple rule, and the exceptions are kept.  A plan
needs no library (FORMAT.md, "Plan of runs"), little-endian:

    u1 layout version (1)
    u1 least run that begins a packet, u1 least run that ends a copy
    u4 bytes of a plane after which a packet ends: a row; 0: nowhere
    u1 n           n planes: u1 place of the plane's byte among n, blob of what stands before its
                   packets, u4 m exceptions: m x u4 number of the packet minus that of the exception
                   before, m x u1 its first byte
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from archiver.native import library
from archiver.native.arrays import address
from archiver.sources.bit_packing import Bytes
from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.cursor import Cursor, pack_blob

MAX_PLANES = 15  # of an RLE frame
MAX_BYTES = 1 << 26  # of rows that a plan stands for
MAX_LEAST = 16  # of a run that a rule asks for
_HEAD = struct.Struct("<16I")  # of an RLE frame: how many planes, and where they begin
_HEAD_COST = 256  # bytes of a plan that say nothing but the head, which compresses
_MOST = 128  # bytes of a packet
_GAIN = 64  # bytes that come of one, at most
_SHARE = 3  # a plan of one byte for so many of the stream is good enough
_EXCEPTION_BYTES = 5
_RULES = ((2, 2), (2, 3), (3, 3))


@dataclass(frozen=True)
class Rule:
    """How packets are predicted: by runs of at least ``starts``, ``ends``, within rows."""

    starts: int
    ends: int
    row: int

    def numbers(self) -> ctypes.Array[ctypes.c_int64]:
        """Return it as the native core takes it (runs.c)."""
        return (ctypes.c_int64 * 3)(self.starts, self.ends, self.row)


@dataclass(frozen=True)
class Plane:
    """One plane of a stream: the ``place`` of its byte, what is ``before`` it, its exceptions.

    ``numbers`` (m,) int64 are packets that are not predicted, ``firsts`` (m,) their first bytes.
    """

    place: int
    before: bytes
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    firsts: Bytes = field(default_factory=lambda: np.empty(0, np.uint8))


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
    return _find(rows, stored, starts, frame_places(len(starts), sample_bytes), _HEAD_COST)


def find_strip(rows: Bytes, stored: bytes) -> tuple[bytes, int] | None:
    """Return the plan of a strip of rows (H, bytes), and how many bytes it gives."""
    return _find(rows, stored, [0], [0], 0)


def _find(
    rows: Bytes, stored: bytes, starts: Sequence[int], places: Sequence[int], more: int
) -> tuple[bytes, int] | None:
    """Return the smallest plan; None if it takes too much of the stream, beside ``more`` bytes."""
    if rows.size > MAX_BYTES:
        return None
    values, data, at = _planes(rows, len(places)), np.frombuffer(stored, np.uint8), 0
    before, controls = [], []
    for start in starts:
        packets, end = _packets(data, start, values.shape[1])
        if end < 0 or start < at:
            return None
        before.append(stored[at:start])
        controls.append(packets)
        at = end
    most = at // _SHARE + more
    plans = []
    for (least, ends), row in product(_RULES, (rows.shape[1] // len(places), 0)):
        rule, planes = Rule(least, ends, row), []
        for place, gap, firsts in zip(places, before, controls, strict=True):
            room = most // _EXCEPTION_BYTES + 1  # more would be too many
            numbers = _exceptions(values[place], firsts, rule, room)
            planes.append(Plane(place, gap, numbers, firsts[numbers]))
        plans.append(_pack(rule, planes))
    best = min(plans, key=len)
    return (best, at) if len(best) <= most else None


def replay(rows: Bytes, plan: bytes) -> bytes:
    """Return the stream of rows (H, bytes) by its plan; IntegrityError if that is damaged."""
    cursor = Cursor(plan, "plan of runs")
    rule, planes = _read(cursor)
    if not planes or rows.size % len(planes) or rows.size > MAX_BYTES:
        raise cursor.damaged("planes of all bytes", f"{len(planes)} for {rows.size}")
    values = _planes(rows, len(planes))
    out = np.empty(2 * values.shape[1], np.uint8)  # as many as packets of one byte take
    parts: list[bytes] = []
    for plane in planes:
        if plane.place >= len(planes):
            raise cursor.damaged(f"one of {len(planes)} planes", plane.place)
        size = _written(values[plane.place], plane, rule, out)
        if size < 0:
            raise cursor.damaged("packets that end with the plane", "others")
        parts += [plane.before, out[:size].tobytes()]
    return b"".join(parts)


def _planes(rows: Bytes, n: int) -> Bytes:
    """Return the n planes (n, bytes) of rows."""
    return np.ascontiguousarray(rows.reshape(-1, n).T)


# --- loops, in the native core -------------------------------------------------------------------


def _packets(stored: Bytes, at: int, n: int) -> tuple[Bytes, int]:
    """Return the first bytes of the packets that give ``n`` bytes, and where they end.

    They end at -1 if there are no such packets.
    """
    controls = np.empty(min(n, max(0, stored.size - at)), np.uint8)
    count = ctypes.c_int64()
    end: int = _core().archiver_runs_packets(
        *(address(stored, np.uint8), stored.size, at, n),
        *(address(controls, np.uint8), ctypes.byref(count)),
    )
    return controls[: count.value], end


def _exceptions(plane: Bytes, controls: Bytes, rule: Rule, room: int) -> NDArray[np.int64]:
    """Return the numbers of the packets that are not predicted, the first ``room`` of them."""
    numbers = np.empty(min(room, controls.size), np.int64)
    count = _core().archiver_runs_exceptions(
        *(address(plane, np.uint8), plane.size, address(controls, np.uint8), controls.size),
        *(rule.numbers(), address(numbers, np.int64), numbers.size),
    )
    return numbers[:count]


def _written(values: Bytes, plane: Plane, rule: Rule, out: Bytes) -> int:
    """Write the packets of a plane to ``out``; return their size, -1 if they do not end with it."""
    if out.size < 2 * values.size:
        raise ValueError("less room than packets of one byte take")
    numbers, firsts = plane.numbers, plane.firsts
    size: int = _core().archiver_runs_written(
        *(address(values, np.uint8), values.size),
        *(address(numbers, np.int64), address(firsts, np.uint8), min(numbers.size, firsts.size)),
        *(rule.numbers(), address(out, np.uint8)),
    )
    return size


@cache
def _core() -> ctypes.CDLL:
    core = library.required()
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    numbers = ctypes.POINTER(number)
    core.archiver_runs_packets.argtypes = (pointer, number, number, number, pointer, numbers)
    core.archiver_runs_exceptions.argtypes = (
        *(pointer, number, pointer, number),
        *(numbers, pointer, number),
    )
    core.archiver_runs_written.argtypes = (
        *(pointer, number, pointer, pointer, number),
        *(numbers, pointer),
    )
    for function in (
        core.archiver_runs_packets,
        core.archiver_runs_exceptions,
        core.archiver_runs_written,
    ):
        function.restype = number
    return core


# --- the bytes of a plan -------------------------------------------------------------------------


def _pack(rule: Rule, planes: Sequence[Plane]) -> bytes:
    parts = [struct.pack("<BBBIB", LAYOUT_VERSION, rule.starts, rule.ends, rule.row, len(planes))]
    for plane in planes:
        parts += [struct.pack("<B", plane.place), pack_blob(plane.before)]
        parts.append(struct.pack("<I", len(plane.numbers)))
        parts.append(np.diff(plane.numbers, prepend=0).astype("<u4").tobytes())
        parts.append(plane.firsts.tobytes())
    return b"".join(parts)


def _read(cursor: Cursor) -> tuple[Rule, list[Plane]]:
    starts, ends, row, n = cursor.unpack("<BBIB")
    if min(starts, ends) < 2 or max(starts, ends) > MAX_LEAST:
        raise cursor.damaged(f"runs of 2 to {MAX_LEAST}", (starts, ends))
    planes = []
    for _ in range(n):
        (place,) = cursor.unpack("<B")
        before = cursor.blob()
        (m,) = cursor.unpack("<I")
        steps = cursor.array("<u4", m).astype(np.int64)
        if (steps[1:] < 1).any():
            raise cursor.damaged("exceptions in order", "others")
        planes.append(Plane(place, before, np.cumsum(steps), cursor.array("u1", m)))
    cursor.end()
    return Rule(starts, ends, row), planes
