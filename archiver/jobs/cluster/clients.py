"""Connections to a scheduler: made quietly, and given up in bounded time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

CLOSE_S = 5.0


def quiet() -> None:
    """Let Dask say no more than the program does; it sets its own level when it is imported.

    What matters of a dead worker or a lost task is an event of ours.
    """
    import distributed  # noqa: F401 - before its level is set

    wanted = logging.getLogger().level
    level = logging.INFO if wanted <= logging.DEBUG else logging.CRITICAL
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.split(".")[0] in ("distributed", "tornado"):  # some have levels of their own
            logging.getLogger(name).setLevel(level)


def client_of(address: object, **options: Any) -> Client:
    """Return a client that is not the default of this process."""
    from distributed import Client

    quiet()
    with warnings.catch_warnings():  # of other versions: compared, and said, when workers answer
        warnings.simplefilter("ignore")
        return Client(address, set_as_default=False, **options)  # type: ignore[no-untyped-call]


@contextmanager
def closing(client: Client) -> Iterator[Client]:
    """Close the client in the end, whatever state its scheduler is in."""
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=CLOSE_S)  # type: ignore[no-untyped-call]
