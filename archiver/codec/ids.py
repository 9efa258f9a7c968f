"""On-disk ids of tile codecs: append only, never reuse (FORMAT.md, "Tiles and codecs")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class TileCodec(IntEnum):
    """On-disk codec ids."""

    STORED = 0  # little-endian samples
    CONSTANT = 1  # one pixel
    ZSTD = 2  # byte planes under zstd
    JPEGXL = 3  # lossless JPEG XL codestream
    LEARNED = 4  # range-coded digits under a model's predictions
    REPEATED = 5  # equal channels: the codec id and payload of the first one
    ADAPTED = 6  # as LEARNED, under the model with the increments of the file's adapter
    JPEG = 7  # a JPEG of the file, by its coefficients or libjxl
    DELTA = 8  # a base, the codec id and payload of the remainder
    SCALE_OFFSET = 9  # how numbers stand for wide samples, the codec id and payload of the numbers
    FROM_JPEG = 10  # a JPEG that the samples came from, the codec id and payload of the remainder
    LEARNED_ORIENTED = 11  # an orientation, and as LEARNED of the tile in it
    ADAPTED_ORIENTED = 12  # an orientation, and as ADAPTED of the tile in it
    ORDERED = 13  # what numbers mean by the order of samples, the codec id and payload of these
    FROM_JPEGS = 14  # as FROM_JPEG, of several, each in a region of its own
    JPEG_LS = 15  # channels, or differences of channels, under JPEG-LS


@dataclass(frozen=True)
class Encoded:
    """A coded tile: the on-disk id of its codec, which a later release may own, and its payload."""

    codec: int
    payload: bytes


def codec_name(codec: int) -> str:
    """Return the name of an on-disk codec id, also of one that this release does not know."""
    try:
        return TileCodec(codec).name.lower()
    except ValueError:
        return f"codec {codec}"
