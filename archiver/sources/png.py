"""PNG: samples, and the chunks, filter types and zlib settings that rebuild the file.

Residue (FORMAT.md, "Residue of PNG"), little-endian:

    u1 layout version (1)
    u4 width  u4 height  u1 bit depth  u1 channels  u1 interlaced (0, 1)
    u1 encoder  u1 level  u1 memory  u1 strategy  u1 window  2 bytes zlib header
    u4 n, then n times u4   data length of each IDAT chunk
    blob prefix             file up to the first IDAT chunk
    blob suffix             file after the last IDAT chunk
    blob tail               bytes inside IDAT after the zlib stream
    blob filters            filter type of every row, pass by pass
    blob padding            b"", or the last byte of every row masked to its unused low bits
    blob plan               of the deflate stream, if the encoder is PLANNED; else there is none

A blob is a u8 length and that many bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from archiver.image import Image, Samples
from archiver.sources.bit_packing import pack_bits, unpack_bits
from archiver.sources.contract import (
    LAYOUT_VERSION,
    MAX_WHOLE_BYTES,
    Fidelity,
    Split,
    Unsupported,
)
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.deflate import settings as deflate_settings

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)
_PLAIN = ((0, 0, 1, 1),)
_BLOCK_BYTES = 4 << 20  # filtered at once
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bit_depth: int
    channels: int
    interlaced: bool

    @property
    def bits(self) -> int:
        return self.bit_depth * self.channels

    @property
    def stride(self) -> int:
        """Distance in bytes to the pixel at the left, as PNG filters count it."""
        return max(1, self.bits // 8)

    @property
    def passes(self) -> list[tuple[int, int, int, int]]:
        """(first row, first column, row step, column step) of every pass that has pixels."""
        steps = _ADAM7 if self.interlaced else _PLAIN
        return [step for step in steps if step[0] < self.height and step[1] < self.width]

    def pass_shape(self, step: tuple[int, int, int, int]) -> tuple[int, int]:
        """Return rows, and bytes per row without the filter type."""
        rows = -(-(self.height - step[0]) // step[2])
        columns = -(-(self.width - step[1]) // step[3])
        return rows, (columns * self.bits + 7) // 8

    @property
    def raw_bytes(self) -> int:
        """Length of the filtered rows, filter types included."""
        return sum(rows * (1 + n) for rows, n in map(self.pass_shape, self.passes))


@dataclass(frozen=True)
class _Chunks:
    prefix: bytes
    data: bytes
    lengths: list[int]
    suffix: bytes


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a PNG file, or raise Unsupported."""
    if path.stat().st_size > MAX_WHOLE_BYTES:
        raise Unsupported("PNG: too large to hold in memory")
    data = path.read_bytes()
    chunks = _read_chunks(data)
    header = _read_header(chunks.prefix)
    raw, used = deflate_settings.inflate(chunks.data, header.raw_bytes)
    if len(raw) != header.raw_bytes:
        raise Unsupported(f"PNG: {len(raw)} bytes of rows, expected {header.raw_bytes}")
    samples, filters, padding = _unfilter_all(raw, header)
    image = Image.from_array(samples, bit_depth=header.bit_depth)
    made = deflate_settings.find(raw, chunks.data[:used])
    lengths, tail, note = chunks.lengths, chunks.data[used:], ""
    if made is None:
        if fidelity is not Fidelity.SAMPLES:
            raise Unsupported("PNG: deflate parameters not found")
        note = "PNG: deflate parameters not found, compressed again"
        made, tail = deflate_settings.Made(deflate_settings.DEFAULT), b""
        lengths = [deflate_settings.encode_again(raw)]
    residue = b"".join(
        (
            _pack_header(header, made.settings),
            struct.pack(f"<I{len(lengths)}I", len(lengths), *lengths),
            *map(pack_blob, (chunks.prefix, chunks.suffix, tail, filters, padding)),
            pack_blob(made.plan) if made.plan else b"",
        )
    )
    return Split((image,), residue, Fidelity.SAMPLES if note else Fidelity.BYTES, note)


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the file."""
    cursor = Cursor(residue, "residue of a PNG file")
    header, settings = _unpack_header(cursor)
    (n_chunks,) = cursor.unpack("<I")
    lengths = cursor.array("<u4", n_chunks)
    prefix, suffix, tail, filters, padding = (cursor.blob() for _ in range(5))
    made = deflate_settings.Made.read(settings, cursor)
    cursor.end()
    _check(cursor, header, images, filters, padding)
    raw = _filter_all(images[0].read(), header, filters, padding)
    stream = deflate_settings.replay(raw, made) + tail
    if int(lengths.sum(dtype=np.uint64)) != len(stream):
        raise cursor.damaged(f"{lengths.sum(dtype=np.uint64)} bytes of IDAT data", len(stream))
    yield prefix
    at = 0
    for length in lengths.tolist():
        yield _chunk(b"IDAT", stream[at : at + length])
        at += length
    yield suffix


def _check(
    cursor: Cursor, header: _Header, images: Sequence[Image], filters: bytes, padding: bytes
) -> None:
    shapes = [image.shape for image in images]
    if shapes != [(header.height, header.width, header.channels)]:
        raise cursor.damaged(f"one image of {header}", shapes)
    if images[0].dtype != _dtype(header):
        raise cursor.damaged(f"samples of type {_dtype(header)}", images[0].dtype)
    rows = sum(header.pass_shape(step)[0] for step in header.passes)
    if len(filters) != rows or len(padding) not in (0, rows) or max(filters, default=0) > 4:
        raise cursor.damaged(f"{rows} filter types of 0 to 4", f"{len(filters)} bytes")


def _read_chunks(data: bytes) -> _Chunks:
    """Find the IDAT chunks, which have to follow each other; everything else stays bytes."""
    at, first, last = len(SIGNATURE), -1, -1
    pieces: list[bytes] = []
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"acTL":
            raise Unsupported("PNG: animated")
        if kind == b"IEND" or end > len(data):
            break
        if kind == b"IDAT":
            if last not in (-1, at):
                raise Unsupported("PNG: IDAT chunks apart from each other")
            first, last = (at if first < 0 else first), end
            pieces.append(_chunk_data(data, at, end))
        at = end
    if first < 0:
        raise Unsupported("PNG: no image data")
    return _Chunks(data[:first], b"".join(pieces), [len(p) for p in pieces], data[last:])


def _chunk_data(data: bytes, at: int, end: int) -> bytes:
    (stored,) = struct.unpack_from(">I", data, end - 4)
    if zlib.crc32(data[at + 4 : end - 4]) != stored:
        raise Unsupported("PNG: wrong CRC of an IDAT chunk")
    return data[at + 8 : end - 4]


def _read_header(prefix: bytes) -> _Header:
    if prefix[8:16] != b"\0\0\0\rIHDR" or len(prefix) < 33:
        raise Unsupported("PNG: does not begin with a header")
    width, height, depth, colour, method, filtering, interlace = struct.unpack_from(
        ">IIBBBBB", prefix, 16
    )
    if depth not in _DEPTHS.get(colour, ()) or (method, filtering) != (0, 0) or interlace > 1:
        raise Unsupported("PNG: header with impossible values")
    header = _Header(width, height, depth, _CHANNELS[colour], bool(interlace))
    decoded = height * width * header.channels * _dtype(header).itemsize
    if min(width, height) == 0 or max(decoded, header.raw_bytes) > MAX_WHOLE_BYTES:
        raise Unsupported(f"PNG: {width} x {height} is too large to hold in memory")
    return header


def _dtype(header: _Header) -> np.dtype[np.generic]:
    return np.dtype(np.uint16 if header.bit_depth == 16 else np.uint8)


def _pack_header(header: _Header, settings: deflate_settings.Settings) -> bytes:
    shape = (header.width, header.height, header.bit_depth, header.channels, header.interlaced)
    return struct.pack("<BIIBBB", LAYOUT_VERSION, *shape) + settings.pack()


def _unpack_header(cursor: Cursor) -> tuple[_Header, deflate_settings.Settings]:
    width, height, depth, channels, interlaced = cursor.unpack("<IIBBB")
    header = _Header(width, height, depth, channels, bool(interlaced))
    if depth not in _DEPTHS[0] or (channels > 1 and depth < 8):
        raise cursor.damaged("a bit depth of PNG", depth)
    if not 1 <= channels <= 4 or min(width, height) == 0:
        raise cursor.damaged("the header of a PNG", header)
    return header, deflate_settings.Settings.read(cursor)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _unfilter_all(raw: bytes, header: _Header) -> tuple[Samples, bytes, bytes]:
    """Return samples (H, W, C), the filter types, and the unused bits of rows (b"" if zero)."""
    shape = (header.height, header.width, header.channels)
    samples = np.empty(shape, _dtype(header))
    filters, paddings, at = [], [], 0
    for step in header.passes:
        rows, n_bytes = header.pass_shape(step)
        end = at + rows * (1 + n_bytes)
        kinds = np.frombuffer(raw, np.uint8)[at:end].reshape(rows, 1 + n_bytes)[:, 0]
        if kinds.max() > 4:
            raise Unsupported("PNG: unknown filter type")
        plain = _unfilter(raw[at:end], rows, n_bytes, header)
        pixels = samples[step[0] :: step[2], step[1] :: step[3]]
        pixels[...] = _to_samples(plain, pixels.shape[1], header)
        paddings.append(_unused(plain, pixels.shape[1] * header.bits))
        filters.append(kinds.tobytes())
        at = end
    padding = b"".join(paddings)
    return samples, b"".join(filters), padding if any(padding) else b""


def _unfilter(raw: bytes, rows: int, n_bytes: int, header: _Header) -> Bytes:
    """Undo the filters of one pass: libpng decodes a PNG of equal pixel stride."""  # (rows, bytes)
    depth = 16 if header.bit_depth == 16 else 8
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[header.channels]
    body = struct.pack(">IIBBBBB", n_bytes // header.stride, rows, depth, colour, 0, 0, 0)
    pieces = (_chunk(b"IHDR", body), _chunk(b"IDAT", zlib.compress(raw, 0)), _chunk(b"IEND", b""))
    plain = imagecodecs.png_decode(SIGNATURE + b"".join(pieces))
    if depth == 16:
        plain = plain.astype(">u2")
    return np.ascontiguousarray(plain).view(np.uint8).reshape(rows, n_bytes)


def _to_samples(plain: Bytes, columns: int, header: _Header) -> Samples:
    rows = plain.shape[0]
    if header.bit_depth < 8:
        return unpack_bits(plain, header.bit_depth, columns)[..., None]
    return plain.view(_dtype(header).newbyteorder(">")).reshape(rows, columns, header.channels)


def _unused(plain: Bytes, row_bits: int) -> bytes:
    mask = (1 << (-row_bits % 8)) - 1
    return (plain[:, -1] & mask).tobytes()


def _filter_all(samples: Samples, header: _Header, filters: bytes, padding: bytes) -> bytes:
    """Return the filtered rows of all passes."""
    pieces: list[bytes] = []
    row = 0
    for step in header.passes:
        pixels = samples[step[0] :: step[2], step[1] :: step[3]]
        rows = pixels.shape[0]
        kinds = np.frombuffer(filters, np.uint8)[row : row + rows]
        plain = _to_bytes(pixels, header)
        if padding:
            plain[:, -1] |= np.frombuffer(padding, np.uint8)[row : row + rows]
        pieces += _filter(plain, kinds, header.stride)
        row += rows
    return b"".join(pieces)


def _to_bytes(pixels: Samples, header: _Header) -> Bytes:
    if header.bit_depth < 8:
        return pack_bits(pixels[..., 0].astype(np.uint8), header.bit_depth)
    ordered = np.array(pixels, dtype=_dtype(header).newbyteorder(">"), order="C")
    return ordered.view(np.uint8).reshape(pixels.shape[0], -1)


def _filter(plain: Bytes, kinds: Bytes, stride: int) -> Iterator[bytes]:
    """Yield filtered rows, in blocks of rows."""
    rows, n_bytes = plain.shape
    block = max(1, _BLOCK_BYTES // n_bytes)
    above = np.zeros((1, n_bytes), np.uint8)
    for first in range(0, rows, block):
        here = plain[first : first + block]
        up = np.concatenate((above, here[:-1]))
        above = here[-1:]
        out = np.empty((len(here), 1 + n_bytes), np.uint8)
        out[:, 0] = kinds[first : first + block]
        for kind in np.unique(out[:, 0]).tolist():
            chosen = np.flatnonzero(out[:, 0] == kind)
            out[chosen, 1:] = here[chosen] - _predict(kind, here[chosen], up[chosen], stride)
        yield out.tobytes()


def _predict(kind: int, here: Bytes, up: Bytes, stride: int) -> Bytes:
    """Predict rows by one of the five PNG filters; ``up`` holds the row above each."""
    if kind == 0:
        return np.zeros_like(here)
    if kind == 2:
        return up
    left = _shift(here, stride)
    if kind == 1:
        return left
    if kind == 3:
        return ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)
    return _paeth(left, up, _shift(up, stride))


def _shift(rows: Bytes, stride: int) -> Bytes:
    shifted = np.zeros_like(rows)
    shifted[:, stride:] = rows[:, :-stride]
    return shifted


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    a, b, c = (plane.astype(np.int16) for plane in (left, up, corner))
    to_left, to_up, to_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    is_left = (to_left <= to_up) & (to_left <= to_corner)
    return np.where(is_left, left, np.where(to_up <= to_corner, up, corner))
