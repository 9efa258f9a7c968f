"""What a coded tile is: a codec id and a payload, which may hold those of another codec."""

from __future__ import annotations

from dataclasses import dataclass

from archiver.codec.ids import TileCodec
from archiver.codec.transforms import scale_offset
from archiver.codec.transforms.delta import Base
from archiver.codec.transforms.from_jpeg import collage
from archiver.codec.transforms.from_jpeg import tile as from_jpeg
from archiver.codec.transforms.orientation import IDENTITY, Orientation

BY_MODEL = (TileCodec.LEARNED, TileCodec.ADAPTED)
UNORIENTED_OF: dict[int, TileCodec] = {  # what a turned tile is coded as
    TileCodec.LEARNED_ORIENTED: TileCodec.LEARNED,
    TileCodec.ADAPTED_ORIENTED: TileCodec.ADAPTED,
}
_ORIENTED_OF = {unoriented: oriented for oriented, unoriented in UNORIENTED_OF.items()}
NOT_REPEATED = (TileCodec.REPEATED, TileCodec.JPEG, TileCodec.DELTA)
NOT_SCALE_OFFSET = (
    *(*NOT_REPEATED, TileCodec.SCALE_OFFSET, TileCodec.ORDERED),
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
        has_more = self.is_from_jpeg or self.is_ordered
        return not has_more and innermost(self.codec, self.payload) == TileCodec.CONSTANT

    @property
    def is_from_jpeg(self) -> bool:
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

    def oriented(self, orientation: Orientation) -> Encoded:
        """Return the coding of a tile, given that of the tile turned."""
        if orientation == IDENTITY:
            return self
        return Encoded(TileCodec(_ORIENTED_OF[self.codec]), orientation.to_bytes() + self.payload)


def is_adapted(codec: int, payload: bytes) -> bool:
    """Whether a tile takes the adapter of its file to decode."""
    return innermost(codec, payload) == TileCodec.ADAPTED


def innermost(codec: int, payload: bytes) -> int:
    """Return the codec of what is really coded, whatever is around it."""
    if codec == TileCodec.DELTA:
        _, codec, payload = Base.split(payload)
    if codec == TileCodec.REPEATED and payload:
        codec, payload = payload[0], payload[1:]
    if codec == TileCodec.FROM_JPEG:
        codec = from_jpeg.codec_of(payload)
    elif codec == TileCodec.FROM_JPEGS:
        codec = collage.codec_of(payload)
    elif codec == TileCodec.SCALE_OFFSET:
        codec = scale_offset.codec_of(payload)
    elif codec == TileCodec.ORDERED:
        codec = payload[_ORDERED_AT] if len(payload) > _ORDERED_AT else -1
    return UNORIENTED_OF.get(codec, codec)
