"""Rows of the tables as values: entries, objects, images, tiles, residues, models.

Every number here is a global index (archive/index.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout
from archiver.archive.index import Index
from archiver.archive.model_files import info_of
from archiver.archive.records import TILE, EntryRecord, ImageRecord
from archiver.archive.tables import TABLES

STORED_TILE: Final = np.dtype(
    [*((name, TILE[name]) for name in TILE.names or ()), ("shard", "<u4")]
)
STORED_RESIDUE: Final = np.dtype(
    [(item.name, item.dtype) for item in TABLES["residues"] if item.name != "object"]
)


@dataclass(frozen=True)
class Entry:
    """One path as of the opened generation; ``object`` is -1 for a directory.

    Files of one ``link``, unless it is 0, are names of one file.
    """

    path: bytes
    kind: int
    mode: int
    mtime_ns: int
    object: int
    generation: int
    link: int = 0
    is_sparse: bool = False


@dataclass(frozen=True)
class StoredObject:
    """One unique file content."""

    index: int
    sha256: bytes
    rebuilt_sha256: bytes
    size: int
    format: int
    fidelity: int
    note: str


@dataclass(frozen=True)
class StoredModel:
    """One model file; ``sha256`` in hexadecimal, as its file is named.

    ``base`` is the SHA-256 of the model that it is a difference to, "" for a whole model; ``card``
    what its file says of how it was made; ``fault`` why it cannot be read, "" if it can.
    """

    name: str
    sha256: str
    size: int
    base: str = ""
    card: Mapping[str, object] = field(default_factory=dict)
    fault: str = ""


def entry(index: Index, path: bytes, row: int) -> Entry:
    """Return a row of the entries, whose path is known."""
    place, local = index.locate("entries", row)
    columns = index.table(place, "entries")
    kind, mode, mtime_ns, number, link = (
        int(columns[name][local]) for name in ("kind", "mode", "mtime_ns", "object", "link")
    )
    is_sparse = bool(columns["sparse"][local])
    return Entry(path, kind, mode, mtime_ns, number, place + 1, link, is_sparse)


def entry_record(index: Index, entry_: Entry) -> EntryRecord:
    """Return an entry as it was handed to the writer."""
    sha256 = None
    if entry_.object >= 0:
        sha256 = index.whole("objects", "sha256")[entry_.object].tobytes()
    known = entry_.path, entry_.kind, entry_.mode, entry_.mtime_ns
    return EntryRecord(*known, sha256, entry_.link, entry_.is_sparse)


def stored_object(index: Index, number: int) -> StoredObject:
    """Return a content."""
    place, row = index.locate("objects", number)
    columns = index.table(place, "objects")
    low, high = columns["note_offsets"][row : row + 2]
    return StoredObject(
        number,
        columns["sha256"][row].tobytes(),
        columns["rebuilt_sha256"][row].tobytes(),
        int(columns["size"][row]),
        int(columns["format"][row]),
        int(columns["fidelity"][row]),
        columns["note_data"][low:high].tobytes().decode(),
    )


def object_sha256s(index: Index) -> Iterator[bytes]:
    """Yield the SHA-256 of every content."""
    raw = index.whole("objects", "sha256").tobytes()
    return (raw[at : at + 32] for at in range(0, len(raw), 32))


def images(index: Index, number: int) -> range:
    """Return the images of an object."""
    place, _ = index.locate("objects", number)
    rows = index.row_range(place, "images", number)
    start = index.start(place, "images")
    return range(start + rows.start, start + rows.stop)


def image(index: Index, number: int) -> ImageRecord:
    """Return an image."""
    place, row = index.locate("images", number)
    columns = index.table(place, "images")
    height, width, channels = columns["shape"][row].tolist()
    tile_height, tile_width = columns["tile_shape"][row].tolist()
    dtype, depth = layout.DTYPES[int(columns["dtype"][row])], int(columns["bit_depth"][row])
    view = int(columns["view"][row])
    return ImageRecord(height, width, channels, dtype, depth, tile_height, tile_width, view)


def tiles(index: Index, number: int) -> NDArray[np.void]:
    """Return the tiles (STORED_TILE) of an image; "model" is -1 where none is used."""
    place, _ = index.locate("images", number)
    columns = index.table(place, "tiles")
    rows = index.row_range(place, "tiles", number)
    stored = np.zeros(rows.stop - rows.start, STORED_TILE)
    for name in STORED_TILE.names or ():
        if name in columns:
            stored[name] = columns[name][rows]
    for column, name in enumerate(("row", "column", "height", "width")):
        stored[name] = columns["window"][rows, column]
    return stored


def residues(index: Index, number: int) -> NDArray[np.void]:
    """Return the residues (STORED_RESIDUE) of an object in order."""
    place, _ = index.locate("objects", number)
    columns = index.table(place, "residues")
    rows = index.row_range(place, "residues", number)
    stored = np.zeros(rows.stop - rows.start, STORED_RESIDUE)
    for name in STORED_RESIDUE.names or ():
        stored[name] = columns[name][rows]
    return stored


def models(index: Index) -> tuple[StoredModel, ...]:
    """Return every model, and what its file says of itself."""
    digests, sizes = index.whole("models", "sha256"), index.whole("models", "size")
    names = index.text("models", "name")
    return tuple(
        _model(index, name.decode(), digest.tobytes(), int(size))
        for name, digest, size in zip(names, digests, sizes, strict=True)
    )


def _model(index: Index, name: str, sha256: bytes, size: int) -> StoredModel:
    info = info_of(index.archive, sha256)
    base = info.base.hex() if info.base is not None else ""
    return StoredModel(name, sha256.hex(), size, base, info.card, info.fault)
