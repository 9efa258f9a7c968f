"""Every exception of the package and the exit code each one maps to.

    ArchiverError            1   something failed
    ├── UsageError           2   a bad option, a bad job manifest
    ├── SourceError          3   an input could not be read; the archive is still good
    ├── NotFoundError       10   no archive there, no such entry
    ├── FormatError         11   not ours, too new, too old, impossible value
    ├── IntegrityError      12   checksum mismatch, truncated, damaged
    ├── LockedError         13   another writer holds the archive
    ├── ParityError         14   this machine does not compute the exact bits
    ├── MachineError        15   a machine, disk or worker failed: nothing is said of the archive
    └── DestinationError    16   what was to be written could not be: disk full, no permission

Exit code 0 is success, 130 is Ctrl-C.  Every message says where, what was expected, what was
found, and what to do.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from enum import StrEnum


class ArchiverError(Exception):
    """Base of all errors that archiver raises on purpose."""

    exit_code = 1


class UsageError(ArchiverError, ValueError):
    """An option or a job manifest does not make sense."""

    exit_code = 2


class SourceError(ArchiverError):
    """An input file could not be read; nothing else is affected."""

    exit_code = 3


class NotFoundError(ArchiverError, KeyError):
    """There is no archive, or no entry, of that name."""

    exit_code = 10

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class FormatError(ArchiverError, ValueError):
    """The data is not ours, or of a version this release cannot read."""

    exit_code = 11


class IntegrityError(ArchiverError):
    """Stored data is damaged: checksum, length or an impossible value."""

    exit_code = 12


class LockedError(ArchiverError):
    """Another process is writing to the archive."""

    exit_code = 13


class ParityError(ArchiverError):
    """This machine failed the exactness self-test; its results cannot be trusted."""

    exit_code = 14


class MachineError(ArchiverError):
    """A machine, a disk or a worker failed; what it was to read may well be whole."""

    exit_code = 15


class DestinationError(ArchiverError):
    """What was to be written could not be: the disk is full, read-only, or not ours."""

    exit_code = 16


class Verdict(StrEnum):
    """Why a file is not good: what is known of it."""

    FAILED = "failed"  # a source that could not be packed
    DAMAGED = "damaged"
    UNCHECKED = "could not be checked"
    UNWRITTEN = "could not be written"


_CODES = {  # the worst first
    Verdict.DAMAGED: IntegrityError.exit_code,
    Verdict.UNWRITTEN: DestinationError.exit_code,
    Verdict.UNCHECKED: MachineError.exit_code,
    Verdict.FAILED: SourceError.exit_code,
}


def worst_code(verdicts: Iterable[Verdict]) -> int:
    """Return the exit code of a job whose files ended so, 0 if none did."""
    seen = set(verdicts)
    return next((code for verdict, code in _CODES.items() if verdict in seen), 0)


def verdict_of(error: Exception | None) -> Verdict:
    """Return what an error says of the file that it hit: only checked facts are damage."""
    if isinstance(error, DestinationError):
        return Verdict.UNWRITTEN
    if isinstance(error, IntegrityError | FormatError):
        return Verdict.DAMAGED
    return Verdict.UNCHECKED


def is_of_machine(error: object) -> bool:
    """Whether the machine ran short or refused; libraries raise OSError of nonsense, too."""
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, MachineError | MemoryError)


def within(where: str, error: Exception) -> ArchiverError:
    """Return ``error`` as one of ``where``: a machine's failure never turns into damage."""
    if isinstance(error, ParityError):
        return error
    if isinstance(error, MachineError):
        return MachineError(f"{where}: {error}")
    if is_of_machine(error):
        what = str(error) or type(error).__name__
        return MachineError(f"{where}: {what}; free memory or look after the machine, try again")
    return IntegrityError(f"{where}: {error}")


_ADVICE = {  # what to do about what the operating system says
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there: a quota is used up",
    errno.EFBIG: "the file system takes no file as large: use another one",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "mount the file system for writing",
    errno.ENAMETOOLONG: "the file system takes no name as long: use another one, or a shorter path",
    errno.ENOENT: "it vanished, or a directory above it: check that the file system is mounted",
    errno.ESTALE: "it vanished: check that the file system is mounted",
    errno.ENOTDIR: "a file stands where a directory is expected: move it away",
    errno.EISDIR: "a directory stands where a file is expected: move it away",
    errno.EEXIST: "something else stands there: move it away",
    errno.ENOTEMPTY: "something else stands there: move it away",
    errno.ELOOP: "its symbolic links lead in a circle: mend them",
    errno.EMFILE: "let processes open more files (ulimit -n)",
    errno.ENFILE: "close other programs: the machine has too many open files",
    errno.EIO: "check the disk and its connection",
}


def advice(error: OSError) -> str:
    """Return what a user can do about an error of the operating system, as a clause."""
    return _ADVICE.get(error.errno or 0, "check the disk and its permissions")
