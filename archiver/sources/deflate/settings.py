"""How a zlib stream was made: the settings of a known program, or a plan; and their replay.

zlib writes the same bytes for the same settings since version 1.2; a stream is therefore stored as
its settings (:class:`Settings`) and rebuilt from the uncompressed bytes.  Replaying asks this
machine's encoder for a known answer first (:func:`check_encoder`): some systems ship another
implementation, which is correct but writes other bytes.  What no known program wrote is rebuilt
from a plan (:mod:`archiver.sources.deflated`), which needs none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import imagecodecs
import numpy as np

from archiver.errors import ParityError
from archiver.sources.cursor import Cursor
from archiver.sources.deflate import plan

_CHUNK = 1 << 16
_LEVEL_ORDER = (6, 9, 1, 7, 8, 5, 4, 3, 2)
_MIN_BUDGET = 8 << 20  # bytes that a search may compress even for a short stream
_ADLER_BYTES = 4
_SMALL_PLAN = 20  # a plan of one byte for so many of the stream is good enough
_SLOW = 4  # what a byte costs at levels 8 and 9
# CRC-32 of probe() compressed by zlib 1.2.11 ... 1.3.1 at levels 1 ... 9, defaults otherwise.
_CLASSIC_ANSWERS = (
    0xE88112A0,
    0x64774936,
    0x2EA7DC50,
    0xC31E8B4F,
    0x9207B711,
    0x24852B19,
    0xEDB8B589,
    0x69158501,
    0x69158501,
)
# The same by libdeflate 1.25 at levels 1 ... 12.
_LIBDEFLATE_ANSWERS = (
    0x9D81A4A1,
    0x6893B5B2,
    0x221D02D2,
    0xD8030EDF,
    0xABE6EA9E,
    0x08D378AF,
    0x24C4C79B,
    0xA9E97508,
    0xA9E97508,
    0x20B30A1F,
    0xC3DBA85E,
    0xA831477F,
)


class Encoder(IntEnum):
    """Implementations of deflate whose bytes can be replayed; on-disk ids, append only."""

    ZLIB = 0
    LIBDEFLATE = 1
    PLANNED = 2  # none of them: by a plan


@dataclass(frozen=True)
class Settings:
    """How a zlib stream was made; ``header`` is its literal two bytes."""

    encoder: Encoder = Encoder.ZLIB
    level: int = 6
    memory: int = 8
    strategy: int = zlib.Z_DEFAULT_STRATEGY
    window: int = 15
    header: bytes = b"\x78\x9c"

    def pack(self) -> bytes:
        """Write what :meth:`read` reads, 7 bytes."""
        fields = (self.encoder, self.level, self.memory, self.strategy, self.window)
        return struct.pack("<5B2s", *fields, self.header)

    @classmethod
    def read(cls, cursor: Cursor) -> Settings:
        """Read settings from a residue; IntegrityError for values that no writer writes."""
        encoder, level, memory, strategy, window, header = cursor.unpack("<5B2s")
        top = 12 if encoder == Encoder.LIBDEFLATE else 9
        known = encoder in Encoder._value2member_map_ and 1 <= level <= top
        if not (known and 1 <= memory <= 9 and strategy <= 4 and 9 <= window <= 15):
            raise cursor.damaged("settings of a zlib encoder", (encoder, level, memory, strategy))
        return cls(Encoder(encoder), level, memory, strategy, window, header)


DEFAULT = Settings()


@dataclass(frozen=True)
class Made:
    """How a stream was made; ``plan`` is b"" unless the encoder is PLANNED."""

    settings: Settings
    plan: bytes = b""

    @classmethod
    def read(cls, settings: Settings, cursor: Cursor) -> Made:
        """Read the plan at the end of a residue, which is there if the settings say so."""
        return cls(settings, cursor.blob() if settings.encoder is Encoder.PLANNED else b"")


def find(raw: bytes, stream: bytes, hint: Settings | None = None) -> Made | None:
    """Return how ``raw`` becomes ``stream``, or None after a bounded search.

    ``hint`` is how the stream before it in the file was made.
    """
    if hint is None or hint.encoder is not Encoder.PLANNED:
        settings = _find_settings(raw, stream, hint)
        return _find_plan(raw, stream) if settings is None else Made(settings)
    planned = _find_plan(raw, stream)
    if planned is not None and _SMALL_PLAN * len(planned.plan) < len(stream):
        return planned
    settings = _find_settings(raw, stream, None)
    return planned if settings is None else Made(settings)


def _find_plan(raw: bytes, stream: bytes) -> Made | None:
    if stream[-_ADLER_BYTES:] != zlib.adler32(raw).to_bytes(_ADLER_BYTES, "big"):
        return None
    planned = plan.make(raw, stream[2:-_ADLER_BYTES])
    return None if planned is None else Made(Settings(Encoder.PLANNED, header=stream[:2]), planned)


def _find_settings(raw: bytes, stream: bytes, hint: Settings | None) -> Settings | None:
    header = stream[:2]
    if hint is not None and hint.header == header and _compress(raw, hint) == stream:
        return hint
    if not is_classic():
        return _find_by_second_door(raw, stream) or _find_libdeflate(raw, stream)
    budget = max(3 * len(raw), _MIN_BUDGET)
    for settings in _candidates(header, len(raw)):
        matched, used = _matches(raw, stream, settings)
        if matched:
            return settings
        budget -= used * (_SLOW if settings.level > 7 else 1)
        if budget < 0:
            break
    return _find_libdeflate(raw, stream)


def replay(raw: bytes, made: Made) -> bytes:
    """Compress ``raw`` as it was; ParityError if this machine's encoder differs."""
    settings = made.settings
    if settings.encoder is Encoder.PLANNED:
        adler = zlib.adler32(raw).to_bytes(_ADLER_BYTES, "big")
        return settings.header + plan.replay(raw, made.plan) + adler
    check_encoder(settings.encoder)
    return _compress(raw, settings)


