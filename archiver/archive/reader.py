"""Reading an archive: one generation of it, by path and by global index; payloads checked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from archiver.archive import commit, layout, model_files, stored, usage
from archiver.archive.affected import entries_of_payload, listed
from archiver.archive.commit import Commit
from archiver.archive.index import Index
from archiver.archive.records import ImageRecord
from archiver.archive.shard import ShardReader
from archiver.archive.stored import Entry, StoredModel, StoredObject
from archiver.archive.usage import Totals
from archiver.archive.view import View, matches
from archiver.errors import IntegrityError, NotFoundError


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
                yield stored.entry(self.index, path, row)

    def entry(self, path: str | bytes) -> Entry:
        """Return the entry of that path."""
        key = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
        row = self.view.get(key)
        if row is None:
            raise NotFoundError(
                f"{self.path}: there is no entry {layout.display(key)!r}; "
                f"see `archiver ls {self.path}`"
            )
        return stored.entry(self.index, key, row)

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
        return stored.stored_object(self.index, index)

    def object_sha256s(self) -> Iterator[bytes]:
        """Yield the SHA-256 of every content, by global index."""
        return stored.object_sha256s(self.index)

    def images(self, index: int) -> range:
        """Return the global indices of the images of an object, by the object's global index."""
        return stored.images(self.index, index)

    def image(self, index: int) -> ImageRecord:
        """Return an image by its global index."""
        return stored.image(self.index, index)

    def tiles(self, image: int) -> NDArray[np.void]:
        """Return the tiles (STORED_TILE) of an image, by the image's global index.

        "image", "shard" and "model" are global; "model" is -1 where none is used.
        """
        return stored.tiles(self.index, image)

    def residues(self, index: int) -> NDArray[np.void]:
        """Return the residues (STORED_RESIDUE) of an object in order, by its global index."""
        return stored.residues(self.index, index)

    def payload(self, shard: int, offset: int, length: int, crc: int) -> bytes:
        """Return a payload whose CRC-32C was checked; by the shard's global index."""
        self.index.locate("shards", shard)
        digest = self.index.whole("shards", "sha256")[shard].tobytes()
        size = int(self.index.whole("shards", "size")[shard])
        if offset < 0 or length < 0 or offset > size - length:
            raise IndexError(f"shard {shard} has {size} bytes, not {length} at {offset}")
        try:
            return self._shards.payload(digest, size, (offset, length), crc)
        except IntegrityError as error:
            fault, _, advice = str(error).rpartition("; ")
            hit = listed(entries_of_payload(self, shard, offset))
            raise IntegrityError(f"{fault}{hit}; {advice}") from error

    def model(self, index: int) -> bytes:
        """Return the bytes of a model whose SHA-256 was checked; by its global index."""
        self.index.locate("models", index)
        digest = self.index.whole("models", "sha256")[index].tobytes()
        return model_files.read(self.path, digest)

    @cached_property
    def models(self) -> tuple[StoredModel, ...]:
        """Every model, by global index."""
        return stored.models(self.index)

    @property
    def generations(self) -> tuple[Mapping[str, Any], ...]:
        """What each commit recorded, oldest first."""
        return tuple(document.recorded() for document in self.commits)

    def totals(self) -> Totals:
        """Return bytes on disk by kind; what no generation refers to counts as uncommitted."""
        return usage.totals(self.index)

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
