"""Entries of a new generation: what is new or changed in the tree, and what is gone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archiver.archive import layout
from archiver.archive.records import EntryRecord, removal
from archiver.jobs.plan import Item, Scan
from archiver.jobs.present import Known, Present
from archiver.pipeline import globs

ROOT = "."  # how a failure names the source itself


# --- what is there ---------------------------------------------------------------------------


def entries(
    source: Path, items: Sequence[Item], contents: Mapping[bytes, bytes], known: Present
) -> list[EntryRecord]:
    """Return the entries that are missing or say something else.

    ``contents`` has the SHA-256 of what was read, by path.  Items that could not be read keep the
    entry that they have.
    """
    links = numbered(items, known.entries)
    changed = []
    for item in items:
        sha256 = contents.get(item.path) or known.content(item)
        if sha256 is None and item.kind != layout.DIRECTORY:
            continue
        before = known.entries.get(item.path)
        if before is not None and before.kind == item.kind and item.path not in contents:
            is_sparse = before.is_sparse
        else:
            is_sparse = item.is_thin and has_hole(source / item.name)
        link = links.get(item.path, 0)
        entry = EntryRecord(item.path, item.kind, item.mode, item.mtime_ns, sha256, link, is_sparse)
        if before is None or not _is_same(entry, before):
            changed.append(entry)
    return changed


def _is_same(entry: EntryRecord, before: Known) -> bool:
    new = (entry.kind, entry.mode, entry.mtime_ns, entry.sha256, entry.link, entry.is_sparse)
    old = (before.kind, before.mode, before.mtime_ns, before.sha256, before.link, before.is_sparse)
    return new == old and before.is_good


def has_hole(path: Path) -> bool:
    """Whether a file has a hole, as far as its file system tells."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.seek(0, os.SEEK_HOLE) < os.fstat(file.fileno()).st_size
    except OSError:
        return False


# --- names of one file -----------------------------------------------------------------------


def first_names(items: Iterable[Item]) -> tuple[list[Item], dict[bytes, list[Item]]]:
    """Return the items but for further names of one file, and those by the path of the first."""
    first: dict[tuple[int, int], Item] = {}
    others: dict[bytes, list[Item]] = {}
    kept = []
    for item in items:
        if item.file is not None and (leader := first.setdefault(item.file, item)) is not item:
            others.setdefault(leader.path, []).append(item)
        else:
            kept.append(item)
    return kept, others


def numbered(items: Iterable[Item], known: Mapping[bytes, Known]) -> dict[bytes, int]:
    """Return the link number of every file with several names; it keeps the one that it has.

    Of a file whose other names are not among ``items``, nothing new is known.
    """
    groups: dict[tuple[int, int], list[bytes]] = {}
    for item in items:
        if item.file is not None:
            groups.setdefault(item.file, []).append(item.path)
    had = {path: known[path].link for paths in groups.values() for path in paths if path in known}
    used = {entry.link for entry in known.values()}
    fresh = (number for number in itertools.count(1) if number not in used)
    numbers: dict[bytes, int] = {}
    taken = {0}
    for paths in sorted(groups.values(), key=lambda paths: len(paths) == 1):
        number = next((had[p] for p in paths if had.get(p, 0) not in taken), 0)
        if len(paths) > 1:
            number = number or next(fresh)
        taken.add(number)
        numbers |= dict.fromkeys(paths, number)
    return numbers


# --- what is gone ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Gone:
    """Paths that the tree no longer has: all of them, and whether files or links are among them."""

    paths: frozenset[bytes] = frozenset()
    has_files: bool = False

    def removals(self, entries_: Iterable[EntryRecord]) -> list[EntryRecord]:
        """Return the entries that say so: the topmost path of each, unless a file replaced it."""
        covered = {entry.path for entry in entries_ if entry.kind != layout.DIRECTORY} | self.paths
        return [removal(path) for path in sorted(self.paths) if covered.isdisjoint(_above(path))]


def gone(
    known: Present,
    scan: Scan,
    failed: Iterable[str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Gone:
    """Return what ``known`` has and the tree has not.

    A path that ``include`` and ``exclude`` leave out is not looked for, so it is not gone; nor is
    what could not be looked at: paths that ``failed``, and all below them.  A directory stays if
    something below it does.  One that only stood above what was included goes with that.
    """
    is_hidden = _hidden(failed, exclude)
    absent = {path for path in known.entries if path not in scan.paths and not is_hidden(path)}
    is_included = globs.any_of(include)
    asked = {path for path in absent if not include or is_included(os.fsdecode(path))}
    folders = {path for path in absent - asked if known.entries[path].kind == layout.DIRECTORY}
    needed = _all_above(known.entries.keys() - asked - folders)
    paths = (asked | (folders & _all_above(asked))) - needed
    kinds = {known.entries[path].kind for path in paths}
    return Gone(frozenset(paths), bool(kinds - {layout.DIRECTORY}))


def _hidden(failed: Iterable[str], exclude: Sequence[str]) -> Callable[[bytes], bool]:
    """Return a test for paths that could not be looked at, or should not."""
    unseen = {os.fsencode(path) for path in failed}
    is_excluded = globs.any_of(exclude)
    if os.fsencode(ROOT) in unseen:
        return lambda path: True
    return lambda path: (
        path in unseen or not unseen.isdisjoint(_above(path)) or is_excluded(os.fsdecode(path))
    )


def _all_above(paths: Collection[bytes]) -> set[bytes]:
    return {above for path in paths for above in _above(path)}


def _above(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path, the nearest first."""
    while path := path.rpartition(b"/")[0]:
        yield path
