"""Changing an archive: the lock, recovery after a kill, and the one commit point.

Order on disk (FORMAT.md, "Writing"): shards and models are in place and synced before commit();
then the generation is written below wip/, synced, renamed into manifest/; then zarr.json is
replaced.  A kill before the last step leaves the old archive, after it the new one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import numpy as np

from archiver.archive import commit, durable, layout, lock, seen, validate
from archiver.archive.assemble import Known, assemble_entries, assemble_objects, object_index
from archiver.archive.commit import Commit, TableInfo
from archiver.archive.index import Index
from archiver.archive.manifest import read_table, write_table
from archiver.archive.model_files import ModelInfo, info_of, parsed
from archiver.archive.reader import Archive
from archiver.archive.records import EntryRecord, ShardRecord
from archiver.archive.shard import remove_abandoned
from archiver.archive.tables import TABLES, Columns, size_of
from archiver.archive.tasks import TaskRecords
from archiver.errors import (
    IntegrityError,
    UsageError,
)

_SCRATCH = "wip/generation"
_ROOT_SCRATCH = "wip/zarr.json"


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
        digests = self.archive.index.whole("objects", "sha256")
        return {
            entry.path: EntryRecord(
                entry.path,
                entry.kind,
                entry.mode,
                entry.mtime_ns,
                digests[entry.object].tobytes() if entry.object >= 0 else None,
                entry.link,
                entry.is_sparse,
            )
            for entry in self.archive.entries()
        }

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
        self._check_shards(shards)
        known = self._next_known()
        tables = assemble_objects(shards, known, self._all_models(shards))
        changed = [entry for entry in entries if not self._is_current(entry, known)]
        tables["entries"] = assemble_entries(changed, known)
        number = self.archive.generation if self.archive else 0
        if not number or len(tables["entries"]["kind"]) or len(tables["objects"]["size"]):
            self._validate(tables, known)
            number = self._write(tables, settings)
        self._tasks.clear()
        self._reload()
        self._is_known = True
        return number

    def close(self) -> None:
        """Give the archive back, without the models that no tile came to use."""
        try:
            if self._is_known:
                self._remove_orphans(layout.MODELS)
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
        newest = commit.read_root(self.path) if (self.path / layout.ROOT).exists() else None
        latest = newest
        while later := commit.unswitched(self.path, latest):
            latest = later
        if latest is None and any((self.path / layout.MANIFEST).glob("[0-9]*")):
            commit.read_root(self.path)  # raises: manifests, but no way to the newest
        if latest is not None and latest is not newest:
            Index(self.path, commit.read_history(self.path, latest)).load_all()
            self._switch(latest.generation)
        self._reload()
        shutil.rmtree(self.path / _SCRATCH, ignore_errors=True)
        remove_abandoned(self.path)
        self._tasks.drop(self._known.shards)
        self._is_known = True
        self._remove_orphans(layout.SHARDS)
        self._remove_orphans(layout.MODELS)

    def _reload(self) -> None:
        if not (self.path / layout.ROOT).exists():
            return
        if self.archive is not None:
            self.archive.close()
        self.archive = Archive.open(self.path)
        self._known = Known.of(self.archive.index)

    def _remove_orphans(self, folder: str) -> None:
        """Remove shards or models that neither a generation nor a task record refers to."""
        records = list(self._tasks.all())
        if folder == layout.SHARDS:
            kept = {*self._known.shards, *(record.sha256 for record in records)}
        else:
            used = {*self._known.models, *(model for record in records for model in record.models)}
            bases = {info_of(self.path, digest).base for digest in used}
            kept = {*used, *(base for base in bases if base is not None)}
        for path in (self.path / folder).iterdir():
            if layout.is_digest_name(path.name) and bytes.fromhex(path.name) not in kept:
                path.unlink(missing_ok=True)

    def _next_known(self) -> Known:
        known = self._known
        return Known(
            dict(known.objects),
            dict(known.shards),
            dict(known.models),
            known.n_objects,
            known.n_images,
        )

    def _check_shards(self, shards: Sequence[ShardRecord]) -> None:
        for shard in shards:
            path = layout.shard_path(self.path, shard.sha256)
            if not path.is_file() or path.stat().st_size != shard.size:
                raise IntegrityError(
                    f"{path}: expected a finished shard of {shard.size} bytes; "
                    "run again, its task is repeated"
                )

    def _all_models(self, shards: Sequence[ShardRecord]) -> dict[bytes, ModelInfo]:
        """Return what is known of every model that the shards list; they must be on disk."""
        models = dict(self._models)
        todo = {digest for shard in shards for digest in shard.models}
        todo |= {info.base for info in models.values() if info.base is not None}
        while todo := todo - models.keys():
            digest = todo.pop()
            path = layout.model_path(self.path, digest)
            if not path.is_file():
                raise UsageError(f"{path}: a shard needs this model; call add_model() first")
            models[digest] = info_of(self.path, digest)
            todo |= {base for base in (models[digest].base,) if base is not None}
        return models

    def _is_current(self, entry: EntryRecord, known: Known) -> bool:
        if self.archive is None or (row := self.archive.view.get(entry.path)) is None:
            return entry.kind == layout.REMOVED
        place, local = self.archive.index.locate("entries", row)
        columns = self.archive.index.table(place, "entries")
        new = (entry.kind, entry.mode & layout.MAX_MODE, entry.mtime_ns, object_index(entry, known))
        names = ("kind", "mode", "mtime_ns", "object", "link", "sparse")
        old = tuple(int(columns[name][local]) for name in names)
        return (*new, entry.link, int(entry.is_sparse)) == old

    def _validate(self, tables: Mapping[str, Columns], known: Known) -> None:
        """Hold the new tables against the rules that readers apply."""
        low = (self._known.n_objects, self._known.n_images)
        sizes = tables["shards"]["size"]
        if self.archive is not None:
            sizes = np.concatenate([self.archive.index.whole("shards", "size"), sizes])
        bounds = validate.Bounds(
            (low[0], known.n_objects), (low[1], known.n_images), len(known.models), sizes
        )
        validate.entries("entries", tables["entries"], known.n_objects)
        validate.objects("objects", tables["objects"])
        validate.images("images", tables["images"], bounds)
        validate.tiles("tiles", tables["tiles"], bounds, tables["images"]["shape"])
        validate.residues("residues", tables["residues"], bounds)

    def _write(self, tables: Mapping[str, Columns], settings: Mapping[str, Any]) -> int:
        newest = self.archive.commits[-1] if self.archive else None
        number = newest.generation + 1 if newest else 1
        if number > layout.MAX_GENERATION:
            raise UsageError(f"{self.path}: {number - 1} generations are the limit; start another")
        scratch = self.path / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        document = commit.render(
            Commit(
                generation=number,
                previous=commit.document_digest(self.path, newest),
                writer=f"archiver {_release()}",
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                tables={
                    name: _write_verified(scratch / name, name, tables[name])
                    for name in TABLES
                    if size_of(name, tables[name]).rows
                },
                settings=settings,
            )
        )
        durable.write_file(scratch / "zarr.json", document)
        durable.sync_tree(scratch)
        self._is_known = False
        scratch.rename(layout.generation_path(self.path, number))
        durable.sync(self.path / layout.MANIFEST)
        self._switch(number)
        return number

    def _switch(self, number: int) -> None:
        """Make a complete generation the newest: the commit point."""
        path = layout.generation_path(self.path, number) / "zarr.json"
        document = durable.read_file(path, limit=commit.MAX_BYTES)
        commit.parse(path, document)
        durable.replace_file(self.path / layout.ROOT, document, scratch=self.path / _ROOT_SCRATCH)


def _write_verified(folder: Path, name: str, columns: Columns) -> TableInfo:
    """Write a table and read it back before anything refers to it."""
    size = size_of(name, columns)
    info = TableInfo(size, write_table(folder, name, columns, size))
    stored = read_table(folder, name, size, sha256=info.sha256)
    for column, values in stored.items():
        if not np.array_equal(values, columns[column]):
            raise IntegrityError(
                f"{folder / column}: reads back other than it was written; "
                "check this machine's memory and disk, then run again"
            )
    return info


def _release() -> str:
    try:
        return importlib.metadata.version("archiver")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
