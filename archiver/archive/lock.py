"""The place that one writer holds: its directories, its lock, what the system refuses there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import filelock

from archiver.archive import durable, layout
from archiver.archive.tables import GROUP
from archiver.errors import (
    ArchiverError,
    DestinationError,
    IntegrityError,
    LockedError,
    UsageError,
    advice,
)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise DestinationError(
            f"{path}: cannot be written ({error}); {advice(error)}, then run the same command: "
            "it continues"
        ) from error


def prepare(path: Path) -> None:
    """Make the directories of an archive, unless ``path`` holds something else."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file; name a new or empty directory for the archive")
    path.mkdir(parents=True, exist_ok=True)
    others = {item.name for item in path.iterdir()} - layout.OUR_NAMES
    if others and not (path / layout.MANIFEST / "zarr.json").is_file():
        raise UsageError(
            f"{path}: not empty and not an archive (it contains {min(others)!r}); "
            "name a new or empty directory"
        )
    for name in (layout.MODELS, layout.SHARDS, layout.MANIFEST, layout.TASKS):
        (path / name).mkdir(parents=True, exist_ok=True)
    group = path / layout.MANIFEST / "zarr.json"
    if not group.exists() and not (path / layout.ROOT).exists():
        durable.replace_file(group, GROUP, scratch=path / layout.WIP / f"group.{os.getpid()}.wip")
    durable.sync(path)
    durable.sync(path.parent)


def acquire(path: Path, wait_s: float) -> filelock.BaseFileLock:
    """Return the lock of an archive, held; LockedError if another has it for ``wait_s`` seconds."""
    name = path / layout.LOCK
    lock = filelock.FileLock(name, thread_local=False)
    if os.path.lexists(name) and not stat.S_ISREG(name.lstat().st_mode):
        raise IntegrityError(f"{name}: expected a regular file, found something else; remove it")
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout as error:
        raise LockedError(
            f"{path}: {_owner(path / layout.LOCK)} is writing to this archive; "
            "wait for it to finish, or stop it and run again"
        ) from error
    host, since = socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds")
    (path / layout.LOCK).write_text(
        json.dumps({"process": os.getpid(), "host": host, "since": since})
    )
    return lock


def _owner(path: Path) -> str:
    try:
        owner = json.loads(durable.read_file(path, limit=4096))
        return f"process {owner['process']} on {owner['host']}, since {owner['since']},"
    except (ArchiverError, ValueError, KeyError, TypeError):
        return "another process"
