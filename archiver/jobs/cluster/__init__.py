"""Places where tasks run: this process, a local cluster, or a running scheduler.

The only importer of distributed, and only in the modules of this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from archiver.jobs.cluster.outcome import InProcess, Outcome, WorkerDied, Workers
from archiver.jobs.cluster.probe import Place
from archiver.jobs.events import OnEvent, ignore

__all__ = ["Outcome", "Place", "WorkerDied", "Workers", "open_workers"]


@contextmanager
def open_workers(
    workers: int | None,
    scheduler: str | None = None,
    *,
    n_tasks: int,
    places: Sequence[Place] = (),
    on_event: OnEvent = ignore,
) -> Iterator[Workers]:
    """Yield workers for about ``n_tasks`` tasks.

    ``workers`` 0 is this process; None is one process per GPU, or per core if there is none; never
    more than there are tasks.  ``scheduler`` is the address of a running one: its workers take part
    once they proved that they see the ``places`` of the job as this process does.
    """
    if workers == 0 or n_tasks == 0 or (workers is None and scheduler is None and n_tasks == 1):
        yield InProcess(on_event)
    elif scheduler is not None:
        from archiver.jobs.cluster import remote

        with remote.joined(scheduler, places, on_event) as pool:
            yield pool
    else:
        from archiver.jobs.cluster import local

        with local.started(workers, n_tasks, on_event) as pool:
            yield pool
