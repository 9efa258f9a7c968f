"""The verify job: is every byte of an archive there, and does it restore what was packed?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from archiver.archive import layout
from archiver.archive import usage as disk
from archiver.archive.affected import entries_of_objects
from archiver.archive.check import Problem, check_structure
from archiver.errors import ArchiverError, ParityError, UsageError, Verdict, verdict_of
from archiver.jobs import cluster, retry, shares
from archiver.jobs.cluster import probe
from archiver.jobs.events import FileDone, FileFailed, OnEvent, Planned, VerifySummary, ignore
from archiver.jobs.spec import check_workers
from archiver.pipeline import Entry, OpenArchive, known_content, open_archive
from archiver.pipeline.read.restore import Decoded, Restorer

DEPTHS = ("structure", "samples", "files")
NAMELESS = "(content that no path has)"


@dataclass(frozen=True)
class VerifyTask:
    """Objects to decode, and whether to rebuild their files as well."""

    archive: Path
    objects: tuple[int, ...]
    rebuild: bool


@dataclass(frozen=True)
class VerifyResult:
    """The number of tiles decoded, and what is wrong with which object, and what that says."""

    tiles: int
    problems: tuple[tuple[int, str, Verdict], ...]


def run_task(task: VerifyTask, threads: int) -> VerifyResult:
    """Decode, and rebuild, the objects of one task."""
    restorer = Restorer(known_content.opened(task.archive), threads)
    problems: list[tuple[int, str, Verdict]] = []
    tiles = 0
    for decoded in restorer.decoded(task.objects):
        tiles += restorer.n_tiles(decoded.index)
        problems += (
            (decoded.index, str(error), verdict_of(error))
            for error in _faults(restorer, decoded, task)
        )
    return VerifyResult(tiles, tuple(problems))


def _faults(restorer: Restorer, decoded: Decoded, task: VerifyTask) -> Iterator[ArchiverError]:
    """Yield everything that is wrong with one object."""
    yield from decoded.errors
    try:
        if task.rebuild and not decoded.errors:
            restorer.check(decoded)
        else:
            restorer.read_through(decoded)
    except ArchiverError as error:
        yield error


def verify(
    archive: Path,
    *,
    depth: str = "files",
    workers: int | None = None,
    scheduler: str | None = None,
    on_event: OnEvent | None = None,
) -> VerifySummary:
    """Check ``archive``: "structure" its checksums, "samples" every tile, "files" every file.

    Damage is an event and a problem in the summary; the job goes on with the rest.  So is what this
    machine, its workers or disks could not check, under its own verdict; both are tried again
    first.  ``workers`` and ``scheduler`` as in `PackSettings`.
    """
    check_workers(workers, scheduler)
    if depth not in DEPTHS:
        raise UsageError(f"depth: expected one of {', '.join(DEPTHS)}, got {depth!r}")
    return _Verify(Path(archive), depth, on_event or ignore).run(workers, scheduler)


class _Verify:
    """One run of `verify`."""

    def __init__(self, archive: Path, depth: str, on_event: OnEvent) -> None:
        self._started = time.monotonic()
        self._archive = archive
        self._depth = depth
        self._on_event = on_event
        self._problems: list[Problem] = []
        self._tiles = 0

    def run(self, workers: int | None, scheduler: str | None) -> VerifySummary:
        structure = self._depth == "structure"
        root = self._archive / layout.ROOT
        was_there = root.exists()
        self._problems += check_structure(self._archive, read_shards=structure)
        entries: list[Entry] = []
        try:
            opened = open_archive(self._archive)
            entries = list(opened.entries())
        except ArchiverError:
            if not self._problems:
                raise
        else:
            if not structure:
                self._decode(opened, entries, workers, scheduler)
        if was_there and not root.exists():  # a mount that went away takes all files along
            self._problems = [
                replace(problem, found="the archive is no longer there", verdict=Verdict.UNCHECKED)
                for problem in self._problems
            ]
        for problem in self._problems:
            for path in problem.entries or (problem.where,):
                self._on_event(FileFailed(path, problem.said(path), problem.verdict))
        return VerifySummary(
            archive=self._archive,
            depth=self._depth,
            files=sum(entry.kind == "file" for entry in entries),
            tiles=self._tiles,
            archive_bytes=disk.usage(self._archive).total,
            problems=tuple(self._problems),
            seconds=time.monotonic() - self._started,
        )

    def _decode(
        self,
        opened: OpenArchive,
        entries: Sequence[Entry],
        workers: int | None,
        scheduler: str | None,
    ) -> None:
        users: dict[int, list[Entry]] = {index: [] for index in range(opened.n_objects)}
        for entry in entries:
            if entry.object >= 0:
                users[entry.object].append(entry)
        tasks = self._tasks(opened, users)
        size = sum(entry.size for entry in entries)
        self._on_event(Planned(sum(entry.kind == "file" for entry in entries), size, len(tasks)))
        with cluster.open_workers(
            workers,
            scheduler,
            n_tasks=len(tasks),
            places=[probe.of_archive(self._archive.resolve())],
            on_event=self._on_event,
        ) as pool:
            doubtful = self._run(pool, tasks, users, is_last=False)
            self._run(pool, self._tasks(opened, sorted(doubtful)), users, is_last=True)

    def _tasks(self, opened: OpenArchive, objects: Iterable[int]) -> list[VerifyTask]:
        return [
            VerifyTask(self._archive.resolve(), share, self._depth == "files")
            for share in shares.cut((i, opened.object_size(i)) for i in objects)
        ]

    def _run(
        self,
        pool: cluster.Workers,
        tasks: Sequence[VerifyTask],
        users: dict[int, list[Entry]],
        *,
        is_last: bool,
    ) -> set[int]:
        """Decode; report what is wrong if this is the last try, else return those objects."""
        doubtful: set[int] = set()
        for outcome in retry.run(
            pool,
            run_task,
            tasks,
            halves=_halves,
            on_event=self._on_event,
            is_final=lambda error: isinstance(error, ParityError),
        ):
            faults = self._faults_of(outcome)
            bad = {index for index, *_ in faults}
            if is_last or outcome.result is None:
                for index, message, verdict in faults:
                    paths = [entry.path for entry in users[index]] or self._earlier(index)
                    self._report(paths, message, verdict)
            else:
                doubtful |= bad
            if not is_last and outcome.result is not None:
                self._tiles += outcome.result.tiles
            self._tell_good(outcome, bad, users)
        return doubtful

    def _faults_of(
        self, outcome: cluster.Outcome[VerifyTask, VerifyResult]
    ) -> tuple[tuple[int, str, Verdict], ...]:
        """Return what is wrong with the objects of a task, alone or with all of them."""
        if outcome.result is not None:
            return outcome.result.problems
        if isinstance(outcome.error, ParityError):
            raise outcome.error
        verdict = verdict_of(outcome.error)
        message = f"cannot be decoded: {outcome.error or 'no result'}"
        if verdict == Verdict.UNCHECKED and "; " not in message:
            message += "; look after the machine, then verify again"
        return tuple((index, message, verdict) for index in outcome.task.objects)

    def _tell_good(
        self,
        outcome: cluster.Outcome[VerifyTask, VerifyResult],
        bad: set[int],
        users: dict[int, list[Entry]],
    ) -> None:
        if outcome.result is None:
            return
        for index in outcome.task.objects:
            for entry in users[index]:
                if index not in bad and entry.kind == "file":
                    done = FileDone(entry.path, entry.size, entry.stored_bytes, entry.sample_bytes)
                    self._on_event(done)

    def _earlier(self, index: int) -> list[str]:
        """Return the paths that had a content which no path has any more."""
        archive = known_content.opened(self._archive)
        paths = entries_of_objects(archive, np.array([index]))
        return [os.fsdecode(path) for path in paths] or [NAMELESS]

    def _report(self, paths: Sequence[str], message: str, verdict: Verdict) -> None:
        fault, _, advice = message.rpartition("; ")
        self._problems.append(
            Problem(
                where=paths[0],
                expected="what was packed",
                found=fault or message,
                advice=advice or "restore the archive from a backup",
                entries=tuple(paths),
                verdict=verdict,
            )
        )


def _halves(task: VerifyTask) -> list[VerifyTask]:
    """Return a task in two parts, or as it is if it is of one object."""
    middle = len(task.objects) // 2
    parts = (task.objects[:middle], task.objects[middle:])
    return [replace(task, objects=objects) for objects in parts if objects]
