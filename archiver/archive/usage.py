"""The room that an archive takes on disk, by kind; models and work under way count apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from archiver.archive import durable, layout
from archiver.archive.index import Index


@dataclass(frozen=True)
class Usage:
    """Bytes of all files of an archive."""

    payload: int  # shards and manifest
    models: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.payload + self.models


def usage(archive: Path) -> Usage:
    """Return the bytes of all files below ``archive``; unfinished work does not count."""
    payload = models = 0
    for folder, folders, names in os.walk(archive):
        top = Path(folder).relative_to(archive).parts[:1]
        if not top and layout.WIP in folders:
            folders.remove(layout.WIP)
        size = sum(Path(folder, name).lstat().st_size for name in names)
        if top == (layout.MODELS,):
            models += size
        else:
            payload += size
    return Usage(payload, models)


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


def totals(index: Index) -> Totals:
    """Return bytes on disk by kind; what no generation refers to counts as uncommitted."""
    archive = index.archive
    shards = int(index.whole("shards", "size").sum())
    models = int(index.whole("models", "size").sum())
    manifest = (archive / layout.ROOT).stat().st_size
    manifest += (archive / layout.MANIFEST / "zarr.json").stat().st_size
    for commit in index.commits:
        manifest += _bytes_below(layout.generation_path(archive, commit.generation))
    folders = (archive / name for name in (layout.SHARDS, layout.MODELS, layout.WIP))
    stored = sum(_bytes_below(folder) for folder in folders if folder.is_dir())
    return Totals(shards, models, manifest, max(0, stored - shards - models))


def _bytes_below(folder: Path) -> int:
    return sum(size for _, size in durable.regular_files(folder))
