"""Joining a running scheduler: known to be one within seconds, its workers asked first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from archiver.errors import UsageError
from archiver.jobs.cluster import probe
from archiver.jobs.cluster.clients import client_of, closing, quiet
from archiver.jobs.cluster.knock import knock
from archiver.jobs.cluster.members import Members
from archiver.jobs.cluster.pool import Pool
from archiver.jobs.cluster.probe import Place
from archiver.jobs.events import OnEvent

CONNECT_S = 5.0  # for each of the steps of Dask's own greeting


@contextmanager
def joined(address: str, places: Sequence[Place], on_event: OnEvent) -> Iterator[Pool]:
    """Yield the workers of the scheduler at ``address`` that see the ``places`` as we do."""
    from distributed.security import Security

    quiet()
    try:
        security: Any = Security
        knock(address, security().get_connection_args("client")["ssl_context"])
        client = client_of(address, timeout=CONNECT_S)
    except Exception as error:  # whatever a stranger's answer leads to, inside Dask as well
        raise UsageError(
            f"scheduler {address}: cannot be reached ({error or type(error).__name__}); start one "
            "with `dask scheduler` and workers that see the same paths, or leave out --scheduler"
        ) from error
    with closing(client), probe.noted(places) as notes:
        members = Members(client, address, on_event, notes)
        members.wait()
        yield Pool(client, members, threads=1, on_event=on_event)
