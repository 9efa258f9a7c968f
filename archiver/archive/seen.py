"""Change times and inodes that the last run saw in its source, beside what it stored.

They tell that a file may be another one under its old size and modification time.  They are hints,
good for one source on one machine: the file lies in wip/, no reader looks at it, and without it
sizes and modification times decide alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from archiver.archive import durable, layout
from archiver.errors import ArchiverError

_ROW: Final = np.dtype([("path", "<u8"), ("content", "<u8"), ("ctime_ns", "<i8"), ("inode", "<u8")])
_MAX_BYTES: Final = 1 << 34


@dataclass(frozen=True)
class Sight:
    """The look of a path when it had some content, of which 64 bits of a digest are kept."""

    content: int
    ctime_ns: int
    inode: int


Seen = Mapping[int, Sight]  # by `key` of the path


def key(data: bytes) -> int:
    """Return 64 bits that stand for a path or a content."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


def read(archive: Path) -> Seen:
    """Return what was seen; nothing if that is not there, or not what `write` wrote."""
    try:
        rows = np.frombuffer(_stored(archive / layout.SEEN), _ROW).tolist()
    except ValueError:
        return {}
    return {path: Sight(*sight) for path, *sight in rows}


def write(archive: Path, seen: Seen) -> None:
    """Replace what is known, if it is not the same."""
    rows = [(path, s.content, s.ctime_ns, s.inode) for path, s in sorted(seen.items())]
    data, path = np.array(rows, _ROW).tobytes(), archive / layout.SEEN
    if data != _stored(path):
        durable.replace_file(path, data, scratch=path.with_suffix(".tmp"))


def _stored(path: Path) -> bytes:
    try:
        return durable.read_file(path, limit=_MAX_BYTES)
    except ArchiverError:
        return b""
