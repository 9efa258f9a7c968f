"""Where tasks run: here, on local processes; and what becomes of tasks that kill their worker."""

from __future__ import annotations

import os
import signal
import time

import pytest

from archiver.errors import UsageError
from archiver.jobs import cluster
from archiver.jobs.cluster import knock, pool


def square(number: int, threads: int) -> tuple[int, int, int]:
    """Return something that tells where it ran."""
    return number * number, os.getpid(), threads


def fail(number: int, threads: int) -> int:
    """Fail on odd numbers; kill the worker on 4."""
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if number % 2:
        raise RuntimeError(f"odd: {number}")
    return number


def test_in_process() -> None:
    """Zero workers is this process; errors become outcomes."""
    with cluster.open_workers(0, n_tasks=3) as workers:
        outcomes = list(workers.run(square, range(3)))
        failed = list(workers.run(fail, [1, 2]))
    assert [one.result and one.result[0] for one in outcomes] == [0, 1, 4]
    assert {one.result[1] for one in outcomes if one.result} == {os.getpid()}
    assert [one.is_blamed_on_task for one in failed] == [True, False]


def test_processes() -> None:
    """Two workers share the tasks; a killed worker costs its task, and what waited behind it."""
    with cluster.open_workers(2, n_tasks=9) as workers:
        outcomes = list(workers.run(square, range(9)))
        killed = {one.task: one for one in workers.run(fail, range(9))}
        died = {n for n, one in killed.items() if isinstance(one.error, cluster.WorkerDied)}
        again = {one.task: one for one in workers.run(fail, sorted(died - {4}))}
    assert sorted(one.result[0] for one in outcomes if one.result) == [n * n for n in range(9)]
    assert os.getpid() not in {one.result[1] for one in outcomes if one.result}
    assert {one.result[2] for one in outcomes if one.result} == {1}
    assert 4 in died
    assert len(died) <= pool.IN_FLIGHT
    outcomes_of_fail = killed | again  # the innocent succeed, or fail for reasons of their own
    assert [n for n in range(9) if outcomes_of_fail[n].result == n] == [0, 2, 6, 8]
    assert all(isinstance(outcomes_of_fail[n].error, RuntimeError) for n in (1, 3, 5, 7))


@pytest.mark.slow
def test_worker_that_keeps_dying_is_started_again() -> None:
    """Deaths at any distance, 15 seconds also, when Dask looks after it, leave a worker."""
    start = time.monotonic()
    with cluster.open_workers(1, n_tasks=2) as workers:
        while time.monotonic() < start + 40:
            [died] = workers.run(fail, [4])
            assert isinstance(died.error, cluster.WorkerDied)
            [alive] = workers.run(square, [3])
            assert alive.result is not None


def test_local_cluster_is_closed_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a local cluster listens on takes no client without the key of this run."""
    from distributed.security import Security

    monkeypatch.setattr(knock, "SPEAK_S", 2.0)
    stranger = Security.temporary().get_connection_args("client")["ssl_context"]
    with cluster.open_workers(1, n_tasks=2) as workers:
        address = workers._client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        with pytest.raises(ValueError, match="says nothing"):
            knock.knock(address.replace("tls://", "tcp://"), None)
        with pytest.raises(OSError, match=r"(?i)ssl|tls"):
            knock.knock(address, stranger)


def test_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without a scheduler is a usage error that names it, soon."""
    monkeypatch.setattr(knock, "SPEAK_S", 1)
    start = time.monotonic()
    unreachable = cluster.open_workers(None, "tcp://127.0.0.1:1", n_tasks=1)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:1"), unreachable:
        pass
    assert time.monotonic() - start < 20
