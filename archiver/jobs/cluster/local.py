"""The local cluster: processes of this machine that nobody else can give work to.

They talk over loopback under TLS, with a key that this run made and that is in no file, so that
another user of the machine cannot run code as ours.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from archiver.errors import MachineError
from archiver.jobs.cluster.clients import client_of, closing, quiet
from archiver.jobs.cluster.members import Members
from archiver.jobs.cluster.pool import Pool
from archiver.jobs.events import OnEvent

if TYPE_CHECKING:
    from distributed import SpecCluster
    from distributed.security import Security

ALLOWED_FAILURES = 0  # a task whose worker died is tried again alone, by the job itself
START_ATTEMPTS = 3
START_S = 120  # for a worker process to import what it needs, on a busy machine
# Dask closes a worker for good if it is starting again at the very time when another, so long after
# its last death, looks: two deaths at that distance left a cluster without workers.
_NEVER = "365 days"
_HOST = "127.0.0.1"  # a local cluster never leaves the machine


@contextmanager
def started(workers: int | None, n_tasks: int, on_event: OnEvent) -> Iterator[Pool]:
    """Yield worker processes of this machine: one for each GPU or core if ``workers`` is None."""
    import dask

    quiet()  # imports distributed, whose defaults would else be gone with what is set here
    threads, n_workers, gpus = _sizes(workers, n_tasks)
    config = {
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        "distributed.deploy.lost-worker-timeout": _NEVER,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.nanny.pre-spawn-environ": _environment(threads),
    }
    with (
        dask.config.set(config),
        _cluster(n_workers, gpus) as cluster,
        closing(client_of(cluster)) as client,
    ):
        try:
            client.wait_for_workers(1, timeout=START_S)
        except TimeoutError as error:
            raise _does_not_start(error) from error
        members = Members(client, "of this machine", on_event)
        yield Pool(client, members, threads=threads, on_event=on_event)


def _environment(threads: int) -> dict[str, str]:
    """Return what a worker process finds when it starts.

    Dask's own choice trims the heap at every free, which took a third of a worker's time.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "OMP_WAIT_POLICY": "PASSIVE"}


def _cluster(n_workers: int, gpus: list[str]) -> SpecCluster:
    """Start a cluster; again if a worker died while it started."""
    from distributed import Scheduler, SpecCluster
    from distributed.security import Security

    security = Security.temporary()  # type: ignore[no-untyped-call]
    address = {"host": _HOST, "port": 0, "protocol": "tls://", "security": security}
    options = {"dashboard": False, "dashboard_address": f"{_HOST}:0", **address}
    scheduler = {"cls": Scheduler, "options": options}
    specs = {i: _spec(security, gpus[i % len(gpus)] if gpus else None) for i in range(n_workers)}
    fault: Exception | None = None
    for _ in range(START_ATTEMPTS):
        try:
            return SpecCluster(  # type: ignore[no-untyped-call]
                workers=specs,
                scheduler=scheduler,
                security=security,
                silence_logs=logging.CRITICAL,
            )
        except (RuntimeError, OSError) as error:
            fault = error
    raise _does_not_start(fault) from fault


def _does_not_start(fault: Exception | None) -> MachineError:
    return MachineError(
        f"the local cluster does not start ({fault}); run with --workers 0, or fewer workers"
    )


def _sizes(workers: int | None, n_tasks: int) -> tuple[int, int, list[str]]:
    """Return the torch threads of a worker, how many workers there are, and the GPUs."""
    gpus = _gpus()
    n_workers = min(n_tasks, (len(gpus) or _n_cores()) if workers is None else workers)
    threads = max(1, _n_cores() // n_workers) if gpus else 1
    return threads, n_workers, gpus


def _spec(security: Security, gpu: str | None) -> dict[str, Any]:
    """Describe one worker process.  Its memory is bounded by what a task holds, not by Dask."""
    from distributed import Nanny

    options: dict[str, Any] = {
        "host": _HOST,
        "protocol": "tls://",
        "security": security,
        "nthreads": 1,
        "memory_limit": 0,
        "death_timeout": START_S,
        "dashboard": False,
        "dashboard_address": f"{_HOST}:0",
        "silence_logs": logging.CRITICAL,
    }
    if gpu is not None:  # set before the worker imports torch
        options |= {"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {"GPU": 1}}
    return {"cls": Nanny, "options": options}


def _gpus() -> list[str]:
    """Return the CUDA devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    from archiver.codec.model.devices import n_gpus

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # what the user left us of the GPUs
    names = [name.strip() for name in named.split(",") if name.strip()]
    return (names or [str(i) for i in range(n_gpus())])[: n_gpus()]


def _n_cores() -> int:
    """Return how many cores this process may use; needs no torch."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
