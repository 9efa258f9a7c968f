"""Source files: read once before their parse and once after it, to see that they did not change."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

from archiver import sources
from archiver.errors import SourceError, advice
from archiver.pipeline.write.rows import unrecordable
from archiver.sources import Fidelity, Format, ParsedFile

LARGE_BYTES = 64 << 20  # a larger file goes to the shard while it is coded
CHANGED = "changed while it was read; pack again when nothing writes to it"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """What must not change while a file is packed."""

    size: int
    mtime_ns: int
    sha256: bytes


@dataclass(frozen=True)
class SourceFile:
    """A file that was parsed, and its stamp from before that."""

    path: Path
    stamp: Stamp
    parsed: ParsedFile

    @classmethod
    def parse(cls, path: Path, stamp: Stamp, fidelity: Fidelity) -> SourceFile:
        """Parse a file; SourceError if it cannot be read, or is not what was stamped."""
        parsed = sources.parse(path, fidelity=fidelity)
        if parsed.sha256 != stamp.sha256:
            raise SourceError(CHANGED)
        faults = (unrecordable(image) for image in parsed.images)
        fault = next((fault for fault in faults if fault), "")
        if fault:
            parsed = as_opaque(parsed, f"{parsed.format.label}: {fault}")
        return cls(path, stamp, parsed)

    @property
    def is_large(self) -> bool:
        """Whether its tiles go to the shard as they come."""
        return self.parsed.size > LARGE_BYTES


def as_opaque(parsed: ParsedFile, note: str) -> ParsedFile:
    """Return what was parsed as a file that is kept byte for byte."""
    return replace(
        parsed,
        format=Format.OPAQUE,
        images=(),
        residue=b"",
        note=note,
        rebuilt_sha256=parsed.sha256,
        fidelity=Fidelity.BYTES,
    )


def open_source(path: Path) -> BufferedReader:
    """Open a file to be packed; SourceError if it became a pipe or device, which could block."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise SourceError("is no regular file any more; look at what replaced it, then pack again")
    return file


class StampedBlocks:
    """The bytes of a file in blocks, and its stamp once they were read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._size = self._mtime_ns = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes; SourceError if they cannot be read."""
        try:
            with open_source(self._path) as file:
                status = os.fstat(file.fileno())
                self._size, self._mtime_ns = status.st_size, status.st_mtime_ns
                while block := file.read(_BLOCK):
                    self._digest.update(block)
                    yield block
        except OSError as error:
            raise SourceError(reason(error)) from error

    @property
    def stamp(self) -> Stamp:
        """The stamp of what was read."""
        return Stamp(self._size, self._mtime_ns, self._digest.digest())


def stamp(path: Path) -> Stamp:
    """Return the stamp of the file at ``path``; SourceError if it cannot be read."""
    blocks = StampedBlocks(path)
    for _ in blocks:
        pass
    return blocks.stamp


def reason(error: Exception) -> str:
    """Return why a file could not be read, without its name: the event carries that."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}; {advice(error)}, then pack again"
    return str(error)
