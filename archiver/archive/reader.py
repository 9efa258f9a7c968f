"""Reading an archive: entries, objects, tiles, and payloads that were checked before return."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from archiver.archive import commit, durable, layout
from archiver.archive.affected import entries_of_payload
from archiver.archive.commit import Commit
from archiver.archive.index import Index
from archiver.archive.model_files import info_of
from archiver.archive.records import TILE, ImageRecord
from archiver.archive.shard import ShardReader, crc32c
from archiver.archive.tables import TABLES
from archiver.archive.view import View, matches
from archiver.errors import IntegrityError, NotFoundError

STORED_TILE: Final = np.dtype(
    [*((name, TILE[name]) for name in TILE.names or ()), ("shard", "<u4")]
)
STORED_RESIDUE: Final = np.dtype(
    [(item.name, item.dtype) for item in TABLES["residues"] if item.name != "object"]
)
_MAX_MODEL_BYTES = 4 << 30


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


@dataclass(frozen=True)
class Totals:
    """Bytes on disk by kind.  ``manifest`` includes the root; ``uncommitted`` is work under way."""

    shards: int
    models: int
    manifest: int
    uncommitted: int

    @property
    def archive(self) -> int:
        """Bytes of the committed archive."""
        return self.shards + self.models + self.manifest


class Archive:
    """A committed archive, or one generation of it as it was; read-only and thread-safe."""

    def __init__(self, path: Path, commits: list[Commit]) -> None:
        self.path = path
        self.commits = tuple(commits)
        self.index = Index(path, commits)
        self._shards = ShardReader(path)
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, generation: int | None = None) -> Self:
        """Open the newest generation, or ``generation`` as it was when it was committed."""
        newest = commit.read_root(path)
        if generation is not None and not 1 <= generation <= newest.generation:
            raise NotFoundError(
                f"{path}: there is no generation {generation}; "
                f"name one from 1 to {newest.generation}"
            )
        return cls(path, commit.read_history(path, newest)[:generation])

    @property
    def generation(self) -> int:
        """Number of the opened generation."""
        return len(self.commits)

    def entries(self, *patterns: str | bytes) -> Iterator[Entry]:
        """Yield entries in the order of their paths, those matching any pattern if one is given.

        A pattern is a path with shell wildcards ("*" crosses "/"), or a directory for all below.
        """
        for path, row in self.view.items():
            if not patterns or any(matches(path, pattern) for pattern in patterns):
                yield self._entry(path, row)

    def entry(self, path: str | bytes) -> Entry:
        """Return the entry of that path."""
        key = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        row = self.view.get(key)
        if row is None:
            raise NotFoundError(
                f"{self.path}: there is no entry {layout.display(key)!r}; "
                f"see `archiver ls {self.path}`"
            )
        return self._entry(key, row)

    @property
    def n_entries(self) -> int:
        """Number of entries of the opened generation."""
        return len(self.view)

    @property
    def n_objects(self) -> int:
        """Number of unique file contents."""
        return self.index.n_rows("objects")

    def object(self, index: int) -> StoredObject:
        """Return an object by its global index, as an entry names it."""
        place, row = self.index.locate("objects", index)
        columns = self.index.table(place, "objects")
        low, high = columns["note_offsets"][row : row + 2]
        return StoredObject(
            index,
            columns["sha256"][row].tobytes(),
            columns["rebuilt_sha256"][row].tobytes(),
            int(columns["size"][row]),
            int(columns["format"][row]),
            int(columns["fidelity"][row]),
            columns["note_data"][low:high].tobytes().decode(),
        )

    def object_sha256s(self) -> Iterator[bytes]:
        """Yield the SHA-256 of every content, by global index."""
        raw = self.index.whole("objects", "sha256").tobytes()
        return (raw[at : at + 32] for at in range(0, len(raw), 32))

    def images(self, index: int) -> range:
        """Return the global indices of the images of an object, by the object's global index."""
        place, _ = self.index.locate("objects", index)
        rows = self.index.row_range(place, "images", index)
        start = self.index.start(place, "images")
        return range(start + rows.start, start + rows.stop)

    def image(self, index: int) -> ImageRecord:
        """Return an image by its global index."""
        place, row = self.index.locate("images", index)
        columns = self.index.table(place, "images")
        height, width, channels = columns["shape"][row].tolist()
        tile_height, tile_width = columns["tile_shape"][row].tolist()
        dtype, depth = layout.DTYPES[int(columns["dtype"][row])], int(columns["bit_depth"][row])
        view = int(columns["view"][row])
        return ImageRecord(height, width, channels, dtype, depth, tile_height, tile_width, view)

    def tiles(self, image: int) -> NDArray[np.void]:
        """Return the tiles (STORED_TILE) of an image, by the image's global index.

        "image", "shard" and "model" are global; "model" is -1 where none is used.
        """
        place, _ = self.index.locate("images", image)
        columns = self.index.table(place, "tiles")
        rows = self.index.row_range(place, "tiles", image)
        tiles = np.zeros(rows.stop - rows.start, STORED_TILE)
        for name in STORED_TILE.names or ():
            if name in columns:
                tiles[name] = columns[name][rows]
        for number, name in enumerate(("row", "column", "height", "width")):
            tiles[name] = columns["window"][rows, number]
        return tiles

    def residues(self, index: int) -> NDArray[np.void]:
        """Return the residues (STORED_RESIDUE) of an object in order, by its global index."""
        place, _ = self.index.locate("objects", index)
        columns = self.index.table(place, "residues")
        rows = self.index.row_range(place, "residues", index)
        residues = np.zeros(rows.stop - rows.start, STORED_RESIDUE)
        for name in STORED_RESIDUE.names or ():
            residues[name] = columns[name][rows]
        return residues

    def payload(self, shard: int, offset: int, length: int, crc: int) -> bytes:
        """Return a payload whose CRC-32C was checked; by the shard's global index."""
        self.index.locate("shards", shard)
        digest = self.index.whole("shards", "sha256")[shard].tobytes()
        size = int(self.index.whole("shards", "size")[shard])
        if offset < 0 or length < 0 or offset > size - length:
            raise IndexError(f"shard {shard} has {size} bytes, not {length} at {offset}")
        try:
            payload = self._shards.read(digest, size, (offset, length))
        except IntegrityError as error:
            fault, _, advice = str(error).rpartition("; ")
            raise IntegrityError(f"{fault}{self._hit(shard, offset)}; {advice}") from error
        found = crc32c(payload)
        if found != crc:
            raise IntegrityError(
                f"{layout.shard_path(self.path, digest)}: payload at {offset}, {length} bytes: "
                f"CRC-32C is {found:#010x}, manifest says {crc:#010x}{self._hit(shard, offset)}; "
                "restore the shard from a backup of the archive"
            )
        return payload

    def model(self, index: int) -> bytes:
        """Return the bytes of a model whose SHA-256 was checked; by its global index."""
        self.index.locate("models", index)
        digest = self.index.whole("models", "sha256")[index].tobytes()
        path = layout.model_path(self.path, digest)
        data = durable.read_file(path, limit=_MAX_MODEL_BYTES)
        found = hashlib.sha256(data).hexdigest()
        if found != digest.hex():
            raise IntegrityError(
                f"{path}: SHA-256 is {found}, expected its name; "
                "restore the model from a backup or from another archive that uses it"
            )
        return data

    @cached_property
    def models(self) -> tuple[StoredModel, ...]:
        """Every model, by global index."""
        names = self.index.text("models", "name")
        digests, sizes = self.index.whole("models", "sha256"), self.index.whole("models", "size")
        models = []
        for name, digest, size in zip(names, digests, sizes, strict=True):
            info = info_of(self.path, digest.tobytes())
            base = info.base.hex() if info.base is not None else ""
            sha256 = digest.tobytes().hex()
            known = name.decode(), sha256, int(size), base
            models.append(StoredModel(*known, info.card, info.fault))
        return tuple(models)

    @property
    def generations(self) -> tuple[Mapping[str, Any], ...]:
        """What each commit recorded, oldest first."""
        return tuple(
            {
                "name": layout.generation_name(one.generation),
                "created": one.created,
                "writer": one.writer,
                "rows": {name: info.size.rows for name, info in one.tables.items()},
                "settings": dict(one.settings),
            }
            for one in self.commits
        )

    def totals(self) -> Totals:
        """Return bytes on disk by kind; what no generation refers to counts as uncommitted."""
        shards = int(self.index.whole("shards", "size").sum())
        models = int(self.index.whole("models", "size").sum())
        manifest = (self.path / layout.ROOT).stat().st_size
        manifest += (self.path / layout.MANIFEST / "zarr.json").stat().st_size
        for number in range(1, self.generation + 1):
            folder = layout.generation_path(self.path, number)
            manifest += sum(size for _, size in durable.regular_files(folder))
        stored = 0
        for name in (layout.SHARDS, layout.MODELS, layout.WIP):
            if (self.path / name).is_dir():
                stored += sum(size for _, size in durable.regular_files(self.path / name))
        return Totals(shards, models, manifest, max(0, stored - shards - models))

    def close(self) -> None:
        """Close the descriptors of shards."""
        self._shards.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @cached_property
    def view(self) -> View:
        """Current paths, built on first use."""
        with self._lock:
            return View(self.index)

    def _entry(self, path: bytes, row: int) -> Entry:
        place, local = self.index.locate("entries", row)
        columns = self.index.table(place, "entries")
        kind, mode, mtime_ns, index, link = (
            int(columns[name][local]) for name in ("kind", "mode", "mtime_ns", "object", "link")
        )
        is_sparse = bool(columns["sparse"][local])
        return Entry(path, kind, mode, mtime_ns, index, place + 1, link, is_sparse)

    def _hit(self, shard: int, offset: int) -> str:
        """Name the entries that a damaged payload belongs to."""
        paths = entries_of_payload(self, shard, offset)
        names = ", ".join(repr(layout.display(path)) for path in paths[:5])
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        return f"; it belongs to {names}{more}" if paths else ""
