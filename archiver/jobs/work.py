"""The task of a worker that packs: files in, one shard and its records out.

A task can be run again at any time: it leaves either a finished shard or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from archiver.archive import layout
from archiver.archive.model_files import info_of
from archiver.archive.records import ShardRecord
from archiver.archive.shard import ShardWriter
from archiver.jobs.plan import Item, Task
from archiver.pipeline import (
    Alternative,
    Failure,
    Packed,
    engines,
    known_content,
    pack_content,
    pack_files,
    progress,
)
from archiver.pipeline.write import rows
from archiver.sources import Fidelity


@dataclass(frozen=True)
class TaskResult:
    """The outcome of a task: the content of each path, what failed, the shard if any was due."""

    contents: tuple[tuple[bytes, bytes], ...]  # path, SHA-256
    failures: tuple[tuple[bytes, str], ...]  # path, reason
    notices: tuple[str, ...]
    shard: ShardRecord | None


def run_task(task: Task, threads: int) -> TaskResult:
    """Pack the items of ``task`` into one shard, with that many torch threads."""
    progress.name_below(task.source)
    fidelity = Fidelity[task.fidelity.upper()]
    known = known_content.known(task.archive, fidelity) | task.done
    files = [item for item in task.items if item.kind == layout.FILE]
    links = [item for item in task.items if item.kind == layout.SYMLINK]
    with ShardWriter(task.archive) as shard:
        packed = pack_files(
            [task.source / item.name for item in files],
            shard,
            [engines.of_archive(task.archive, model, threads) for model in task.models if files],
            how=_how(task),
            fidelity=fidelity,
            known=known,
        )
        outcomes = list(zip(files, packed, strict=True))
        outcomes += [(item, _pack_link(task, item, shard, known)) for item in links]
        return _result(task, outcomes, shard)


def _how(task: Task) -> Alternative:
    """Return how the profile of a task has files coded."""
    is_quick = task.profile == "quick"
    quick_jpegs = is_quick or task.profile == "fast"
    return Alternative(task.tile, task.effort, quick_jpegs, is_settled=is_quick, is_quick=is_quick)


def _pack_link(
    task: Task, item: Item, shard: ShardWriter, known: Collection[bytes]
) -> Packed | Failure:
    """Pack the target of a symlink; it is never followed."""
    path = task.source / item.name
    try:
        target = os.readlink(os.fsencode(path))  # noqa: PTH115 - a Path would tidy it
    except OSError as error:
        return Failure(path, f"the link cannot be read: {error.strerror}")
    return pack_content(path, target, shard, known)


def _result(
    task: Task, outcomes: Sequence[tuple[Item, Packed | Failure]], shard: ShardWriter
) -> TaskResult:
    """Finish the shard, if anything is in it, and say what came of each item."""
    done = [(item, packed) for item, packed in outcomes if isinstance(packed, Packed)]
    objects = {packed.sha256: packed.record for _, packed in done if packed.record is not None}
    record = None
    if objects:
        sha256, size = shard.finish()
        kept, used = rows.with_used_models(list(objects.values()), task.models)
        record = ShardRecord(sha256, size, kept, _with_bases(task, used))
    return TaskResult(
        contents=tuple((item.path, packed.sha256) for item, packed in done),
        failures=tuple(
            (item.path, failure.message)
            for item, failure in outcomes
            if isinstance(failure, Failure)
        ),
        notices=tuple(notice for _, packed in done for notice in packed.notices),
        shard=record,
    )


def _with_bases(task: Task, models: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the models, then those that they are stored as a delta to."""
    bases = {info_of(task.archive, model).base: None for model in models}
    return (*models, *(base for base in bases if base is not None and base not in models))
