"""Entries that a generation shows: per path the latest one that nothing newer replaced."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from archiver.archive import layout
from archiver.archive.index import Index
from archiver.errors import IntegrityError


class View:
    """Path -> global row of the entry that is current, in the order of the paths."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._rows: dict[bytes, int] = {}
        self._was_file: dict[bytes, int] = {}  # directories that once were none, or gone
        kinds = index.whole("entries", "kind")
        for row, path in enumerate(index.text("entries", "path")):
            before = self._rows.get(path)
            if before is not None and kinds[before] != layout.DIRECTORY:
                self._was_file[path] = before
            self._rows[path] = row
        self._kinds = kinds
        self._hide_replaced()
        self._rows = {p: row for p, row in self._rows.items() if kinds[row] != layout.REMOVED}
        self._rows = dict(sorted(self._rows.items()))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._rows)

    def get(self, path: bytes) -> int | None:
        """Return the global row of a path, None if there is no such entry."""
        return self._rows.get(path)

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Yield (path, global row) in the order of the paths."""
        return iter(self._rows.items())

    def _hide_replaced(self) -> None:
        """Drop entries below a newer file or removal, and files that newer entries lie below.

        So no entry of a view lies below a file or a symbolic link: restoring cannot be led
        elsewhere by a link that the archive itself contains.
        """
        barriers: dict[bytes, int] = {}
        hidden: set[bytes] = set()
        for path, row in self._rows.items():
            parent = path.rpartition(b"/")[0]
            barrier = self._barrier(parent, barriers)
            if barrier < 0:
                continue
            if self._generation(barrier) == self._generation(row):
                raise IntegrityError(
                    f"{self._index.archive}: entry {layout.display(path)!r} lies below a file or "
                    "removal of the same generation; the program that wrote it is at fault: "
                    "restore a backup"
                )
            if barrier > row:
                hidden.add(path)
            else:
                hidden.update(self._files_above(parent))
        for path in hidden:
            del self._rows[path]

    def _barrier(self, folder: bytes, known: dict[bytes, int]) -> int:
        """Return the newest row at or above ``folder`` that was no directory, -1 if none."""
        steps = []
        while folder and folder not in known:
            steps.append(folder)
            folder = folder.rpartition(b"/")[0]
        barrier = known.get(folder, -1)
        for step in reversed(steps):
            barrier = known[step] = max(barrier, self._file_row(step))
        return barrier

    def _file_row(self, path: bytes) -> int:
        row = self._rows.get(path, -1)
        if row >= 0 and self._kinds[row] != layout.DIRECTORY:
            return row
        return self._was_file.get(path, -1)

    def _files_above(self, folder: bytes) -> Iterator[bytes]:
        while folder:
            row = self._rows.get(folder, -1)
            if row >= 0 and self._kinds[row] != layout.DIRECTORY:
                yield folder
            folder = folder.rpartition(b"/")[0]

    def _generation(self, row: int) -> int:
        return self._index.locate("entries", row)[0]


def matches(path: bytes, pattern: str | bytes) -> bool:
    """Whether a path, or a directory above it, matches a pattern with shell wildcards."""
    wanted = pattern.encode("utf-8", "surrogateescape") if isinstance(pattern, str) else pattern
    wanted = wanted.rstrip(b"/")
    while path:
        if path == wanted or fnmatchcase(path, wanted):
            return True
        path = path.rpartition(b"/")[0]
    return False
