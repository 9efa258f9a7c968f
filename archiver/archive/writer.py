"""Changing an archive: the one writer, from taking the lock to giving it back.

Shards and models are in place and synced before commit() makes them a generation
(archive/new_generation.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from archiver.archive import (
    durable,
    layout,
    lock,
    model_files,
    new_generation,
    recover,
    seen,
    stored,
)
from archiver.archive.assemble import Known, assemble_entries, assemble_objects, object_index
from archiver.archive.model_files import ModelInfo, parsed
from archiver.archive.reader import Archive
from archiver.archive.records import EntryRecord, ShardRecord
from archiver.archive.shard import check_size, remove_abandoned
from archiver.archive.tasks import TaskRecords


class ArchiveWriter:
    """The one writer of an archive, from open() to close(); use as a context manager."""

    def __init__(self, path: Path, held: filelock.BaseFileLock) -> None:
        self.path = path
        self._lock = held
        self._models: dict[bytes, ModelInfo] = {}
        self._tasks = TaskRecords(path)
        self.archive: Archive | None = None  # what is committed, None before the first commit
        self._known = Known()
        self._is_known = False  # whether _known is what is committed: else nothing may be removed

    @classmethod
    def open(cls, path: Path, *, wait_s: float = 0) -> Self:
        """Open an archive for writing, or start one; clean up after a killed run.

        Raise LockedError if another writer still holds it after ``wait_s`` seconds.
        """
        with lock.writing(path):
            lock.prepare(path)
            held = lock.acquire(path, wait_s)
        writer = cls(path, held)
        try:
            with lock.writing(path):
                writer._recover()
        except BaseException:
            writer.close()
            raise
        return writer

    def known_objects(self) -> set[bytes]:
        """Return the SHA-256 of every content in the archive."""
        return set(self._known.objects)

    def current_entries(self) -> dict[bytes, EntryRecord]:
        """Return the entries of the newest generation by path."""
        if self.archive is None:
            return {}
        index = self.archive.index
        return {entry.path: stored.entry_record(index, entry) for entry in self.archive.entries()}

    def add_model(self, name: str, data: bytes) -> bytes:
        """Keep a model that tiles may refer to; return its SHA-256.  Listed once a tile uses it.

        If it is the difference to another model, that one has to be added or listed, too.
        """
        digest = hashlib.sha256(data).digest()
        path = layout.model_path(self.path, digest)
        if not path.is_file() or path.read_bytes() != data:
            scratch = self.path / layout.WIP / f"{digest.hex()}.wip"
            with lock.writing(self.path):
                durable.replace_file(path, data, scratch=scratch)
        self._models[digest] = replace(parsed(data), name=name)
        return digest

    def finished(self, task_digest: str) -> ShardRecord | None:
        """Return what a run that did not commit had finished, None if the task has to run."""
        return self._tasks.finished(task_digest)

    def record(self, task_digest: str, shard: ShardRecord) -> None:
        """Keep what a task finished, so that a kill does not lose it."""
        with lock.writing(self.path):
            self._tasks.record(task_digest, shard)

    def keep(self, name: str, data: bytes) -> None:
        """Keep other work of this run until its commit, so that a kill does not lose it."""
        with lock.writing(self.path):
            self._tasks.keep(name, data)

    def kept(self, name: str) -> bytes | None:
        """Return what a run that did not commit kept under that name."""
        return self._tasks.kept(name)

    def keep_seen(self, sights: seen.Seen) -> None:
        """Keep what the source looks like, for the next run to compare."""
        with lock.writing(self.path):
            seen.write(self.path, sights)

    def commit(
        self,
        entries: Sequence[EntryRecord],
        shards: Sequence[ShardRecord],
        settings: Mapping[str, Any],
    ) -> int:
        """Add a generation with what is new; return its number, or the newest if nothing is new."""
        with lock.writing(self.path):
            return self._commit(entries, shards, settings)

    def _commit(
        self,
        entries: Sequence[EntryRecord],
        shards: Sequence[ShardRecord],
        settings: Mapping[str, Any],
    ) -> int:
        for shard in shards:
            check_size(self.path, shard)
        known = self._known.copy()
        models = model_files.needed(self.path, self._models, shards)
        tables = assemble_objects(shards, known, models)
        changed = [entry for entry in entries if not self._is_current(entry, known)]
        tables["entries"] = assemble_entries(changed, known)
        number = self.archive.generation if self.archive else 0
        if not number or len(tables["entries"]["kind"]) or len(tables["objects"]["size"]):
            index = self.archive.index if self.archive else None
            new_generation.check(tables, index, self._known, known)
            newest = self.archive.commits[-1] if self.archive else None
            number = new_generation.draft(self.path, newest, tables, settings)
            self._is_known = False
            new_generation.publish(self.path, number)
        self._tasks.clear()
        self._reload()
        self._is_known = True
        return number

    def close(self) -> None:
        """Give the archive back, without the models that no tile came to use."""
        try:
            if self._is_known:
                recover.remove_orphan_models(self.path, self._known, self._tasks.all())
        finally:
            if self.archive is not None:
                self.archive.close()
            self._lock.release()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _recover(self) -> None:
        """Finish the switch of a killed run, then remove what nothing refers to."""
        recover.finish_switch(self.path)
        self._reload()
        new_generation.remove_draft(self.path)
        remove_abandoned(self.path)
        self._tasks.drop(self._known.shards)
        self._is_known = True
        recover.remove_orphan_shards(self.path, self._known, self._tasks.all())
        recover.remove_orphan_models(self.path, self._known, self._tasks.all())

    def _reload(self) -> None:
        if not (self.path / layout.ROOT).exists():
            return
        if self.archive is not None:
            self.archive.close()
        self.archive = Archive.open(self.path)
        self._known = Known.of(self.archive.index)

    def _is_current(self, entry: EntryRecord, known: Known) -> bool:
        """Whether the newest generation says the same of a path."""
        if self.archive is None or (row := self.archive.view.get(entry.path)) is None:
            return entry.kind == layout.REMOVED
        now = stored.entry(self.archive.index, entry.path, row)
        new = (entry.kind, entry.mode & layout.MAX_MODE, entry.mtime_ns, object_index(entry, known))
        old = (now.kind, now.mode, now.mtime_ns, now.object)
        return (*new, entry.link, entry.is_sparse) == (*old, now.link, now.is_sparse)
