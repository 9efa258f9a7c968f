"""What most JPEGs have in common: the order of coefficients, steps, Huffman tables (T.81).

From them comes the dictionary under which the segments of a JPEG are compressed.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
SIDE = 8  # of a block
QUALITIES = range(1, 101)
# Row order of a block that is stored in zigzag order (T.81, figure A.6).
ZIGZAG = np.array(
    [
        *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48),
        *(41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15),
        *(23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63),
    ]
)
# T.81, tables K.1 and K.2: the steps that most encoders scale by their quality
LUMA = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57),
        *(69, 56, 14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55),
        *(64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103),
        99,
    ]
).reshape(SIDE, SIDE)
CHROMA = np.full((SIDE, SIDE), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

_JFIF = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
# DHT segments of tables K.3, K.5, K.4 and K.6, as libjpeg writes them
_HUFFMAN = bytes.fromhex(
    "ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b510000201030302"
    "0403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433"
    "627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a6364656667"
    "68696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8"
    "b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f"
    "0100030101010101010101010000000000000102030405060708090a0bffc400b51100020102040403040705"
    "040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a16"
    "2434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a"
    "737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9ba"
    "c2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)


def steps(table: Ints, quality: int) -> Ints:
    """Return a table scaled to a quality, as libjpeg scales it."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((table * percent + 50) // 100, 1, 255)


def segment(marker: int, body: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def steps_segment(number: int, table: Ints) -> bytes:
    """Return the DQT segment of a table (8, 8) of steps up to 255."""
    return segment(0xDB, bytes([number]) + table.reshape(-1)[ZIGZAG].astype(np.uint8).tobytes())


def dictionary() -> bytes:
    """Return what many JPEGs have before their scan: tables of every quality, K.3 to K.6."""
    pairs = [
        steps_segment(0, steps(LUMA, quality)) + steps_segment(1, steps(CHROMA, quality))
        for quality in QUALITIES
    ]
    return b"".join(pairs) + _JFIF + _HUFFMAN
