"""Make small archives for tests: files with a residue, one image, one model; no codec involved."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from archiver.archive import (
    TILE,
    ArchiveWriter,
    EntryRecord,
    ImageRecord,
    ObjectRecord,
    ResidueRecord,
    ShardRecord,
    ShardWriter,
    layout,
)

MODEL = b"model bytes " * 40
SETTINGS = {"tile": 64, "fidelity": "bytes"}


def sha256(data: bytes) -> bytes:
    """Return a SHA-256."""
    return hashlib.sha256(data).digest()


def samples_of(content: bytes) -> list[bytes]:
    """Return the payloads of the two tiles that stand for a content."""
    return [content + b" left", content + b" right"]


def add_object(shard: ShardWriter, content: bytes, *, fidelity: int = 0) -> ObjectRecord:
    """Append the payloads of one content, two tiles and a residue, and return its record."""
    tiles = np.zeros(2, TILE)
    for number, payload in enumerate(samples_of(content)):
        offset, crc = shard.append(payload)
        place = (0, 0, 0, 64 * number, 48, 64)
        tiles[number] = (*place, offset, len(payload), crc, 7 + number, 4, number - 1)
    offset, crc = shard.append(content)
    return ObjectRecord(
        sha256=sha256(content),
        rebuilt_sha256=sha256(content),
        size=len(content),
        format=1,
        fidelity=fidelity,
        note="kept: \N{GREEK SMALL LETTER PHI}" if fidelity else "",
        images=(ImageRecord(48, 128, 3, "<u2", 12, 64, 64),),
        tiles=tiles,
        residues=(ResidueRecord(offset, len(content), 2 * len(content), crc, 1),),
    )


def make_shard(archive: Path, contents: Sequence[bytes], *, fidelity: int = 0) -> ShardRecord:
    """Write one shard that holds those contents."""
    with ShardWriter(archive) as shard:
        objects = tuple(add_object(shard, content, fidelity=fidelity) for content in contents)
        digest, size = shard.finish()
    return ShardRecord(digest, size, objects, (sha256(MODEL),))


def file_entry(path: bytes, content: bytes, *, mtime_ns: int = 5) -> EntryRecord:
    """Return the entry of a file."""
    return EntryRecord(path, layout.FILE, 0o644, mtime_ns, sha256(content))


def folder_entry(path: bytes) -> EntryRecord:
    """Return the entry of a directory."""
    return EntryRecord(path, layout.DIRECTORY, 0o755, 5, None)


def add_generation(path: Path, files: dict[bytes, bytes]) -> int:
    """Commit files (path -> content), one shard for each content, and their directories."""
    with ArchiveWriter.open(path) as writer:
        writer.add_model("tiny", MODEL)
        new = sorted({*files.values()} - {*_known(writer, files.values())})
        shards = [make_shard(path, [content]) for content in new]
        folders = {name.rpartition(b"/")[0] for name in files} - {b""}
        entries = [folder_entry(name) for name in sorted(folders)]
        entries += [file_entry(name, content) for name, content in files.items()]
        return writer.commit(entries, shards, SETTINGS)


def _known(writer: ArchiveWriter, contents: Sequence[bytes]) -> list[bytes]:
    known = writer.known_objects()
    return [content for content in contents if sha256(content) in known]


GENERATIONS = (
    {b"a.png": b"alpha", b"scans/b.png": b"beta", b"scans/odd \xff name": b"gamma"},
    {b"a.png": b"alpha, second state", b"scans/copy.png": b"beta"},
)


def make_archive(path: Path) -> Path:
    """Make an archive of two generations, three paths and two."""
    for number, files in enumerate(GENERATIONS, 1):
        assert add_generation(path, files) == number
    return path
