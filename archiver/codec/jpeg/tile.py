"""The coding of tiles that are JPEGs: their coefficients, or libjxl's lossless transcoding.

Such a tile comes and goes as its bytes (`sources.jpeg_tile.JpegTile`), an array of shape
(1, n, 1) of type ``BYTES``: what must come back is the file, and every decoder of the JPEG has the
samples.  Payload: u1 form, then three bytes of header, then the JPEG as it is, under JPEG XL, or as
coded coefficients (:mod:`archiver.codec.jpeg`).

What both begin with, the tables of the JPEG, is the same in most tiles of a file: its *head* is
kept once for the file, and left out of every payload that has it.  Coefficients may be coded *after
key tiles*: by contexts that have learned from other tiles of the file.
"""

from __future__ import annotations

from enum import IntEnum

import imagecodecs
import numpy as np

from archiver import image_headers
from archiver.codec.jpeg import payload as jpeg_payload
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.errors import IntegrityError, within
from archiver.image import Samples

BYTES = np.dtype("V1")
MAX_PLAIN_TABLES = 1 << 9  # bytes of the box that has the tables, of a JPEG without other segments
MAX_PIXELS = 1 << 24  # of one under JPEG XL: libjxl takes some 12 bytes for each
MAX_BYTES = 1 << 23  # of one whose coefficients are coded: a minute or so
_HEADER = 3
_START = 1 + _HEADER
_RECONSTRUCTION = b"jbrd"  # the box that has the JPEG's tables
_MAX_HEAD = 1 << 16


class Form(IntEnum):
    """On-disk ids, append only."""

    AS_IS = 0
    JPEG_XL = 1
    JPEG_XL_HEADLESS = 2
    COEFFICIENTS = 3
    COEFFICIENTS_HEADLESS = 4
    AFTER_KEYS = 5  # coefficients
    AFTER_KEYS_HEADLESS = 6


_HEADLESS_OF = {
    Form.JPEG_XL: Form.JPEG_XL_HEADLESS,
    Form.COEFFICIENTS: Form.COEFFICIENTS_HEADLESS,
    Form.AFTER_KEYS: Form.AFTER_KEYS_HEADLESS,
}
_WHOLE_OF = {headless: whole for whole, headless in _HEADLESS_OF.items()}


def as_tile(data: bytes) -> Samples:
    """Return bytes as a tile."""
    return np.frombuffer(data, BYTES).reshape(1, -1, 1)


def encode(tile: Samples, state: ContextState | None = None) -> bytes:
    """Return the smallest payload of a tile; a ``state`` is that after the key tiles."""
    quick = encode_quickly(tile)
    if tile.size > MAX_BYTES:
        return quick
    return min(filter(None, [quick, encode_coefficients(tile, state)]), key=len)


def encode_quickly(tile: Samples) -> bytes:
    """Return the smaller payload of those without coefficients, some fifty times as fast."""
    return min(filter(None, [encode_as_is(tile), _transcoded(tile)]), key=len)


def encode_as_is(tile: Samples) -> bytes:
    """Return the payload that holds the JPEG itself."""
    return bytes([Form.AS_IS]) + tile.tobytes()


def encode_coefficients(tile: Samples, state: ContextState | None = None) -> bytes:
    """Return the payload of coded coefficients, b"" if there can be none.

    A ``state`` is that after the key tiles, and learns from this one.
    """
    data = tile.tobytes()
    streams = jpeg_payload.encode(data[_HEADER:], ContextState.fresh() if state is None else state)
    if streams is None:
        return b""
    form = Form.COEFFICIENTS if state is None else Form.AFTER_KEYS
    return bytes([form]) + data[:_HEADER] + b"".join(streams)


def _transcoded(tile: Samples) -> bytes:
    """Return the payload under JPEG XL, b"" if libjxl cannot transcode it."""
    data = tile.tobytes()
    if image_headers.jpeg_pixels(data) > MAX_PIXELS:
        return b""
    try:
        transcoded = bytes(imagecodecs.jpegxl_encode_jpeg(data[_HEADER:]))
    except Exception:  # progressive, arithmetic, damaged: whatever libjxl refuses
        return b""
    if _pixels(transcoded) > MAX_PIXELS:
        return b""
    return bytes([Form.JPEG_XL]) + data[:_HEADER] + transcoded


