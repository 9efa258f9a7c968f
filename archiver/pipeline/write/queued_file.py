"""A file between its parse and its record, in all alternatives, each as far as it is coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archiver.archive.shard import ShardWriter
from archiver.codec.ids import TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.pipeline import progress
from archiver.pipeline.tiling import Place
from archiver.pipeline.write.file_plan import FilePlan
from archiver.pipeline.write.payloads import Chunk, CodedTile
from archiver.pipeline.write.source_file import SourceFile
from archiver.pipeline.write.tile_samples import FilePlaces, all_places

TILE_INDEX_BYTES = 12  # what a tile costs in the manifest: two CRCs, a length, little else


class QueuedFile:
    """A file that waits in order until it is coded; the smallest of its codings is kept.

    The tiles of a large file go to the shard as they come.
    """

    def __init__(self, source: SourceFile, shard: ShardWriter) -> None:
        self.source = source
        self.codings: list[Coding] = []
        self._shard = shard
        self._mark = shard.mark() if source.is_large else None
        self._pixels = self._pixels_done = 0  # of all codings

    @property
    def is_coded(self) -> bool:
        """Whether nothing is left to code."""
        return all(coding.is_done for coding in self.codings)

    @property
    def error(self) -> str | None:
        """Why it cannot be packed, None if it can."""
        return next((coding.error for coding in self.codings if coding.error is not None), None)

    @property
    def smallest(self) -> Coding:
        """The coding that takes the fewest bytes, the first of them."""
        return min(self.codings, key=lambda coding: coding.cost(()))

    def coding(self, tile: int) -> Coding:
        """Return a new coding, in tiles of that side at most."""
        return self._added(tile, list(all_places(self.source.parsed.images, tile)))

    def coding_by(self, plan: FilePlan, places: FilePlaces) -> Coding:
        """Return a new coding by a plan that is made; its tiles are at ``places``."""
        coding = self._added(plan.tile, places)
        coding.decide(plan)
        return coding

    def _added(self, tile: int, places: FilePlaces) -> Coding:
        coding = Coding(self, tile, places, self._shard if self.source.is_large else None)
        self.codings.append(coding)
        self._pixels += sum(place.height * place.width for _, place in places)
        return coding

    def progress(self, place: Place) -> None:
        """Say how far it is, one more tile being coded."""
        self._pixels_done += place.height * place.width
        size = self.source.parsed.size
        progress.report(self.source.path, size * self._pixels_done // max(1, self._pixels))

    def rollback(self) -> None:
        """Forget what is in the shard already."""
        if self._mark is not None:
            self._shard.rollback(self._mark)


class Coding:
    """A file in one alternative: its plan once it is made, its tiles as far as they are coded."""

    def __init__(
        self, file: QueuedFile, tile: int, places: FilePlaces, shard: ShardWriter | None
    ) -> None:
        self.file = file
        self.tile = tile
        self.places = places
        self.plan: FilePlan | None = None
        self.tiles: list[CodedTile] = []
        self.notices: list[str] = []
        self.error: str | None = None
        self._shard = shard  # where tiles go at once
        self._jpeg_head = b""  # what its JPEG tiles begin with

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to code."""
        return self.error is not None or len(self.tiles) == len(self.places)

    def decide(self, plan: FilePlan) -> None:
        """Take the plan, once and for all."""
        self.plan = plan

    def fail(self, reason: str) -> None:
        """Have the file fail, unless it did."""
        self.error = self.error or reason

    def add(self, tile: CodedTile) -> None:
        """Take the next tile."""
        if tile.notice:
            image, place = self.places[len(self.tiles)]
            self.notices.append(
                f"{self.file.source.path}: image {image}, tile at row {place.row}, "
                f"column {place.column}: {tile.notice}"
            )
        self.file.progress(self.places[len(self.tiles)][1])
        tile = self._without_head(tile)
        self.tiles.append(tile.appended(self._shard) if self._shard else tile)

    def _without_head(self, tile: CodedTile) -> CodedTile:
        """Return a JPEG tile without what its first one begins with, too."""
        if tile.codec != TileCodec.JPEG:
            return tile
        if len(self.places) > 1:
            self._jpeg_head = self._jpeg_head or jpeg_tile.head_of(tile.payload)
        short = jpeg_tile.without_head(tile.payload, self._jpeg_head)
        if jpeg_tile.with_head(short, self._jpeg_head) != tile.payload:  # what was checked is kept
            return tile
        return replace(tile, payload=short)

    def chunks(self) -> list[Chunk]:
        """Return what is kept of the file for its tiles."""
        return self.plan.chunks(self._jpeg_head) if self.plan else []

    def cost(self, residue: Sequence[Chunk]) -> int:
        """Return what the file takes as samples and residue."""
        tiles = sum(tile.n_bytes + TILE_INDEX_BYTES for tile in self.tiles)
        return tiles + sum(len(chunk.payload) for chunk in (*residue, *self.chunks()))
