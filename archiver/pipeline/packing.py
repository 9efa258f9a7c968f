"""Own the way from files to a shard: parse, tile, encode, decode back, compare, append, record.

Tiles of many files are coded in one batch, bounded by ``BATCH_PIXELS``; what is appended, and in
which order, depends on the files alone.  Nothing is recorded that was not decoded again and
compared with its samples (design P4) or bytes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from archiver import sources
from archiver.archive.records import ObjectRecord, ResidueRecord
from archiver.archive.shard import ShardWriter
from archiver.errors import SourceError
from archiver.image import Samples
from archiver.pipeline import choice, coding, reread, turning
from archiver.pipeline.adapting import Effort, adapt
from archiver.pipeline.geometry import DEFAULT_TILE, Place
from archiver.pipeline.neighbours import Neighbours
from archiver.pipeline.open_file import OpenFile, WaitingTile, encoded
from archiver.pipeline.records import image_record, tile_rows, unrecordable
from archiver.sources import Fidelity, Format, ParsedFile

if TYPE_CHECKING:
    from archiver.codec.engine import Engine

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
    ``quick_jpegs`` leaves JPEGs to libjxl.
    Content whose SHA-256 is in ``known``, or came earlier in ``paths``, is not coded again.
    """
    packer = _Packer(shard, engines, tile, fidelity, known, effort, quick_jpegs)
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
        quick_jpegs: bool,
    ) -> None:
        self.outcomes: list[Packed | Failure] = []
        self._shard = shard
        self._engines = engines
        self._tile = tile
        self._fidelity = fidelity
        self._known = known
        self._effort = effort
        self._quick_jpegs = quick_jpegs
        self._done: set[bytes] = set()
        self._queue: deque[OpenFile] = deque()
        self._pending: list[WaitingTile] = []
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
            parsed = _recordable(parsed)
        except (SourceError, OSError) as error:
            self.drain()
            self.outcomes.append(Failure(path, reread.reason(error)))
            return
        self._enqueue(OpenFile(path, parsed, stamp, quick_jpegs=self._quick_jpegs))

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

    def _enqueue(self, file: OpenFile) -> None:
        if file.is_large:
            self.drain()
            file.mark = self._shard.mark()
        file.places = list(coding.all_places(file.parsed.images, self._tile))
        if self._engines:
            file.engine = self._engines[0]
        self._queue.append(file)
        self._bytes += len(file.parsed.residue)
        neighbours = Neighbours(file.parsed.images, file.places)
        try:
            file.prime()
            if len(self._engines) > 1 or (self._engines and self._effort):
                deep = self._engines[0].deep is not None
                pixels = self._effort.sample_pixels if self._effort else choice.LEAST_PIXELS
                file.take_sample(self._tile, pixels, deep=deep)
            for number, samples in enumerate(coding.read_tiles(file.parsed.images, self._tile)):
                difference = neighbours.difference(number, samples)
                self._await(WaitingTile(file, number, samples, difference))
        except SourceError as error:
            file.error = str(error)
        if file.is_large:
            self.drain()

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
        if self._effort:
            for file, sample in complete:
                turn = turning.find(list(sample.values()), self._engines[0])
                file.turns = self._effort.turns(turn)
        samples, turns = [sample for _, sample in complete], [file.turns for file, _ in complete]
        choices = choice.choose(samples, self._engines, turns)
        for (file, sample), chosen in zip(complete, choices, strict=True):
            file.sample = {}
            file.model, file.encoded = chosen.model, dict(chosen.encoded)
            file.engine = self._engines[chosen.model]
            if self._effort:
                self._adapt(file, sample, file.engine, self._effort)

    def _adapt(
        self, file: OpenFile, sample: dict[int, Samples], engine: Engine, effort: Effort
    ) -> None:
        """Fine-tune the model on a file, if that pays."""
        before = [file.encoded[number] for number in sample]
        tiles = list(sample.values())
        found = adapt(tiles, before, file.n_learnable, engine, effort, file.turns)
        file.engine, file.adaptation, file.turns = found.engine, found.chunk, found.turns
        file.encoded = dict(zip(sample, found.encoded, strict=True))

    def _code_with(self, engine: Engine | None, waiting: Sequence[WaitingTile]) -> None:
        """Code tiles of files that take the same engine."""
        waiting = [one for one in waiting if one.file.error is None]
        coded = coding.checked(
            [one.samples for one in waiting],
            encoded(waiting, engine),
            engine,
            [one.base for one in waiting],
            [(one.primer, one.number) for one in waiting],
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

    def _finish(self, file: OpenFile) -> ObjectRecord:
        if file.error is not None:
            raise SourceError(file.error)
        if file.parsed.format == Format.OPAQUE:
            return self._append_as_is(file, file.parsed)
        residue = list(coding.residue_chunks([file.parsed.residue]))
        if file.stamp != reread.stamp(file.path):
            raise SourceError(CHANGED)
        if self._plain_bytes(file) <= file.cost(residue):
            if file.mark is not None:
                self._shard.rollback(file.mark)
            return self._append_as_is(file, _as_opaque(file.parsed))
        tiles = [tile if file.is_large else tile.appended(self._shard) for tile in file.tiles]
        residue += file.beside()
        residues = [_append_residue(self._shard, chunk) for chunk in residue]
        return _record(file.parsed, file.places, tiles, residues, self._tile, file.model)

    def _plain_bytes(self, file: OpenFile) -> int:
        """Return what the bytes of the file would take; of a large one at most, to save time."""
        if file.is_large:
            return file.parsed.size
        plain = coding.residue_chunks(reread.blocks(file.path))
        return sum(len(chunk.payload) for chunk in plain)

    def _append_as_is(self, file: OpenFile, parsed: ParsedFile) -> ObjectRecord:
        """Append the bytes of the file, chunk by chunk."""
        digest = hashlib.sha256()
        residues = []
        for chunk in coding.residue_chunks(reread.blocks(file.path, digest)):
            residues.append(_append_residue(self._shard, chunk))
        if digest.digest() != parsed.sha256:
            raise SourceError(CHANGED)
        return _record(parsed, (), [], residues)


def _recordable(parsed: ParsedFile) -> ParsedFile:
    """Return a file as it is if the manifest has no place for one of its images."""
    faults = (unrecordable(image) for image in parsed.images)
    fault = next((fault for fault in faults if fault), "")
    return _as_opaque(parsed, f"{parsed.format.name}: {fault}") if fault else parsed


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
