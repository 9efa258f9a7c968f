"""The unpack job: entries of an archive back to files, over the workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from archiver.errors import (
    ArchiverError,
    DestinationError,
    ParityError,
    UsageError,
    Verdict,
    verdict_of,
)
from archiver.jobs import cluster, hard_links, retry, shares
from archiver.jobs.cluster import probe
from archiver.jobs.events import (
    FileDone,
    FileFailed,
    Notice,
    OnEvent,
    Planned,
    UnpackSummary,
    ignore,
)
from archiver.jobs.hard_links import OtherName
from archiver.jobs.restore import (
    Target,
    UnpackResult,
    UnpackTask,
    Unrestored,
    run_task,
    unwritable,
)
from archiver.jobs.spec import check_workers
from archiver.pipeline import Entry, open_archive
from archiver.pipeline.read import output_files

MOST_STRANGERS = 1 << 16  # paths that DEST may have besides before no more are counted


def unpack(
    archive: Path,
    dest: Path,
    patterns: Sequence[str] = (),
    *,
    generation: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    on_event: OnEvent | None = None,
) -> UnpackSummary:
    """Write the entries of ``archive`` that match ``patterns`` (all without any) below ``dest``.

    ``generation`` counts from 1: the tree of that night; None is the newest.  Refuses to touch a
    file that is there with other content.  A file that cannot be restored is an event and an entry
    in the summary, tried again first; the job goes on.  Its verdict tells damage from what could
    not be checked, or written.  ``workers`` and ``scheduler`` as in `PackSettings`.
    """
    check_workers(workers, scheduler)
    job = _Unpack(Path(archive), Path(dest), on_event or ignore)
    return job.run(patterns, generation, workers, scheduler)


class _Unpack:
    """One run of `unpack`."""

    def __init__(self, archive: Path, dest: Path, on_event: OnEvent) -> None:
        self._started = time.monotonic()
        self._archive = archive
        self._dest = dest
        self._generation: int | None = None
        self._on_event = on_event
        self._failures: list[FileFailed] = []
        self._n_files = self._n_bytes = 0

    def run(
        self,
        patterns: Sequence[str],
        generation: int | None,
        workers: int | None,
        scheduler: str | None,
    ) -> UnpackSummary:
        opened = open_archive(self._archive, generation)
        self._generation = generation
        if self._dest.resolve().is_relative_to(self._archive.resolve()):
            raise UsageError(
                f"{self._dest}: is inside the archive {self._archive}; unpack to another place"
            )
        entries = list(opened.entries(patterns))
        files = [entry for entry in entries if entry.kind == "file"]
        was_there = self._dest.exists()
        missing = self._missing(files)
        missing += hard_links.untangled(self._dest, files, missing)
        links = hard_links.other_names(files)
        placed = self._placed(entries)
        absent = placed.intersection(missing)
        todo = absent.difference(link.entry for link in links)
        tasks = self._tasks([entry for entry in missing if entry in todo])
        self._on_event(Planned(len(files), sum(entry.size for entry in files), len(tasks)))
        self._skip_present([entry for entry in files if entry in placed], missing)
        self._restore(tasks, {os.fsencode(entry.path): entry for entry in todo}, workers, scheduler)
        self._make_other_names([link for link in links if link.entry in absent])
        self._tell_dropped(entries)
        if was_there and not patterns:
            self._tell_strangers(entries)
        self._make_links([e for e in entries if e in placed and e.kind == "symlink"])
        self._finish_directories([e for e in entries if e in placed and e.kind == "directory"])
        return UnpackSummary(
            dest=self._dest,
            files=self._n_files,
            failures=tuple(self._failures),
            output_bytes=self._n_bytes,
            seconds=time.monotonic() - self._started,
        )

    # --- before ------------------------------------------------------------------------------

    def _missing(self, files: Sequence[Entry]) -> list[Entry]:
        """Return what is not in DEST yet; UsageError if something else is in its place."""
        missing = []
        for entry in files:
            path = self._path(entry)
            try:
                is_same = output_files.is_same_file(path, entry.rebuilt_sha256)
            except OSError:  # most likely there is none; why else is found out when it is written
                missing.append(entry)
                continue
            if not is_same:
                raise UsageError(
                    f"{path}: is there with other content; nothing was written. Unpack to an empty "
                    "directory, or move the file away"
                )
        return missing

    def _path(self, entry: Entry) -> Path:
        return self._dest / entry.path

    def _placed(self, entries: Sequence[Entry]) -> set[Entry]:
        """Make DEST and all directories; return the entries that have one to be in."""
        try:
            self._dest.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DestinationError(f"{self._dest}: {unwritable(error)}") from error
        placed = set()
        for entry in entries:
            path = os.fsencode(entry.path)
            try:
                output_files.make_parents(
                    self._dest, path + b"/" if entry.kind == "directory" else path
                )
            except OSError as error:
                self._fail([entry], unwritable(error))
            else:
                placed.add(entry)
        return placed

    def _tasks(self, entries: Iterable[Entry]) -> list[UnpackTask]:
        """Cut what is to be written into tasks, copies of one content in the same one."""
        by_object: dict[int, list[Entry]] = {}
        for entry in entries:
            by_object.setdefault(entry.object, []).append(entry)
        sizes = [(index, copies[0].size) for index, copies in by_object.items()]
        return [
            UnpackTask(
                self._archive.resolve(),
                self._dest.resolve(),
                objects,
                tuple(tuple(_target(entry) for entry in by_object[i]) for i in objects),
                self._generation,
            )
            for objects in shares.cut(sizes)
        ]

    def _skip_present(self, files: Sequence[Entry], todo: Sequence[Entry]) -> None:
        """Count the files that are there already; their attributes are set again."""
        missing = {entry.path for entry in todo}
        for entry in files:
            if entry.path not in missing and self._set_attributes(entry):
                self._done(entry, stored=0)

    # --- tasks -------------------------------------------------------------------------------

    def _restore(
        self,
        tasks: Sequence[UnpackTask],
        entries: dict[bytes, Entry],
        workers: int | None,
        scheduler: str | None,
    ) -> None:
        """Run the tasks, and once more what failed in them."""
        dest = cluster.Place("DEST", scratch=self._dest.resolve())
        places = [probe.of_archive(self._archive.resolve()), dest]
        with cluster.open_workers(
            workers, scheduler, n_tasks=len(tasks), places=places, on_event=self._on_event
        ) as pool:
            doubtful = self._run(pool, tasks, entries, is_last=False)
            self._run(pool, self._tasks(doubtful), entries, is_last=True)

    def _run(
        self,
        pool: cluster.Workers,
        tasks: Sequence[UnpackTask],
        entries: dict[bytes, Entry],
        *,
        is_last: bool,
    ) -> list[Entry]:
        """Restore; report what failed if this is the last try, else return those entries."""
        doubtful: list[Entry] = []
        for outcome in retry.run(
            pool,
            run_task,
            tasks,
            halves=UnpackTask.halves,
            on_event=self._on_event,
            is_final=lambda error: isinstance(error, ParityError),
        ):
            for path in outcome.result.done if outcome.result else ():
                self._done(entries[path], stored=entries[path].stored_bytes)
            for one in _failures(outcome):
                if is_last or outcome.result is None:
                    self._report([entries[one.path]], one.message, one.verdict)
                else:
                    doubtful.append(entries[one.path])
        return doubtful

    def _done(self, entry: Entry, *, stored: int) -> None:
        self._n_files += 1
        self._n_bytes += entry.size
        self._on_event(FileDone(entry.path, entry.size, stored, entry.sample_bytes))

    def _fail(self, entries: Sequence[Entry], error: ArchiverError) -> None:
        self._report(entries, str(error), verdict_of(error))

    def _report(self, entries: Sequence[Entry], message: str, verdict: Verdict) -> None:
        for entry in entries:
            failure = FileFailed(entry.path, message, verdict)
            self._failures.append(failure)
            self._on_event(failure)

    # --- after -------------------------------------------------------------------------------

    def _make_other_names(self, links: Sequence[OtherName]) -> None:
        """Link the further names of files that were restored."""
        failed = {failure.path: failure for failure in self._failures}
        n_copies = 0
        for link in links:
            first = failed.get(link.first.path)
            if first is not None:
                self._report([link.entry], first.message, first.verdict)
                continue
            try:
                n_copies += not link.write(self._dest)
                self._done(link.entry, stored=0)
            except OSError as error:
                self._fail([link.entry], unwritable(error))
            except ArchiverError as error:
                self._fail([link.entry], error)
        if n_copies:
            self._on_event(Notice(f"{n_copies} hard links became copies: {self._dest} has no such"))

    def _tell_dropped(self, entries: Sequence[Entry]) -> None:
        """Say which permission bits do not come back."""
        dropped = [
            entry.path
            for entry in entries
            if entry.kind != "symlink"
            and output_files.dropped_bits(entry.mode, is_directory=entry.kind == "directory")
        ]
        if dropped:
            self._on_event(
                Notice(
                    f"{len(dropped)} paths had a setuid or setgid bit, which is not restored "
                    f"(first: {dropped[0]}); `archiver ls -l` shows it, chmod sets it"
                )
            )

    def _tell_strangers(self, entries: Sequence[Entry]) -> None:
        """Say that DEST has more than the tree that was asked for."""
        known = {os.fsencode(entry.path) for entry in entries}
        root = os.fsencode(self._dest)
        found = (
            os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118
            for folder, folders, names in os.walk(root)
            for name in (*folders, *names)
        )
        n_more = sum(path not in known for path in islice(found, len(known) + MOST_STRANGERS))
        if n_more:
            self._on_event(
                Notice(f"{self._dest} has {n_more} more paths, which this generation has not")
            )

    def _make_links(self, links: Sequence[Entry]) -> None:
        """Make symlinks last: nothing is ever written through one."""
        for entry in links:
            path = self._path(entry)
            try:
                output_files.write_link(path, b"".join(entry.chunks()))
                output_files.set_attributes(path, entry.mode, entry.mtime_ns)
            except OSError as error:
                self._fail([entry], unwritable(error))
            except ArchiverError as error:
                self._fail([entry], error)

    def _finish_directories(self, entries: Sequence[Entry]) -> None:
        """Set modes and times of directories from the deepest up: writing inside changes them."""
        for entry in sorted(entries, key=lambda one: one.path, reverse=True):
            self._set_attributes(entry)

    def _set_attributes(self, entry: Entry) -> bool:
        """Set mode and time of what is there; False, and a failure, if that cannot be."""
        try:
            output_files.set_attributes(self._path(entry), entry.mode, entry.mtime_ns)
        except OSError as error:
            self._fail([entry], unwritable(error))
            return False
        return True


def _target(entry: Entry) -> Target:
    return Target(os.fsencode(entry.path), entry.mode, entry.mtime_ns, entry.is_sparse)


def _failures(outcome: cluster.Outcome[UnpackTask, UnpackResult]) -> tuple[Unrestored, ...]:
    """Return which paths of a task were not written, and why: some of them, or all."""
    if outcome.result is not None:
        return outcome.result.failures
    if isinstance(outcome.error, ParityError):
        raise outcome.error
    message = f"cannot be restored: {outcome.error or 'no result'}; try again"
    verdict = verdict_of(outcome.error)
    return tuple(
        Unrestored(target.path, message, verdict)
        for targets in outcome.task.targets
        for target in targets
    )
