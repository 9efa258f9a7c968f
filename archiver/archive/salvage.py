"""Paths that a damaged manifest still holds.

For naming what damage hits, nothing else: what is read here passed the checks of its own chunks,
but no digest of a table or document.
"""

from __future__ import annotations

import json
from pathlib import Path

from archiver.archive import durable, layout, validate
from archiver.archive.manifest import read_columns
from archiver.archive.tables import CHUNK_ROWS, CHUNK_TEXT, Size
from archiver.errors import ArchiverError

_ENTRIES = "entries"
_PATH = ("path_data", "path_offsets")
_MAX_METADATA = 1 << 16


def paths(archive: Path) -> list[bytes]:
    """Return the paths of all generations, sorted, as far as their tables can be read."""
    known: set[bytes] = set()
    for folder in (archive / layout.MANIFEST).glob("[0-9]*"):
        known.update(paths_of(folder))
    return sorted(known)


def paths_of(generation: Path) -> list[bytes]:
    """Return the paths in the entries of the generation in that folder; [] if it cannot be read."""
    folder = generation / _ENTRIES
    try:
        text, n_offsets = (_length(folder / name) for name in _PATH)
        columns = read_columns(folder, _ENTRIES, Size(n_offsets - 1, text), names=_PATH)
        return validate.text(str(folder), columns, "path")
    except (ArchiverError, OSError, ValueError, KeyError, TypeError):
        return []


def _length(column: Path) -> int:
    """Return the length of a column as its metadata says, if so many chunks can hold it."""
    document = json.loads(durable.read_file(column / "zarr.json", limit=_MAX_METADATA))
    length = int(document["shape"][0])
    n_chunks = sum(1 for _ in (column / "c").iterdir())
    if not 0 <= length <= n_chunks * max(CHUNK_ROWS, CHUNK_TEXT):
        raise ValueError(f"{length} rows in {n_chunks} chunks")
    return length
