"""The archives that are open for reading in this process, and the content they hold."""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from pathlib import Path

from archiver.archive import layout
from archiver.archive.reader import Archive
from archiver.sources import Fidelity

_OPEN = 2


def opened(archive: Path, generation: int | None = None) -> Archive:
    """Return the archive, opened once for each of its generations; NotFoundError if none.

    Of an earlier ``generation``, what came later is not looked at.
    """
    return _opened(archive, _version(archive), generation)


def known(archive: Path, fidelity: Fidelity) -> frozenset[bytes]:
    """Return the SHA-256 of all content that ``archive`` restores with at least ``fidelity``."""
    version = _version(archive)
    return _known(archive, fidelity, version) if version else frozenset()


def _version(archive: Path) -> tuple[int, ...]:
    """Return what changes with every commit, () if there was none."""
    try:
        status = (archive / layout.ROOT).stat()
    except OSError:
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=_OPEN)
def _opened(archive: Path, version: tuple[int, ...], generation: int | None) -> Archive:
    return Archive.open(archive, generation=generation)


@lru_cache(maxsize=_OPEN)
def _known(archive: Path, fidelity: Fidelity, version: tuple[int, ...]) -> frozenset[bytes]:
    reader = _opened(archive, version, None)
    if fidelity == Fidelity.SAMPLES:
        return frozenset(reader.object_sha256s())
    whole = (reader.index.whole("objects", "fidelity") == Fidelity.BYTES).tolist()
    return frozenset(compress(reader.object_sha256s(), whole))
