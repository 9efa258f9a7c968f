"""A file between its parse and its record, and its tiles on their way to the codec."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.archive.shard import Mark
from archiver.codec import tiles as codec
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tiles
from archiver.codec.learned import IDENTITY_ONLY, Orientations
from archiver.codec.residue import ResidueCodec
from archiver.codec.transforms import chain
from archiver.codec.transforms.chain import Outline
from archiver.image import Samples
from archiver.pipeline import key_tiles
from archiver.pipeline.key_tiles import KeyTiles
from archiver.pipeline.tiling import Place
from archiver.pipeline.write import encode as coding
from archiver.pipeline.write import model_choice, source_file
from archiver.pipeline.write.alternatives import Way
from archiver.pipeline.write.delta_bases import Delta
from archiver.sources import ParsedFile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

LARGE_BYTES = 64 << 20  # a larger file goes to the shard while it is coded
LOOKED_AT = 8  # times the tiles of a sample are looked at to find those that are not empty
TILE_INDEX_BYTES = 12  # what a tile costs in the manifest: two CRCs, a length, little else


@dataclass(eq=False)
class OpenFile:
    """A file, what was found out about it, and its tiles as far as they are coded."""

    path: Path
    parsed: ParsedFile
    stamp: source_file.Stamp
    way: Way = field(default_factory=Way)
    places: list[tuple[int, Place]] = field(default_factory=list)  # (image, place)
    tiles: list[coding.CodedTile] = field(default_factory=list)  # as far as coded
    notices: list[str] = field(default_factory=list)
    sample: dict[int, Samples | None] = field(default_factory=dict)  # to choose a model by
    model: int = 0
    engine: Engine | None = None
    encoded: dict[int, Encoded] = field(default_factory=dict)  # by tile, while it was chosen
    n_learnable: int = 0
    turns: Orientations = IDENTITY_ONLY  # in which a model is given its tiles
    adapter_record: bytes = b""
    jpeg_head: bytes = b""  # what its JPEG tiles begin with
    key_tiles: KeyTiles | None = None  # what its JPEG tiles learn from
    mark: Mark | None = None  # where the tiles of a large file begin in the shard
    error: str | None = None

    @property
    def is_large(self) -> bool:
        """Whether its tiles go to the shard as they come."""
        return self.parsed.size > LARGE_BYTES

    @property
    def is_coded(self) -> bool:
        """Whether nothing is left to code."""
        return self.error is not None or len(self.tiles) == len(self.places)

    @property
    def is_sampled_whole(self) -> bool:
        """Whether its sample is all that a model can code of it."""
        return len(self.sample) >= self.n_learnable

    def take_sample(self, pixels: int, *, deep: bool) -> None:
        """Choose tiles that stand for it; of a large file, maybe mostly glass, no empty ones.

        SourceError if they cannot be read.
        """
        learnable = model_choice.learnable_tiles(self.parsed.images, self.places, deep=deep)
        self.n_learnable = len(learnable)
        self.sample = dict.fromkeys(model_choice.sample(learnable, self.way.tile, pixels))
        if not self.is_large:
            return
        seen = model_choice.sample(learnable, self.way.tile, LOOKED_AT * pixels)
        tiles = {number: self._sampled(number, None) for number in seen}
        busy = [number for number in seen if (tiles[number] != tiles[number][:1, :1]).any()]
        self.n_learnable = round(len(learnable) * len(busy) / max(1, len(seen)))
        self.sample = {
            number: tiles[number] for number in model_choice.sample(busy, self.way.tile, pixels)
        }

    def whole_sample(self) -> dict[int, Samples]:
        """Return the tiles of its sample: of a large file some may lie beyond what was read."""
        return {number: self._sampled(number, tile) for number, tile in self.sample.items()}

    def _sampled(self, number: int, samples: Samples | None) -> Samples:
        if samples is not None:
            return samples
        image, place = self.places[number]
        return coding.read_tile(self.parsed.images[image], place)

    def find_key_tiles(self) -> None:
        """Code the keys of its JPEG tiles, if it has enough; SourceError if it cannot be read."""
        if self.way.quick_jpegs:
            return
        images = self.parsed.images
        jpegs = [n for n, (image, _) in enumerate(self.places) if images[image].jpeg_tile]
        found, payloads = key_tiles.find(jpegs, lambda number: self._sampled(number, None))
        if payloads:
            self.key_tiles = found
            self.encoded |= {n: Encoded(TileCodec.JPEG, one) for n, one in payloads.items()}

    def beside(self) -> list[coding.Chunk]:
        """Return what is kept of it for its tiles."""
        kinds = {
            ResidueCodec.ADAPTER_RECORD: self.adapter_record,
            ResidueCodec.JPEG_HEAD: self.jpeg_head,
            ResidueCodec.JPEG_KEY_TILES: self.key_tiles.to_bytes() if self.key_tiles else b"",
        }
        return [coding.Chunk(kind, data, 0) for kind, data in kinds.items() if data]

    def cost(self, residue: Sequence[coding.Chunk]) -> int:
        """Return what it takes as samples and residue."""
        tiles = sum(max(tile.length, len(tile.payload)) + TILE_INDEX_BYTES for tile in self.tiles)
        return tiles + sum(len(chunk.payload) for chunk in (*residue, *self.beside()))

    def without_head(self, tile: coding.CodedTile) -> coding.CodedTile:
        """Return a JPEG tile without what its first one begins with, too."""
        if tile.codec != TileCodec.JPEG:
            return tile
        if len(self.places) > 1:
            self.jpeg_head = self.jpeg_head or jpeg_tiles.head_of(tile.payload)
        short = jpeg_tiles.without_head(tile.payload, self.jpeg_head)
        if jpeg_tiles.with_head(short, self.jpeg_head) != tile.payload:  # what was checked is kept
            return tile
        return replace(tile, payload=short)


@dataclass(frozen=True)
class WaitingTile:
    """A tile that waits to be coded: the ``number``-th of its file."""

    file: OpenFile
    number: int
    samples: Samples
    difference: Delta | None  # if that promises to be smaller

    @property
    def base(self) -> Samples | None:
        """The tile that it may be a difference to."""
        return self.difference.samples if self.difference else None

    @property
    def is_thorough(self) -> bool:
        """Whether it is a JPEG whose coefficients are to be coded."""
        return self.samples.dtype == jpeg_tiles.BYTES and not self.file.way.quick_jpegs

    @property
    def key_tiles(self) -> KeyTiles | None:
        """What it learns from, if it is such a JPEG of a file that has keys."""
        return self.file.key_tiles if self.is_thorough else None

    @property
    def n_bytes(self) -> int:
        """What it holds in memory."""
        return self.samples.nbytes + (self.difference.left.nbytes if self.difference else 0)


def _encoded_jpeg(one: WaitingTile) -> Encoded:
    state = one.key_tiles.state(one.number) if one.key_tiles else None
    return Encoded(TileCodec.JPEG, jpeg_tiles.encode(one.samples, state))


def encoded(tiles: Sequence[WaitingTile], engine: Engine | None) -> list[Encoded]:
    """Return the smallest coding of every tile; what was coded for a choice is not coded again."""
    jpegs = [one for one in tiles if one.is_thorough and one.number not in one.file.encoded]
    with ThreadPoolExecutor(engine.threads if engine else 1) as pool:
        for one, coded in zip(jpegs, pool.map(_encoded_jpeg, jpegs), strict=True):
            one.file.encoded[one.number] = coded
    todo = [one for one in tiles if one.number not in one.file.encoded]
    turns = [one.file.turns for one in todo]
    fresh = iter(codec.encode([one.samples for one in todo], engine, turns))
    best = [
        one.file.encoded.pop(one.number) if one.number in one.file.encoded else next(fresh)
        for one in tiles
    ]
    differing = [
        (i, one.difference)
        for i, one in enumerate(tiles)
        if one.difference and not Outline.of(best[i].codec, best[i].payload).is_constant
    ]
    turns = [tiles[i].file.turns for i, _ in differing]
    lefts = codec.encode([difference.left for _, difference in differing], engine, turns)
    for (i, difference), left in zip(differing, lefts, strict=True):
        found = chain.as_delta(difference.base, left)
        if len(found.payload) < len(best[i].payload):
            best[i] = found
    return best
