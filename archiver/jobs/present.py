"""Items of a tree that an archive has already, which need no reading."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from archiver.archive import layout, seen
from archiver.archive.seen import Seen, Sight
from archiver.errors import NotFoundError, SourceError
from archiver.jobs.plan import Item
from archiver.pipeline import known_content
from archiver.pipeline.write import source_file
from archiver.sources import Fidelity

_READERS = 8


@dataclass(frozen=True)
class Known:
    """The newest entry of a path; ``size`` is that of a file's content.

    ``is_good`` if the content is there with at least the fidelity that is asked for.
    """

    kind: int
    mode: int
    mtime_ns: int
    size: int
    sha256: bytes | None
    link: int
    is_sparse: bool
    is_good: bool


@dataclass(frozen=True)
class Present:
    """The current entries of an archive, by path; ``is_empty`` if it has no generation yet."""

    entries: Mapping[bytes, Known]
    is_empty: bool
    seen: Seen = field(default_factory=dict)

    @classmethod
    def read(cls, archive: Path, fidelity: str) -> Present:
        """Read the entries, and what the last run saw of them."""
        try:
            reader = known_content.opened(archive)
        except NotFoundError:
            return cls({}, is_empty=True)
        good = known_content.known(archive, Fidelity[fidelity.upper()])
        entries = {}
        for entry in reader.entries():
            content = reader.object(entry.object) if entry.object >= 0 else None
            entries[entry.path] = Known(
                entry.kind,
                entry.mode,
                entry.mtime_ns,
                content.size if content is not None and entry.kind == layout.FILE else 0,
                content.sha256 if content is not None else None,
                entry.link,
                entry.is_sparse,
                is_good=content is None or content.sha256 in good,
            )
        return cls(entries, is_empty=False, seen=seen.read(archive))

    def new(self, items: Iterable[Item]) -> list[Item]:
        """Return the files and links that are not there with this size and modification time."""
        return [
            item for item in items if item.kind != layout.DIRECTORY and self.content(item) is None
        ]

    def content(self, item: Item) -> bytes | None:
        """Return the SHA-256 of an item that need not be read again, else None."""
        known = self.entries.get(item.path)
        if known is None or not known.is_good:
            return None
        if (known.kind, known.size, known.mtime_ns) != (item.kind, item.size, item.mtime_ns):
            return None
        return known.sha256

    def doubtful(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that are there, but were changed in some way since they were seen.

        Inodes count where the file system keeps them: if most are others, all are.
        """
        there = [item for item in items if self.content(item) is not None]
        sights = [(item, self.seen.get(seen.key(item.path))) for item in there]
        same = [s.inode == i.inode for i, s in sights if s and s.ctime_ns == i.ctime_ns]
        keeps_inodes = 2 * sum(same) >= len(same)
        return [i for i, sight in sights if sight and not self._is_as_seen(i, sight, keeps_inodes)]

    def _is_as_seen(self, item: Item, sight: Sight, keeps_inodes: bool) -> bool:
        if sight.content != seen.key(self.content(item) or b""):
            return False
        return sight.ctime_ns == item.ctime_ns and (sight.inode == item.inode or not keeps_inodes)

    def changed(self, source: Path, items: Sequence[Item]) -> list[Item]:
        """Read items that are there, and return those that have another content now."""
        first = {item.file or item.path: item for item in reversed(items)}
        with ThreadPoolExecutor(_READERS) as pool:
            digests = pool.map(lambda item: _sha256(source, item), first.values())
            contents = dict(zip(first, digests, strict=True))
        return [i for i in items if contents[i.file or i.path] != self.content(i)]

    def sights(
        self, items: Iterable[Item], contents: Mapping[bytes, bytes], failed: Collection[bytes]
    ) -> Seen:
        """Return what is seen now: of ``items``, and what was seen of entries that are not there.

        ``contents`` has the SHA-256 of what was read, by path; what ``failed`` to be read stays as
        it was seen, and so is looked at again.
        """
        now = {
            seen.key(item.path): Sight(seen.key(sha256), item.ctime_ns, item.inode)
            for item in items
            if item.path not in failed
            and (sha256 := contents.get(item.path) or self.content(item)) is not None
        }
        before = (seen.key(path) for path in self.entries)
        return {**{key: self.seen[key] for key in before if key in self.seen}, **now}


def _sha256(source: Path, item: Item) -> bytes | None:
    """Return the digest of a file, or of the target of a link; None if it cannot be read."""
    path = os.fsencode(source / item.name)
    try:
        if item.kind == layout.SYMLINK:
            return hashlib.sha256(os.readlink(path)).digest()  # noqa: PTH115 - as it is
        with source_file.open_source(source / item.name) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, SourceError):
        return None
