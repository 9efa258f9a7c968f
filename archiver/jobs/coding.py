"""The tasks of a pack job on their workers; what a killed run had finished is taken over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from archiver.archive.writer import ArchiveWriter
from archiver.errors import ArchiverError, DestinationError, advice
from archiver.jobs import cluster, retry, work
from archiver.jobs.ledger import Ledger
from archiver.jobs.plan import Task


def run(
    writer: ArchiveWriter, workers: cluster.Workers, tasks: Sequence[Task], ledger: Ledger
) -> None:
    """Run all tasks; what comes of each is in the ledger, and safe from a kill."""
    outcomes = retry.run(
        workers,
        work.run_task,
        tasks,
        halves=_halves,
        on_event=ledger.on_event,
        before=lambda task: _resumed(writer, task, ledger),
        is_final=lambda error: isinstance(error, ArchiverError | OSError),
    )
    for outcome in outcomes:
        _accept(writer, outcome, ledger)


def _resumed(writer: ArchiveWriter, task: Task, ledger: Ledger) -> Task:
    """Take over the shard that a killed run finished for this task, if any."""
    finished = writer.finished(task.digest)
    if finished is None:
        return task
    ledger.add_shard(task, finished, attempt=0)
    return replace(task, done=frozenset(record.sha256 for record in finished.objects))


def _accept(
    writer: ArchiveWriter, outcome: cluster.Outcome[Task, work.TaskResult], ledger: Ledger
) -> None:
    """Collect a finished task, or take it that its file cannot be packed."""
    task, result = outcome.task, outcome.result
    if outcome.is_blamed_on_task:
        for item in task.items:
            ledger.fail_all(item, _blame(outcome.error))
        return
    if isinstance(outcome.error, OSError):
        raise DestinationError(
            f"{writer.path}: cannot be written ({outcome.error}); {advice(outcome.error)}, "
            "then run the same command: it continues"
        ) from outcome.error
    if outcome.error is not None or result is None:
        raise outcome.error or ArchiverError("a task ended without a result")
    if result.shard is not None:
        if not task.done:
            writer.record(task.digest, result.shard)
        ledger.add_shard(task, result.shard, attempt=1)
    ledger.add(task, result)


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
