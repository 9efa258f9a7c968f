"""Restored files: they appear complete and checked under their name, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from io import BufferedWriter
from pathlib import Path

from archiver.errors import IntegrityError, UsageError

# Restored setuid bits would let whoever made the archive run programs as whoever unpacks it.
_FILE_MODE = 0o1777
_DIRECTORY_MODE = 0o3777
_BLOCK = 1 << 20
_HOLE = 4096  # zeros from which a hole is left, at multiples of it
_ZEROS = bytes(_HOLE)
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
_LATEST_S = (1 << 31) - 1  # seconds that any file system can hold


def write_copies(
    paths: Sequence[Path],
    chunks: Iterable[bytes],
    sha256: bytes,
    *,
    sparse: Collection[Path] = (),
) -> None:
    """Write ``chunks`` to all ``paths``; each gets its name once the SHA-256 is right.

    Those in ``sparse`` get holes where there are only zeros.
    """
    scratch = [_scratch(path) for path in paths]
    try:
        digest = hashlib.sha256()
        with ExitStack() as stack:
            files = [stack.enter_context(_create(path)) for path in scratch]
            holed = [file for file, path in zip(files, paths, strict=True) if path in sparse]
            whole = [file for file in files if file not in holed]
            for chunk in chunks:
                digest.update(chunk)
                for file in whole:
                    file.write(chunk)
                for file in holed:
                    _write_with_holes(file, chunk)
            for file in holed:
                file.truncate()  # to where it is: a hole at the end has to be made
        check_digest(digest.digest(), sha256)
        for made, path in zip(scratch, paths, strict=True):
            made.replace(path)
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)


def check_digest(digest: bytes, expected: bytes) -> None:
    """Raise IntegrityError unless a rebuilt file is the one that was packed."""
    if digest != expected:
        raise IntegrityError(
            f"the rebuilt file has SHA-256 {digest.hex()}, expected {expected.hex()}; restore the "
            "archive from a backup, or rebuild on another machine, and report it"
        )


def write_link(path: Path, target: bytes) -> None:
    """Make the symlink ``path``; the same one there already is fine."""
    try:
        os.symlink(target, os.fsencode(path))  # noqa: PTH211 - the target as it is
    except FileExistsError:
        current = os.readlink(os.fsencode(path)) if path.is_symlink() else None  # noqa: PTH115
        if current != target:
            raise


def write_name(path: Path, first: Path) -> bool:
    """Make ``path`` another name of the file ``first``; False if the file system has no such."""
    try:
        os.link(first, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def set_attributes(path: Path, mode: int, mtime_ns: int) -> None:
    """Set permissions and modification time; of a symlink only the time."""
    status = path.lstat()
    if not stat.S_ISLNK(status.st_mode):
        path.chmod(mode & ~dropped_bits(mode, is_directory=stat.S_ISDIR(status.st_mode)))
    _set_time(path, mtime_ns)


def dropped_bits(mode: int, *, is_directory: bool) -> int:
    """Return the bits of a mode that are not restored: setuid, and setgid of files."""
    return mode & ~(_DIRECTORY_MODE if is_directory else _FILE_MODE)


def _set_time(path: Path, mtime_ns: int) -> None:
    """Set a modification time; one that the file system cannot hold comes as near as it can."""
    try:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
    except (OverflowError, OSError) as error:
        nearest = min(max(0, mtime_ns), _LATEST_S * 10**9)
        if nearest == mtime_ns or getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
            raise
        os.utime(path, ns=(nearest, nearest), follow_symlinks=False)


def make_parents(dest: Path, path: bytes) -> None:
    """Make the directories above ``path`` inside ``dest``; never through a symlink."""
    folder = dest
    for name in path.split(b"/")[:-1]:
        folder /= os.fsdecode(name)
        make_directory(folder)


def make_directory(folder: Path) -> None:
    """Make one directory, or accept the one that is there; UsageError if it is something else."""
    try:
        folder.mkdir()
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise UsageError(
                f"{folder}: expected a directory, found a file or link; "
                "unpack to an empty directory"
            ) from None


def is_same_file(path: Path, sha256: bytes) -> bool:
    """Whether ``path`` is a regular file with that content."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    digest = hashlib.sha256()
    for block in blocks(path):
        digest.update(block)
    return digest.digest() == sha256


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file that was restored."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _write_with_holes(file: BufferedWriter, chunk: bytes) -> None:
    """Write a chunk, but step over blocks of zeros."""
    start, at = 0, file.tell()
    while start < len(chunk):
        end = min(len(chunk), start + _HOLE - (at + start) % _HOLE)
        piece = chunk[start:end]
        if piece == _ZEROS[: len(piece)]:
            file.seek(len(piece), os.SEEK_CUR)
        else:
            file.write(piece)
        start = end


def _scratch(path: Path) -> Path:
    """Return the temporary name beside ``path``: always the same, so a rerun replaces it."""
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".archiver-{name}.part")


def _create(path: Path) -> BufferedWriter:
    path.unlink(missing_ok=True)
    return path.open("xb")
