"""FORMAT.md is enough: coded coefficients of JPEG tiles are read with Python's integers alone.

Written from the text; only the tables of T.81 are taken, from a JPEG that Pillow writes.  NumPy
holds the samples of tiles that a JPEG is a part of.
"""

from __future__ import annotations

import functools
import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard
from PIL import Image
from reader_only_jpeg_blocks import EDGE
from reader_only_jpeg_coder import SHARE, SQUASH, STRETCH, TRUST, Coder
from reader_only_jpeg_scan import scan_of, segments

VECTORS = Path(__file__).parents[1] / "vectors" / "codec-v1"
TABLES = "58ab25bb52c2005dfae26023390f9ac1ba6cd61c21fe98da189ae8cc24e67c8f"
DICTIONARY = "19fa7c1a1fbcd8fe85c78210fe7c04e1c5e79a217394ff6a78607b7b7055a003"
NAMES = "cmyk flat full grey noise quarter restarts tail wide restarts-each two factors uneven"
NAMES += " apart large primed-0+primed-1+primed-2"


@pytest.mark.parametrize("names", [*NAMES.split(), pytest.param("rgb", marks=pytest.mark.slow)])
def test_a_jpeg_tile_reads_from_the_text_alone(names: str) -> None:
    """The coefficients give the JPEG; each key is read by what the keys before it have left."""
    data = b"".join(scaled(t, t, q) for q in range(1, 101) for t in (0, 1))
    data += bytes.fromhex("FFD8FFE000104A46494600010100000100010000") + b"".join(tables_of_t81()[1])
    assert hashlib.sha256(data).hexdigest() == DICTIONARY
    words = zstandard.ZstdCompressionDict(data, zstandard.DICT_TYPE_RAWCONTENT)
    reader, coder = zstandard.ZstdDecompressor(words), Coder()
    for name in names.split("+"):
        payload = (VECTORS / f"jpeg-{name}.tile").read_bytes()
        c, b, a = struct.unpack("<3I", payload[4:16])
        head = reader.decompress(payload[16 : 16 + c], max_output_size=b + a)
        assert (payload[0], len(head)) == (5 if "+" in names else 3, b + a)
        jpeg = head[:b] + scan_of(head[:b], coder.begin(payload[16 + c :]), 16383) + head[b:]
        digest = (VECTORS / f"jpeg-{name}.sha256").read_text().strip()
        assert hashlib.sha256(payload[1:4] + jpeg).hexdigest() == digest


@pytest.mark.parametrize("name", ["grey", "full", "wide", "quarter", "rgb"])
def test_a_tile_born_as_jpeg_reads_from_the_text_alone(name: str) -> None:
    """The coefficients give a JPEG, which libjpeg decodes; with the rest it gives the samples."""
    payload = (VECTORS / f"born-bare-{name}.tile").read_bytes()
    digest, *sides = (VECTORS / f"born-bare-{name}.sha256").read_text().split()
    mode, row, column, *levels, n = struct.unpack("<BBB3BI", payload[:10])
    assert payload[10:14] + payload[10 + n : 11 + n] == b"\x07\0\0\0\x02"
    head = born_head(mode, *struct.unpack("<HHB", payload[14:19]))
    scan = scan_of(head, Coder().begin(payload[19 : 10 + n]), 1023)
    inside = np.atleast_3d(np.asarray(Image.open(io.BytesIO(head + scan + b"\xff\xd9"))))
    shape = tuple(map(int, sides))
    rest = zstandard.ZstdDecompressor().decompress(payload[11 + n :], int(np.prod(shape)))
    tile = np.frombuffer(rest, np.uint8).reshape(shape).copy()
    less = np.array(levels[: shape[2]], np.uint8)
    tile[row : row + len(inside), column : column + inside.shape[1]] += inside - less
    assert hashlib.sha256(tile.tobytes()).hexdigest() == digest


def test_the_tables_are_those_of_the_text() -> None:
    """The formulas give the bytes whose digest the text has."""
    values = [*SQUASH, *STRETCH, *TRUST, *SHARE, *EDGE[0], *EDGE[1]]
    data = struct.pack(f"<{len(values)}i", *values)
    assert hashlib.sha256(data).hexdigest() == TABLES


@functools.cache
def tables_of_t81() -> tuple[list[bytes], list[bytes]]:
    """Return K.1 and K.2, in zigzag order, and DHT of K.3, K.5, K.4 and K.6."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=50)
    found = list(segments(stream.getvalue()))
    return [s[5:] for s in found if s[1] == 0xDB], [s for s in found if s[1] == 0xC4]


def scaled(table: int, base: int, quality: int) -> bytes:
    """Return DQT of K.1 or K.2, scaled."""
    p = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [max(1, min(255, (s * p + 50) // 100)) for s in tables_of_t81()[0][base]]
    return bytes([0xFF, 0xDB, 0, 67, table, *steps])


def born_head(mode: int, height: int, width: int, quality: int) -> bytes:
    """Return the bytes before the scan of a JPEG that a tile was born as."""
    n, first = (3 if mode else 1), {2: 0x21, 3: 0x22}.get(mode, 0x11)
    head = b"\xff\xd8" + (b"\xff\xee\0\x0eAdobe\0\x64" + bytes(5) if mode == 4 else b"")
    head += scaled(0, 0, quality & 127)
    head += scaled(1, quality >> 7, quality & 127) if mode else b""
    head += struct.pack(">HHBHHB", 0xFFC0, 8 + 3 * n, 8, height, width, n)
    head += bytes([1, first, 0, 2, 0x11, 1, 3, 0x11, 1][: 3 * n])
    head += b"\xff\xc4\0\x1f\0" + bytes([0, 0, 0, 12, *bytes(12), *range(12)])
    symbols = sorted(tables_of_t81()[1][1][21:])
    head += b"\xff\xc4\0\xb5\x10" + bytes([*bytes(7), 162, *bytes(8), *symbols])
    head += struct.pack(">HHB", 0xFFDA, 6 + 2 * n, n) + bytes([1, 0, 2, 0, 3, 0][: 2 * n])
    return head + b"\0\x3f\0"
