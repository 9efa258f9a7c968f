"""The names of one file when it is unpacked: one is restored, the others become links to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from archiver.pipeline import Entry
from archiver.pipeline.read import output_files


@dataclass(frozen=True)
class OtherName:
    """An entry that is another name of the file at ``first``."""

    entry: Entry
    first: Entry

    def write(self, dest: Path) -> bool:
        """Make the link; False if only a copy could be made.  ArchiverError, OSError."""
        path, first = dest / self.entry.path, dest / self.first.path
        if output_files.write_name(path, first):
            return True
        output_files.write_copies([path], output_files.blocks(first), self.entry.rebuilt_sha256)
        output_files.set_attributes(path, self.entry.mode, self.entry.mtime_ns)
        return False


def other_names(files: Sequence[Entry]) -> list[OtherName]:
    """Return the files that are another name of one before them.

    They have its link number, and content, mode and time as well: else a run that did not look at
    all names left the others as they had been.
    """
    first: dict[tuple[int, ...], Entry] = {}
    others = []
    for entry in files:
        key = (entry.link, entry.object, entry.mode, entry.mtime_ns)
        leader = first.setdefault(key, entry)
        if entry.link and leader is not entry:
            others.append(OtherName(entry, leader))
    return others


def untangled(dest: Path, files: Sequence[Entry], missing: Collection[Entry]) -> list[Entry]:
    """Remove names in ``dest`` that are one file there and several in the archive; return these.

    Their content is right, so nothing is lost: they are written again as files of their own.
    """
    absent, first = set(missing), dict[tuple[int, int], Entry]()
    removed = []
    for entry in files:
        if entry in absent:
            continue
        status = (dest / entry.path).lstat()
        leader = first.setdefault((status.st_dev, status.st_ino), entry)
        if leader is not entry and not _is_one(leader, entry):
            (dest / entry.path).unlink()
            removed.append(entry)
    return removed


def _is_one(leader: Entry, other: Entry) -> bool:
    return leader.link != 0 and (leader.link, leader.mode, leader.mtime_ns) == (
        other.link,
        other.mode,
        other.mtime_ns,
    )
