"""The way from files to a shard: parse, tile, encode, decode back, compare, append, record.

Tiles of many files are coded in one batch, bounded by ``BATCH_PIXELS``; what is appended, and in
which order, depends on the files alone.  Nothing is recorded that was not decoded again and
compared with its samples (design P4) or bytes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archiver import sources
from archiver.archive.records import ObjectRecord, ResidueRecord
from archiver.archive.shard import ShardWriter
from archiver.codec import tiles as codec
from archiver.codec.tiles import Prepared
from archiver.errors import SourceError
from archiver.image import Samples
from archiver.pipeline.tiling import DEFAULT_TILE, Place
from archiver.pipeline.write import (
    confidence,
    encode,
    model_choice,
    orientation,
    source_file,
)
from archiver.pipeline.write.adapter import Effort, adapt
from archiver.pipeline.write.alternatives import Plan, Way, ways
from archiver.pipeline.write.delta_bases import DeltaBases
from archiver.pipeline.write.open_file import OpenFile, WaitingTile, encoded
from archiver.pipeline.write.rows import image_record, tile_rows, unrecordable
from archiver.sources import Fidelity, Format, ParsedFile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine

BATCH_PIXELS = 1 << 22  # coded together: bounds what a process holds
BATCH_BYTES = 64 << 20  # samples and residues waiting, whatever their pixels
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
    quick_jpegs: bool = False,
) -> list[Packed | Failure]:
    """Append the files at ``paths`` to ``shard``; one outcome each, in their order.

    Of ``engines`` each file takes the one that codes a sample of its tiles smallest; "model" of a
    tile is its number.  Without any, classic codecs code all.  ``effort`` adapts it to the file.
    ``quick_jpegs`` leaves JPEGs to libjxl.  What these add is kept of files that it makes smaller.
    Content whose SHA-256 is in ``known``, or came earlier in ``paths``, is not coded again.
    """
    packer = _Packer(shard, engines, Way(tile, effort, quick_jpegs), fidelity, known)
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
    residues = [_append_residue(shard, chunk) for chunk in encode.residue_chunks([content])]
    return Packed(path, digest, len(content), _record(parsed, (), [], residues))


class _Packer:
    """Files waiting in order, and the tiles of theirs that wait to be coded."""

    def __init__(
        self,
        shard: ShardWriter,
        engines: Sequence[Engine],
        way: Way,
        fidelity: Fidelity,
        known: Collection[bytes],
    ) -> None:
        self.outcomes: list[Packed | Failure] = []
        self._shard = shard
        self._engines = engines
        self._way = way
        self._fidelity = fidelity
        self._known = known
        self._done: set[bytes] = set()
        self._queue: deque[list[OpenFile]] = deque()  # each file, in all ways
        self._doubted: list[OpenFile] = []  # files in other ways, which are still to begin
        self._pending: list[WaitingTile] = []
        self._pixels = self._bytes = 0

    def add(self, path: Path) -> None:
        """Take one more file; earlier ones may get done by it."""
        try:
            stamp = source_file.stamp(path)
            if self._is_done(stamp.sha256):
                self.drain()
                self.outcomes.append(Packed(path, stamp.sha256, stamp.size, None))
                return
            parsed = sources.parse(path, fidelity=self._fidelity)
            if parsed.sha256 != stamp.sha256:
                raise SourceError(CHANGED)
            parsed = _recordable(parsed)
        except (SourceError, OSError) as error:
            self.drain()
            self.outcomes.append(Failure(path, source_file.reason(error)))
            return
        self._enqueue(OpenFile(path, parsed, stamp, self._way))

    def drain(self) -> None:
        """Code what waits and finish every file in the queue."""
        self._code()
        self._code_doubted()
        self._finish_coded()

    def _is_done(self, sha256: bytes) -> bool:
        if sha256 in self._known or sha256 in self._done:
            return True
        if any(file.parsed.sha256 == sha256 for file, *_ in self._queue):
            self.drain()  # then it is done, or it failed and this one is tried
        return sha256 in self._done

    def _enqueue(self, file: OpenFile) -> None:
        """Take a file, in all ways in which it is to be coded."""
        if file.is_large:
            self.drain()
            file.mark = self._shard.mark()
        in_ways = [file]
        if not file.is_large:
            others = ways(file.parsed.images, file.way)[1:]
            in_ways += [OpenFile(file.path, file.parsed, file.stamp, way) for way in others]
        for one in in_ways:
            one.places = list(encode.all_places(one.parsed.images, one.way.tile))
        self._queue.append(in_ways)
        for one in list(in_ways):
            self._begin(one)
        self._code_doubted()
        if file.is_large:
            self.drain()

    def _begin(self, file: OpenFile) -> None:
        """Let the tiles of a file wait to be coded in one way."""
        way = file.way
        if self._engines:
            file.engine = self._engines[0]
        if way.plan and self._engines:
            file.model, file.turns = way.plan.model, way.plan.turns
            file.engine = self._engines[file.model]
        self._bytes += len(file.parsed.residue)
        neighbours = DeltaBases(file.parsed.images, file.places)
        try:
            file.find_key_tiles()
            if not way.plan and (len(self._engines) > 1 or (self._engines and way.effort)):
                deep = self._engines[0].deep is not None
                pixels = way.effort.sample_pixels if way.effort else model_choice.LEAST_PIXELS
                file.take_sample(pixels, deep=deep)
            for number, samples in enumerate(encode.read_tiles(file.parsed.images, way.tile)):
                difference = neighbours.difference(number, samples)
                self._await(WaitingTile(file, number, samples, difference))
        except SourceError as error:
            file.error = str(error)

    def _code_doubted(self) -> None:
        """Code files again as a cheaper way has it, where a sample left a confidence."""
        while self._doubted:
            self._begin(self._doubted.pop(0))
            self._code()

    def _await(self, one: WaitingTile) -> None:
        """Let a tile wait for others; code them all once they are enough."""
        self._pending.append(one)
        if one.number in one.file.sample:
            one.file.sample[one.number] = one.samples
        self._pixels += one.samples.shape[0] * one.samples.shape[1]
        self._bytes += one.n_bytes
        if self._pixels >= BATCH_PIXELS or self._bytes >= BATCH_BYTES:
            self._code()

    def _code(self) -> None:
        """Code all waiting tiles, decode them again, hand them to their files."""
        pending = [one for one in self._pending if one.file.error is None]
        self._pending, self._pixels, self._bytes = [], 0, 0
        self._choose({id(one.file): one.file for one in pending if one.file.sample}.values())
        by_engine: dict[int, list[WaitingTile]] = {}
        for one in pending:
            by_engine.setdefault(id(one.file.engine), []).append(one)
        for members in by_engine.values():
            self._code_with(members[0].file.engine, members)
        self._finish_coded()

    def _choose(self, files: Collection[OpenFile]) -> None:
        """Choose the model of each file; tiles of its sample that did not come yet are read."""
        complete: list[tuple[OpenFile, dict[int, Samples]]] = []
        for file in files:
            try:
                complete.append((file, file.whole_sample()))
            except SourceError as error:
                file.error = str(error)
        if not complete:
            return
        samples = [self._prepared(file, sample) for file, sample in complete]
        turns = [file.turns for file, _ in complete]
        choices = model_choice.choose(samples, self._engines, turns)
        for (file, _), sample, chosen in zip(complete, samples, choices, strict=True):
            file.model, file.encoded = chosen.model, dict(chosen.encoded)
            file.engine = self._engines[chosen.model]
            if chosen.model and not confidence.is_sure(chosen.gains, file.n_learnable):
                self._doubt(file, Plan())
            if file.way.effort:
                self._adapt(file, sample, file.engine, file.way.effort)
            file.sample = {}

    def _prepared(self, file: OpenFile, sample: Mapping[int, Samples]) -> dict[int, Prepared]:
        """Return a sample ready to be coded, and find how it is to be turned."""
        if file.way.effort:
            is_whole = file.is_sampled_whole
            found = orientation.find(list(sample.values()), self._engines[0], is_whole=is_whole)
            file.turns = file.way.effort.turns(found)
        ready = codec.prepared(list(sample.values()), self._engines[0])
        return dict(zip(sample, ready, strict=True))

    def _doubt(self, file: OpenFile, plan: Plan) -> None:
        """Have a file coded in a cheaper way, too; a large one is coded once."""
        if file.is_large:
            return
        way = replace(file.way, effort=None, plan=plan)
        again = OpenFile(file.path, file.parsed, file.stamp, way, places=file.places)
        next(in_ways for in_ways in self._queue if file in in_ways).append(again)
        self._doubted.append(again)

    def _adapt(
        self, file: OpenFile, sample: Mapping[int, Prepared], engine: Engine, effort: Effort
    ) -> None:
        """Fine-tune the model on a file, if that pays."""
        before, plan = [file.encoded[number] for number in sample], Plan(file.model, file.turns)
        tiles = list(sample.values())
        found = adapt(tiles, before, file.n_learnable, engine, effort, file.turns)
        is_thorough = effort.passes != 0 and not file.is_sampled_whole
        if found.chunk and (is_thorough or not found.is_sure):
            self._doubt(file, plan)
        if file.is_large and not found.is_sure:
            return
        file.engine, file.adapter_record, file.turns = found.engine, found.chunk, found.turns
        file.encoded = dict(zip(sample, found.encoded, strict=True))

    def _code_with(self, engine: Engine | None, waiting: Sequence[WaitingTile]) -> None:
        """Code tiles of files that take the same engine."""
        waiting = [one for one in waiting if one.file.error is None]
        coded = encode.checked(
            [one.samples for one in waiting],
            encoded(waiting, engine),
            engine,
            [one.base for one in waiting],
            [(one.key_tiles, one.number) for one in waiting],
        )
        for one, tile in zip(waiting, coded, strict=True):
            file = one.file
            if tile.notice:
                image, place = file.places[one.number]
                file.notices.append(
                    f"{file.path}: image {image}, tile at row {place.row}, column {place.column}: "
                    f"{tile.notice}"
                )
            tile = file.without_head(tile)
            file.tiles.append(tile.appended(self._shard) if file.is_large else tile)

    def _finish_coded(self) -> None:
        """Finish files from the head of the queue, so that shards keep the order of files."""
        while self._queue and all(one.is_coded for one in self._queue[0]):
            in_ways = self._queue.popleft()
            file = min(in_ways, key=lambda one: one.cost(()))
            try:
                record = self._finish(file, in_ways)
            except SourceError as error:
                if file.mark is not None:
                    self._shard.rollback(file.mark)
                self.outcomes.append(Failure(file.path, str(error)))
                continue
            self._done.add(record.sha256)
            self.outcomes.append(
                Packed(file.path, record.sha256, record.size, record, tuple(file.notices))
            )

    def _finish(self, file: OpenFile, in_ways: Sequence[OpenFile]) -> ObjectRecord:
        for error in (one.error for one in in_ways):
            if error is not None:
                raise SourceError(error)
        if file.parsed.format == Format.OPAQUE:
            return self._append_as_is(file, file.parsed)
        residue = list(encode.residue_chunks([file.parsed.residue]))
        if file.stamp != source_file.stamp(file.path):
            raise SourceError(CHANGED)
        if self._plain_bytes(file) <= file.cost(residue):
            if file.mark is not None:
                self._shard.rollback(file.mark)
            return self._append_as_is(file, _as_opaque(file.parsed))
        tiles = [tile if file.is_large else tile.appended(self._shard) for tile in file.tiles]
        residue += file.beside()
        residues = [_append_residue(self._shard, chunk) for chunk in residue]
        return _record(file.parsed, file.places, tiles, residues, file.way.tile, file.model)

    def _plain_bytes(self, file: OpenFile) -> int:
        """Return what the bytes of the file would take; of a large one at most, to save time."""
        if file.is_large:
            return file.parsed.size
        plain = encode.residue_chunks(source_file.blocks(file.path))
        return sum(len(chunk.payload) for chunk in plain)

    def _append_as_is(self, file: OpenFile, parsed: ParsedFile) -> ObjectRecord:
        """Append the bytes of the file, chunk by chunk."""
        digest = hashlib.sha256()
        residues = []
        for chunk in encode.residue_chunks(source_file.blocks(file.path, digest)):
            residues.append(_append_residue(self._shard, chunk))
        if digest.digest() != parsed.sha256:
            raise SourceError(CHANGED)
        return _record(parsed, (), [], residues)


def _recordable(parsed: ParsedFile) -> ParsedFile:
    """Return a file as it is if the manifest has no place for one of its images."""
    faults = (unrecordable(image) for image in parsed.images)
    fault = next((fault for fault in faults if fault), "")
    return _as_opaque(parsed, f"{parsed.format.label}: {fault}") if fault else parsed


def _as_opaque(parsed: ParsedFile, note: str = SMALLER_AS_IS) -> ParsedFile:
    return replace(
        parsed,
        format=Format.OPAQUE,
        images=(),
        residue=b"",
        note=note,
        rebuilt_sha256=parsed.sha256,
        fidelity=Fidelity.BYTES,
    )


def _append_residue(shard: ShardWriter, chunk: encode.Chunk) -> ResidueRecord:
    offset, crc = shard.append(chunk.payload)
    return ResidueRecord(offset, len(chunk.payload), chunk.raw_length, crc, chunk.codec)


def _record(
    parsed: ParsedFile,
    places: Sequence[tuple[int, Place]],
    tiles: Sequence[encode.CodedTile],
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
