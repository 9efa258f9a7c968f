"""The way back from damage to entries: which paths need a shard, a payload, a model."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout, salvage, validate
from archiver.archive.index import Index, owner_of
from archiver.errors import ArchiverError

if TYPE_CHECKING:
    from archiver.archive.reader import Archive

Rows = NDArray[np.int64]
EARLIER: Final = b" (content of earlier generations)"


def entries_of_payload(archive: Archive, shard: int, offset: int) -> list[bytes]:
    """Return the paths whose object has a payload at that offset of a shard."""
    return entries_of_objects(archive, _objects(archive.index, shard=shard, offset=offset))


def entries_of_shard(archive: Archive, shard: int) -> list[bytes]:
    """Return the paths whose object has a payload in a shard."""
    return entries_of_objects(archive, _objects(archive.index, shard=shard))


def entries_of_model(archive: Archive, model: int) -> list[bytes]:
    """Return the paths whose object needs a model: for its tiles, or as the base of their model."""
    models = archive.models
    own = models[model].sha256
    needing = [model, *(n for n, other in enumerate(models) if other.base == own)]
    found = [_objects(archive.index, model=number) for number in needing]
    return entries_of_objects(archive, np.concatenate(found))


def entries_of_objects(archive: Archive, objects: Rows) -> list[bytes]:
    """Return the current paths of some objects, as far as the entries can be read.

    Of a content that no path has any more, those that had it, marked as such.
    """
    wanted = np.unique(objects)
    if not len(wanted):
        return []
    try:
        owners = archive.index.whole("entries", "object")
        is_hit = np.isin(owners, wanted)
        current = {path: row for path, row in archive.view.items() if is_hit[row]}
        gone = np.setdiff1d(wanted, owners[list(current.values())])
        earlier = sorted(_paths_in_whole_tables(archive.index, gone))
        return [*current, *(path + EARLIER for path in earlier)]
    except ArchiverError:
        return sorted(_paths_in_whole_tables(archive.index, wanted))


def entries_of_table(archive: Archive, place: int, table: str) -> list[bytes]:
    """Return the paths that need a damaged table of generation ``place + 1``."""
    index = archive.index
    if table == "entries":
        return salvage.paths_of(layout.generation_path(archive.path, place + 1))
    if table in ("shards", "models"):  # of this generation and later ones
        return salvage.paths(archive.path)
    low, high = index.rows(place, "objects")
    return entries_of_objects(archive, np.arange(low, high))


def _paths_in_whole_tables(index: Index, wanted: Rows) -> set[bytes]:
    """Return the paths of some objects, current or not, in the entries that are not damaged."""
    found: set[bytes] = set()
    for place in index.places("entries"):
        try:
            columns = index.table(place, "entries")
        except ArchiverError:
            continue
        paths = validate.text(index.where(place, "entries"), columns, "path")
        found.update(compress(paths, np.isin(columns["object"], wanted)))
    return found


def _objects(index: Index, **wanted: int) -> Rows:
    """Return the objects with a tile or residue whose columns all have the wanted values."""
    found = [np.zeros(0, np.int64)]
    for table in ("tiles", "residues"):
        for place in index.places(table):
            try:
                found.append(_owners(index, place, table, wanted))
            except ArchiverError:
                continue  # damaged itself, and reported as such
    return np.concatenate(found)


def _owners(index: Index, place: int, table: str, wanted: dict[str, int]) -> NDArray[Any]:
    columns = index.table(place, table)
    if not columns.keys() >= wanted.keys():
        return np.zeros(0, np.int64)
    is_hit = np.ones(len(columns["codec"]), np.bool_)
    for name, value in wanted.items():
        is_hit &= columns[name] == value
    owners = columns[owner_of(table)][is_hit]
    if table == "tiles":
        owners = index.table(place, "images")["object"][owners - index.start(place, "images")]
    return owners
