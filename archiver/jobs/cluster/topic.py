"""How far tasks are, from workers to the client: over a topic of the scheduler.

Messages are few and small, nobody waits for them, and none of them matters.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from archiver.jobs.cluster.outcome import Function, R, T, told
from archiver.jobs.events import OnEvent
from archiver.pipeline import progress

if TYPE_CHECKING:
    from distributed import Client

TELL_S = 0.5  # between two looks for what was told


class Progress:
    """What workers tell on a topic of this client's own."""

    def __init__(self, client: Client, on_event: OnEvent) -> None:
        self.topic = f"archiver-{uuid.uuid4().hex}"
        self._on_event = on_event
        self._news: SimpleQueue[Mapping[bytes, int]] = SimpleQueue()
        with suppress(Exception):  # of another release, or a connection that is lost: nothing shown
            client.subscribe_topic(self.topic, self._hear)  # type: ignore[no-untyped-call]

    def tell(self) -> None:
        """Say as events what was heard, in the thread of the job."""
        with suppress(Empty):
            while True:
                told(self._news.get_nowait(), self._on_event)

    def _hear(self, event: Any) -> None:
        """Take a message, in the thread of the client."""
        with suppress(Exception):
            _, news = event
            self._news.put({bytes(path): int(n_bytes) for path, n_bytes in news})


def reporting(function: Function[T, R], task: T, threads: int, topic: str) -> R:
    """Run a task on a worker, which tells how far it is."""

    def tell(news: Mapping[bytes, int]) -> None:
        from distributed import get_worker

        get_worker().log_event(topic, list(news.items()))

    with progress.told_to(tell):
        return function(task, threads)
