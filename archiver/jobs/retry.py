"""Second tries of what ended without a result: alone, then in halves, so no bystander is blamed.

A worker that is killed takes the tasks with it that waited behind; a file that kills its worker
fails by itself in the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from archiver.errors import MachineError
from archiver.jobs.cluster.outcome import Function, Outcome, R, T, WorkerDied, Workers
from archiver.jobs.events import Notice, OnEvent

MAX_DEATHS = 40  # of workers in a row, nothing between them: more than halving finds its way by
GIVEN_UP = "workers die whatever they are given; look at their memory and at the system log"


def run(
    workers: Workers,
    function: Function[T, R],
    tasks: Iterable[T],
    *,
    halves: Callable[[T], Sequence[T]],
    on_event: OnEvent,
    before: Callable[[T], T] = lambda task: task,
    is_final: Callable[[Exception], bool] = lambda error: False,
) -> Iterator[Outcome[T, R]]:
    """Yield an outcome for every task or for its parts; errors of what cannot be halved are final.

    ``before`` is called with each task before it runs.  What is final is not tried again.  If
    nothing can run any more, all that is left gets the error that says so.
    """
    waiting = deque(tasks)
    running: dict[int, T] = {}
    suspects: list[T] = []

    def started() -> Iterator[T]:
        while waiting:
            task = before(waiting.popleft())
            running[id(task)] = task
            yield task

    try:
        for outcome in workers.run(function, started()):
            del running[id(outcome.task)]
            if outcome.error is None or is_final(outcome.error):
                yield outcome
            else:
                suspects.append(outcome.task)
                on_event(Notice(f"a part of the work is tried again: {_reason(outcome.error)}"))
        yield from _alone(workers, function, suspects, halves, before, is_final)
    except MachineError as error:
        for task in (*running.values(), *waiting, *suspects):
            yield Outcome(task, error=error)


def _alone(
    workers: Workers,
    function: Function[T, R],
    suspects: list[T],
    halves: Callable[[T], Sequence[T]],
    before: Callable[[T], T],
    is_final: Callable[[Exception], bool],
) -> Iterator[Outcome[T, R]]:
    """Run the suspects one at a time; they leave the list when their outcome is known."""
    deaths = 0
    while suspects:
        [outcome] = workers.run(function, [before(suspects[0])])
        deaths = deaths + 1 if isinstance(outcome.error, WorkerDied) else 0
        if deaths >= MAX_DEATHS:
            raise MachineError(GIVEN_UP)
        task = suspects.pop(0)
        is_over = outcome.error is None or is_final(outcome.error)
        parts = [] if is_over else halves(task)
        if len(parts) > 1:
            suspects[:0] = parts
        else:
            yield outcome


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
