"""Lossless JPEG and JPEG-LS streams: decoded by imagecodecs, rebuilt bit for bit.

Both standards leave the encoder no choice once the header is known: the entropy-coded bytes follow
from the samples.  Lossless JPEG (ITU-T T.81, process 14) is written here, since no library takes
the Huffman tables of another; JPEG-LS (T.87) by CharLS.  The header stays in the residue.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from archiver.image import Samples
from archiver.sources.bit_packing import Bytes
from archiver.sources.contract import Unsupported

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOF3, SOF_LS, _DHT, _SOS, _DRI = 0xC3, 0xF7, 0xC4, 0xDA, 0xDD
_NO_SOF = (_DHT, 0xC8, 0xCC)  # tables, reserved, and what arithmetic coding starts from
_BY_SAMPLE = 2
_MOST_SOI = 64  # places where a header may begin that are tried
_BAND = 1 << 16  # samples coded at once
_MOST_SAMPLES, _MOST_PER_BYTE = 1 << 23, 64  # of JPEG-LS: a header may claim any number
Ints = NDArray[np.int64]
Table = dict[int, tuple[int, int]]  # symbol -> bits, code


@dataclass
class Header:
    """What the markers before the entropy-coded bytes say; ``size`` is their length."""

    kind: int = 0  # the SOF marker
    precision: int = 0
    height: int = 0
    width: int = 0
    components: list[int] = field(default_factory=list)  # ids
    tables: dict[int, Table] = field(default_factory=dict)
    table_of: list[int] = field(default_factory=list)  # by component
    first: int = 0  # Ss: the predictor, or NEAR
    interleave: int = 0  # Se: how JPEG-LS mixes components
    is_plain: bool = True  # no restarts, no point transform, samples of all components together
    size: int = 0

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Of the samples."""
        return np.dtype(np.uint8 if self.precision <= 8 else np.uint16)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, len(self.components)

    @classmethod
    def of(cls, stream: bytes) -> Header:
        """Read the markers of a stream, or of its header; Unsupported if it is of another kind."""
        header = cls()
        for marker, body, end in _markers(stream):
            header._take(marker, body)
            header.size = end
        if header.kind not in (_SOF3, SOF_LS) or not header.table_of:
            raise Unsupported("JPEG that is neither lossless nor JPEG-LS")
        if not header.is_plain or header.height * header.width * header.precision == 0:
            raise Unsupported("lossless JPEG with restarts, a point transform or several scans")
        if header.kind == _SOF3 and not 1 <= header.first < len(_RULES):
            raise Unsupported(f"lossless JPEG with predictor {header.first}")
        is_grey = len(header.components) == 1
        if header.kind == SOF_LS and not is_grey and header.interleave != _BY_SAMPLE:
            raise Unsupported("JPEG-LS in colour, line by line")
        return header

    def _take(self, marker: int, body: bytes) -> None:
        if marker in (_SOF3, SOF_LS):
            self.is_plain &= not self.kind
            self.kind = marker
            self.precision, self.height, self.width, n = struct.unpack_from(">BHHB", body)
            self.components = list(body[6 : 6 + 3 * n : 3])
            self.is_plain &= all(sampling == 0x11 for sampling in body[7 : 7 + 3 * n : 3])
        elif marker == _DHT:
            self._take_tables(body)
        elif marker == _DRI:
            self.is_plain &= body == b"\0\0"
        elif marker == _SOS:
            n = body[0]
            self.table_of = [selector >> 4 for selector in body[2 : 2 + 2 * n : 2]]
            self.first, self.interleave = body[1 + 2 * n : 3 + 2 * n]
            self.is_plain &= n == len(self.components) and body[3 + 2 * n] == 0

    def _take_tables(self, body: bytes) -> None:
        while body:
            number, lengths = body[0], body[1:17]
            symbols = body[17 : 17 + sum(lengths)]
            table, code, at = {}, 0, 0
            for bits, count in enumerate(lengths, 1):
                for symbol in symbols[at : at + count]:
                    table[symbol] = (bits, code)
                    code += 1
                code, at = code << 1, at + count
            self.tables[number] = table
            body = body[17 + sum(lengths) :]


