"""FORMAT.md is enough: tiles born as JPEG are read with libjxl and another JPEG decoder alone.

Written from the text of the sections "From JPEG" and "JPEG tiles".
"""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zstandard
from PIL import Image

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"


@pytest.mark.parametrize("name", ["grey", "full", "wide", "quarter", "rgb"])
def test_a_tile_born_as_jpeg_reads_from_the_text_alone(name: str) -> None:
    """The JPEG, decoded by libjpeg, and the rest give the samples."""
    stem = VECTORS / f"born-{name}"
    payload = stem.with_suffix(".tile").read_bytes()
    digest, *sides = stem.with_suffix(".sha256").read_text().split()
    shape = tuple(map(int, sides))
    _, row, column, *levels, n = struct.unpack("<BBB3BI", payload[:10])
    with Image.open(io.BytesIO(jpeg_of(payload[10 : 10 + n]))) as picture:
        inside = np.asarray(picture)
    tile = rest_of(payload[10 + n], payload[11 + n :], shape)
    height, width = inside.shape[:2]
    tile[row : row + height, column : column + width] += inside.reshape(
        height, width, -1
    ) - np.array(levels[: shape[2]], np.uint8)
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def jpeg_of(payload: bytes) -> bytes:
    """Return the JPEG of a JPEG tile's payload, as it is or under JPEG XL."""
    assert payload[1:4] == bytes(3)
    return payload[4:] if payload[0] == 0 else bytes(imagecodecs.jpegxl_decode_jpeg(payload[4:]))


def rest_of(codec: int, payload: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the rest, under zstd."""
    assert codec == 2
    most = int(np.prod(shape))
    data = zstandard.ZstdDecompressor().decompress(payload, max_output_size=most)
    return np.frombuffer(data, np.uint8).reshape(shape).copy()
