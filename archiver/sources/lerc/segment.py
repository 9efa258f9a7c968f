"""LERC segments of TIFF: a blob as it is, or compressed once more; and their plans.

Plan (FORMAT.md, "Plan of LERC"): u1 layout version (1), u1 what the blob is compressed by,
7 bytes zlib settings, a blob: the plan of that stream, then the plan of the LERC blob.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
import zstandard

from archiver.sources.contract import LAYOUT_VERSION, Unsupported
from archiver.sources.cursor import Cursor, pack_blob
from archiver.sources.deflate import settings as deflate_settings
from archiver.sources.lerc import plan
from archiver.sources.lerc.bits import Bytes
from archiver.sources.lerc.blob import Blob, Outer
from archiver.sources.zstd import plan as zstd_plan

_HEAD_BYTES = 256  # a blob is so much larger than its samples, at most, and a seventh of them


@dataclass(frozen=True)
class Made:
    """The plan of a segment, and how many bytes the segment takes."""

    plan: bytes
    used: int


def decode(stored: bytes, outer: Outer, n_bytes: int) -> bytes:
    """Return the samples of a segment, ``n_bytes`` of them; NaN where a float is not valid.

    A channel more than the blob has bands is its mask.
    """
    stream, _ = _inflated(stored, outer, n_bytes)
    blob = Blob.of(stream)
    samples = np.array(imagecodecs.lerc_decode(stream), blob.dtype)
    samples = samples.reshape(blob.height, blob.width, blob.bands)
    if blob.dtype.kind == "f":
        samples[~blob.valid] = np.nan
    if samples.nbytes < n_bytes and blob.dtype.kind == "u":
        mask = blob.valid.astype(blob.dtype) * ((1 << 8 * blob.dtype.itemsize) - 1)
        samples = np.concatenate([samples, mask[..., None]], axis=2)
    return samples.tobytes()


def make(rows: Bytes, stored: bytes, outer: Outer) -> Made | None:
    """Return the plan by which rows (R, bytes) become the start of ``stored``."""
    stream, used = _inflated(stored, outer, rows.size)
    made = plan.make(rows, stream)
    if outer is not Outer.NONE and made.used != len(stream):
        return None
    settings, inner = deflate_settings.DEFAULT, b""
    if outer is Outer.ZLIB:
        how = deflate_settings.find(stream, stored[:used])
        if how is None:
            return None
        settings, inner = how.settings, how.plan
    elif outer is Outer.ZSTD:
        frame = zstd_plan.make(stream, stored)
        if frame is None:
            return None
        inner, used = frame.plan, frame.used
    else:
        used = made.used
    head = struct.pack("<BB", LAYOUT_VERSION, outer) + settings.pack() + pack_blob(inner)
    return Made(head + made.plan, used)


def replay(rows: Bytes, told: bytes) -> bytes:
    """Return the segment; IntegrityError for a plan that is not one for the rows."""
    cursor = Cursor(told, "plan of a LERC segment")
    (outer,) = cursor.unpack("<B")
    settings = deflate_settings.Settings.read(cursor)
    inner = cursor.blob()
    stream = plan.replay(rows, cursor.rest())
    if outer == Outer.NONE:
        return stream
    if outer == Outer.ZLIB:
        return deflate_settings.replay(stream, deflate_settings.Made(settings, inner))
    if outer == Outer.ZSTD:
        return zstd_plan.replay(stream, inner)
    raise cursor.damaged("a known compression", outer)


def _inflated(stored: bytes, outer: Outer, n_bytes: int) -> tuple[bytes, int]:
    """Return the blob of a segment, and how many stored bytes it took."""
    limit = _HEAD_BYTES + n_bytes + n_bytes // 7 + len(stored)
    if outer is Outer.ZLIB:
        return deflate_settings.inflate(stored, limit)
    if outer is Outer.ZSTD:
        stream = zstandard.ZstdDecompressor().stream_reader(stored).read(limit + 1)
        if len(stream) > limit:
            raise Unsupported("LERC that is larger than its samples")
        return stream, len(stored)
    return stored, len(stored)
