"""Files into a shard, in their order: the door of this folder.

What is appended, and in which order, depends on the files alone.  Nothing is recorded that was not
decoded again and compared with its samples or bytes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.archive.records import ObjectRecord
from archiver.archive.shard import ShardWriter
from archiver.errors import SourceError
from archiver.pipeline import progress
from archiver.pipeline.write import source_file
from archiver.pipeline.write.alternatives import Alternative
from archiver.pipeline.write.coder import Coder
from archiver.pipeline.write.finish import finish
from archiver.pipeline.write.queued_file import QueuedFile
from archiver.pipeline.write.residues import residue_chunks
from archiver.pipeline.write.rows import object_record
from archiver.pipeline.write.source_file import SourceFile
from archiver.sources import Fidelity, Format, ParsedFile

if TYPE_CHECKING:
    from archiver.codec.inference.engine import Engine


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
    how: Alternative | None = None,
    fidelity: Fidelity = Fidelity.BYTES,
    known: Collection[bytes] = frozenset(),
) -> list[Packed | Failure]:
    """Append the files at ``paths`` to ``shard``; one outcome each, in their order.

    Of ``engines`` each file takes the one that codes a sample of its tiles smallest; "model" of a
    tile is its number.  Without any, classic codecs code all.  ``how`` has tiles, fitting, speed;
    what these add to a cheaper way is kept of files that it makes smaller.
    Content whose SHA-256 is in ``known``, or came earlier in ``paths``, is not coded again.
    """
    packer = _Packer(shard, engines, how or Alternative(), fidelity, known)
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
    residues = [chunk.appended(shard) for chunk in residue_chunks([content])]
    return Packed(path, digest, len(content), object_record(parsed, residues))


class _Packer:
    """Files that wait in order, and what came of those before them."""

    def __init__(
        self,
        shard: ShardWriter,
        engines: Sequence[Engine],
        first: Alternative,
        fidelity: Fidelity,
        known: Collection[bytes],
    ) -> None:
        self.outcomes: list[Packed | Failure] = []
        self._shard = shard
        self._first = first
        self._fidelity = fidelity
        self._known = known
        self._done: set[bytes] = set()
        self._queue: deque[QueuedFile] = deque()
        self._coder = Coder(engines)

    def add(self, path: Path) -> None:
        """Take one more file; earlier ones may get done by it."""
        try:
            stamp = source_file.stamp(path)
            if self._is_done(stamp.sha256):
                self.drain()
                self.outcomes.append(Packed(path, stamp.sha256, stamp.size, None))
                progress.report(path, stamp.size)
                return
            source = SourceFile.parse(path, stamp, self._fidelity)
        except (SourceError, OSError) as error:
            self.drain()
            self.outcomes.append(Failure(path, source_file.reason(error)))
            return
        self._enqueue(source)

    def drain(self) -> None:
        """Code what waits and finish every file in the queue."""
        self._coder.drain()
        self._finish_coded()

    def _is_done(self, sha256: bytes) -> bool:
        if sha256 in self._known or sha256 in self._done:
            return True
        if any(file.source.parsed.sha256 == sha256 for file in self._queue):
            self.drain()  # then it is done, or it failed and this one is tried
        return sha256 in self._done

    def _enqueue(self, source: SourceFile) -> None:
        """Take a file; the tiles of a large one are alone in the shard until it is finished."""
        if source.is_large:
            self.drain()
        file = QueuedFile(source, self._shard)
        self._queue.append(file)
        self._coder.take(file, self._first)
        if source.is_large:
            self.drain()
        self._finish_coded()

    def _finish_coded(self) -> None:
        """Finish files from the head of the queue, so that shards keep the order of files."""
        while self._queue and self._queue[0].is_coded:
            file = self._queue.popleft()
            path, size = file.source.path, file.source.parsed.size
            try:
                record = finish(file, self._shard)
            except SourceError as error:
                file.rollback()
                self.outcomes.append(Failure(path, str(error)))
                continue
            finally:
                progress.report(path, size)
            self._done.add(record.sha256)
            notices = tuple(file.smallest.notices)
            self.outcomes.append(Packed(path, record.sha256, record.size, record, notices))