def head_of(payload: bytes) -> bytes:
    """Return what a payload has in common with others of its file, b"" if nothing."""
    if payload[:1] in (bytes([Form.COEFFICIENTS]), bytes([Form.AFTER_KEYS])):
        return jpeg_payload.head_of(payload[_START:])
    stream = payload[_START:_MAX_HEAD]
    box = stream.find(_RECONSTRUCTION) - 4
    if payload[:1] != bytes([Form.JPEG_XL]) or box < 0:
        return b""
    return stream[: box + int.from_bytes(stream[box : box + 4], "big")]


def sides(payload: bytes) -> tuple[int, int]:
    """Return height and width that the JPEG of coded coefficients declares, (0, 0) of others."""
    if payload[:1] in (bytes([Form.COEFFICIENTS]), bytes([Form.AFTER_KEYS])):
        return jpeg_payload.sides(payload[_START:])
    return 0, 0


def is_bounded(payload: bytes, room: tuple[int, int]) -> bool:
    """Whether a JPEG of standard segments alone, of at most ``room`` rows and columns, is inside.

    What JPEG XL keeps of a JPEG's other segments, empty ones, may be gigabytes in a few bytes.
    """
    transcoded = payload[_START:]
    if payload[:1] != bytes([Form.JPEG_XL]):
        return payload[:1] == bytes([Form.AS_IS])
    try:
        height, width = image_headers.sides(transcoded)
    except ValueError:
        return False
    box = transcoded.find(_RECONSTRUCTION)
    length = int.from_bytes(transcoded[max(0, box - 4) : box], "big")
    is_plain = transcoded.count(_RECONSTRUCTION) == 1 and 8 <= length <= MAX_PLAIN_TABLES
    return is_plain and height <= room[0] and width <= room[1]


def without_head(payload: bytes, head: bytes) -> bytes:
    """Return a payload without its head, as it is if it has another."""
    form = payload[0] if payload else -1
    if not head or form not in _HEADLESS_OF or not payload[_START:].startswith(head):
        return payload
    headless = _HEADLESS_OF[Form(form)]
    return bytes([headless]) + payload[1:_START] + payload[_START + len(head) :]


def is_headless(payload: bytes) -> bool:
    """Whether a payload needs the head of its file."""
    return bool(payload) and payload[0] in _WHOLE_OF


def uses_key_tiles(payload: bytes) -> bool:
    """Whether a payload needs what other tiles of its file have taught."""
    return payload[:1] in (bytes([Form.AFTER_KEYS]), bytes([Form.AFTER_KEYS_HEADLESS]))


def with_head(payload: bytes, head: bytes) -> bytes:
    """Return what :func:`without_head` was given."""
    if not is_headless(payload):
        return payload
    whole = _WHOLE_OF[Form(payload[0])]
    return bytes([whole]) + payload[1:_START] + head + payload[_START:]


def decode(payload: bytes, state: ContextState | None = None) -> bytes:
    """Return the bytes of a tile; IntegrityError if the payload does not decode.

    ``state``, of one after key tiles, is what they have taught; it learns from this one.
    """
    form = payload[0] if len(payload) > _HEADER else -1
    if form == Form.AS_IS:
        return payload[1:]
    if form == Form.JPEG_XL:
        return payload[1:_START] + _back(payload[_START:])
    if form == Form.COEFFICIENTS:
        return payload[1:_START] + jpeg_payload.decode(payload[_START:], ContextState.fresh())
    if form == Form.AFTER_KEYS and state is not None:
        return payload[1:_START] + jpeg_payload.decode(payload[_START:], state)
    raise IntegrityError("JPEG tile: payload of an unknown form")


def _back(transcoded: bytes) -> bytes:
    """Return the JPEG that JPEG XL holds."""
    try:
        if _pixels(transcoded) > MAX_PIXELS:
            raise ValueError(f"more than {MAX_PIXELS} pixels")
        return bytes(imagecodecs.jpegxl_decode_jpeg(transcoded, numthreads=1))
    except Exception as error:
        raise within("JPEG tile: does not decode", error) from error


def _pixels(stream: bytes) -> int:
    height, width = image_headers.sides(stream)
    return height * width
