"""Outcomes of tasks, and what every place where they run has in common.

What runs is a function of (task, torch threads); tasks are small and so are results, because
samples are read and written by the workers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from archiver.errors import ArchiverError

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


class InProcess:
    """Run tasks one after the other, here, on one core: see `Engine.open` for why."""

    size = 1

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Run every task; an error of one is its outcome."""
        for task in tasks:
            try:
                result = function(task, 1)
            except Exception as error:
                yield Outcome(task, error=error)
            else:
                yield Outcome(task, result)
