"""DEST of an unpack job: what is there before, and all that is made around the files' content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from archiver.errors import ArchiverError, DestinationError, UsageError
from archiver.jobs.hard_links import OtherName
from archiver.jobs.restore import unwritable
from archiver.jobs.restored import Restored
from archiver.pipeline import Entry
from archiver.pipeline.read import output_files

MOST_STRANGERS = 1 << 16  # paths that DEST may have besides before no more are counted


# --- before the files ------------------------------------------------------------------------


def missing(dest: Path, files: Sequence[Entry]) -> list[Entry]:
    """Return what is not in DEST yet; UsageError if something else is in its place."""
    absent = []
    for entry in files:
        path = dest / entry.path
        try:
            is_same = output_files.is_same_file(path, entry.rebuilt_sha256)
        except OSError:  # most likely there is none; why else is told when it is written
            absent.append(entry)
            continue
        if not is_same:
            raise UsageError(
                f"{path}: is there with other content; nothing was written. Unpack to an empty "
                "directory, or move the file away"
            )
    return absent


def make_places(dest: Path, entries: Sequence[Entry], restored: Restored) -> set[Entry]:
    """Make DEST and all directories; return the entries that have one to be in."""
    try:
        dest.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DestinationError(f"{dest}: {unwritable(error)}") from error
    placed = set()
    for entry in entries:
        path = os.fsencode(entry.path)
        try:
            output_files.make_parents(dest, path + b"/" if entry.kind == "directory" else path)
        except OSError as error:
            restored.fail([entry], unwritable(error))
        else:
            placed.add(entry)
    return placed


def keep_present(
    dest: Path, files: Sequence[Entry], absent: Sequence[Entry], restored: Restored
) -> None:
    """Count the files that are there already; their attributes are set again."""
    paths = {entry.path for entry in absent}
    for entry in files:
        if entry.path not in paths and set_attributes(dest, entry, restored):
            restored.done(entry, stored=0)


# --- after the files -------------------------------------------------------------------------


def make_other_names(dest: Path, links: Sequence[OtherName], restored: Restored) -> None:
    """Link the further names of files that were restored."""
    failed = {failure.path: failure for failure in restored.failures}
    n_copies = 0
    for link in links:
        first = failed.get(link.first.path)
        if first is not None:
            restored.report([link.entry], first.message, first.verdict)
            continue
        try:
            n_copies += not link.write(dest)
            restored.done(link.entry, stored=0)
        except OSError as error:
            restored.fail([link.entry], unwritable(error))
        except ArchiverError as error:
            restored.fail([link.entry], error)
    if n_copies:
        restored.tell(f"{n_copies} hard links became copies: {dest} has no such")


def make_links(dest: Path, links: Sequence[Entry], restored: Restored) -> None:
    """Make symlinks last: nothing is ever written through one."""
    for entry in links:
        path = dest / entry.path
        try:
            output_files.write_link(path, b"".join(entry.chunks()))
            output_files.set_attributes(path, entry.mode, entry.mtime_ns)
        except OSError as error:
            restored.fail([entry], unwritable(error))
        except ArchiverError as error:
            restored.fail([entry], error)


def finish_directories(dest: Path, folders: Sequence[Entry], restored: Restored) -> None:
    """Set modes and times of directories from the deepest up: writing inside changes them."""
    for entry in sorted(folders, key=lambda folder: folder.path, reverse=True):
        set_attributes(dest, entry, restored)


def set_attributes(dest: Path, entry: Entry, restored: Restored) -> bool:
    """Set mode and time of what is there; False, and a failure, if that cannot be."""
    try:
        output_files.set_attributes(dest / entry.path, entry.mode, entry.mtime_ns)
    except OSError as error:
        restored.fail([entry], unwritable(error))
        return False
    return True


# --- what is said of it ----------------------------------------------------------------------


def tell_dropped(entries: Sequence[Entry], restored: Restored) -> None:
    """Say which permission bits do not come back."""
    dropped = [
        entry.path
        for entry in entries
        if entry.kind != "symlink"
        and output_files.dropped_bits(entry.mode, is_directory=entry.kind == "directory")
    ]
    if dropped:
        restored.tell(
            f"{len(dropped)} paths had a setuid or setgid bit, which is not restored "
            f"(first: {dropped[0]}); `archiver ls -l` shows it, chmod sets it"
        )


def tell_strangers(dest: Path, entries: Sequence[Entry], restored: Restored) -> None:
    """Say that DEST has more than the tree that was asked for."""
    known = {os.fsencode(entry.path) for entry in entries}
    root = os.fsencode(dest)
    there = (
        os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118
        for folder, folders, names in os.walk(root)
        for name in (*folders, *names)
    )
    n_more = sum(path not in known for path in islice(there, len(known) + MOST_STRANGERS))
    if n_more:
        restored.tell(f"{dest} has {n_more} more paths, which this generation has not")
