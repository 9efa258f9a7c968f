"""Own the unpack job: entries of an archive back to files, over the workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from archiver.errors import ArchiverError, ParityError, UsageError, advice
from archiver.jobs import cluster, hard_links, shares
from archiver.jobs.events import FileDone, FileFailed, Notice, OnEvent, Planned, UnpackSummary
from archiver.jobs.hard_links import OtherName
from archiver.pipeline import Entry, content, open_archive, writing
from archiver.pipeline.restoring import Decoded, Restorer


@dataclass(frozen=True)
class Target:
    """One file to write."""

    path: bytes
    mode: int
    mtime_ns: int
    is_sparse: bool


@dataclass(frozen=True)
class UnpackTask:
    """Objects to restore, each to all its places."""

    archive: Path
    dest: Path
    objects: tuple[int, ...]
    targets: tuple[tuple[Target, ...], ...]  # of each object


@dataclass(frozen=True)
class UnpackResult:
    """Which paths were written, and why the others were not."""

    done: tuple[bytes, ...]
    failures: tuple[tuple[bytes, str], ...]


def run_task(task: UnpackTask, threads: int) -> UnpackResult:
    """Restore the objects of one task."""
    restorer = Restorer(content.opened(task.archive), threads)
    done: list[bytes] = []
    failures: list[tuple[bytes, str]] = []
    places = dict(zip(task.objects, task.targets, strict=True))
    for decoded in restorer.decoded(task.objects):
        for target, fault in _restore(restorer, decoded, task.dest, places[decoded.index]):
            if fault:
                failures.append((target.path, fault))
            else:
                done.append(target.path)
    return UnpackResult(tuple(done), tuple(failures))


def _restore(
    restorer: Restorer, decoded: Decoded, dest: Path, targets: Sequence[Target]
) -> Iterator[tuple[Target, str]]:
    """Write one object to all its places; yield each with what went wrong there, "" if nothing.

    A place that cannot be written takes no other with it: then each is written by itself.
    """
    paths = [dest / os.fsdecode(target.path) for target in targets]
    expected = restorer.archive.object(decoded.index).rebuilt_sha256
    fault = ""
    try:
        sparse = [path for path, one in zip(paths, targets, strict=True) if one.is_sparse]
        writing.write_copies(paths, restorer.chunks(decoded), expected, sparse=sparse)
        for path, target in zip(paths, targets, strict=True):
            writing.set_attributes(path, target.mode, target.mtime_ns)
    except ArchiverError as error:
        fault = str(error)
    except OSError as error:
        if len(targets) > 1:
            for target in targets:
                yield from _restore(restorer, decoded, dest, [target])
            return
        fault = unwritable(error)
    for target in targets:
        yield target, fault


def _said(error: ArchiverError | OSError) -> str:
    return unwritable(error) if isinstance(error, OSError) else str(error)


def unwritable(error: OSError) -> str:
    """Say why something cannot be written, and what to do."""
    return f"cannot be written: {error.strerror or error}; {advice(error)}, then unpack again"


def unpack(
    archive: Path,
    dest: Path,
    patterns: Sequence[str] = (),
    *,
    generation: int | None = None,
    workers: int | None = None,
    on_event: OnEvent | None = None,
) -> UnpackSummary:
    """Write the entries of ``archive`` that match ``patterns`` (all without any) below ``dest``.

    ``generation`` counts from 1: the tree of that night; None is the newest.  Refuses to touch a
    file that is there with other content.  A file that cannot be restored is an event and an entry
    in the summary; the job goes on.
    """
    return _Unpack(Path(archive), Path(dest), on_event or (lambda event: None)).run(
        patterns, generation, workers
    )


class _Unpack:
    """One run of `unpack`."""

    def __init__(self, archive: Path, dest: Path, on_event: OnEvent) -> None:
        self._started = time.monotonic()
        self._archive = archive
        self._dest = dest
        self._on_event = on_event
        self._failures: list[FileFailed] = []
        self._n_files = self._n_bytes = 0

    def run(
        self, patterns: Sequence[str], generation: int | None, workers: int | None
    ) -> UnpackSummary:
        opened = open_archive(self._archive, generation)
        if self._dest.resolve().is_relative_to(self._archive.resolve()):
            raise UsageError(
                f"{self._dest}: is inside the archive {self._archive}; unpack to another place"
            )
        entries = list(opened.entries(patterns))
        files = [entry for entry in entries if entry.kind == "file"]
        missing = self._missing(files)
        links = hard_links.other_names(files)
        placed = self._placed(entries)
        linked = {link.entry for link in links}
        by_object: dict[int, list[Entry]] = {}
        for entry in missing:
            if entry in placed and entry not in linked:
                by_object.setdefault(entry.object, []).append(entry)
        tasks = self._tasks(by_object)
        self._on_event(Planned(len(files), sum(entry.size for entry in files), len(tasks)))
        self._skip_present([entry for entry in files if entry in placed], missing)
        with cluster.open_workers(workers, n_tasks=len(tasks)) as pool:
            for outcome in pool.run(run_task, tasks):
                self._collect(outcome, by_object)
        absent = placed.intersection(missing)
        self._make_other_names([link for link in links if link.entry in absent])
        self._tell_dropped(entries)
        placed_ones = [entry for entry in entries if entry in placed]
        self._make_links([entry for entry in placed_ones if entry.kind == "symlink"])
        self._finish_directories([entry for entry in placed_ones if entry.kind == "directory"])
        return UnpackSummary(
            dest=self._dest,
            files=self._n_files,
            failures=tuple(self._failures),
            output_bytes=self._n_bytes,
            seconds=time.monotonic() - self._started,
        )

    def _missing(self, files: Sequence[Entry]) -> list[Entry]:
        """Return what is not in DEST yet; UsageError if something else is in its place."""
        missing = []
        for entry in files:
            path = self._path(entry)
            try:
                is_same = writing.is_same_file(path, entry.rebuilt_sha256)
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
            raise ArchiverError(f"{self._dest}: {unwritable(error)}") from error
        placed = set()
        for entry in entries:
            path = os.fsencode(entry.path)
            try:
                writing.make_parents(self._dest, path + b"/" if entry.kind == "directory" else path)
            except OSError as error:
                self._fail([entry], unwritable(error))
            else:
                placed.add(entry)
        return placed

    def _tasks(self, by_object: dict[int, list[Entry]]) -> list[UnpackTask]:
        sizes = [(index, entries[0].size) for index, entries in by_object.items()]
        return [
            UnpackTask(
                self._archive.resolve(),
                self._dest.resolve(),
                objects,
                tuple(tuple(_target(entry) for entry in by_object[i]) for i in objects),
            )
            for objects in shares.cut(sizes)
        ]

    def _skip_present(self, files: Sequence[Entry], todo: Sequence[Entry]) -> None:
        """Count the files that are there already; their attributes are set again."""
        missing = {entry.path for entry in todo}
        for entry in files:
            if entry.path not in missing and self._set_attributes(entry):
                self._done(entry, stored=0)

    def _set_attributes(self, entry: Entry) -> bool:
        """Set mode and time of what is there; False, and a failure, if that cannot be."""
        try:
            writing.set_attributes(self._path(entry), entry.mode, entry.mtime_ns)
        except OSError as error:
            self._fail([entry], unwritable(error))
            return False
        return True

    def _collect(
        self,
        outcome: cluster.Outcome[UnpackTask, UnpackResult],
        by_object: dict[int, list[Entry]],
    ) -> None:
        if outcome.result is None:
            if isinstance(outcome.error, ParityError):
                raise outcome.error
            for index in outcome.task.objects:
                self._fail(by_object[index], f"cannot be restored: {outcome.error}; try again")
            return
        entries = {
            os.fsencode(entry.path): entry
            for index in outcome.task.objects
            for entry in by_object[index]
        }
        for path in outcome.result.done:
            self._done(entries[path], stored=entries[path].stored_bytes)
        for path, message in outcome.result.failures:
            self._fail([entries[path]], message)

    def _done(self, entry: Entry, *, stored: int) -> None:
        self._n_files += 1
        self._n_bytes += entry.size
        self._on_event(FileDone(entry.path, entry.size, stored, entry.sample_bytes))

    def _fail(self, entries: Sequence[Entry], message: str) -> None:
        for entry in entries:
            failure = FileFailed(entry.path, message)
            self._failures.append(failure)
            self._on_event(failure)

    def _make_other_names(self, links: Sequence[OtherName]) -> None:
        """Link the further names of files that were restored."""
        failed = {failure.path: failure.message for failure in self._failures}
        n_copies = 0
        for link in links:
            if link.first.path in failed:
                self._fail([link.entry], failed[link.first.path])
                continue
            try:
                n_copies += not link.write(self._dest)
                self._done(link.entry, stored=0)
            except (ArchiverError, OSError) as error:
                self._fail([link.entry], _said(error))
        if n_copies:
            self._on_event(Notice(f"{n_copies} hard links became copies: {self._dest} has no such"))

    def _tell_dropped(self, entries: Sequence[Entry]) -> None:
        """Say which permission bits do not come back."""
        dropped = [
            entry.path
            for entry in entries
            if entry.kind != "symlink"
            and writing.dropped_bits(entry.mode, is_directory=entry.kind == "directory")
        ]
        if dropped:
            self._on_event(
                Notice(
                    f"{len(dropped)} paths had a setuid or setgid bit, which is not restored "
                    f"(first: {dropped[0]}); `archiver ls -l` shows it, chmod sets it"
                )
            )

    def _make_links(self, links: Sequence[Entry]) -> None:
        """Make symlinks last: nothing is ever written through one."""
        for entry in links:
            path = self._path(entry)
            try:
                writing.write_link(path, b"".join(entry.chunks()))
                writing.set_attributes(path, entry.mode, entry.mtime_ns)
            except FileExistsError:
                self._fail([entry], "something else is there; move it away and unpack again")
            except OSError as error:
                self._fail([entry], unwritable(error))
            except ArchiverError as error:
                self._fail([entry], str(error))

    def _finish_directories(self, entries: Sequence[Entry]) -> None:
        """Set modes and times of directories from the deepest up: writing inside changes them."""
        for entry in sorted(entries, key=lambda one: one.path, reverse=True):
            self._set_attributes(entry)


def _target(entry: Entry) -> Target:
    return Target(os.fsencode(entry.path), entry.mode, entry.mtime_ns, entry.is_sparse)
