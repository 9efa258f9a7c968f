"""Records into the tables of a new generation: each content once, indices global."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout
from archiver.archive.index import Index
from archiver.archive.model_files import ModelInfo
from archiver.archive.records import TILE, EntryRecord, ImageRecord, ObjectRecord, ShardRecord
from archiver.archive.tables import TABLES, Columns, empty, to_text
from archiver.errors import UsageError

_SHA256_BYTES = 32


@dataclass
class Known:
    """The contents of the archive so far: digest -> global index, and how many images."""

    objects: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # (index, fidelity)
    shards: dict[bytes, int] = field(default_factory=dict)
    models: dict[bytes, int] = field(default_factory=dict)
    n_objects: int = 0
    n_images: int = 0

    @classmethod
    def of(cls, index: Index) -> Known:
        """Read it from the tables of an archive."""
        fidelity = index.whole("objects", "fidelity").tolist()
        known = cls(
            shards=_numbered(index, "shards"),
            models=_numbered(index, "models"),
            n_objects=index.n_rows("objects"),
            n_images=index.n_rows("images"),
        )
        for row, digest in enumerate(_digests(index, "objects")):
            known.add(digest, row, fidelity[row])
        return known

    def copy(self) -> Known:
        """Return what may be added to while this stays as it is."""
        parts = dict(self.objects), dict(self.shards), dict(self.models)
        return Known(*parts, self.n_objects, self.n_images)

    def wants(self, record: ObjectRecord) -> bool:
        """Whether a content is new, or kept more faithfully than before."""
        best = self.objects.get(record.sha256)
        return best is None or record.fidelity < best[1]

    def add(self, digest: bytes, index: int, fidelity: int) -> None:
        """Note an object; the most faithful one of a content stands for it."""
        if digest not in self.objects or fidelity < self.objects[digest][1]:
            self.objects[digest] = (index, fidelity)


@dataclass
class _Draft:
    objects: list[ObjectRecord] = field(default_factory=list)
    tiles: list[NDArray[np.void]] = field(default_factory=list)
    tile_shards: list[NDArray[np.uint32]] = field(default_factory=list)
    images: list[tuple[int, ImageRecord]] = field(default_factory=list)
    residues: list[tuple[int, ...]] = field(default_factory=list)
    shards: list[tuple[bytes, int]] = field(default_factory=list)
    models: list[bytes] = field(default_factory=list)


def assemble_objects(
    shards: Sequence[ShardRecord], known: Known, models: Mapping[bytes, ModelInfo]
) -> dict[str, Columns]:
    """Return the tables of all contents of ``shards`` that are new, and note them in ``known``.

    ``models`` describes every model that tiles may refer to.
    """
    draft = _Draft()
    for shard in shards:
        wanted = [record for record in shard.objects if _accept(draft, known, record)]
        if wanted:
            _add_shard(draft, known, shard, wanted, models)
    try:
        return _tables(draft, models)
    except (OverflowError, KeyError) as error:
        raise UsageError(f"records: a value does not fit into the manifest ({error!r})") from error


def assemble_entries(entries: Sequence[EntryRecord], known: Known) -> Columns:
    """Return the entries table, in the order of the paths."""
    rows = sorted(entries, key=lambda entry: entry.path)
    _check_paths(rows)
    data, offsets = to_text([entry.path for entry in rows])
    return {
        "path_data": data,
        "path_offsets": offsets,
        "kind": np.array([entry.kind for entry in rows], "u1"),
        "mode": np.array([entry.mode & layout.MAX_MODE for entry in rows], "<u4"),
        "mtime_ns": np.array([entry.mtime_ns for entry in rows], "<i8"),
        "object": np.array([object_index(entry, known) for entry in rows], "<i8"),
        "link": np.array([entry.link for entry in rows], "<i8"),
        "sparse": np.array([entry.is_sparse for entry in rows], "u1"),
    }


def object_index(entry: EntryRecord, known: Known) -> int:
    """Return the object that an entry refers to, -1 for a directory or a removal."""
    if entry.kind in layout.WITHOUT_OBJECT and entry.sha256 is None:
        return -1
    if entry.sha256 is None or entry.sha256 not in known.objects:
        raise UsageError(
            f"entry {layout.display(entry.path)!r}: its content is neither in the archive nor in "
            "the shards of this commit; pack the file first"
        )
    return known.objects[entry.sha256][0]


def _numbered(index: Index, table: str) -> dict[bytes, int]:
    return {digest: row for row, digest in enumerate(_digests(index, table))}


def _digests(index: Index, table: str) -> list[bytes]:
    raw = index.whole(table, "sha256").tobytes()
    return [raw[at : at + _SHA256_BYTES] for at in range(0, len(raw), _SHA256_BYTES)]


def _accept(draft: _Draft, known: Known, record: ObjectRecord) -> bool:
    if not known.wants(record):
        return False
    known.add(record.sha256, known.n_objects, record.fidelity)
    known.n_objects += 1
    draft.objects.append(record)
    return True


def _add_shard(
    draft: _Draft,
    known: Known,
    shard: ShardRecord,
    wanted: Sequence[ObjectRecord],
    infos: Mapping[bytes, ModelInfo],
) -> None:
    if shard.sha256 not in known.shards:
        known.shards[shard.sha256] = len(known.shards)
        draft.shards.append((shard.sha256, shard.size))
    number = known.shards[shard.sha256]
    models = _model_map(draft, known, shard, wanted, infos)
    first = known.n_objects - len(wanted)
    for index, record in enumerate(wanted, first):
        tiles = record.tiles.astype(TILE)
        tiles = tiles[np.argsort(tiles["image"], kind="stable")]
        tiles["image"] += known.n_images
        tiles["model"] = models[tiles["model"]]  # -1 takes the last one, which is -1
        draft.tiles.append(tiles)
        draft.tile_shards.append(np.full(len(tiles), number, np.uint32))
        draft.images += [(index, image) for image in record.images]
        known.n_images += len(record.images)
        draft.residues += [
            (index, number, item.offset, item.length, item.raw_length, item.crc32c, item.codec)
            for item in record.residues
        ]


def _model_map(
    draft: _Draft,
    known: Known,
    shard: ShardRecord,
    wanted: Sequence[ObjectRecord],
    infos: Mapping[bytes, ModelInfo],
) -> NDArray[np.int32]:
    """Return global model indices by index into ``shard.models``, then -1; number the new ones."""
    parts = [record.tiles["model"] for record in wanted]
    used = np.unique(np.concatenate(parts))
    if len(used) and not -1 <= used[0] <= used[-1] < len(shard.models):
        raise UsageError(
            f"shard {shard.sha256.hex()}: a tile uses model {used[-1]} of {len(shard.models)}"
        )
    numbers = np.full(len(shard.models) + 1, -1, np.int32)
    for local in used[used >= 0].tolist():
        digest = shard.models[local]
        base = infos[digest].base if digest in infos else None
        if base is not None:  # no tile names it, but decoders of these tiles need it
            _number_model(draft, known, base)
        numbers[local] = _number_model(draft, known, digest)
    return numbers


def _number_model(draft: _Draft, known: Known, digest: bytes) -> int:
    """Return the global index of a model; list it if it is new."""
    if digest not in known.models:
        known.models[digest] = len(known.models)
        draft.models.append(digest)
    return known.models[digest]


def _tables(draft: _Draft, models: Mapping[bytes, ModelInfo]) -> dict[str, Columns]:
    tables: dict[str, Columns] = {
        "objects": _objects(draft.objects),
        "images": _images(draft.images),
        "tiles": _tiles(draft),
        "residues": _residues(draft.residues),
        "shards": _files(draft.shards),
    }
    sized = [(digest, models[digest].size) for digest in draft.models]
    data, offsets = to_text([_utf8(models[digest].name) for digest in draft.models])
    tables["models"] = {**_files(sized), "name_data": data, "name_offsets": offsets}
    return tables


def _objects(records: Sequence[ObjectRecord]) -> Columns:
    data, offsets = to_text([_utf8(record.note) for record in records])
    return {
        "sha256": _digest_rows([record.sha256 for record in records]),
        "rebuilt_sha256": _digest_rows([record.rebuilt_sha256 for record in records]),
        "size": np.array([record.size for record in records], "<i8"),
        "format": np.array([record.format for record in records], "u1"),
        "fidelity": np.array([record.fidelity for record in records], "u1"),
        "note_data": data,
        "note_offsets": offsets,
    }


def _images(images: Sequence[tuple[int, ImageRecord]]) -> Columns:
    records = [image for _, image in images]
    shapes = [(image.height, image.width, image.channels) for image in records]
    tile_shapes = [(image.tile_height, image.tile_width) for image in records]
    return {
        "object": np.array([index for index, _ in images], "<i8"),
        "shape": np.array(shapes, "<u4").reshape(-1, 3),
        "tile_shape": np.array(tile_shapes, "<u4").reshape(-1, 2),
        "dtype": np.array([layout.DTYPE_IDS[image.dtype] for image in records], "u1"),
        "bit_depth": np.array([image.bit_depth for image in records], "u1"),
        "view": np.array([image.view for image in records], "u1"),
    }


def _tiles(draft: _Draft) -> Columns:
    if not draft.tiles:
        return empty("tiles")
    tiles = np.concatenate(draft.tiles)
    window = [tiles[name] for name in ("row", "column", "height", "width")]
    names = {item.name for item in TABLES["tiles"]} - {"window", "shard"}
    return {
        **{name: np.ascontiguousarray(tiles[name]) for name in names},
        "window": np.stack(window, axis=1),
        "shard": np.concatenate(draft.tile_shards),
    }


def _residues(rows: Sequence[tuple[int, ...]]) -> Columns:
    values: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * 7
    columns = TABLES["residues"]
    return {
        item.name: np.array(column, item.dtype)
        for item, column in zip(columns, values, strict=True)
    }


def _files(rows: Sequence[tuple[bytes, int]]) -> Columns:
    digests = _digest_rows([digest for digest, _ in rows])
    return {"sha256": digests, "size": np.array([size for _, size in rows], "<i8")}


def _digest_rows(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    if any(len(digest) != _SHA256_BYTES for digest in digests):
        raise UsageError(f"records: a SHA-256 does not have {_SHA256_BYTES} bytes")
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _SHA256_BYTES)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _check_paths(rows: Sequence[EntryRecord]) -> None:
    """Refuse paths that could not be restored, or not next to each other."""
    files = {entry.path for entry in rows if entry.kind != layout.DIRECTORY}
    for number, entry in enumerate(rows):
        fault = layout.path_fault(entry.path)
        if number and rows[number - 1].path == entry.path:
            fault = "it occurs twice in this commit"
        if _is_below(entry.path, files):
            fault = "it lies below a file of this commit"
        if fault:
            raise UsageError(f"entry {layout.display(entry.path)!r} is refused: {fault}")


def _is_below(path: bytes, files: set[bytes]) -> bool:
    while path := path.rpartition(b"/")[0]:
        if path in files:
            return True
    return False
