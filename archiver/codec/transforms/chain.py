"""What a coded tile is: transforms around a codec.  The only place that knows what holds what.

A payload begins with what its transform needs; the codec id and the payload of what is inside
follow.  Whatever is inside has a lower `Rank`: so chains end, and each tile is wrapped in one order
only.  A new codec or transform is one line of `TABLE`.

FORMAT.md, "Tiles and codecs".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

from archiver.codec import classic, jpeg_ls
from archiver.codec.classic import Dtype, Shape
from archiver.codec.ids import Encoded, TileCodec, codec_name
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.transforms.delta import Base, Delta
from archiver.codec.transforms.from_jpeg.collage import FromJpegs
from archiver.codec.transforms.from_jpeg.tile import FromJpeg
from archiver.codec.transforms.ordered import Ordered
from archiver.codec.transforms.orientation import Orientation
from archiver.codec.transforms.repeated import Repeated
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.errors import FormatError, IntegrityError
from archiver.image import Samples


class Transform(Protocol):
    """A step from a tile to what is coded of it, and back; an instance has what it takes."""

    @classmethod
    def split(cls, payload: bytes, shape: Shape, dtype: Dtype, /) -> tuple[Self, int, bytes]:
        """Return the transform of a tile, codec id and payload of what is inside.

        IntegrityError if the payload makes no sense for such a tile.
        """

    @staticmethod
    def peek(payload: bytes | memoryview, /) -> tuple[int, int]:
        """Return the codec id of what is inside, and where its payload begins; nothing is parsed.

        The id is -1 if the payload is too short for one.
        """

    def to_bytes(self, codec: int, /) -> bytes:
        """Return what a payload begins with; that of ``codec`` for what is inside follows."""

    def inside(self, shape: Shape, dtype: Dtype, /) -> tuple[Shape, Dtype]:
        """Return shape and type of what is inside a tile."""

    def forward(self, tile: Samples, /) -> Samples:
        """Return what is inside a tile."""

    def back(self, inside: Samples, dtype: Dtype, /) -> Samples:
        """Return the tile, of type ``dtype``, that :meth:`forward` was given."""


class Rank(IntEnum):
    """How far out a codec stands: what is inside of it has a lower rank."""

    CODEC = 0  # samples to bytes: nothing is inside
    ORIENTED = 1  # samples transposed, mirrored, channels reordered
    RESTATED = 2  # other numbers for the samples: from JPEG, scale and offset, ordered
    REPEATED = 3  # one channel for equal ones
    DELTA = 4  # the difference to another tile
    FILE = 5  # a JPEG of the file, no samples: never inside


@dataclass(frozen=True)
class Kind:
    """A codec: its rank, and the transform that it is, or how a payload decodes without a model."""

    rank: Rank
    transform: type[Transform] | None = None
    holds: TileCodec | None = None  # the one codec inside, where no byte of the payload says it
    decode: Callable[[bytes, Shape, Dtype], Samples] | None = None


def _jpeg_bytes(payload: bytes, _shape: Shape, _dtype: Dtype) -> Samples:
    return jpeg_tile.as_tile(jpeg_tile.decode(payload))


TABLE: Mapping[int, Kind] = {
    TileCodec.JPEG: Kind(Rank.FILE, decode=_jpeg_bytes),
    TileCodec.DELTA: Kind(Rank.DELTA, Delta),
    TileCodec.REPEATED: Kind(Rank.REPEATED, Repeated),
    TileCodec.FROM_JPEG: Kind(Rank.RESTATED, FromJpeg),
    TileCodec.FROM_JPEGS: Kind(Rank.RESTATED, FromJpegs),
    TileCodec.SCALE_OFFSET: Kind(Rank.RESTATED, ScaleOffset),
    TileCodec.ORDERED: Kind(Rank.RESTATED, Ordered),
    TileCodec.LEARNED_ORIENTED: Kind(Rank.ORIENTED, Orientation, TileCodec.LEARNED),
    TileCodec.ADAPTED_ORIENTED: Kind(Rank.ORIENTED, Orientation, TileCodec.ADAPTED),
    TileCodec.STORED: Kind(Rank.CODEC, decode=classic.from_bytes),
    TileCodec.CONSTANT: Kind(Rank.CODEC, decode=classic.decode_constant),
    TileCodec.ZSTD: Kind(Rank.CODEC, decode=classic.decode_zstd),
    TileCodec.JPEGXL: Kind(Rank.CODEC, decode=classic.decode_jpegxl),
    TileCodec.JPEG_LS: Kind(Rank.CODEC, decode=jpeg_ls.decode),
    TileCodec.LEARNED: Kind(Rank.CODEC),  # codec/learned.py decodes these, many at once
    TileCodec.ADAPTED: Kind(Rank.CODEC),
}
BY_MODEL = frozenset(
    codec for codec, kind in TABLE.items() if kind.transform is None and kind.decode is None
)
_NOTHING = -1


def may_hold(outer: int, inner: int) -> bool:
    """Whether a tile of codec ``outer`` may have one of ``inner`` inside.

    Codecs of later releases count as such without transforms: whoever decodes them says more.
    """
    kind = TABLE.get(outer)
    if kind is None or kind.transform is None or inner == _NOTHING:
        return False
    if kind.holds is not None:
        return inner == kind.holds
    return inner not in TABLE or TABLE[inner].rank < kind.rank


def wrapped(transform: Transform, inside: Encoded) -> Encoded:
    """Return the coding of a tile, given that of what ``transform`` makes of it."""
    for codec, kind in TABLE.items():
        if kind.transform is type(transform) and may_hold(codec, inside.codec):
            return Encoded(codec, transform.to_bytes(inside.codec) + inside.payload)
    name = type(transform).__name__
    raise ValueError(f"{name}: cannot hold a tile of codec {codec_name(inside.codec)}")


def as_delta(base: Base, remainder: Encoded) -> Encoded:
    """Return the coding of a tile by what ``base`` leaves of it."""
    return wrapped(Delta(base), remainder)


def _check(outer: int, inner: int, shape: Shape, dtype: Dtype) -> None:
    """Raise IntegrityError if a tile of ``outer`` may not have one of ``inner`` inside."""
    if not may_hold(outer, inner):
        what = f"{codec_name(outer)} tile of {shape} {dtype}"
        raise IntegrityError(f"{what}: holds codec {inner} ({codec_name(inner)})")


@dataclass(frozen=True)
class Opened:
    """What a payload holds, of type ``dtype``: the tile, or its remainder without ``base``."""

    codec: int
    payload: bytes
    dtype: Dtype
    base: Base | None = None

    @property
    def back(self) -> int:
        """How many tiles before it its base lies; 0 if it needs no other tile."""
        return self.base.back if self.base else 0


def opened(codec: int, payload: bytes, shape: Shape, dtype: Dtype) -> Opened:
    """Take the delta off a tile, for its base comes first; whatever is inside stays closed.

    IntegrityError if it is a delta that cannot be.
    """
    if codec != TileCodec.DELTA:
        return Opened(codec, payload, dtype)
    delta, inner, rest = Delta.split(payload, shape, dtype)
    _check(codec, inner, shape, dtype)
    return Opened(inner, rest, delta.inside(shape, dtype)[1], delta.base)


@dataclass(frozen=True)
class _Link:
    """A transform, and shape and type of what it makes of a tile of type ``dtype``."""

    transform: Transform
    dtype: Dtype
    inside: tuple[Shape, Dtype]


@dataclass(frozen=True)
class Chain:
    """The transforms of a tile, outermost first, and what is coded at its core."""

    links: tuple[_Link, ...]
    core: Encoded
    shape: Shape  # of the core
    dtype: Dtype

    @classmethod
    def of(cls, codec: int, payload: bytes, shape: Shape, dtype: Dtype) -> Chain:
        """Parse the payload of a tile that is :func:`opened`; IntegrityError if it cannot be."""
        if codec == TileCodec.DELTA:
            raise FormatError("delta tile: its base comes first; use `opened`")
        links = []
        while (kind := TABLE.get(codec)) and kind.transform:
            transform, said, rest = kind.transform.split(payload, shape, dtype)
            inner = said if kind.holds is None else kind.holds
            _check(codec, inner, shape, dtype)
            links.append(_Link(transform, dtype, transform.inside(shape, dtype)))
            (shape, dtype), codec, payload = links[-1].inside, inner, rest
        return cls(tuple(links), Encoded(codec, payload), shape, dtype)

    @property
    def needs_model(self) -> bool:
        """Whether a model decodes the core."""
        return self.core.codec in BY_MODEL

    def decoded(self) -> Samples:
        """Return what the core holds, which needs no model; FormatError if its codec is unknown."""
        kind = TABLE.get(self.core.codec)
        if kind is None or kind.decode is None:
            raise FormatError(f"tile codec {self.core.codec} is unknown; use a newer archiver")
        return kind.decode(self.core.payload, self.shape, self.dtype)

    def undo(self, samples: Samples) -> Samples:
        """Return the tile, given what the core holds."""
        for link in reversed(self.links):
            shape, dtype = link.inside
            if samples.shape != shape or samples.dtype != dtype:
                raise IntegrityError(
                    f"{type(link.transform).__name__} of {shape} {dtype}: "
                    f"inside came {samples.shape} {samples.dtype}"
                )
            samples = link.transform.back(samples, link.dtype)
        return samples


@dataclass(frozen=True)
class Outline:
    """The codecs of a tile, outermost first, as far as its payload says them; nothing is parsed."""

    nested: tuple[int, ...]

    @classmethod
    def of(cls, codec: int, payload: bytes) -> Outline:
        """Return that of any payload, a damaged one too."""
        nested, rest = [codec], memoryview(payload)
        while (kind := TABLE.get(codec)) and kind.transform:
            said, start = kind.transform.peek(rest)
            inner = said if kind.holds is None else kind.holds
            if not may_hold(codec, inner):
                break
            nested.append(inner)
            codec, rest = inner, rest[start:]
        return cls(tuple(nested))

    @property
    def needs_model(self) -> bool:
        """Whether decoding takes the engine that encoded the tile."""
        return self.nested[-1] in BY_MODEL

    @property
    def is_adapted(self) -> bool:
        """Whether decoding takes the adapter of the tile's file."""
        return self.nested[-1] == TileCodec.ADAPTED

    @property
    def is_repeated(self) -> bool:
        """Whether all channels are equal."""
        return TileCodec.REPEATED in self.nested

    @property
    def is_from_jpeg(self) -> bool:
        """Whether a JPEG is in it."""
        return TileCodec.FROM_JPEG in self.nested or TileCodec.FROM_JPEGS in self.nested

    @property
    def is_ordered(self) -> bool:
        """Whether it has ranks or high bits."""
        return TileCodec.ORDERED in self.nested

    @property
    def is_constant(self) -> bool:
        """Whether one value fills the tile, or each of its channels, or what a delta leaves."""
        has_more = self.is_from_jpeg or self.is_ordered
        return not has_more and self.nested[-1] == TileCodec.CONSTANT
