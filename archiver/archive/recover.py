"""Recovery after a kill: the switch that is missing, and what nothing refers to."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from archiver.archive import commit, layout, new_generation
from archiver.archive.assemble import Known
from archiver.archive.index import Index
from archiver.archive.model_files import info_of
from archiver.archive.records import ShardRecord


def finish_switch(archive: Path) -> None:
    """Make the last complete generation the newest, if a killed run did not come to that."""
    newest = commit.read_root(archive) if (archive / layout.ROOT).exists() else None
    latest = newest
    while later := commit.unswitched(archive, latest):
        latest = later
    if latest is None and any((archive / layout.MANIFEST).glob("[0-9]*")):
        commit.read_root(archive)  # raises: manifests, but no way to the newest
    if latest is not None and latest is not newest:
        Index(archive, commit.read_history(archive, latest)).load_all()
        new_generation.switch(archive, latest.generation)


def remove_orphan_shards(archive: Path, known: Known, records: Iterable[ShardRecord]) -> None:
    """Remove shards that neither a generation nor a task record refers to."""
    _remove_others(archive / layout.SHARDS, {*known.shards, *(r.sha256 for r in records)})


def remove_orphan_models(archive: Path, known: Known, records: Iterable[ShardRecord]) -> None:
    """Remove models that neither a generation nor a task record needs; bases are needed, too."""
    used = {*known.models, *(model for record in records for model in record.models)}
    bases = {info_of(archive, digest).base for digest in used}
    _remove_others(archive / layout.MODELS, {*used, *(base for base in bases if base is not None)})


def _remove_others(folder: Path, kept: Collection[bytes]) -> None:
    for path in folder.iterdir():
        if layout.is_digest_name(path.name) and bytes.fromhex(path.name) not in kept:
            path.unlink(missing_ok=True)
