"""How the bytes of a strip or tile are encoded: found in a file, and replayed.

For every encoding there are fixed rules, in loops of our own or by a plan.  zlib, libdeflate and
OpenJPH are programs of others: they are asked for known answers before replay.  Loops that Numba
compiles are imported where a segment needs them: that takes seconds, and few files do.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import imagecodecs
import zstandard

from archiver.errors import IntegrityError
from archiver.sources.bit_packing import Bytes
from archiver.sources.contract import Unsupported
from archiver.sources.cursor import Cursor
from archiver.sources.deflate import settings as deflate_settings
from archiver.sources.lerc.blob import Outer
from archiver.sources.segmented import jpeg_frames, orders, runs, strips
from archiver.sources.segmented.orders import Order

_LZMA_MEMORY = 192 << 20  # bytes that its dictionary may take: the largest preset needs 65 MiB


class Compression(IntEnum):
    """Compressions that can be replayed: those of TIFF by its numbers, others below 0."""

    LERC_ZSTD = -21  # LERC of TIFF, compressed once more: its parameters say so
    LERC_DEFLATE = -20
    SWAPPED = -8  # plain samples of DICOM, in the orders of these names
    BITS = -7
    YBR_422 = -6
    RLE_32 = -5  # frames of DICOM: planes of bytes, for samples of so many bits
    RLE_16 = -4
    RLE_8 = -3
    JPEG_LS = -2  # with its header
    JPEG_LOSSLESS = -1

    NONE = 1
    LZW = 5
    JPEG = 7
    DEFLATE = 8
    PACKBITS = 32773
    DEFLATE_OLD = 32946
    LZMA = 34925
    ZSTD_OLD = 34926
    JPEG_2000_YCBCR = 33003  # of Aperio, as the next
    JPEG_2000_RGB = 33005
    JPEG_2000 = 34712
    LERC = 34887
    ZSTD = 50000


class Encoding(IntEnum):
    """What writes the stored bytes; on-disk ids, append only."""

    PLAIN = 0
    ZLIB = 1  # as the settings say
    LZW_IMAGECODECS = 2
    LZW_LIBTIFF = 3
    PACKBITS_IMAGECODECS = 4  # row by row
    PACKBITS_LIBTIFF = 5
    JPEG = 6  # the segment is in the image, as a JPEG tile
    JPEG_SCAN = 7  # lossless JPEG or JPEG-LS, as the header at the end of the gap before it says
    PLANNED = 8  # zlib stream by the plan at the end of the gap before it
    RUNS = 9  # packets of PackBits by the plan at the end of the gap before it
    JPEG_2000 = 10  # codestream by the plan at the end of the gap before it
    ZSTD = 11  # by the plan at the end of the gap before it, as the next
    LZMA = 12
    LERC = 14
    YBR_422 = 16  # orders of plain samples, each with a plan at the end of the gap before it
    BITS = 17
    SWAPPED = 18
    JPEG_FRAME = 19  # as JPEG_SCAN, with its header, which is the plan in the gap before it


@dataclass(frozen=True)
class Recipe:
    """How one segment is encoded."""

    encoding: Encoding
    settings: deflate_settings.Settings = deflate_settings.DEFAULT  # of zlib

    def pack(self) -> bytes:
        """Write what :meth:`read` reads, 8 bytes."""
        return struct.pack("<B", self.encoding) + self.settings.pack()

    @classmethod
    def read(cls, cursor: Cursor) -> Recipe:
        """Read a recipe from a residue."""
        (encoding,) = cursor.unpack("<B")
        if encoding not in Encoding._value2member_map_:
            raise cursor.damaged("a known encoding", encoding)
        return cls(Encoding(encoding), deflate_settings.Settings.read(cursor))


PLAIN, JPEG = Recipe(Encoding.PLAIN), Recipe(Encoding.JPEG)
FRAMES = (Compression.JPEG_LOSSLESS, Compression.JPEG_LS)
RLE = {Compression.RLE_8: 1, Compression.RLE_16: 2, Compression.RLE_32: 4}  # bytes of a sample
LERC = {
    Compression.LERC: Outer.NONE,
    Compression.LERC_DEFLATE: Outer.ZLIB,
    Compression.LERC_ZSTD: Outer.ZSTD,
}
ZSTD = (Compression.ZSTD, Compression.ZSTD_OLD)
ORDERS = {
    Compression.YBR_422: (Order.YBR_422, Recipe(Encoding.YBR_422)),
    Compression.BITS: (Order.BITS, Recipe(Encoding.BITS)),
    Compression.SWAPPED: (Order.SWAPPED, Recipe(Encoding.SWAPPED)),
}
_ORDER_OF = {recipe.encoding: order for order, recipe in ORDERS.values()}
WITH_PLAN = (
    *(Encoding.PLANNED, Encoding.RUNS, Encoding.JPEG_2000, Encoding.JPEG_FRAME),
    *(Encoding.ZSTD, Encoding.LZMA, Encoding.LERC),
    *_ORDER_OF,
)
CODESTREAMS = (Compression.JPEG_2000, Compression.JPEG_2000_RGB, Compression.JPEG_2000_YCBCR)
_PLANNED = (*CODESTREAMS, *ZSTD, Compression.LZMA, *LERC)  # by loops that Numba compiles
JPEG_SCAN, RUNS = Recipe(Encoding.JPEG_SCAN), Recipe(Encoding.RUNS)
JPEG_FRAME = Recipe(Encoding.JPEG_FRAME)
JPEG_2000 = Recipe(Encoding.JPEG_2000)
_CANDIDATES = {
    Compression.LZW: (Recipe(Encoding.LZW_LIBTIFF), Recipe(Encoding.LZW_IMAGECODECS)),
    Compression.PACKBITS: (
        Recipe(Encoding.PACKBITS_IMAGECODECS),
        Recipe(Encoding.PACKBITS_LIBTIFF),
    ),
}


def decode(compression: Compression, stored: bytes, n_bytes: int) -> tuple[bytes, int]:
    """Return ``n_bytes`` decoded bytes and how many stored ones they took, as far as known."""
    used = len(stored)
    if compression is Compression.NONE:
        raw, used = stored[:n_bytes], min(n_bytes, used)
    elif compression in ORDERS:
        raw = orders.decode(ORDERS[compression][0], stored, n_bytes)
    elif compression in FRAMES:
        samples = jpeg_frames.decode(stored)
        raw = samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    elif compression in RLE:
        raw = runs.decode_frame(stored, n_bytes, RLE[compression])
    elif compression in CODESTREAMS:
        from archiver.sources.jpeg2000 import plan as jpeg2000_plan

        raw = jpeg2000_plan.decode(stored).tobytes()
    elif compression is Compression.LZW:
        raw = bytes(imagecodecs.lzw_decode(stored, out=n_bytes))
    elif compression is Compression.PACKBITS:
        raw = bytes(imagecodecs.packbits_decode(stored, out=n_bytes))
    elif compression is Compression.LZMA:
        raw = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(stored, n_bytes)
    elif compression in LERC:
        from archiver.sources.lerc import segment as lerc_segment

        raw = lerc_segment.decode(stored, LERC[compression], n_bytes)
    elif compression in ZSTD:
        raw = zstandard.ZstdDecompressor().stream_reader(stored).read(n_bytes)
    else:
        raw, used = deflate_settings.inflate(stored, n_bytes)
    if len(raw) != n_bytes:
        raise Unsupported(f"a strip or tile of {len(raw)} bytes, expected {n_bytes}")
    return raw, used


@dataclass(frozen=True)
class Match:
    """The recipe of a segment, how many bytes it gives, and the plan that it needs, if any."""

    recipe: Recipe
    used: int
    plan: bytes = b""


def find(
    compression: Compression, rows: Bytes, stored: bytes, used: int, hint: Recipe | None
) -> Match | None:
    """Return the recipe that turns rows (R, bytes) into the start of ``stored``."""
    if compression is Compression.NONE:
        return Match(PLAIN, used) if rows.tobytes() == stored[:used] else None
    if compression in ORDERS:
        return _ordered(compression, rows, stored)
    if compression in _CANDIDATES:
        candidates = _CANDIDATES[compression]
        for recipe in sorted(candidates, key=lambda recipe: recipe != hint):
            encoded = _ENCODERS[recipe.encoding](rows)
            if encoded and stored.startswith(encoded):
                return Match(recipe, len(encoded))
        return _runs(runs.find_strip(rows, stored)) if compression is Compression.PACKBITS else None
    if compression in RLE:
        return _runs(runs.find_frame(rows, stored, RLE[compression]))
    if compression in _PLANNED:
        try:
            return _planned(compression, rows, stored)
        except Unsupported:
            if hint is None:  # the first segment tells what the others are
                raise
            return None
    made = deflate_settings.find(rows.tobytes(), stored[:used], hint.settings if hint else None)
    if made is None:
        return None
    encoding = Encoding.PLANNED if made.plan else Encoding.ZLIB
    return Match(Recipe(encoding, made.settings), used, made.plan)


def _planned(compression: Compression, rows: Bytes, stored: bytes) -> Match | None:
    """Return the plan of a segment whose loops Numba compiles; Unsupported: of no such kind."""
    if compression in CODESTREAMS:
        from archiver.sources.jpeg2000 import plan as jpeg2000_plan

        plan = jpeg2000_plan.find(rows, stored)
        return Match(JPEG_2000, len(stored), plan) if plan else None
    if compression in ZSTD:
        from archiver.sources.zstd import plan as zstd_plan

        frame = zstd_plan.make(rows.tobytes(), stored)
        return Match(Recipe(Encoding.ZSTD), frame.used, frame.plan) if frame else None
    if compression is Compression.LZMA:
        from archiver.sources.xz import plan as xz_plan

        stream = xz_plan.make(rows.tobytes(), stored)
        return Match(Recipe(Encoding.LZMA), stream.used, stream.plan) if stream else None
    from archiver.sources.lerc import segment as lerc_segment

    segment = lerc_segment.make(rows, stored, LERC[compression])
    return Match(Recipe(Encoding.LERC), segment.used, segment.plan) if segment else None


def _ordered(compression: Compression, rows: Bytes, stored: bytes) -> Match | None:
    order, recipe = ORDERS[compression]
    plan = orders.plan(order, stored, rows.size)
    encoded = orders.encode(order, rows, plan)
    following = stored[orders.LEAD_BYTES[order] :]
    return Match(recipe, len(encoded), plan) if encoded == following else None


def _runs(planned: tuple[bytes, int] | None) -> Match | None:
    return Match(RUNS, planned[1], planned[0]) if planned else None


def replay(recipe: Recipe, rows: Bytes, told: bytes = b"") -> bytes:
    """Encode rows (R, bytes) by the recipe; ParityError if a program that it asks writes others.

    ``told`` is what the recipe needs: its plan, or the bytes of the file before it.
    """
    if recipe.encoding is Encoding.JPEG:
        raise IntegrityError("a JPEG tile has no rows to encode; the archive is damaged")
    if recipe.encoding in (Encoding.JPEG_SCAN, Encoding.JPEG_FRAME):
        is_whole = recipe.encoding is Encoding.JPEG_FRAME
        try:
            header = told if is_whole else jpeg_frames.header_in(told)
            return (header if is_whole else b"") + jpeg_frames.encode(rows, header)
        except Exception as error:
            raise IntegrityError(f"a JPEG frame cannot be encoded again: {error}") from error
    if recipe.encoding is Encoding.PLAIN:
        return rows.tobytes()
    if recipe.encoding in _ORDER_OF:
        try:
            return orders.encode(_ORDER_OF[recipe.encoding], rows, told)
        except (ValueError, TypeError) as error:
            raise IntegrityError(f"{error}; the archive is damaged") from error
    if recipe.encoding in (Encoding.ZLIB, Encoding.PLANNED):
        return deflate_settings.replay(rows.tobytes(), deflate_settings.Made(recipe.settings, told))
    if recipe.encoding is Encoding.RUNS:
        return runs.replay(rows, told)
    if recipe.encoding in _ENCODERS:
        return _ENCODERS[recipe.encoding](rows)
    return _replanned(recipe.encoding, rows, told)


def _replanned(encoding: Encoding, rows: Bytes, plan: bytes) -> bytes:
    """Encode rows (R, bytes) by a plan whose loops Numba compiles."""
    if encoding is Encoding.ZSTD:
        from archiver.sources.zstd import plan as zstd_plan

        return zstd_plan.replay(rows.tobytes(), plan)
    if encoding is Encoding.LZMA:
        from archiver.sources.xz import plan as xz_plan

        return xz_plan.replay(rows.tobytes(), plan)
    if encoding is Encoding.LERC:
        from archiver.sources.lerc import segment as lerc_segment

        return lerc_segment.replay(rows, plan)
    from archiver.sources.jpeg2000 import plan as jpeg2000_plan

    try:
        return jpeg2000_plan.replay(rows, plan)
    except Unsupported as error:  # of a stream that no writer had a plan of
        raise IntegrityError(f"{error}; the archive is damaged") from error


_ENCODERS: dict[Encoding, Callable[[Bytes], bytes]] = {
    Encoding.LZW_IMAGECODECS: partial(strips.lzw, libtiff=False),
    Encoding.LZW_LIBTIFF: partial(strips.lzw, libtiff=True),
    Encoding.PACKBITS_IMAGECODECS: partial(strips.pack_bits, libtiff=False),
    Encoding.PACKBITS_LIBTIFF: partial(strips.pack_bits, libtiff=True),
}
