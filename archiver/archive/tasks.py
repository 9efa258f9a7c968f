"""Task records: what a killed run had finished, so that the next one need not repeat it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterator
from pathlib import Path

from archiver.archive import durable, layout
from archiver.archive.records import ShardRecord, from_json, to_json
from archiver.errors import ArchiverError, UsageError

_MAX_BYTES = 1 << 30


class TaskRecords:
    """The records below wip/tasks: a line with the SHA-256 of the rest, then a ShardRecord."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._folder = archive / layout.TASKS

    def finished(self, task_digest: str) -> ShardRecord | None:
        """Return the record of a finished task whose shard is there; None means: do it again."""
        return self._read(self._path(task_digest))

    def record(self, task_digest: str, shard: ShardRecord) -> None:
        """Keep the record of a finished task; its shard must be in place already."""
        text = to_json(shard).encode()
        data = hashlib.sha256(text).hexdigest().encode() + b"\n" + text
        path = self._path(task_digest)
        durable.replace_file(path, data, scratch=path.with_suffix(".wip"))

    def keep(self, name: str, data: bytes) -> None:
        """Keep something else that is work of a run until its commit."""
        path = self._path(name).with_suffix(".data")
        sealed = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
        durable.replace_file(path, sealed, scratch=path.with_suffix(".wip"))

    def kept(self, name: str) -> bytes | None:
        """Return what a run that did not commit has kept, None if it is not there or damaged."""
        path = self._path(name).with_suffix(".data")
        if not path.exists():
            return None
        try:
            digest, _, data = durable.read_file(path, limit=_MAX_BYTES).partition(b"\n")
        except ArchiverError:
            return None
        return data if hashlib.sha256(data).hexdigest().encode() == digest else None

    def all(self) -> Iterator[ShardRecord]:
        """Yield every usable record."""
        for path in sorted(self._folder.glob("*.json")):
            if record := self._read(path):
                yield record

    def drop(self, shards: Container[bytes]) -> None:
        """Remove the records of shards that were committed."""
        for path in self._folder.glob("*.json"):
            record = self._read(path)
            if record is None or record.sha256 in shards:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all records: what they say is committed, or was given up."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def _path(self, task_digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-zA-Z]{1,128}", task_digest):
            raise UsageError(f"task digest {task_digest!r}: expected letters and digits")
        return self._folder / f"{task_digest}.json"

    def _read(self, path: Path) -> ShardRecord | None:
        if not path.exists():
            return None
        try:
            digest, _, text = durable.read_file(path, limit=_MAX_BYTES).partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                return None
            record = from_json(text.decode())
            shard = layout.shard_path(self._archive, record.sha256)
            return record if shard.stat().st_size == record.size else None
        except (ArchiverError, ValueError, OSError):
            return None  # a record only saves work; without it the task runs again
