"""Outcomes of tasks, and what every place where they run has in common.

What runs is a function of (task, torch threads); tasks are small and so are results, because
samples are read and written by the workers themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from archiver.errors import ArchiverError
from archiver.jobs.events import FileProgress, OnEvent, ignore
from archiver.pipeline import progress

T = TypeVar("T")
R = TypeVar("R")
Function = Callable[[T, int], R]


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """One task is over: its result, or the error that ended it."""

    task: T
    result: R | None = None
    error: Exception | None = None

    @property
    def is_blamed_on_task(self) -> bool:
        """True if another task may well succeed: not our errors, nor the disk's."""
        return self.error is not None and not isinstance(self.error, ArchiverError | OSError)


class WorkerDied(Exception):
    """The worker processes that ran a task ended: killed, out of memory, or crashed."""


class Workers(Protocol):
    """A place that runs tasks."""

    @property
    def size(self) -> int:
        """How many tasks run at the same time."""

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Run ``function`` on every task; yield outcomes as they come, in any order.

        MachineError if nothing can run any more: the scheduler is lost, or all its workers.
        """


def told(news: Mapping[bytes, int], on_event: OnEvent) -> None:
    """Say as events how far files are."""
    for path, n_bytes in news.items():
        on_event(FileProgress(os.fsdecode(path), n_bytes))


class InProcess:
    """Run tasks one after the other, here, on one core: see `Engine.open` for why."""

    size = 1

    def __init__(self, on_event: OnEvent = ignore) -> None:
        self._on_event = on_event

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Run every task; an error of one is its outcome."""
        for task in tasks:
            try:
                with progress.told_to(lambda news: told(news, self._on_event)):
                    result = function(task, 1)
            except Exception as error:
                yield Outcome(task, error=error)
            else:
                yield Outcome(task, result)
