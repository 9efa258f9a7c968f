"""Own how restored files appear: complete and checked under their name, or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from io import BufferedWriter
from pathlib import Path

from archiver.errors import IntegrityError, UsageError

# Restored setuid bits would let whoever made the archive run programs as whoever unpacks it.
_FILE_MODE = 0o777
_DIRECTORY_MODE = 0o3777
_BLOCK = 1 << 20


def write_copies(paths: Sequence[Path], chunks: Iterable[bytes], sha256: bytes) -> None:
    """Write ``chunks`` to all ``paths``; each gets its name once the SHA-256 is right."""
    scratch = [_scratch(path) for path in paths]
    try:
        digest = hashlib.sha256()
        with ExitStack() as stack:
            files = [stack.enter_context(_create(path)) for path in scratch]
            for chunk in chunks:
                digest.update(chunk)
                for file in files:
                    file.write(chunk)
        check_digest(digest.digest(), sha256)
        for made, path in zip(scratch, paths, strict=True):
            made.replace(path)
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)


def check_digest(found: bytes, expected: bytes) -> None:
    """Raise IntegrityError unless a rebuilt file is the one that was packed."""
    if found != expected:
        raise IntegrityError(
            f"the rebuilt file has SHA-256 {found.hex()}, expected {expected.hex()}; restore the "
            "archive from a backup, or rebuild on another machine, and report it"
        )


def write_link(path: Path, target: bytes) -> None:
    """Make the symlink ``path``; the same one there already is fine."""
    try:
        os.symlink(target, os.fsencode(path))  # noqa: PTH211 - the target as it is
    except FileExistsError:
        found = os.readlink(os.fsencode(path)) if path.is_symlink() else None  # noqa: PTH115
        if found != target:
            raise


def set_attributes(path: Path, mode: int, mtime_ns: int) -> None:
    """Set permissions and modification time; of a symlink only the time."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        return
    path.chmod(mode & (_DIRECTORY_MODE if stat.S_ISDIR(status.st_mode) else _FILE_MODE))
    os.utime(path, ns=(mtime_ns, mtime_ns))


def make_parents(dest: Path, path: bytes) -> None:
    """Make the directories above ``path`` inside ``dest``; never through a symlink."""
    folder = dest
    for part in path.split(b"/")[:-1]:
        folder /= os.fsdecode(part)
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
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest() == sha256


def _scratch(path: Path) -> Path:
    """Return the temporary name beside ``path``: always the same, so a rerun replaces it."""
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f".archiver-{name}.part")


def _create(path: Path) -> BufferedWriter:
    path.unlink(missing_ok=True)
    return path.open("xb")
