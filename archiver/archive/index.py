"""The tables of all generations as one: global indices, loaded on demand, checked once.

    global row   0 ........ start[1] ........ start[2] ........ n
                 | generation 1 | generation 2   | generation 3 |

Objects, their images, tiles and residues always lie in one generation, so looking at one object
loads the tables of that generation only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout, validate
from archiver.archive.commit import Commit
from archiver.archive.manifest import read_table
from archiver.archive.tables import TABLES, Columns, column, empty


class Index:
    """Tables of the given generations (1, 2, ... in order) of an archive; thread-safe."""

    def __init__(self, archive: Path, commits: Sequence[Commit]) -> None:
        self.archive = archive
        self.commits = tuple(commits)
        self._starts = {
            name: [0, *accumulate(commit.size(name).rows for commit in commits)] for name in TABLES
        }
        self._tables: dict[tuple[int, str], Columns] = {}
        self._whole: dict[tuple[str, str], NDArray[Any]] = {}
        self._lock = threading.RLock()

    def n_rows(self, table: str) -> int:
        """Return the number of rows in all generations."""
        return self._starts[table][-1]

    def start(self, place: int, table: str) -> int:
        """Return the global index of the first row of generation ``place + 1``."""
        return self._starts[table][place]

    def rows(self, place: int, table: str) -> tuple[int, int]:
        """Return (low, high): the global rows of generation ``place + 1``."""
        return self._starts[table][place], self._starts[table][place + 1]

    def locate(self, table: str, index: int) -> tuple[int, int]:
        """Return (place, row): the generation, from 0, and the row inside its table."""
        if not 0 <= index < self.n_rows(table):
            raise IndexError(f"{table} has {self.n_rows(table)} rows, there is no {index}")
        place = int(np.searchsorted(self._starts[table], index, side="right")) - 1
        return place, index - self._starts[table][place]

    def table(self, place: int, name: str) -> Columns:
        """Return the columns of a table of generation ``place + 1``, checked."""
        with self._lock:
            if (place, name) not in self._tables:
                self._tables[place, name] = self._load(place, name)
            return self._tables[place, name]

    def whole(self, table: str, name: str) -> NDArray[Any]:
        """Return one column over all generations; not for offsets and text."""
        with self._lock:
            if (table, name) not in self._whole:
                parts = [self.table(place, table)[name] for place in self.places(table)]
                none = empty(table)[name]
                self._whole[table, name] = np.concatenate(parts) if parts else none
            return self._whole[table, name]

    def text(self, table: str, name: str) -> Iterator[bytes]:
        """Yield the byte strings of a text column over all generations."""
        for place in self.places(table):
            yield from validate.text(self.where(place, table), self.table(place, table), name)

    def load_all(self) -> None:
        """Load every table: raise if any is damaged."""
        for place, item in enumerate(self.commits):
            for table in item.tables:
                self.table(place, table)

    def places(self, table: str) -> list[int]:
        """Return the generations, from 0, that have rows of that table."""
        return [place for place, item in enumerate(self.commits) if item.size(table).rows]

    def where(self, place: int, table: str) -> str:
        """Return the directory of a table, for messages and reading."""
        return str(layout.generation_path(self.archive, place + 1) / table)

    def row_range(self, place: int, table: str, owner: int) -> slice:
        """Return the rows of images, tiles or residues that belong to the global ``owner``."""
        owners = self.table(place, table)[column(table, owner_of(table)).name]
        low, high = np.searchsorted(owners, [owner, owner + 1])
        return slice(int(low), int(high))

    def bounds(self, place: int) -> validate.Bounds:
        """Return what the rows of generation ``place + 1`` may refer to."""
        n_shards = self._starts["shards"][place + 1]
        sizes = [self.table(i, "shards")["size"] for i in self.places("shards") if i <= place]
        joined = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
        return validate.Bounds(
            self.rows(place, "objects"),
            self.rows(place, "images"),
            self._starts["models"][place + 1],
            joined[:n_shards],
        )

    def _load(self, place: int, name: str) -> Columns:
        info = self.commits[place].tables.get(name)
        if info is None:
            return empty(name)
        where = self.where(place, name)
        columns = read_table(Path(where), name, info.size, sha256=info.sha256)
        self._validate(place, name, columns)
        return columns

    def _validate(self, place: int, name: str, columns: Columns) -> None:
        where = self.where(place, name)
        if name == "entries":
            validate.entries(where, columns, self._starts["objects"][place + 1])
        elif name == "objects":
            validate.objects(where, columns)
        elif name == "images":
            validate.images(where, columns, self.bounds(place))
        elif name == "tiles":
            shape = self.table(place, "images")["shape"]
            validate.tiles(where, columns, self.bounds(place), shape)
        elif name == "residues":
            validate.residues(where, columns, self.bounds(place))
        else:
            validate.files(where, columns)


def owner_of(table: str) -> str:
    """Return the column of ``table`` that says whom a row belongs to."""
    return "image" if table == "tiles" else "object"
