"""Own where tasks run: in this process, on a local cluster, or on a running scheduler.

The only importer of distributed.  What runs is a function of (task, torch threads); tasks are small
and so are results, because samples are read and written by the workers themselves.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from archiver.errors import ArchiverError, UsageError

if TYPE_CHECKING:
    from distributed import Client, SpecCluster

T = TypeVar("T")
R = TypeVar("R")
Function = Callable[[T, int], R]

ALLOWED_FAILURES = 0  # a task whose worker died is tried again alone, by the job itself
IN_FLIGHT = 2  # tasks per worker handed to the scheduler at once
CONNECT_TIMEOUT_S = 10
START_ATTEMPTS = 3
_HOST = "127.0.0.1"  # a local cluster never leaves the machine


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
    """What runs tasks."""

    @property
    def size(self) -> int:
        """How many tasks run at the same time."""

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        """Run ``function`` on every task; yield outcomes as they come, in any order."""


@contextmanager
def open_workers(
    workers: int | None, scheduler: str | None = None, *, n_tasks: int
) -> Iterator[Workers]:
    """Yield workers for about ``n_tasks`` tasks.

    ``workers`` 0 is this process; None is one process per GPU, or per core if there is none; never
    more than there are tasks.  ``scheduler`` is the address of a running one.
    """
    if scheduler is not None:
        with _connect(scheduler) as client:
            yield _Cluster(client, threads=1)
    elif workers == 0 or n_tasks == 0 or (workers is None and n_tasks == 1):
        yield _InProcess()
    else:
        with _local(workers, n_tasks) as pool:
            yield pool


class _InProcess:
    """Run tasks one after the other, here, on one core: see `Engine.open` for why."""

    size = 1

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        for task in tasks:
            try:
                result = function(task, 1)
            except Exception as error:
                yield Outcome(task, error=error)
            else:
                yield Outcome(task, result)


class _Cluster:
    """Run tasks through a Dask client, a bounded number of them at a time."""

    def __init__(self, client: Client, *, threads: int) -> None:
        self._client = client
        self._threads = threads

    @property
    def size(self) -> int:
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def run(self, function: Function[T, R], tasks: Iterable[T]) -> Iterator[Outcome[T, R]]:
        import distributed

        todo = iter(tasks)
        n_live = IN_FLIGHT * self.size
        submitted = {self._submit(function, task): task for task in islice(todo, n_live)}
        completed: Any = distributed.as_completed(list(submitted), loop=self._client.loop)  # type: ignore[no-untyped-call]
        for future in completed:
            task = submitted.pop(future)
            outcome: Outcome[T, R] = _outcome(task, future)
            future.release()
            for following in islice(todo, 1):
                added = self._submit(function, following)
                submitted[added] = following
                completed.add(added)
            yield outcome

    def _submit(self, function: Function[T, R], task: T) -> Any:
        return self._client.submit(function, task, self._threads, pure=False)


def _outcome(task: T, future: Any) -> Outcome[T, Any]:
    from distributed import KilledWorker

    if future.status == "finished":
        return Outcome(task, future.result())
    error = future.exception() if future.status == "error" else None
    if error is None or isinstance(error, KilledWorker):
        error = WorkerDied("its worker process died: killed, out of memory, or crashed")
    return Outcome(task, error=error)


# --- clusters ------------------------------------------------------------------------------------


def _knock(address: str) -> None:
    """Connect once before Dask does, which takes minutes to give up; OSError, ValueError if not."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.hostname is None or parts.port is None:
        raise ValueError("expected an address like tcp://head:8786")
    socket.create_connection((parts.hostname, parts.port), CONNECT_TIMEOUT_S).close()


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    try:
        _knock(address)
        client = _client(address, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"scheduler {address}: cannot be reached ({error}); start one with `dask scheduler` "
            "and workers that see the same paths, or leave out --scheduler"
        ) from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise UsageError(
                f"scheduler {address}: has no workers; start some with `dask worker {address}`"
            )
        yield client


@contextmanager
def _local(workers: int | None, n_tasks: int) -> Iterator[Workers]:
    import dask

    threads, specs = _specs(workers, n_tasks)
    config = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.nanny.pre-spawn-environ": _environment(threads),
    }
    with dask.config.set(config), _cluster(specs) as cluster, _client(cluster) as client:
        client.wait_for_workers(1)
        yield _Cluster(client, threads=threads)


def _environment(threads: int) -> dict[str, str]:
    """Return what a worker process finds when it starts.

    Dask's own choice trims the heap at every free, which took a third of a worker's time.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}


def _quiet() -> None:
    """Let Dask say no more than the program does; it sets its own level when it is imported.

    What matters of a dead worker or a lost task is an event of ours.
    """
    wanted = logging.getLogger().level
    quiet = logging.INFO if wanted <= logging.DEBUG else logging.CRITICAL
    logging.getLogger("distributed").setLevel(quiet)


def _client(address: object, **options: Any) -> Client:
    from distributed import Client

    _quiet()
    return Client(address, set_as_default=False, **options)  # type: ignore[no-untyped-call]


def _cluster(specs: dict[int, dict[str, Any]]) -> SpecCluster:
    """Start a cluster; again if a worker died while it started."""
    from distributed import Scheduler, SpecCluster

    _quiet()
    address = {"host": _HOST, "port": 0, "protocol": "tcp://"}
    options = {"dashboard": False, "dashboard_address": f"{_HOST}:0", **address}
    scheduler = {"cls": Scheduler, "options": options}
    fault: Exception | None = None
    for _ in range(START_ATTEMPTS):
        try:
            return SpecCluster(workers=specs, scheduler=scheduler, silence_logs=logging.CRITICAL)  # type: ignore[no-untyped-call]
        except (RuntimeError, OSError) as error:
            fault = error
    raise ArchiverError(
        f"the local cluster does not start ({fault}); run with --workers 0, or fewer workers"
    ) from fault


def _specs(workers: int | None, n_tasks: int) -> tuple[int, dict[int, dict[str, Any]]]:
    """Return the torch threads of a worker, and the Dask specification of all workers."""
    gpus = _gpus()
    n_workers = min(n_tasks, (len(gpus) or _n_cores()) if workers is None else workers)
    threads = max(1, _n_cores() // n_workers) if gpus else 1
    return threads, {i: _spec(gpus[i % len(gpus)] if gpus else None) for i in range(n_workers)}


def _spec(gpu: str | None) -> dict[str, Any]:
    """Describe one worker process.  Its memory is bounded by what a task holds, not by Dask."""
    from distributed import Nanny

    options: dict[str, Any] = {
        "host": _HOST,
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
    }
    if gpu is not None:  # set before the worker imports torch
        options |= {"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {"GPU": 1}}
    return {"cls": Nanny, "options": options}


def _gpus() -> list[str]:
    """Return the CUDA devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    from archiver.codec.devices import n_gpus

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # what the user left us of the GPUs
    names = [name.strip() for name in named.split(",") if name.strip()]
    return (names or [str(i) for i in range(n_gpus())])[: n_gpus()]


def _n_cores() -> int:
    """Return how many cores this process may use; needs no torch."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
