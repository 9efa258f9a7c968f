"""Files to the disk and back: fsync, atomic replacement, useful errors."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from archiver.errors import ArchiverError, IntegrityError, MachineError

# What the operating system says if a path leads to, or through, something that is no regular file.
_OTHER_KIND = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV})
_SYNC_THREADS = 8  # a journal commits many fsyncs at once if they are in flight together


def open_regular(path: Path | str) -> int:
    """Open a regular file for reading and return its descriptor; never blocks on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{path}: expected a file, found nothing; restore it from a backup of the archive"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(
            f"{path}: expected a regular file, found something else; "
            "restore it from a backup of the archive"
        )
    return descriptor


def read_file(path: Path | str, *, limit: int) -> bytes:
    """Return the content of a file of at most ``limit`` bytes."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise IntegrityError(
                f"{path}: expected at most {limit} bytes, found {size}; "
                "restore it from a backup of the archive"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(descriptor)


def unreadable(path: Path | str, error: OSError) -> ArchiverError:
    """Return the error to raise when the operating system refuses to read ``path``.

    Damage only if something else is in its place: a disk that fails, a mount that is gone or a
    limit of this process say nothing about the bytes.
    """
    if error.errno in _OTHER_KIND:
        return IntegrityError(
            f"{path}: expected a regular file ({error.strerror}); "
            "restore it from a backup of the archive"
        )
    return MachineError(
        f"{path}: cannot be read ({error.strerror}); "
        "check permissions, disk and mount, then try again"
    )


def write_file(path: Path, data: bytes) -> None:
    """Write a file and wait until its content is on disk; its name may still be lost."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes, *, scratch: Path) -> None:
    """Switch ``path`` to ``data`` in one step: a crash leaves the old content or the new one."""
    write_file(scratch, data)
    os.replace(scratch, path)  # noqa: PTH105 - the one atomic step; spelled as in FORMAT.md
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Wait until every file and directory below ``root``, and ``root`` itself, are on disk."""
    paths = [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
    paths += [Path(folder) for folder, _, _ in os.walk(root)]
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(sync, paths))


def regular_files(root: Path) -> Iterator[tuple[str, int]]:
    """Yield ("a/b", size) of every file below ``root``, in no order; refuse links and devices."""
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        try:
            for item in list(os.scandir(folder)):
                name = prefix + item.name
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append((f"{name}/", folder / item.name))
                elif stat.S_ISREG(status.st_mode):
                    yield name, status.st_size
                else:
                    raise IntegrityError(
                        f"{item.path}: expected a file or directory, found a link or device; "
                        "remove it"
                    )
        except FileNotFoundError as error:
            raise IntegrityError(
                f"{folder}: expected a directory, found nothing; "
                "restore it from a backup of the archive"
            ) from error
        except OSError as error:
            raise unreadable(folder, error) from error
