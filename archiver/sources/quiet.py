"""The silence of parsers: what they log about damaged files is said in notes, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Keep what a library logs meanwhile out of the log."""

    def refuse(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger(library)
    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)
