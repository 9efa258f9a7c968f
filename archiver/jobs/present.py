"""Own what an archive has of a tree already: which items need no reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archiver.archive import layout
from archiver.errors import NotFoundError
from archiver.jobs.plan import Item
from archiver.pipeline import content
from archiver.sources import Fidelity


@dataclass(frozen=True)
class _Known:
    """The newest entry of a path; ``size`` is that of a file's content."""

    kind: int
    mode: int
    mtime_ns: int
    size: int
    sha256: bytes | None


@dataclass(frozen=True)
class Present:
    """The current entries of an archive, by path; ``is_empty`` if it has no generation yet."""

    entries: Mapping[bytes, _Known]
    is_empty: bool

    @classmethod
    def read(cls, archive: Path, fidelity: str) -> Present:
        """Read the entries whose content is there with at least ``fidelity``."""
        try:
            reader = content.opened(archive)
        except NotFoundError:
            return cls({}, is_empty=True)
        good = content.known(archive, Fidelity[fidelity.upper()])
        entries = {}
        for entry in reader.entries():
            one = reader.object(entry.object) if entry.object >= 0 else None
            if one is None or one.sha256 in good:
                size = one.size if one is not None and entry.kind == layout.FILE else 0
                entries[entry.path] = _Known(
                    entry.kind, entry.mode, entry.mtime_ns, size, one.sha256 if one else None
                )
        return cls(entries, is_empty=False)

    def new(self, items: Iterable[Item]) -> list[Item]:
        """Return the files and links that are not there with this size and modification time."""
        return [
            item for item in items if item.kind != layout.DIRECTORY and self.content(item) is None
        ]

    def touched(self, items: Iterable[Item]) -> list[Item]:
        """Return the items whose entry is missing or says something else."""
        return [item for item in items if not self._is_same(item)]

    def content(self, item: Item) -> bytes | None:
        """Return the SHA-256 of an item that need not be read again, else None."""
        known = self.entries.get(item.path)
        if known is None or (known.kind, known.size) != (item.kind, item.size):
            return None
        return known.sha256 if known.mtime_ns == item.mtime_ns else None

    def _is_same(self, item: Item) -> bool:
        known = self.entries.get(item.path)
        return known is not None and (known.kind, known.mode, known.mtime_ns, known.size) == (
            item.kind,
            item.mode,
            item.mtime_ns,
            item.size,
        )
