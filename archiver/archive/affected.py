"""The way back from damage to entries: which paths need a shard, a payload, a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout, salvage, validate
from archiver.archive.index import Index, owner_of
from archiver.archive.stored import StoredModel
from archiver.archive.view import View
from archiver.errors import ArchiverError

Rows = NDArray[np.int64]
EARLIER: Final = b" (content of earlier generations)"
_MOST_LISTED = 5


class Manifest(Protocol):
    """The parts of an archive that name entries: tables, and what is made of them if whole."""

    @property
    def index(self) -> Index:
        """The tables of all generations."""

    @property
    def view(self) -> View:
        """Current paths; ArchiverError if entries are damaged."""

    @property
    def models(self) -> Sequence[StoredModel]:
        """Every model, by global index; ArchiverError if their table is damaged."""


def entries_of_payload(manifest: Manifest, shard: int, offset: int) -> list[bytes]:
    """Return the paths whose object has a payload at that offset of a shard."""
    return entries_of_objects(manifest, _objects(manifest.index, shard=shard, offset=offset))


def entries_of_shard(manifest: Manifest, shard: int) -> list[bytes]:
    """Return the paths whose object has a payload in a shard."""
    return entries_of_objects(manifest, _objects(manifest.index, shard=shard))


def entries_of_model(manifest: Manifest, model: int) -> list[bytes]:
    """Return the paths whose object needs a model: for its tiles, or as the base of their model."""
    models = manifest.models
    sha256 = models[model].sha256
    needing = [model, *(n for n, other in enumerate(models) if other.base == sha256)]
    objects = [_objects(manifest.index, model=number) for number in needing]
    return entries_of_objects(manifest, np.concatenate(objects))


def entries_of_objects(manifest: Manifest, objects: Rows) -> list[bytes]:
    """Return the current paths of some objects, as far as the entries can be read.

    Of a content that no path has any more, those that had it, marked as such.
    """
    wanted = np.unique(objects)
    if not len(wanted):
        return []
    try:
        owners = manifest.index.whole("entries", "object")
        is_hit = np.isin(owners, wanted)
        current = {path: row for path, row in manifest.view.items() if is_hit[row]}
        gone = np.setdiff1d(wanted, owners[list(current.values())])
        earlier = sorted(_paths_in_whole_tables(manifest.index, gone))
        return [*current, *(path + EARLIER for path in earlier)]
    except ArchiverError:
        return sorted(_paths_in_whole_tables(manifest.index, wanted))


def entries_of_table(manifest: Manifest, place: int, table: str) -> list[bytes]:
    """Return the paths that need a damaged table of generation ``place + 1``."""
    index = manifest.index
    if table == "entries":
        return salvage.paths_of(layout.generation_path(index.archive, place + 1))
    if table in ("shards", "models"):  # of this generation and later ones
        return salvage.paths(index.archive)
    low, high = index.rows(place, "objects")
    return entries_of_objects(manifest, np.arange(low, high))


def listed(paths: Sequence[bytes]) -> str:
    """Return the clause of a message that names the first of these paths, "" without any."""
    names = ", ".join(repr(layout.display(path)) for path in paths[:_MOST_LISTED])
    more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
    return f"; it belongs to {names}{more}" if paths else ""


def _paths_in_whole_tables(index: Index, wanted: Rows) -> set[bytes]:
    """Return the paths of some objects, current or not, in the entries that are not damaged."""
    paths: set[bytes] = set()
    for place in index.places("entries"):
        try:
            columns = index.table(place, "entries")
        except ArchiverError:
            continue
        stored = validate.text(index.where(place, "entries"), columns, "path")
        paths.update(compress(stored, np.isin(columns["object"], wanted)))
    return paths


def _objects(index: Index, **wanted: int) -> Rows:
    """Return the objects with a tile or residue whose columns all have the wanted values."""
    objects = [np.zeros(0, np.int64)]
    for table in ("tiles", "residues"):
        for place in index.places(table):
            try:
                objects.append(_owners(index, place, table, wanted))
            except ArchiverError:
                continue  # damaged itself, and reported as such
    return np.concatenate(objects)


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
