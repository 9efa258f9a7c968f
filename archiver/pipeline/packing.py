"""Own the way from files to a shard: parse, tile, encode, decode back, compare, append, record.

Tiles of many files are coded in one batch, bounded by ``BATCH_PIXELS``; what is appended, and in
which order, depends on the files alone.  Nothing is recorded that was not decoded again and
compared with its samples (design P4) or bytes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archiver import sources
from archiver.archive.records import ObjectRecord, ResidueRecord
from archiver.archive.shard import Mark, ShardWriter
from archiver.codec import jpeg_tiles
from archiver.codec import tiles as codec
from archiver.codec.residue import ResidueCodec
from archiver.codec.tiles import Encoded
from archiver.errors import SourceError
from archiver.image import Samples
from archiver.pipeline import choice, coding, reread
from archiver.pipeline.adapting import Effort, adapt
from archiver.pipeline.geometry import DEFAULT_TILE, Place
from archiver.pipeline.records import image_record, tile_rows
from archiver.sources import Fidelity, Format, ParsedFile

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

BATCH_PIXELS = 1 << 22  # coded together: bounds what a process holds
BATCH_BYTES = 64 << 20  # samples and residues waiting, whatever their pixels
LARGE_BYTES = 64 << 20  # a larger file goes to the shard while it is coded
TILE_INDEX_BYTES = 16  # what a tile costs in the manifest, about
SMALLER_AS_IS = "smaller as it is"
CHANGED = "changed while it was read; pack again when nothing writes to it"


@dataclass(frozen=True)
class Failure:
    """A file that could not be packed, and why; nothing of it is in the archive."""

    path: Path
    message: str


@dataclass(frozen=True)
class Packed:
    """A file whose content is safe: ``record`` is None if it was known before."""

    path: Path
    sha256: bytes
    size: int
    record: ObjectRecord | None
    notices: tuple[str, ...] = ()


def pack_files(
    paths: Sequence[Path],
    shard: ShardWriter,
    engines: Sequence[Engine],
    *,
    tile: int = DEFAULT_TILE,
    fidelity: Fidelity = Fidelity.BYTES,
    known: Collection[bytes] = frozenset(),
    effort: Effort | None = None,
) -> list[Packed | Failure]:
    """Append the files at ``paths`` to ``shard``; one outcome each, in their order.

    Of ``engines`` each file takes the one that codes a sample of its tiles smallest; "model" of a
    tile is its number.  Without any, classic codecs code all.  ``effort`` adapts it to the file.
    Content whose SHA-256 is in ``known``, or came earlier in ``paths``, is not coded again.
    """
    packer = _Packer(shard, engines, tile, fidelity, known, effort)
    for path in paths:
        packer.add(path)
    packer.drain()
    return packer.outcomes


def pack_content(
    path: Path, content: bytes, shard: ShardWriter, known: Collection[bytes] = frozenset()
) -> Packed:
    """Append ``content`` that is not in a file, such as the target of a symlink at ``path``."""
    digest = hashlib.sha256(content).digest()
    if digest in known:
        return Packed(path, digest, len(content), None)
    parsed = ParsedFile(Format.OPAQUE, (), b"", "", digest, len(content), digest, Fidelity.BYTES)
    residues = [_append_residue(shard, chunk) for chunk in coding.residue_chunks([content])]
    return Packed(path, digest, len(content), _record(parsed, (), [], residues))


@dataclass
class _Open:
    """A file between its parse and its record."""

    path: Path
    parsed: ParsedFile
    stamp: reread.Stamp
    places: list[tuple[int, Place]] = field(default_factory=list)  # (image, place)
    tiles: list[coding.CodedTile] = field(default_factory=list)  # as far as coded
    notices: list[str] = field(default_factory=list)
    sample: dict[int, Samples | None] = field(default_factory=dict)  # to choose a model by
    model: int = 0
    engine: Engine | None = None
    encoded: dict[int, Encoded] = field(default_factory=dict)  # by tile, while it was chosen
    n_learnable: int = 0
    adaptation: bytes = b""
    jpeg_head: bytes = b""  # what its JPEG tiles begin with
    mark: Mark | None = None  # where the tiles of a large file begin in the shard
    error: str | None = None

    @property
    def is_large(self) -> bool:
        return self.parsed.size > LARGE_BYTES

    @property
    def is_coded(self) -> bool:
        return self.error is not None or len(self.tiles) == len(self.places)


@dataclass(frozen=True)
class _Waiting:
    """A tile that waits to be coded: the ``number``-th of its file."""

    file: _Open
    number: int
    samples: Samples


class _Packer:
    """Files waiting in order, and the tiles of theirs that wait to be coded."""

    def __init__(
        self,
        shard: ShardWriter,
        engines: Sequence[Engine],
        tile: int,
        fidelity: Fidelity,
        known: Collection[bytes],
        effort: Effort | None,
    ) -> None:
        self.outcomes: list[Packed | Failure] = []
        self._shard = shard
        self._engines = engines
        self._tile = tile
        self._fidelity = fidelity
        self._known = known
        self._effort = effort
        self._done: set[bytes] = set()
        self._queue: deque[_Open] = deque()
        self._pending: list[_Waiting] = []
        self._pixels = self._bytes = 0

    def add(self, path: Path) -> None:
        """Take one more file; earlier ones may get done by it."""
        try:
            stamp = reread.stamp(path)
            if self._is_done(stamp.sha256):
                self.drain()
                self.outcomes.append(Packed(path, stamp.sha256, stamp.size, None))
                return
            parsed = sources.parse(path, fidelity=self._fidelity)
            if parsed.sha256 != stamp.sha256:
                raise SourceError(CHANGED)
        except (SourceError, OSError) as error:
            self.drain()
            self.outcomes.append(Failure(path, reread.reason(error)))
            return
        self._enqueue(_Open(path, parsed, stamp))

    def drain(self) -> None:
        """Code what waits and finish every file in the queue."""
        self._code()
        self._finish_coded()

    def _is_done(self, sha256: bytes) -> bool:
        if sha256 in self._known or sha256 in self._done:
            return True
        if any(file.parsed.sha256 == sha256 for file in self._queue):
            self.drain()  # then it is done, or it failed and this one is tried
        return sha256 in self._done

    def _enqueue(self, file: _Open) -> None:
        if file.is_large:
            self.drain()
            file.mark = self._shard.mark()
        file.places = list(coding.all_places(file.parsed.images, self._tile))
        if self._engines:
            file.engine = self._engines[0]
        if len(self._engines) > 1 or (self._engines and self._effort):
            deep = self._engines[0].deep is not None
            learnable = choice.learnable_tiles(file.parsed.images, file.places, deep=deep)
            pixels = self._effort.sample_pixels if self._effort else choice.LEAST_PIXELS
            file.sample = dict.fromkeys(choice.sample(learnable, self._tile, pixels))
            file.n_learnable = len(learnable)
        self._queue.append(file)
        self._bytes += len(file.parsed.residue)
        try:
            for number, samples in enumerate(coding.read_tiles(file.parsed.images, self._tile)):
                self._await(_Waiting(file, number, samples))
        except SourceError as error:
            file.error = str(error)
        if file.is_large:
            self.drain()

    def _await(self, one: _Waiting) -> None:
        """Let a tile wait for others; code them all once they are enough."""
        self._pending.append(one)
        if one.number in one.file.sample:
            one.file.sample[one.number] = one.samples
        self._pixels += one.samples.shape[0] * one.samples.shape[1]
        self._bytes += one.samples.nbytes
        if self._pixels >= BATCH_PIXELS or self._bytes >= BATCH_BYTES:
            self._code()

    def _code(self) -> None:
        """Code all waiting tiles, decode them again, hand them to their files."""
        pending = [one for one in self._pending if one.file.error is None]
        self._pending, self._pixels, self._bytes = [], 0, 0
        self._choose({id(one.file): one.file for one in pending if one.file.sample}.values())
        by_engine: dict[int, list[_Waiting]] = {}
        for one in pending:
            by_engine.setdefault(id(one.file.engine), []).append(one)
        for members in by_engine.values():
            self._code_with(members[0].file.engine, members)
        self._finish_coded()

    def _choose(self, files: Collection[_Open]) -> None:
        """Choose the model of each file; tiles of its sample that did not come yet are read."""
        complete: list[tuple[_Open, dict[int, Samples]]] = []
        for file in files:
            try:
                complete.append((file, {n: _sampled(file, n, s) for n, s in file.sample.items()}))
            except SourceError as error:
                file.error = str(error)
        if not complete:
            return
        choices = choice.choose([sample for _, sample in complete], self._engines)
        for (file, sample), chosen in zip(complete, choices, strict=True):
            file.sample = {}
            file.model, file.encoded = chosen.model, dict(chosen.encoded)
            file.engine = self._engines[chosen.model]
            if self._effort:
                self._adapt(file, sample, file.engine, self._effort)

    def _adapt(
        self, file: _Open, sample: dict[int, Samples], engine: Engine, effort: Effort
    ) -> None:
        """Fine-tune the model on a file, if that pays."""
        before = [file.encoded[number] for number in sample]
        found = adapt(list(sample.values()), before, file.n_learnable, engine, effort)
        if found is not None:
            file.engine, file.adaptation = found.engine, found.chunk
            file.encoded = dict(zip(sample, found.encoded, strict=True))

    def _code_with(self, engine: Engine | None, waiting: Sequence[_Waiting]) -> None:
        """Code tiles of files that take the same engine."""
        waiting = [one for one in waiting if one.file.error is None]
        todo = [one.samples for one in waiting if one.number not in one.file.encoded]
        fresh = iter(codec.encode(todo, engine))
        encoded = [
            one.file.encoded.pop(one.number) if one.number in one.file.encoded else next(fresh)
            for one in waiting
        ]
        coded = coding.checked([one.samples for one in waiting], encoded, engine)
        for one, tile in zip(waiting, coded, strict=True):
            file = one.file
            if tile.notice:
                image, place = file.places[one.number]
                file.notices.append(
                    f"{file.path}: image {image}, tile at row {place.row}, column {place.column}: "
                    f"{tile.notice}"
                )
            tile = _without_head(file, tile)
            file.tiles.append(tile.appended(self._shard) if file.is_large else tile)

    def _finish_coded(self) -> None:
        """Finish files from the head of the queue, so that shards keep the order of files."""
        while self._queue and self._queue[0].is_coded:
            file = self._queue.popleft()
            try:
                record = self._finish(file)
            except SourceError as error:
                if file.mark is not None:
                    self._shard.rollback(file.mark)
                self.outcomes.append(Failure(file.path, str(error)))
                continue
            self._done.add(record.sha256)
            self.outcomes.append(
                Packed(file.path, record.sha256, record.size, record, tuple(file.notices))
            )

    def _finish(self, file: _Open) -> ObjectRecord:
        if file.error is not None:
            raise SourceError(file.error)
        if file.parsed.format == Format.OPAQUE:
            return self._append_as_is(file, file.parsed)
        residue = list(coding.residue_chunks([file.parsed.residue]))
        if file.stamp != reread.stamp(file.path):
            raise SourceError(CHANGED)
        if self._plain_bytes(file) <= _cost(file, residue):
            if file.mark is not None:
                self._shard.rollback(file.mark)
            return self._append_as_is(file, _as_opaque(file.parsed))
        tiles = [tile if file.is_large else tile.appended(self._shard) for tile in file.tiles]
        residue += _beside(file)
        residues = [_append_residue(self._shard, chunk) for chunk in residue]
        return _record(file.parsed, file.places, tiles, residues, self._tile, file.model)

    def _plain_bytes(self, file: _Open) -> int:
        """Return what the bytes of the file would take; of a large one at most, to save time."""
        if file.is_large:
            return file.parsed.size
        plain = coding.residue_chunks(reread.blocks(file.path))
        return sum(len(chunk.payload) for chunk in plain)

    def _append_as_is(self, file: _Open, parsed: ParsedFile) -> ObjectRecord:
        """Append the bytes of the file, chunk by chunk."""
        digest = hashlib.sha256()
        residues = []
        for chunk in coding.residue_chunks(reread.blocks(file.path, digest)):
            residues.append(_append_residue(self._shard, chunk))
        if digest.digest() != parsed.sha256:
            raise SourceError(CHANGED)
        return _record(parsed, (), [], residues)


def _sampled(file: _Open, number: int, samples: Samples | None) -> Samples:
    """Return a tile of the sample: of a large file it may lie beyond what was read."""
    if samples is not None:
        return samples
    image, place = file.places[number]
    return coding.read_tile(file.parsed.images[image], place)


def _cost(file: _Open, residue: Sequence[coding.Chunk]) -> int:
    """Return what a file takes as samples and residue."""
    tiles = sum(max(tile.length, len(tile.payload)) + TILE_INDEX_BYTES for tile in file.tiles)
    return tiles + sum(len(chunk.payload) for chunk in (*residue, *_beside(file)))


def _beside(file: _Open) -> list[coding.Chunk]:
    """Return what is kept of a file for its tiles."""
    kept = ((ResidueCodec.ADAPTATION, file.adaptation), (ResidueCodec.JPEG_HEAD, file.jpeg_head))
    return [coding.Chunk(kind, data, 0) for kind, data in kept if data]


def _without_head(file: _Open, tile: coding.CodedTile) -> coding.CodedTile:
    """Return a JPEG tile without what the file's first one begins with, too."""
    if tile.codec != codec.TileCodec.JPEG:
        return tile
    file.jpeg_head = file.jpeg_head or jpeg_tiles.head_of(tile.payload)
    short = jpeg_tiles.without_head(tile.payload, file.jpeg_head)
    if jpeg_tiles.with_head(short, file.jpeg_head) != tile.payload:  # what was checked is kept
        return tile
    return replace(tile, payload=short)


def _as_opaque(parsed: ParsedFile) -> ParsedFile:
    return replace(
        parsed,
        format=Format.OPAQUE,
        images=(),
        residue=b"",
        note=SMALLER_AS_IS,
        rebuilt_sha256=parsed.sha256,
        fidelity=Fidelity.BYTES,
    )


def _append_residue(shard: ShardWriter, chunk: coding.Chunk) -> ResidueRecord:
    offset, crc = shard.append(chunk.payload)
    return ResidueRecord(offset, len(chunk.payload), chunk.raw_length, crc, chunk.codec)


def _record(
    parsed: ParsedFile,
    places: Sequence[tuple[int, Place]],
    tiles: Sequence[coding.CodedTile],
    residues: Sequence[ResidueRecord],
    tile: int = DEFAULT_TILE,
    model: int = -1,
) -> ObjectRecord:
    return ObjectRecord(
        sha256=parsed.sha256,
        rebuilt_sha256=parsed.rebuilt_sha256,
        size=parsed.size,
        format=int(parsed.format),
        fidelity=int(parsed.fidelity),
        note=parsed.note,
        images=tuple(image_record(image, tile) for image in parsed.images),
        tiles=tile_rows(places, tiles, model),
        residues=tuple(residues),
    )
