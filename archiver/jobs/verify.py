"""Own the verify job: is every byte of an archive there, and does it restore what was packed?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from archiver.archive.check import Problem, check_structure
from archiver.errors import ArchiverError, ParityError, UsageError
from archiver.jobs import cluster, shares
from archiver.jobs.events import FileDone, FileFailed, OnEvent, Planned, VerifySummary
from archiver.pipeline import Entry, OpenArchive, content, disk, open_archive
from archiver.pipeline.restoring import Decoded, Restorer

DEPTHS = ("structure", "samples", "files")
SUPERSEDED = "(content of earlier generations)"


@dataclass(frozen=True)
class VerifyTask:
    """Objects to decode, and whether to rebuild their files as well."""

    archive: Path
    objects: tuple[int, ...]
    rebuild: bool


@dataclass(frozen=True)
class VerifyResult:
    """How many tiles were decoded, and what is wrong with which object."""

    tiles: int
    problems: tuple[tuple[int, str], ...]


def run_task(task: VerifyTask, threads: int) -> VerifyResult:
    """Decode, and rebuild, the objects of one task."""
    restorer = Restorer(content.opened(task.archive), threads)
    problems: list[tuple[int, str]] = []
    tiles = 0
    for decoded in restorer.decoded(task.objects):
        tiles += restorer.n_tiles(decoded.index)
        problems += ((decoded.index, str(error)) for error in _faults(restorer, decoded, task))
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
    on_event: OnEvent | None = None,
) -> VerifySummary:
    """Check ``archive``: "structure" its checksums, "samples" every tile, "files" every file.

    Damage is an event and a problem in the summary; the job goes on with the rest.
    """
    if depth not in DEPTHS:
        raise UsageError(f"depth: expected one of {', '.join(DEPTHS)}, got {depth!r}")
    job = _Verify(Path(archive), depth, on_event or (lambda event: None))
    return job.run(workers)


class _Verify:
    """One run of `verify`."""

    def __init__(self, archive: Path, depth: str, on_event: OnEvent) -> None:
        self._started = time.monotonic()
        self._archive = archive
        self._depth = depth
        self._on_event = on_event
        self._problems: list[Problem] = []
        self._tiles = 0

    def run(self, workers: int | None) -> VerifySummary:
        structure = self._depth == "structure"
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
                self._decode(opened, entries, workers)
        for problem in self._problems:
            for path in problem.entries or (problem.where,):
                self._on_event(FileFailed(path, problem.said(path)))
        return VerifySummary(
            archive=self._archive,
            depth=self._depth,
            files=sum(entry.kind == "file" for entry in entries),
            tiles=self._tiles,
            archive_bytes=disk.usage(self._archive).total,
            problems=tuple(self._problems),
            seconds=time.monotonic() - self._started,
        )

    def _decode(self, opened: OpenArchive, entries: Sequence[Entry], workers: int | None) -> None:
        users: dict[int, list[Entry]] = {index: [] for index in range(opened.n_objects)}
        for entry in entries:
            if entry.object >= 0:
                users[entry.object].append(entry)
        tasks = [
            VerifyTask(self._archive.resolve(), objects, self._depth == "files")
            for objects in shares.cut((i, opened.object_size(i)) for i in users)
        ]
        size = sum(entry.size for entry in entries)
        self._on_event(Planned(sum(entry.kind == "file" for entry in entries), size, len(tasks)))
        with cluster.open_workers(workers, n_tasks=len(tasks)) as pool:
            for outcome in pool.run(run_task, tasks):
                self._collect(outcome, users)

    def _collect(
        self,
        outcome: cluster.Outcome[VerifyTask, VerifyResult],
        users: dict[int, list[Entry]],
    ) -> None:
        if outcome.result is None:
            if isinstance(outcome.error, ParityError):
                raise outcome.error
            for index in outcome.task.objects:
                self._report(users[index], f"cannot be decoded: {outcome.error}; verify again")
            return
        self._tiles += outcome.result.tiles
        for index, message in outcome.result.problems:
            self._report(users[index], message)
        bad = {index for index, _ in outcome.result.problems}
        for index in outcome.task.objects:
            for entry in users[index]:
                if index not in bad and entry.kind == "file":
                    done = FileDone(entry.path, entry.size, entry.stored_bytes, entry.sample_bytes)
                    self._on_event(done)

    def _report(self, entries: Sequence[Entry], message: str) -> None:
        paths = tuple(entry.path for entry in entries) or (SUPERSEDED,)
        found, _, advice = message.rpartition("; ")
        self._problems.append(
            Problem(
                where=paths[0],
                expected="what was packed",
                found=found or message,
                advice=advice or "restore the archive from a backup",
                entries=paths,
            )
        )
