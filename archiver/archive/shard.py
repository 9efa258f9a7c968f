"""Shard files: one writer appends payloads, many readers fetch extents of finished shards.

A shard is its payloads one after the other, nothing else; equal ones are there once, such as the
tiles of one image in several files.  While it grows it is ``wip/*.wip`` under an flock, so that a
later run can tell a dead one from one in use.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import google_crc32c

from archiver.archive import durable, layout
from archiver.archive.records import ShardRecord
from archiver.errors import ArchiverError, IntegrityError, UsageError

MAX_LENGTH = (1 << 32) - 1  # of one payload: the manifest keeps it as u4
_LEAST_SHARED = 64  # bytes of a payload that is looked for among those before it
_OPEN_SHARDS = 64  # descriptors a reader keeps


def crc32c(payload: bytes) -> int:
    """Return the CRC-32C (Castagnoli) that the manifest keeps of a payload."""
    return int(google_crc32c.value(payload))


@dataclass(frozen=True)
class Mark:
    """A state of a shard that is being written."""

    size: int
    hash: hashlib._Hash


class ShardWriter:
    """Append payloads to a new shard of the archive; use as a context manager.

    Needs no lock: any number of processes may each write a shard of their own.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._path = archive / layout.WIP / f"{uuid.uuid4().hex}.wip"
        self._hash = hashlib.sha256()
        self._finished = False
        self._offsets: dict[bytes, int] = {}  # of payloads that may come again, by SHA-256
        self.size = 0
        try:
            self._file = self._path.open("xb")
        except FileNotFoundError as error:
            raise UsageError(
                f"{archive}: expected an archive that is being written (there is no "
                f"{self._path.parent}); its workers must see the same file system as the job"
            ) from error
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def append(self, payload: bytes) -> tuple[int, int]:
        """Append a payload unless it is there already; return its offset and CRC-32C."""
        if len(payload) > MAX_LENGTH:
            raise UsageError(
                f"{self._path}: a payload has {len(payload)} bytes, at most {MAX_LENGTH} fit; "
                "split it"
            )
        digest = hashlib.sha256(payload).digest() if len(payload) >= _LEAST_SHARED else b""
        if digest in self._offsets:
            return self._offsets[digest], crc32c(payload)
        offset = self.size
        if digest:
            self._offsets[digest] = offset
        self._file.write(payload)
        self._hash.update(payload)
        self.size += len(payload)
        return offset, crc32c(payload)

    def mark(self) -> Mark:
        """Return the state that `rollback` goes back to."""
        return Mark(self.size, self._hash.copy())

    def rollback(self, mark: Mark) -> None:
        """Forget what was appended since ``mark``."""
        self._file.seek(mark.size)
        self._file.truncate()
        self._hash, self.size = mark.hash.copy(), mark.size
        self._offsets = {key: at for key, at in self._offsets.items() if at < mark.size}

    def finish(self) -> tuple[bytes, int]:
        """Bring the shard to disk under its final name; return its SHA-256 and size."""
        self._file.flush()
        os.fsync(self._file.fileno())
        digest = self._hash.digest()
        try:  # the same content may be there already, perhaps damaged since: replacing is right
            self._path.replace(layout.shard_path(self._archive, digest))
        except FileNotFoundError as error:
            raise ArchiverError(
                f"{self._path}: was removed while it was written; another run took over the "
                "archive; run again when that one has ended"
            ) from error
        self._finished = True
        durable.sync(self._archive / layout.SHARDS)
        self._file.close()
        return digest, self.size

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the unfinished file unless `finish` was called."""
        if not self._finished:
            self._path.unlink(missing_ok=True)
        self._file.close()


def remove_abandoned(archive: Path) -> None:
    """Remove unfinished shards whose writer is gone."""
    for path in (archive / layout.WIP).glob("*.wip"):
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its writer lives
            path.unlink(missing_ok=True)


def check_size(archive: Path, record: ShardRecord) -> None:
    """Raise IntegrityError unless a finished shard is there with the size that was recorded."""
    path = layout.shard_path(archive, record.sha256)
    if not path.is_file() or path.stat().st_size != record.size:
        raise IntegrityError(
            f"{path}: expected a finished shard of {record.size} bytes; "
            "run again, its task is repeated"
        )


class ShardReader:
    """Read extents of finished shards by pread on a bounded set of descriptors; thread-safe."""

    def __init__(self, archive: Path, *, n_open: int = _OPEN_SHARDS) -> None:
        self._archive = archive
        self._n_open = n_open
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, _Descriptor] = OrderedDict()

    def read(self, sha256: bytes, size: int, extent: tuple[int, int]) -> bytes:
        """Return ``length`` bytes at ``offset`` of a shard of ``size`` bytes; no CRC check here."""
        offset, length = extent
        path = layout.shard_path(self._archive, sha256)
        handle = self._descriptor(sha256, path, size)
        try:
            payload = _pread(handle.number, offset, length)
        except OSError as error:
            raise durable.unreadable(path, error) from error
        if len(payload) != length:
            raise IntegrityError(
                f"{path}: expected {length} bytes at {offset}, found {len(payload)}; "
                "restore the shard from a backup"
            )
        return payload

    def payload(self, sha256: bytes, size: int, extent: tuple[int, int], crc: int) -> bytes:
        """Return an extent of a shard of ``size`` bytes, whose CRC-32C was checked."""
        payload = self.read(sha256, size, extent)
        actual = crc32c(payload)
        if actual != crc:
            offset, length = extent
            raise IntegrityError(
                f"{layout.shard_path(self._archive, sha256)}: payload at {offset}, {length} bytes: "
                f"CRC-32C is {actual:#010x}, manifest says {crc:#010x}; "
                "restore the shard from a backup of the archive"
            )
        return payload

    def close(self) -> None:
        """Close every descriptor that is not in use."""
        with self._lock:
            self._open.clear()

    def _descriptor(self, sha256: bytes, path: Path, size: int) -> _Descriptor:
        with self._lock:
            handle = self._open.get(sha256)
            if handle is None:
                handle = self._open[sha256] = _Descriptor(path, size)
            self._open.move_to_end(sha256)
            while len(self._open) > self._n_open:
                self._open.popitem(last=False)
            return handle


class _Descriptor:
    """A descriptor that closes when the last user lets go, so eviction never pulls it away."""

    def __init__(self, path: Path, size: int) -> None:
        self.number = -1
        self.number = durable.open_regular(path)
        actual = os.fstat(self.number).st_size
        if actual != size:
            raise IntegrityError(
                f"{path}: expected {size} bytes, found {actual}; restore the shard from a backup"
            )

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def _pread(descriptor: int, offset: int, length: int) -> bytes:
    first = os.pread(descriptor, length, offset)
    if len(first) == length:
        return first
    parts = [first]  # one pread gives at most 0x7ffff000 bytes
    missing = length - len(first)
    while missing and parts[-1]:
        parts.append(os.pread(descriptor, missing, offset + length - missing))
        missing -= len(parts[-1])
    return b"".join(parts)
