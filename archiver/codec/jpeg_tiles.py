"""Own the coding of tiles that are JPEGs: libjxl's lossless transcoding, a fifth smaller or so.

Such a tile comes and goes as its bytes (`sources.jpeg_tile.JpegTile`), an array of shape
(1, n, 1) of type ``BYTES``: what must come back is the file, and every decoder of the JPEG has the
samples.  Payload: u1 form, then three bytes of header, then the JPEG as it is or under JPEG XL.

What JPEG XL begins with, boxes and the tables of the JPEG, is the same in most tiles of a file: its
*head* is kept once for the file, and left out of every payload that has it.
"""

from __future__ import annotations

import imagecodecs
import numpy as np

from archiver import jpegxl_sides
from archiver.errors import IntegrityError
from archiver.image import Samples

BYTES = np.dtype("V1")
AS_IS, JPEG_XL, HEADLESS = 0, 1, 2  # forms; the last is JPEG XL without its head
_HEADER = 3
_RECONSTRUCTION = b"jbrd"  # the box that has the JPEG's tables
_MAX_HEAD = 1 << 16
MAX_PLAIN_TABLES = 1 << 9  # bytes of that box for a JPEG without segments of its own
MAX_PIXELS = 1 << 24  # of one under JPEG XL: libjxl takes some 12 bytes for each


def as_tile(data: bytes) -> Samples:
    """Return bytes as a tile."""
    return np.frombuffer(data, BYTES).reshape(1, -1, 1)


def encode(tile: Samples) -> bytes:
    """Return the payload of a tile: transcoded if that is smaller and libjxl can do it."""
    data = tile.tobytes()
    if jpegxl_sides.jpeg_pixels(data) > MAX_PIXELS:
        return encode_as_is(tile)
    try:
        transcoded = bytes(imagecodecs.jpegxl_encode_jpeg(data[_HEADER:]))
    except Exception:  # progressive, arithmetic, damaged: whatever libjxl refuses
        return encode_as_is(tile)
    if len(transcoded) >= len(data) - _HEADER or _pixels(transcoded) > MAX_PIXELS:
        return encode_as_is(tile)
    return bytes([JPEG_XL]) + data[:_HEADER] + transcoded


def encode_as_is(tile: Samples) -> bytes:
    """Return the payload that holds the JPEG itself."""
    return bytes([AS_IS]) + tile.tobytes()


def head_of(payload: bytes) -> bytes:
    """Return what a payload has in common with others of its file, b"" if nothing."""
    stream = payload[1 + _HEADER : _MAX_HEAD]
    box = stream.find(_RECONSTRUCTION) - 4
    if payload[:1] != bytes([JPEG_XL]) or box < 0:
        return b""
    return stream[: box + int.from_bytes(stream[box : box + 4], "big")]


def is_bounded(payload: bytes, room: tuple[int, int]) -> bool:
    """Whether a JPEG of standard segments alone, of at most ``room`` rows and columns, is inside.

    What JPEG XL keeps of a JPEG's other segments, empty ones, may be gigabytes in a few bytes.
    """
    transcoded = payload[1 + _HEADER :]
    if payload[:1] != bytes([JPEG_XL]):
        return True
    try:
        height, width = jpegxl_sides.sides(transcoded)
    except ValueError:
        return False
    box = transcoded.find(_RECONSTRUCTION)
    length = int.from_bytes(transcoded[max(0, box - 4) : box], "big")
    is_plain = transcoded.count(_RECONSTRUCTION) == 1 and 8 <= length <= MAX_PLAIN_TABLES
    return is_plain and height <= room[0] and width <= room[1]


def without_head(payload: bytes, head: bytes) -> bytes:
    """Return a payload without its head, as it is if it has another."""
    start = 1 + _HEADER
    if not head or payload[:1] != bytes([JPEG_XL]) or not payload[start:].startswith(head):
        return payload
    return bytes([HEADLESS]) + payload[1:start] + payload[start + len(head) :]


def is_headless(payload: bytes) -> bool:
    """Whether a payload needs the head of its file."""
    return payload[:1] == bytes([HEADLESS])


def with_head(payload: bytes, head: bytes) -> bytes:
    """Return what :func:`without_head` was given."""
    if not is_headless(payload):
        return payload
    start = 1 + _HEADER
    return bytes([JPEG_XL]) + payload[1:start] + head + payload[start:]


def decode(payload: bytes) -> bytes:
    """Return the bytes of a tile; IntegrityError if the payload does not decode."""
    if len(payload) <= _HEADER or payload[0] not in (AS_IS, JPEG_XL):
        raise IntegrityError("JPEG tile: payload of an unknown form")
    if payload[0] == AS_IS:
        return payload[1:]
    transcoded = payload[1 + _HEADER :]
    try:
        if _pixels(transcoded) > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS} pixels")
        stream = imagecodecs.jpegxl_decode_jpeg(transcoded, numthreads=1)
    except Exception as error:
        raise IntegrityError(f"JPEG tile: does not decode ({error})") from error
    return payload[1 : 1 + _HEADER] + bytes(stream)


def _pixels(stream: bytes) -> int:
    height, width = jpegxl_sides.sides(stream)
    return height * width
