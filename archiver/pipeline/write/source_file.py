"""Reading of source files around their parse: content digest, change detection, chunks."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from archiver.errors import SourceError, advice

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """What must not change while a file is packed."""

    size: int
    mtime_ns: int
    sha256: bytes


def open_source(path: Path) -> BufferedReader:
    """Open a file to be packed; SourceError if it became a pipe or device, which could block."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SourceError("is no regular file any more; look at what replaced it, then pack again")
    return file


def stamp(path: Path) -> Stamp:
    """Return the stamp of the file at ``path``; SourceError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_source(path) as file:
            before = os.fstat(file.fileno())
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise SourceError(reason(error)) from error
    return Stamp(before.st_size, before.st_mtime_ns, digest.digest())


def blocks(path: Path, digest: hashlib._Hash | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file, hashing them on the way; SourceError if it cannot be read."""
    try:
        with open_source(path) as file:
            while block := file.read(_BLOCK):
                if digest is not None:
                    digest.update(block)
                yield block
    except OSError as error:
        raise SourceError(reason(error)) from error


def reason(error: Exception) -> str:
    """Return why a file could not be read, without its name: the event carries that."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}; {advice(error)}, then pack again"
    return str(error)