def _markers(stream: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and where it ends, up to the start of the scan."""
    at = 2
    if stream[:2] != _SOI:
        raise Unsupported("no JPEG")
    while True:
        if len(stream) < at + 4 or stream[at] != 0xFF:
            raise Unsupported("JPEG whose markers are damaged")
        marker, end = stream[at + 1], at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        yield marker, stream[at + 4 : end], end
        if marker == _SOS:
            return
        at = end


def frame_of(stream: bytes) -> tuple[int, int] | None:
    """Return the marker of the frame of any JPEG, and its bits; None if there is none."""
    with contextlib.suppress(Unsupported):
        for marker, body, _ in _markers(stream):
            if (0xC0 <= marker <= 0xCF and marker not in _NO_SOF) or marker == SOF_LS:
                return marker, body[0] if body else 0
    return None


def is_lossless(stream: bytes) -> bool:
    """Whether a JPEG is lossless or JPEG-LS, as its markers up to the scan say."""
    frame = frame_of(stream)
    return frame is not None and frame[0] in (_SOF3, SOF_LS)


def decode(stream: bytes) -> Samples:
    """Return the samples (H, W, C) of a stream."""
    header = Header.of(stream)
    if header.kind == _SOF3 and math.prod(header.shape) > 8 * len(stream):
        raise Unsupported("lossless JPEG of fewer bits than samples")  # a bit each, at least
    if header.kind == SOF_LS and stream.find(_EOI, header.size) < 0:
        raise Unsupported("JPEG-LS that is cut off")  # CharLS looks for its end for seconds
    if math.prod(header.shape) > _MOST_SAMPLES + _MOST_PER_BYTE * len(stream):
        raise Unsupported(f"JPEG-LS of {math.prod(header.shape)} samples in {len(stream)} bytes")
    read = imagecodecs.jpegsof3_decode if header.kind == _SOF3 else imagecodecs.jpegls_decode
    samples: Samples = np.asarray(read(stream)).reshape(header.shape)
    return samples.astype(header.dtype, copy=False)


def header_in(gap: bytes) -> bytes:
    """Return the header at the end of the bytes before a scan."""
    start = len(gap)
    for _ in range(_MOST_SOI):
        start = gap.rfind(_SOI, 0, start + 1)
        if start < 0:
            break
        with contextlib.suppress(Exception):  # two bytes within another segment look like one
            if Header.of(gap[start:]).size == len(gap) - start:
                return gap[start:]
    raise Unsupported("no header of a JPEG before its scan")


def encode(rows: Bytes, header: bytes) -> bytes:
    """Return the entropy-coded bytes of rows (H, bytes) of samples, given the header."""
    how = Header.of(header)
    samples = np.ascontiguousarray(rows).view(how.dtype.newbyteorder("<")).reshape(how.shape)
    if how.kind == _SOF3:
        return b"".join(_scan(samples, how))
    plain = (samples[..., 0] if how.shape[2] == 1 else samples).astype(how.dtype)
    stream = bytes(imagecodecs.jpegls_encode(plain, level=how.first))
    return stream[Header.of(stream).size : stream.rfind(_EOI)]


def _scan(samples: NDArray[np.unsignedinteger], how: Header) -> Iterator[bytes]:
    """Yield the entropy-coded bytes of samples (H, W, C): T.81, annexes F and H."""
    rest = np.empty(0, np.uint8)
    rows = max(1, _BAND // max(1, how.width))
    for top in range(0, how.height, rows):
        above = samples[max(0, top - 1) : top].astype(np.int64)
        band = samples[top : top + rows].astype(np.int64)
        flat = np.concatenate([rest, _bits(*_codes(band, above, how))])
        whole = len(flat) // 8 * 8
        yield np.packbits(flat[:whole]).tobytes().replace(b"\xff", b"\xff\0")
        rest = flat[whole:]
    if len(rest):
        padded = np.concatenate([rest, np.ones(8 - len(rest), np.uint8)])
        yield np.packbits(padded).tobytes().replace(b"\xff", b"\xff\0")


def _codes(band: Ints, above: Ints, how: Header) -> tuple[Ints, Ints]:
    """Return code and length of all samples of some rows, given the row above, if there is one."""
    difference = (band - _predicted(band, above, how)) & 0xFFFF
    difference[difference > 0x8000] -= 0x10000
    category = np.frexp(np.abs(difference).astype(np.float64))[1].astype(np.int64)
    extra = np.where(category == 16, 0, category)  # 32768 is alone in its category
    low = np.where(difference > 0, difference, difference - 1) & ((1 << extra) - 1)
    bits, codes = _huffman(category, how)
    return ((codes << extra) | low).reshape(-1), (bits + extra).reshape(-1)


_RULES: tuple[Callable[[Ints, Ints, Ints], Ints], ...] = (  # T.81, table H.1
    lambda left, above, corner: np.zeros_like(left),
    lambda left, above, corner: left,
    lambda left, above, corner: above,
    lambda left, above, corner: corner,
    lambda left, above, corner: left + above - corner,
    lambda left, above, corner: left + ((above - corner) >> 1),
    lambda left, above, corner: above + ((left - corner) >> 1),
    lambda left, above, corner: (left + above) >> 1,
)


def _predicted(band: Ints, row_above: Ints, how: Header) -> Ints:
    is_first = not len(row_above)
    above = np.concatenate([band[:1] if is_first else row_above, band[:-1]])
    left = np.roll(band, 1, 1)
    predicted = _RULES[how.first](left, above, np.roll(above, 1, 1)).copy()
    predicted[:, 0] = above[:, 0]
    if is_first:
        predicted[0] = left[0]
        predicted[0, 0] = 1 << (how.precision - 1)
    return predicted


def _huffman(category: Ints, how: Header) -> tuple[Ints, Ints]:
    """Return length and code of every category (H, W, C)."""
    bits, codes = np.empty_like(category), np.empty_like(category)
    for c, number in enumerate(how.table_of):
        lengths, words = np.zeros(17, np.int64), np.zeros(17, np.int64)
        for symbol, (length, code) in how.tables.get(number, {}).items():
            if symbol < len(lengths):
                lengths[symbol], words[symbol] = length, code
        bits[..., c], codes[..., c] = lengths[category[..., c]], words[category[..., c]]
    if not bits.all():
        raise Unsupported("lossless JPEG: its Huffman table lacks a category that it needs")
    return bits, codes


def _bits(values: Ints, lengths: Ints) -> NDArray[np.uint8]:
    """Return the lowest bits of each value, most significant first, one after the other."""
    ends = np.cumsum(lengths)
    shifts = np.repeat(ends, lengths) - 1 - np.arange(ends[-1])
    flat: NDArray[np.uint8] = ((np.repeat(values, lengths) >> shifts) & 1).astype(np.uint8)
    return flat
