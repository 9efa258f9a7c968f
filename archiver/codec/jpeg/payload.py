"""What a payload of coded coefficients holds: a head, which tiles may share, and a stream.

Head: u4 length of a zstd frame, u4 bytes before the scan, u4 after it, the frame with both.
"""

from __future__ import annotations

import functools
import struct

import zstandard

from archiver.codec.jpeg import planes
from archiver.codec.jpeg.baseline import Header, Parts
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.jpeg.t81 import dictionary
from archiver.errors import IntegrityError

MAX_SEGMENTS = 1 << 24  # bytes of a JPEG that are not its scan
_HEAD = struct.Struct("<III")
_LEVEL = 19


def encode(data: bytes, state: ContextState) -> tuple[bytes, bytes] | None:
    """Return head and stream of a JPEG; None if it is of another kind, or gets no smaller.

    ``state`` learns from it, in any case: of what was given up it is of no more use.
    """
    try:
        parts = Parts.of(data)
    except ValueError:
        return None
    if len(parts.before) + len(parts.after) > MAX_SEGMENTS:
        return None
    stream = planes.encode(parts.planes, parts.header, state, len(data))
    if stream is None:
        return None
    frame = _compressor().compress(parts.before + parts.after)
    sizes = len(frame), len(parts.before), len(parts.after)
    return _HEAD.pack(*sizes) + frame, stream


def head_of(payload: bytes) -> bytes:
    """Return what a payload begins with; IntegrityError if it is too short."""
    if len(payload) < _HEAD.size or len(payload) < _size(payload):
        raise IntegrityError(f"JPEG tile: a head of {len(payload)} bytes, expected more")
    return payload[: _size(payload)]


def sides(payload: bytes) -> tuple[int, int]:
    """Return height and width that a payload declares; IntegrityError if it declares none."""
    before, _ = _segments(head_of(payload))
    header = _header(before)
    return header.height, header.width


def decode(payload: bytes, state: ContextState) -> bytes:
    """Return the JPEG of a head and a stream; IntegrityError if it does not decode.

    ``state`` is what the writer's was, and learns the same.
    """
    head = head_of(payload)
    before, after = _segments(head)
    header = _header(before)
    decoded = planes.decode(payload[len(head) :], header, state)
    try:
        return Parts(before, header, decoded, after).to_bytes()
    except ValueError as error:
        raise IntegrityError(f"JPEG tile: {error}") from error


def _header(before: bytes) -> Header:
    try:
        header = Header.of(before)
    except ValueError as error:
        raise IntegrityError(f"JPEG tile: {error}") from error
    if header.size != len(before):
        raise IntegrityError("JPEG tile: bytes between its header and its scan")
    return header


def _size(payload: bytes) -> int:
    return int(_HEAD.size + _HEAD.unpack_from(payload)[0])


def _segments(head: bytes) -> tuple[bytes, bytes]:
    """Return what is before the scan and what is after it."""
    _, before, after = _HEAD.unpack_from(head)
    if before + after > MAX_SEGMENTS:
        raise IntegrityError(f"JPEG tile: {before + after} bytes of segments")
    expected = before + after
    try:
        with _decompressor().stream_reader(head[_HEAD.size :]) as reader:
            both = reader.read(expected + 1)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"JPEG tile: its segments do not decode: {error}") from error
    if len(both) != expected:
        raise IntegrityError(f"JPEG tile: {len(both)} bytes of segments, expected {expected}")
    return both[:before], both[before:]


@functools.cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(dictionary(), zstandard.DICT_TYPE_RAWCONTENT)


def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(_LEVEL, dict_data=_dictionary(), write_content_size=False)


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(dict_data=_dictionary(), max_window_size=1 << 25)