def encode_again(raw: bytes) -> int:
    """Return the length of ``raw`` compressed by default settings, checked to inflate again."""
    stream = replay(raw, Made(DEFAULT))
    if inflate(stream, len(raw)) != (raw, len(stream)):
        raise ParityError("zlib: expected what was compressed, found other bytes; check this host")
    return len(stream)


@cache
def check_encoder(encoder: Encoder) -> None:
    """Compare this machine's encoder with the stored known answers."""
    if encoder is Encoder.ZLIB and not is_classic() and not _has_classic_door():
        raise ParityError(
            f"zlib {zlib.ZLIB_RUNTIME_VERSION} of this Python: expected the bytes of classic zlib,"
            " found others (zlib-ng?); use a Python linked with zlib 1.2 or 1.3 to restore"
        )
    if encoder is Encoder.LIBDEFLATE and _answers_libdeflate() != _LIBDEFLATE_ANSWERS:
        raise ParityError(
            "libdeflate of imagecodecs: expected the bytes of libdeflate 1.25, found others;"
            " install imagecodecs 2026.3.6 to restore"
        )


@cache
def is_classic() -> bool:
    """Whether Python's zlib writes the bytes of classic zlib."""
    return tuple(zlib.crc32(zlib.compress(probe(), n)) for n in range(1, 10)) == _CLASSIC_ANSWERS


@cache
def _has_classic_door() -> bool:
    answers = (zlib.crc32(imagecodecs.zlib_encode(probe(), n)) for n in range(1, 10))
    return tuple(answers) == _CLASSIC_ANSWERS


def inflate(stream: bytes, limit: int) -> tuple[bytes, int]:
    """Return the uncompressed bytes, at most ``limit`` of them, and the length of the stream.

    Raises ``zlib.error`` when damaged, cut off, or longer than ``limit``.
    """
    decompressor = zlib.decompressobj()
    raw = decompressor.decompress(stream, limit + 1)
    if len(raw) <= limit and not decompressor.eof:
        raw += decompressor.flush()
    if len(raw) > limit or not decompressor.eof:
        raise zlib.error(f"not one complete stream of at most {limit} bytes")
    return raw, len(stream) - len(decompressor.unused_data)


