"""The end of a file's way: compared with its plain bytes, appended to the shard, recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archiver.archive.records import ObjectRecord
from archiver.archive.shard import ShardWriter
from archiver.codec.residue import LEVEL, QUICK_LEVEL
from archiver.errors import SourceError
from archiver.pipeline import progress
from archiver.pipeline.write import source_file
from archiver.pipeline.write.payloads import Chunk
from archiver.pipeline.write.queued_file import Coding, QueuedFile
from archiver.pipeline.write.residues import residue_chunks
from archiver.pipeline.write.rows import image_record, object_record, tile_rows
from archiver.pipeline.write.source_file import CHANGED, SourceFile, StampedBlocks, as_opaque
from archiver.sources import Format

SMALLER_AS_IS = "smaller as it is"


def finish(file: QueuedFile, shard: ShardWriter) -> ObjectRecord:
    """Append what a file takes least as, and return its record; SourceError if it failed."""
    if file.error is not None:
        raise SourceError(file.error)
    source, coding = file.source, file.smallest
    is_quick = coding.plan is not None and coding.plan.is_quick
    level = QUICK_LEVEL if is_quick else LEVEL
    if source.parsed.format == Format.OPAQUE:
        return _append_unread(source, shard, level)
    residue = list(residue_chunks([source.parsed.residue], level))
    if source.is_large or is_quick:
        return _finish_unread(file, coding, residue, shard, level)
    plain = _plain_chunks(source)
    if sum(len(chunk.payload) for chunk in plain) <= coding.cost(residue):
        parsed = as_opaque(source.parsed, SMALLER_AS_IS)
        return object_record(parsed, [chunk.appended(shard) for chunk in plain])
    return _append(coding, residue, shard)


def _finish_unread(
    file: QueuedFile, coding: Coding, residue: Sequence[Chunk], shard: ShardWriter, level: int
) -> ObjectRecord:
    """Finish a file that is large or in a hurry: its plain bytes count as many as there are."""
    source = file.source
    if source_file.stamp(source.path) != source.stamp:
        raise SourceError(CHANGED)
    if source.parsed.size > coding.cost(residue):
        return _append(coding, residue, shard)
    file.rollback()
    plain = replace(source, parsed=as_opaque(source.parsed, SMALLER_AS_IS))
    return _append_unread(plain, shard, level)


def _plain_chunks(source: SourceFile) -> list[Chunk]:
    """Return the bytes of a small file as chunks; SourceError if they changed."""
    blocks = StampedBlocks(source.path)
    chunks = list(residue_chunks(blocks))
    if blocks.stamp != source.stamp:
        raise SourceError(CHANGED)
    return chunks


def _append_unread(source: SourceFile, shard: ShardWriter, level: int) -> ObjectRecord:
    """Append the bytes of a file that is kept as it is, chunk by chunk as they are read."""
    blocks = StampedBlocks(source.path)
    residues, done = [], 0
    for chunk in residue_chunks(blocks, level):
        residues.append(chunk.appended(shard))
        done += chunk.raw_length
        progress.report(source.path, done)
    if blocks.stamp.sha256 != source.parsed.sha256:
        raise SourceError(CHANGED)
    return object_record(source.parsed, residues)


def _append(coding: Coding, residue: Sequence[Chunk], shard: ShardWriter) -> ObjectRecord:
    """Append tiles and residue of a file whose plan is made."""
    parsed, model = coding.file.source.parsed, coding.plan.model if coding.plan else -1
    tiles = [tile.appended(shard) for tile in coding.tiles]
    residues = [chunk.appended(shard) for chunk in (*residue, *coding.chunks())]
    images = [image_record(image, coding.tile) for image in parsed.images]
    return object_record(parsed, residues, images, tile_rows(coding.places, tiles, model))
