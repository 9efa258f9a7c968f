"""Own what a coded tile is: a codec id and a payload, which may hold those of another codec.

Codec ids are on disk: append only, never reuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from archiver.codec.transforms import scale_offset as narrow
from archiver.codec.transforms.delta import Base
from archiver.codec.transforms.from_jpeg import collage
from archiver.codec.transforms.from_jpeg import tile as born
from archiver.codec.transforms.orientation import UPRIGHT, Turn


class TileCodec(IntEnum):
    """On-disk codec ids."""

    STORED = 0  # little-endian samples
    CONSTANT = 1  # one pixel
    ZSTD = 2  # byte planes under zstd
    JPEGXL = 3  # lossless JPEG XL codestream
    LEARNED = 4  # range-coded digits under a model's predictions
    REPEATED = 5  # equal channels: the codec id and payload of the first one
    ADAPTED = 6  # as LEARNED, under the model with the increments of the file's adapter
    JPEG = 7  # a JPEG of the file, transcoded without loss
    DIFFERENCE = 8  # a base, the codec id and payload of what is left
    NARROW = 9  # how numbers stand for wide samples, the codec id and payload of the numbers
    FROM_JPEG = 10  # a JPEG that the samples came from, the codec id and payload of the rest
    LEARNED_TURNED = 11  # a turn, and as LEARNED of the tile turned
    ADAPTED_TURNED = 12  # a turn, and as ADAPTED of the tile turned
    ORDERED = 13  # what numbers mean by the order of samples, the codec id and payload of these
    FROM_JPEGS = 14  # as FROM_JPEG, of several, each in a region of its own


BY_MODEL = (TileCodec.LEARNED, TileCodec.ADAPTED)
UPRIGHT_OF: dict[int, TileCodec] = {  # what a turned tile is coded as
    TileCodec.LEARNED_TURNED: TileCodec.LEARNED,
    TileCodec.ADAPTED_TURNED: TileCodec.ADAPTED,
}
_TURNED_OF = {upright: turned for turned, upright in UPRIGHT_OF.items()}
NOT_REPEATED = (TileCodec.REPEATED, TileCodec.JPEG, TileCodec.DIFFERENCE)
NOT_NARROW = (
    *(*NOT_REPEATED, TileCodec.NARROW, TileCodec.ORDERED),
    *(TileCodec.FROM_JPEG, TileCodec.FROM_JPEGS),
)
_ORDERED_AT = 2  # where an ordered tile has the codec of its numbers


@dataclass(frozen=True)
class Encoded:
    """A coded tile."""

    codec: TileCodec
    payload: bytes

    @property
    def needs_model(self) -> bool:
        """Whether decoding takes the engine that encoded it."""
        return innermost(self.codec, self.payload) in BY_MODEL

    @property
    def is_constant(self) -> bool:
        """Whether one value fills the tile, or each of its channels."""
        has_more = self.is_born or self.is_ordered
        return not has_more and innermost(self.codec, self.payload) == TileCodec.CONSTANT

    @property
    def is_born(self) -> bool:
        """Whether a JPEG is in it; what is left of a difference is not looked at."""
        return self._one in (TileCodec.FROM_JPEG, TileCodec.FROM_JPEGS)

    @property
    def is_ordered(self) -> bool:
        """Whether it has ranks or high bits; what is left of a difference is not looked at."""
        return self._one == TileCodec.ORDERED

    @property
    def _one(self) -> int:
        """The codec of one channel, if all are equal."""
        return self.payload[0] if self.codec == TileCodec.REPEATED else self.codec

    def turned(self, turn: Turn) -> Encoded:
        """Return the coding of a tile, given that of the tile turned."""
        if turn == UPRIGHT:
            return self
        return Encoded(TileCodec(_TURNED_OF[self.codec]), turn.to_bytes() + self.payload)


def is_adapted(codec: int, payload: bytes) -> bool:
    """Whether a tile takes the adapter of its file to decode."""
    return innermost(codec, payload) == TileCodec.ADAPTED


def innermost(codec: int, payload: bytes) -> int:
    """Return the codec of what is really coded, whatever is around it."""
    if codec == TileCodec.DIFFERENCE:
        _, codec, payload = Base.split(payload)
    if codec == TileCodec.REPEATED and payload:
        codec, payload = payload[0], payload[1:]
    if codec == TileCodec.FROM_JPEG:
        codec = born.codec_of(payload)
    elif codec == TileCodec.FROM_JPEGS:
        codec = collage.codec_of(payload)
    elif codec == TileCodec.NARROW:
        codec = narrow.codec_of(payload)
    elif codec == TileCodec.ORDERED:
        codec = payload[_ORDERED_AT] if len(payload) > _ORDERED_AT else -1
    return UPRIGHT_OF.get(codec, codec)
