"""A new generation: its tables checked, written below wip/ and synced, then made the newest.

Order on disk (FORMAT.md, "Writing"): `draft` writes and syncs below wip/, `publish` renames into
manifest/ and syncs, `switch` replaces zarr.json.  A kill before that last step leaves the old
archive, after it the new one.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from archiver.archive import commit, durable, layout, validate
from archiver.archive.assemble import Known
from archiver.archive.commit import Commit, TableInfo
from archiver.archive.index import Index
from archiver.archive.manifest import read_table, write_table
from archiver.archive.tables import TABLES, Columns, size_of
from archiver.errors import IntegrityError, UsageError

_SCRATCH = "wip/generation"
_ROOT_SCRATCH = "wip/zarr.json"


def check(tables: Mapping[str, Columns], index: Index | None, before: Known, after: Known) -> None:
    """Hold the new tables against the rules that readers apply.

    ``before`` and ``after`` say what the archive has without and with them; ``index`` is that of
    the generations before, None if there is none.
    """
    sizes = tables["shards"]["size"]
    if index is not None:
        sizes = np.concatenate([index.whole("shards", "size"), sizes])
    bounds = validate.Bounds(
        (before.n_objects, after.n_objects),
        (before.n_images, after.n_images),
        len(after.models),
        sizes,
    )
    validate.entries("entries", tables["entries"], after.n_objects)
    validate.objects("objects", tables["objects"])
    validate.images("images", tables["images"], bounds)
    validate.tiles("tiles", tables["tiles"], bounds, tables["images"]["shape"])
    validate.residues("residues", tables["residues"], bounds)


def draft(
    archive: Path, newest: Commit | None, tables: Mapping[str, Columns], settings: Mapping[str, Any]
) -> int:
    """Write the generation after ``newest`` below wip/, synced; return its number."""
    number = newest.generation + 1 if newest else 1
    if number > layout.MAX_GENERATION:
        raise UsageError(f"{archive}: {number - 1} generations are the limit; start another")
    remove_draft(archive)
    scratch = archive / _SCRATCH
    scratch.mkdir()
    document = commit.render(
        Commit(
            generation=number,
            previous=commit.document_digest(archive, newest),
            writer=f"archiver {_release()}",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tables={
                name: _write_verified(scratch / name, name, tables[name])
                for name in TABLES
                if size_of(name, tables[name]).rows
            },
            settings=settings,
        )
    )
    durable.write_file(scratch / "zarr.json", document)
    durable.sync_tree(scratch)
    return number


def remove_draft(archive: Path) -> None:
    """Remove what a draft left below wip/, if anything."""
    shutil.rmtree(archive / _SCRATCH, ignore_errors=True)


def publish(archive: Path, number: int) -> None:
    """Give the draft of generation ``number`` its name, then make it the newest."""
    (archive / _SCRATCH).rename(layout.generation_path(archive, number))
    durable.sync(archive / layout.MANIFEST)
    switch(archive, number)


def switch(archive: Path, number: int) -> None:
    """Make a complete generation the newest: the commit point."""
    path = layout.generation_path(archive, number) / "zarr.json"
    document = durable.read_file(path, limit=commit.MAX_BYTES)
    commit.parse(path, document)
    durable.replace_file(archive / layout.ROOT, document, scratch=archive / _ROOT_SCRATCH)


def _write_verified(folder: Path, name: str, columns: Columns) -> TableInfo:
    """Write a table and read it back before anything refers to it."""
    size = size_of(name, columns)
    info = TableInfo(size, write_table(folder, name, columns, size))
    stored = read_table(folder, name, size, sha256=info.sha256)
    for column, values in stored.items():
        if not np.array_equal(values, columns[column]):
            raise IntegrityError(
                f"{folder / column}: reads back other than it was written; "
                "check this machine's memory and disk, then run again"
            )
    return info


def _release() -> str:
    try:
        return importlib.metadata.version("archiver")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