def _candidates(header: bytes, n_bytes: int) -> Iterator[Settings]:
    """Yield settings, the likely ones first: the header names a class of levels."""
    stated = (header[0] >> 4) + 8
    classes = ((1,), (5, 4, 3, 2), (6,), (9, 7, 8))[header[1] >> 6]
    levels = classes + tuple(level for level in _LEVEL_ORDER if level not in classes)
    windows = [15] if stated > 14 else [max(stated, 9), 15]
    for few in (levels[:1], levels[1:]):
        for memory in (8, 9):
            for strategy in (zlib.Z_FILTERED, zlib.Z_DEFAULT_STRATEGY):
                for level in few:
                    for window in windows:
                        yield Settings(Encoder.ZLIB, level, memory, strategy, window, header)
        for strategy in (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY):
            for memory in (8, 9):
                yield Settings(Encoder.ZLIB, few[0], memory, strategy, 15, header)


def _matches(raw: bytes, stream: bytes, settings: Settings) -> tuple[bool, int]:
    """Compress until the first wrong byte; return whether there is none, and the bytes fed."""
    compressor = _compressor(settings)
    at, fed = 0, 0
    for fed in range(0, len(raw) + 1, _CHUNK):
        piece = compressor.compress(raw[fed : fed + _CHUNK])
        if not _agrees(piece, stream, at):
            return False, fed + _CHUNK
        at += len(piece)
    piece = compressor.flush()
    return _agrees(piece, stream, at) and at + len(piece) == len(stream), fed + _CHUNK


def _agrees(piece: bytes, stream: bytes, at: int) -> bool:
    skip = max(0, 2 - at)  # the header is stored literally
    return piece[skip:] == stream[at + skip : at + max(skip, len(piece))]


def _find_by_second_door(raw: bytes, stream: bytes) -> Settings | None:
    for level in _LEVEL_ORDER:
        settings = Settings(level=level, header=stream[:2])
        if _has_classic_door() and _compress(raw, settings) == stream:
            return settings
    return None


def _find_libdeflate(raw: bytes, stream: bytes) -> Settings | None:
    levels = ((1,), (5, 4, 3, 2), (6, 7), (9, 8, 12))[stream[1] >> 6]
    head = raw[: 1 << 20]
    for level in levels:
        settings = Settings(Encoder.LIBDEFLATE, level, header=stream[:2])
        if head is not raw and len(head) < len(raw):
            start = _compress(head, settings)[: 1 << 12]
            if start != stream[: len(start)]:
                continue
        if _compress(raw, settings) == stream:
            return settings
    return None


def _compress(raw: bytes, settings: Settings) -> bytes:
    if settings.encoder is Encoder.LIBDEFLATE:
        stream = bytes(imagecodecs.deflate_encode(raw, settings.level))
    elif is_classic():
        compressor = _compressor(settings)
        stream = compressor.compress(raw) + compressor.flush()
    else:
        stream = _compress_by_second_door(raw, settings)
    return settings.header + stream[2:]


def _compress_by_second_door(raw: bytes, settings: Settings) -> bytes:
    """Compress by the zlib inside imagecodecs, which takes nothing but a level."""
    if (settings.memory, settings.strategy, settings.window) != (8, zlib.Z_DEFAULT_STRATEGY, 15):
        raise ParityError(
            f"zlib {zlib.ZLIB_RUNTIME_VERSION} of this Python: expected classic zlib for"
            f" {settings}, found another implementation; use a Python linked with zlib 1.2 or 1.3"
        )
    return bytes(imagecodecs.zlib_encode(raw, settings.level))


def _compressor(settings: Settings) -> zlib._Compress:
    return zlib.compressobj(
        settings.level, zlib.DEFLATED, settings.window, settings.memory, settings.strategy
    )


@cache
def probe() -> bytes:
    """Return 128 KiB that reach every part of an encoder: literals, short and long matches."""
    i = np.arange(1 << 17, dtype=np.uint32)
    noise = (i * np.uint32(2654435761)) >> np.uint32(16)
    return (((noise >> 8) & (noise >> 4) & 31) + (i // 64 % 7) * 8).astype(np.uint8).tobytes()


def _answers_libdeflate() -> tuple[int, ...]:
    return tuple(zlib.crc32(imagecodecs.deflate_encode(probe(), n)) for n in range(1, 13))
