"""The unpack job: entries of an archive back to files, over the workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from archiver.errors import ParityError, UsageError, verdict_of
from archiver.jobs import cluster, destination, hard_links, retry, shares
from archiver.jobs.cluster import probe
from archiver.jobs.events import OnEvent, Planned, UnpackSummary, ignore
from archiver.jobs.restore import Target, UnpackResult, UnpackTask, Unrestored, run_task
from archiver.jobs.restored import Restored
from archiver.jobs.spec import check_workers
from archiver.pipeline import Entry, open_archive


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
    job = _Unpack(Path(archive), Path(dest), generation, Restored(on_event or ignore))
    return job.run(patterns, workers, scheduler)


class _Unpack:
    """One run of `unpack`."""

    def __init__(
        self, archive: Path, dest: Path, generation: int | None, restored: Restored
    ) -> None:
        self._started = time.monotonic()
        self._archive = archive
        self._dest = dest
        self._generation = generation
        self._restored = restored

    def run(
        self, patterns: Sequence[str], workers: int | None, scheduler: str | None
    ) -> UnpackSummary:
        dest, restored = self._dest, self._restored
        opened = open_archive(self._archive, self._generation)
        if dest.resolve().is_relative_to(self._archive.resolve()):
            raise UsageError(
                f"{dest}: is inside the archive {self._archive}; unpack to another place"
            )
        entries = list(opened.entries(patterns))
        files = [entry for entry in entries if entry.kind == "file"]
        was_there = dest.exists()
        missing = destination.missing(dest, files)
        missing += hard_links.untangled(dest, files, missing)
        links = hard_links.other_names(files)
        placed = destination.make_places(dest, entries, restored)
        absent = placed.intersection(missing)
        todo = absent.difference(link.entry for link in links)
        tasks = self._tasks([entry for entry in missing if entry in todo])
        restored.on_event(Planned(len(files), sum(entry.size for entry in files), len(tasks)))
        destination.keep_present(dest, [e for e in files if e in placed], missing, restored)
        self._restore(tasks, {os.fsencode(entry.path): entry for entry in todo}, workers, scheduler)
        links = [link for link in links if link.entry in absent]
        destination.make_other_names(dest, links, restored)
        destination.tell_dropped(entries, restored)
        if was_there and not patterns:
            destination.tell_strangers(dest, entries, restored)
        symlinks = [e for e in entries if e in placed and e.kind == "symlink"]
        destination.make_links(dest, symlinks, restored)
        folders = [e for e in entries if e in placed and e.kind == "directory"]
        destination.finish_directories(dest, folders, restored)
        return UnpackSummary(
            dest=dest,
            files=restored.n_files,
            failures=tuple(restored.failures),
            output_bytes=restored.n_bytes,
            seconds=time.monotonic() - self._started,
        )

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

    def _restore(
        self,
        tasks: Sequence[UnpackTask],
        entries: Mapping[bytes, Entry],
        workers: int | None,
        scheduler: str | None,
    ) -> None:
        """Run the tasks, and once more what failed in them."""
        dest = cluster.Place("DEST", scratch=self._dest.resolve())
        places = [probe.of_archive(self._archive.resolve()), dest]
        on_event = self._restored.on_event
        with cluster.open_workers(
            workers, scheduler, n_tasks=len(tasks), places=places, on_event=on_event
        ) as pool:
            doubtful = self._run(pool, tasks, entries, is_last=False)
            self._run(pool, self._tasks(doubtful), entries, is_last=True)

    def _run(
        self,
        pool: cluster.Workers,
        tasks: Sequence[UnpackTask],
        entries: Mapping[bytes, Entry],
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
            on_event=self._restored.on_event,
            is_final=lambda error: isinstance(error, ParityError),
        ):
            for path in outcome.result.done if outcome.result else ():
                self._restored.done(entries[path], stored=entries[path].stored_bytes)
            for failure in _failures(outcome):
                entry = entries[failure.path]
                if is_last or outcome.result is None:
                    self._restored.report([entry], failure.message, failure.verdict)
                else:
                    doubtful.append(entry)
        return doubtful


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
