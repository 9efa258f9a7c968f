"""The jobs as a whole: plan, submit, collect, commit.  Emits events, prints nothing.

`pack` lives here; `verify` and `unpack` have modules of their own and are offered here as well.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from archiver.archive import layout
from archiver.archive import usage as disk
from archiver.archive.model_files import info_of
from archiver.archive.records import ObjectRecord, ShardRecord
from archiver.archive.writer import ArchiveWriter
from archiver.codec.model import pretrained
from archiver.errors import ArchiverError, DestinationError, UsageError, advice
from archiver.jobs import archive_models, cluster, generation, plan, present, retry, work
from archiver.jobs.cluster import probe
from archiver.jobs.events import (
    Adaptation,
    Committed,
    FileDone,
    FileFailed,
    ModelTotals,
    Notice,
    OnEvent,
    Planned,
    Summary,
    ignore,
)
from archiver.jobs.plan import Item, Task
from archiver.jobs.spec import PackSettings
from archiver.jobs.tally import Tally, stored_bytes
from archiver.jobs.unpack import unpack
from archiver.jobs.verify import verify

__all__ = ["pack", "unpack", "verify"]

NOTHING_PACKED = "not one file could be packed, so no generation was added; see why, then run again"


def pack(
    source: Path,
    archive: Path,
    settings: PackSettings | None = None,
    on_event: OnEvent | None = None,
) -> Summary:
    """Put the directory tree ``source`` into ``archive``; add a generation if there is one.

    A file that cannot be packed is an event and an entry in the summary; the job goes on.
    """
    job = _Pack(Path(source), Path(archive), settings or PackSettings(), on_event or ignore)
    if job.settings.dry_run:
        return job.dry_run()
    with ArchiveWriter.open(job.archive) as writer:
        outcome = job.run(writer)
    return job.summary(*outcome)  # what is on disk is known when the writer has cleaned up


class _Pack:
    """One run of `pack`."""

    def __init__(
        self, source: Path, archive: Path, settings: PackSettings, on_event: OnEvent
    ) -> None:
        self.archive = archive
        self.settings = settings
        self._started = time.monotonic()
        self._source = source
        self._on_event = on_event
        by_profile = pretrained.LARGE if settings.adapts else pretrained.SMALL
        model = settings.model or by_profile
        self._model_name = Path(model).stem
        self._model = pretrained.load(model)
        self._tally = Tally()
        self._contents: dict[bytes, bytes] = {}  # path -> SHA-256, of what is in the archive now
        self._shards: dict[bytes, tuple[bytes, int, ShardRecord]] = {}  # by digest, with its place
        # with its models, and what it takes in its shard
        self._objects: dict[bytes, tuple[ObjectRecord, tuple[bytes, ...], int]] = {}
        self._adaptation = Adaptation(archive_models.NOTHING_NEW)
        self._other_names: dict[bytes, list[Item]] = {}  # of a file that is read once, by its first
        self._removed = 0

    def dry_run(self) -> Summary:
        """Say what would be packed; write nothing."""
        scan, known = self._scan(), self._known()
        new = self._new(scan, known)
        tasks = plan.make(self._source, new)
        self._emit_plan(new, len(tasks))
        self._removed = len(self._gone(scan, known).paths)
        return self.summary(scan.items, new, None)

    def run(self, writer: ArchiveWriter) -> tuple[Sequence[Item], Sequence[Item], int | None]:
        """Pack what is new and commit it; return what there was, what was new, the generation."""
        scan, known = self._scan(), self._known()
        new = self._new(scan, known)
        once, self._other_names = generation.first_names(new)
        base = writer.add_model(self._model_name, self._model)
        groups = plan.make(self._source, once)
        self._emit_plan(new, len(groups))
        s = self.settings
        with cluster.open_workers(
            s.workers,
            s.scheduler,
            n_tasks=len(groups),
            places=self._places(new),
            on_event=self._on_event,
        ) as workers:
            if groups:
                self._adapt(writer, workers, base, once)
            models = self._adaptation.models
            self._run_tasks(writer, workers, [self._task(items, models) for items in groups])
        return scan.items, new, self._commit(writer, scan, known)

    def _commit(self, writer: ArchiveWriter, scan: plan.Scan, known: present.Present) -> int | None:
        """Add a generation if anything is to be said, and keep what was seen for the next run."""
        if self._is_lost(scan.items, known):
            self._on_event(Notice(f"{self.archive}: {NOTHING_PACKED}"))
            return None
        entries = generation.entries(self._source, scan.items, self._contents, known)
        gone = self._gone(scan, known)
        entries += gone.removals(entries)
        self._removed = len(gone.paths)
        number = None
        if entries or known.is_empty:
            places = sorted(self._shards.values(), key=lambda one: one[:2])
            shards = [shard for _, _, shard in places]
            number = writer.commit(entries, shards, self._recorded())
            self._on_event(Committed(number))
        failed = {os.fsencode(failure.path) for failure in self._tally.failures}
        writer.keep_seen(known.sights(scan.items, self._contents, failed))
        return number

    # --- before ------------------------------------------------------------------------------

    def _scan(self) -> plan.Scan:
        scan = plan.scan(
            self._source,
            include=self.settings.include,
            exclude=self.settings.exclude,
            skip=self.archive,
        )
        for path, reason in scan.failures:
            self._fail(path, reason)
        for path in scan.skipped:
            self._on_event(Notice(f"{path}: not a file, directory or link; left out"))
        for notice in scan.notices:
            self._on_event(Notice(notice))
        return scan

    def _known(self) -> present.Present:
        return present.Present.read(self.archive, self.settings.fidelity)

    def _new(self, scan: plan.Scan, known: present.Present) -> list[Item]:
        """Return what is to be packed; refuse if the tree has no file any more, but had some."""
        self._refuse_to_lose_all(scan, known)
        if self.settings.include and not scan.items and not self._gone(scan, known).paths:
            raise UsageError(
                f"{self._source}: nothing in it matches --include "
                f"{' '.join(self.settings.include)}; * does not cross '/', ** does"
            )
        new = known.new(scan.items)
        if self.settings.checksum:
            doubtful = [item for item in scan.items if known.content(item) is not None]
        else:
            doubtful = known.doubtful(scan.items)
        if not doubtful:
            return new
        size = sum(item.size for item in doubtful)
        self._on_event(Notice(f"{size} bytes are read again, to see which files have changed"))
        changed = known.changed(self._source, doubtful)
        return sorted([*new, *changed], key=lambda item: item.path)

    def _refuse_to_lose_all(self, scan: plan.Scan, known: present.Present) -> None:
        has_files = any(item.kind != layout.DIRECTORY for item in scan.items)
        if has_files or self.settings.allow_empty or not self._gone(scan, known).has_files:
            return
        raise UsageError(
            f"{self._source}: expected some of the files that {self.archive} has, found none; "
            "nothing was written. Is it mounted? If all of them were removed on purpose, give "
            "--allow-empty"
        )

    def _gone(self, scan: plan.Scan, known: present.Present) -> generation.Gone:
        if self.settings.keep_deleted:
            return generation.Gone()
        s, failed = self.settings, [failure.path for failure in self._tally.failures]
        return generation.gone(known, scan, failed, include=s.include, exclude=s.exclude)

    def _emit_plan(self, new: Sequence[Item], n_tasks: int) -> None:
        files = [item for item in new if item.kind == layout.FILE]
        self._on_event(Planned(len(files), sum(item.size for item in files), n_tasks))

    def _task(self, items: tuple[Item, ...], models: tuple[bytes, ...]) -> Task:
        return Task(
            source=self._source.resolve(),
            archive=self.archive.resolve(),
            items=items,
            models=models,
            tile=self.settings.tile_side,
            fidelity=self.settings.fidelity,
            profile=self.settings.profile,
            effort=self.settings.effort,
        )

    def _places(self, new: Sequence[Item]) -> list[cluster.Place]:
        """Return what workers elsewhere must see as this process does."""
        files = [item for item in new if item.kind == layout.FILE] or new
        source, archive = self._source.resolve(), self.archive.resolve()
        seen = probe.sample([source / item.name for item in files])
        return [
            cluster.Place("SOURCE", seen),
            cluster.Place("ARCHIVE", scratch=archive / layout.WIP),
        ]

    def _adapt(
        self, writer: ArchiveWriter, workers: cluster.Workers, base: bytes, new: Sequence[Item]
    ) -> None:
        """Settle which models the new files may choose from; tune one if it is worth it."""
        source = self._source.resolve()
        self._adaptation = archive_models.prepare(
            writer, workers, base, source, new, self.settings, self._on_event
        )

    # --- tasks -------------------------------------------------------------------------------

    def _run_tasks(
        self, writer: ArchiveWriter, workers: cluster.Workers, tasks: Sequence[Task]
    ) -> None:
        outcomes = retry.run(
            workers,
            work.run_task,
            tasks,
            halves=_halves,
            on_event=self._on_event,
            before=lambda task: self._resumed(writer, task),
            is_final=lambda error: isinstance(error, ArchiverError | OSError),
        )
        for outcome in outcomes:
            self._accept(writer, outcome)

    def _resumed(self, writer: ArchiveWriter, task: Task) -> Task:
        """Take over the shard that a killed run finished for this task, if any."""
        finished = writer.finished(task.digest)
        if finished is None:
            return task
        self._take(task, finished, attempt=0)
        return replace(task, done=frozenset(record.sha256 for record in finished.objects))

    def _accept(
        self, writer: ArchiveWriter, outcome: cluster.Outcome[Task, work.TaskResult]
    ) -> None:
        """Collect a finished task, or take it that its file cannot be packed."""
        if outcome.is_blamed_on_task:
            for item in outcome.task.items:
                self._fail_all(item, _blame(outcome.error))
            return
        if isinstance(outcome.error, OSError):
            raise DestinationError(
                f"{self.archive}: cannot be written ({outcome.error}); {advice(outcome.error)}, "
                "then run the same command: it continues"
            ) from outcome.error
        if outcome.error is not None or outcome.result is None:
            raise outcome.error or ArchiverError("a task ended without a result")
        self._collect(writer, outcome.task, outcome.result)

    def _collect(self, writer: ArchiveWriter, task: Task, result: work.TaskResult) -> None:
        if result.shard is not None:
            if not task.done:
                writer.record(task.digest, result.shard)
            self._take(task, result.shard, attempt=1)
        for notice in result.notices:
            self._on_event(Notice(notice))
        items = {item.path: item for item in task.items}
        seen: set[bytes] = set()
        for path, sha256 in result.contents:
            for item in (items[path], *self._other_names.get(path, ())):
                self._contents[item.path] = sha256
                if item.kind == layout.FILE:
                    self._done(item, sha256, is_copy=sha256 in seen)
                seen.add(sha256)
        for path, reason in result.failures:
            self._fail_all(items[path], reason)

    def _take(self, task: Task, shard: ShardRecord, *, attempt: int) -> None:
        self._shards[shard.sha256] = (task.items[0].path, attempt, shard)
        for record, stored in zip(shard.objects, stored_bytes(shard.objects), strict=True):
            self._objects[record.sha256] = (record, shard.models, stored)

    def _done(self, item: Item, sha256: bytes, *, is_copy: bool) -> None:
        found = self._objects.get(sha256)
        if found is None:  # its content was in the archive before
            self._on_event(FileDone(item.name, item.size, 0, 0))
        else:
            self._on_event(self._tally.add(item, *found, is_copy=is_copy))

    def _fail_all(self, item: Item, reason: str) -> None:
        """Note that a file could not be packed, under all its names."""
        for one in (item, *self._other_names.get(item.path, ())):
            self._fail(one.name, reason)

    def _fail(self, path: str, reason: str) -> None:
        failure = FileFailed(path, reason)
        self._tally.failures.append(failure)
        self._on_event(failure)

    # --- after -------------------------------------------------------------------------------

    def _is_lost(self, items: Sequence[Item], known: present.Present) -> bool:
        """Whether there are files and not one of them is in the archive now: not a tree's state."""
        files = [item for item in items if item.kind == layout.FILE]
        return bool(files) and not any(
            item.path in self._contents or known.content(item) for item in files
        )

    def _recorded(self) -> dict[str, object]:
        return {
            **self.settings.recorded(),
            "model": self._model_name,
            "model_sha256": hashlib.sha256(self._model).hexdigest(),
            "tile": self.settings.tile_side,
            "adaptation": self._adaptation.reason,
            "failed": len(self._tally.failures),
            "removed": self._removed,
            "seconds": round(time.monotonic() - self._started, 3),
        }

    def summary(self, items: Sequence[Item], new: Sequence[Item], number: int | None) -> Summary:
        """Say what became of ``items``, of which ``new`` were packed, in which generation."""
        files = [item for item in items if item.kind == layout.FILE]
        used = disk.usage(self.archive)
        return Summary(
            archive=self.archive,
            generation=number,
            model=self._model_name,
            files=len(files),
            unchanged=len(files) - sum(item.kind == layout.FILE for item in new),
            failures=tuple(self._tally.failures),
            input_bytes=sum(item.size for item in files),
            sample_bytes=self._tally.sample_bytes,
            archive_bytes=used.total,
            payload_bytes=used.payload,
            model_bytes=used.models,
            seconds=time.monotonic() - self._started,
            tiles=self._tally.tiles,
            formats=self._tally.formats,
            kept=self._tally.kept,
            models=tuple(self._model_totals(*item) for item in self._tally.models.items()),
            adaptation=self._adaptation,
            removed=self._removed,
        )

    def _model_totals(self, sha256: bytes, sums: tuple[int, int]) -> ModelTotals:
        info = info_of(self.archive, sha256)
        return ModelTotals(info.name, sha256.hex(), info.size, *sums)


def _halves(task: Task) -> list[Task]:
    """Return a task in two parts, or as it is if it is of one item."""
    middle = len(task.items) // 2
    parts = (task.items[:middle], task.items[middle:])
    return [replace(task, items=items) for items in parts if items]


def _blame(error: Exception | None) -> str:
    """Return why a file could not be packed even alone."""
    if isinstance(error, cluster.WorkerDied):
        return f"cannot be packed: {error}; look for its end in the system log, and report it"
    return f"cannot be packed: {error!r}; please report this file"
