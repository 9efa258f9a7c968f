"""How far the files of a task are: told now and then to whoever runs it, lost without harm.

Whoever runs a task says where to tell it (`told_to`); whatever packs a file says how many of its
bytes are done so far (`report`).  Numbers are those of the whole file, so that a message which
never comes, or comes twice, changes nothing but the moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

EVERY_S = 0.4  # between two messages, at least

Sink = Callable[[Mapping[bytes, int]], None]  # path as it is named, bytes of it that are done


class _Teller:
    """What is to be told, and when it was told last."""

    def __init__(self, sink: Sink) -> None:
        self.root: Path | None = None
        self._sink = sink
        self._news: dict[bytes, int] = {}
        self._told = time.monotonic() - EVERY_S  # the first is told at once

    def add(self, path: Path, n_bytes: int) -> None:
        """Note how far a file is; tell it if it is time."""
        name = path if self.root is None else path.relative_to(self.root)
        self._news[os.fsencode(name)] = n_bytes
        if time.monotonic() - self._told >= EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Tell what is new; nothing that goes wrong here is worth a job."""
        news, self._news = self._news, {}
        self._told = time.monotonic()
        if news:
            with suppress(Exception):
                self._sink(news)


_current: ContextVar[_Teller | None] = ContextVar("progress", default=None)


@contextmanager
def told_to(sink: Sink) -> Iterator[None]:
    """Have what is reported meanwhile, in this thread, told to ``sink``."""
    teller = _Teller(sink)
    token = _current.set(teller)
    try:
        yield
    finally:
        _current.reset(token)
        teller.tell()


def name_below(root: Path) -> None:
    """Have files named by their paths below ``root`` from now on."""
    teller = _current.get()
    if teller is not None:
        teller.root = root


def report(path: Path, n_bytes: int) -> None:
    """Say how many bytes of a file are done so far."""
    teller = _current.get()
    if teller is not None:
        with suppress(ValueError):  # a file from elsewhere
            teller.add(path, n_bytes)
