"""The files of a pack job and what came of them: told as events, kept for the commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archiver.archive import layout
from archiver.archive.records import ObjectRecord, ShardRecord
from archiver.jobs.events import FileDone, FileFailed, Notice, OnEvent
from archiver.jobs.plan import Item, Task
from archiver.jobs.tally import Tally, stored_bytes
from archiver.jobs.work import TaskResult


class Ledger:
    """The files of one pack job that are in the archive now, and those that are not."""

    def __init__(self, on_event: OnEvent) -> None:
        self.on_event = on_event
        self.tally = Tally()
        self.contents: dict[bytes, bytes] = {}  # path -> SHA-256, of what is in the archive now
        self.other_names: Mapping[bytes, list[Item]] = {}  # of a file read once, by its first name
        self._shards: dict[bytes, tuple[bytes, int, ShardRecord]] = {}  # by digest, with its place
        # with its models, and what it takes in its shard
        self._objects: dict[bytes, tuple[ObjectRecord, tuple[bytes, ...], int]] = {}

    @property
    def failures(self) -> Sequence[FileFailed]:
        """The files that could not be packed so far."""
        return self.tally.failures

    @property
    def shards(self) -> list[ShardRecord]:
        """The shards of this job, in the order that the same files always give."""
        places = sorted(self._shards.values(), key=lambda place: place[:2])
        return [shard for _, _, shard in places]

    def add(self, task: Task, result: TaskResult) -> None:
        """Note what came of a task, but for its shard."""
        for notice in result.notices:
            self.on_event(Notice(notice))
        items = {item.path: item for item in task.items}
        seen: set[bytes] = set()
        for path, sha256 in result.contents:
            for item in (items[path], *self.other_names.get(path, ())):
                self.contents[item.path] = sha256
                if item.kind == layout.FILE:
                    self._done(item, sha256, is_copy=sha256 in seen)
                seen.add(sha256)
        for path, reason in result.failures:
            self.fail_all(items[path], reason)

    def add_shard(self, task: Task, shard: ShardRecord, *, attempt: int) -> None:
        """Note the shard of a task: of a killed run (attempt 0), or of this one (1)."""
        self._shards[shard.sha256] = (task.items[0].path, attempt, shard)
        for record, stored in zip(shard.objects, stored_bytes(shard.objects), strict=True):
            self._objects[record.sha256] = (record, shard.models, stored)

    def fail_all(self, item: Item, reason: str) -> None:
        """Note that a file could not be packed, under all its names."""
        for name in (item, *self.other_names.get(item.path, ())):
            self.fail(name.name, reason)

    def fail(self, path: str, reason: str) -> None:
        """Note that a path could not be packed."""
        failure = FileFailed(path, reason)
        self.tally.failures.append(failure)
        self.on_event(failure)

    def _done(self, item: Item, sha256: bytes, *, is_copy: bool) -> None:
        coded = self._objects.get(sha256)
        if coded is None:  # its content was in the archive before
            self.on_event(FileDone(item.name, item.size, 0, 0))
        else:
            self.on_event(self.tally.add(item, *coded, is_copy=is_copy))
