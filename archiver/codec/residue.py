"""The coding of bytes that are not samples: stored, or zstd when that is smaller."""

from __future__ import annotations

from enum import IntEnum

import zstandard

from archiver.codec.classic import inflate
from archiver.errors import FormatError, IntegrityError

LEVEL = 19
QUICK_LEVEL = 3
CHUNK_BYTES = 4 << 20  # a residue is coded in chunks of this size


class ResidueCodec(IntEnum):
    """On-disk codec ids of residue chunks."""

    STORED = 0
    ZSTD = 1
    ADAPTER_RECORD = 2  # no part of the residue: what adapts the model to the file's images
    JPEG_HEAD = 3  # no part of it: what the JPEG tiles of the file begin with
    JPEG_KEY_TILES = 4  # no part of it: which JPEG tiles of the file teach the others


# what tiles need; one each, at most
BESIDE = (ResidueCodec.ADAPTER_RECORD, ResidueCodec.JPEG_HEAD, ResidueCodec.JPEG_KEY_TILES)


def compress(data: bytes, level: int = LEVEL) -> tuple[ResidueCodec, bytes]:
    """Return the smaller of ``data`` itself and its zstd frame."""
    frame = zstandard.ZstdCompressor(level, write_content_size=False).compress(data)
    if len(frame) < len(data):
        return ResidueCodec.ZSTD, frame
    return ResidueCodec.STORED, data


def decompress(codec: int, payload: bytes, raw_length: int) -> bytes:
    """Return the ``raw_length`` bytes that :func:`compress` was given."""
    if codec == ResidueCodec.ZSTD:
        return inflate(payload, raw_length)
    if codec in BESIDE:
        payload = b""
    elif codec != ResidueCodec.STORED:
        raise FormatError(f"residue codec {codec} is unknown; use a newer archiver")
    if len(payload) != raw_length:
        raise IntegrityError(f"residue: {len(payload)} bytes, expected {raw_length}")
    return payload
