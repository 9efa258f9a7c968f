"""Running tasks through a Dask client: a bounded number at a time, no wait without end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic

from archiver.jobs.cluster.members import Members
from archiver.jobs.cluster.outcome import Function, Outcome, R, T, WorkerDied
from archiver.jobs.cluster.topic import TELL_S, Progress, reporting
from archiver.jobs.events import OnEvent, ignore

if TYPE_CHECKING:
    from distributed import Client

IN_FLIGHT = 2  # tasks per worker handed to the scheduler at once
POLL_S = 1.0  # between two looks at who is there
RESULT_S = 60.0  # for a result, a few numbers, to come from the worker that has it
DIED = "its worker process died: killed, out of memory, or crashed"


@dataclass(frozen=True)
class _Live(Generic[T]):
    """A task that was handed over, and the workers that it may run on; None: any."""

    task: T
    workers: frozenset[str] | None


class Pool:
    """Run tasks on the members of a scheduler."""

    def __init__(
        self, client: Client, members: Members, *, threads: int, on_event: OnEvent = ignore
    ) -> None:
        self._client = client
        self._members = members
        self._threads = threads
        self._looked = 0.0
        self._progress = Progress(client, on_event)

    @property
    def size(self) -> int:
        """How many tasks run at the same time."""
        return max(1, len(self._members.able))

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Run every task; yield outcomes as they come."""
        todo = iter(tasks)
        live: dict[Any, _Live[T]] = {}
        over: SimpleQueue[Any] = SimpleQueue()
        self._refresh()
        while True:
            for task in islice(todo, max(0, IN_FLIGHT * self.size - len(live))):
                self._submit(function, task, live, over)
            if not live:
                return
            future = None
            with contextlib.suppress(Empty):
                future = over.get(timeout=min(POLL_S, TELL_S))
            self._progress.tell()  # before its files are done
            if future in live:
                yield self._outcome(live.pop(future).task, future)
            if self._refresh():
                for future in self._stranded(live):
                    task = live.pop(future).task
                    future.cancel()
                    yield Outcome(task, error=WorkerDied(DIED))

    def _refresh(self) -> bool:
        if time.monotonic() - self._looked < POLL_S:
            return False
        self._members.refresh()
        self._looked = time.monotonic()
        return True

    def _submit(
        self, function: Function[T, R], task: T, live: dict[Any, _Live[T]], over: SimpleQueue[Any]
    ) -> None:
        able = self._members.able
        chosen = None if self._members.is_trusted or not able else frozenset(able)
        where = {} if chosen is None else {"workers": sorted(chosen), "allow_other_workers": False}
        if self._client.status != "running":
            raise self._members.lost()
        future = self._client.submit(
            reporting, function, task, self._threads, self._progress.topic, pure=False, **where
        )
        live[future] = _Live(task, chosen)
        future.add_done_callback(over.put)  # type: ignore[no-untyped-call]

    def _stranded(self, live: dict[Any, _Live[T]]) -> list[Any]:
        """Return tasks whose workers are all gone: nothing else will ever run them."""
        return [
            future
            for future, submission in live.items()
            if submission.workers is not None and not submission.workers & self._members.alive
        ]

    def _outcome(self, task: T, future: Any) -> Outcome[T, Any]:
        from distributed import KilledWorker

        if future.status == "cancelled":  # by the client itself, when the scheduler is gone
            raise self._members.lost()
        try:
            if future.status == "error":
                error = future.exception(timeout=RESULT_S)
            else:
                return Outcome(task, future.result(timeout=RESULT_S))
        except TimeoutError:  # the worker that had it is gone
            error = WorkerDied(DIED)
        except Exception as raised:
            error = raised
        finally:
            future.release()
        if isinstance(error, KilledWorker):
            error = WorkerDied(DIED)
        return Outcome(task, error=error)
