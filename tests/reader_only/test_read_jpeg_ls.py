"""FORMAT.md is enough: JPEG-LS tiles are read with a decoder of JPEG-LS and integers alone.

Everything below was written from section "JPEG-LS tiles" of manifests/FORMAT.md.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "codec-v1").glob("ls-*.tile"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_tile_reads_from_the_text_alone(path: Path) -> None:
    """Planes, then each channel after the one that it is taken from, then the top bit."""
    digest, dtype, *sides = path.with_suffix(".sha256").read_text().split()
    height, width, channels = map(int, sides)
    payload, bits = path.read_bytes(), 8 * int(dtype[1])
    base, at, planes = list(payload[:channels]), channels, []
    for _ in range(channels):
        (n,) = struct.unpack_from("<I", payload, at)
        stream = payload[at + 4 : at + 4 + n]
        assert stream[:4] == b"\xff\xd8\xff\xf7"
        assert struct.unpack_from(">BHHB", stream, 6) == (bits, height, width, 1)
        planes.append(imagecodecs.jpegls_decode(stream).astype(np.int64))
        at += 4 + n
    assert at == len(payload)
    top_bit_form: dict[int, np.ndarray] = {}
    while len(top_bit_form) < channels:
        for c in set(range(channels)) - set(top_bit_form):
            if base[c] == c:
                top_bit_form[c] = planes[c]
            elif base[c] in top_bit_form:
                taken = planes[c] + top_bit_form[base[c]] + 2 ** (bits - 1)
                top_bit_form[c] = taken % 2**bits
    tile = np.stack([top_bit_form[c] for c in range(channels)], -1)
    if dtype[0] == "i":
        tile -= 2 ** (bits - 1)
    assert hashlib.sha256(tile.astype("<" + dtype).tobytes()).hexdigest() == digest
