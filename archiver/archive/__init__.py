"""The bytes at rest: an archive is immutable shards and models under a Zarr manifest.

Never decodes a payload.  `ArchiveWriter` and `ShardWriter` change an archive, `Archive` reads it,
`check_structure` says what is damaged; the records are what goes in.  A commit begins in `writer`;
`new_generation` writes it, `commit` is the document that the root names.
"""

from archiver.archive.check import Problem, check_structure
from archiver.archive.reader import Archive
from archiver.archive.records import (
    TILE,
    EntryRecord,
    ImageRecord,
    ObjectRecord,
    ResidueRecord,
    ShardRecord,
)
from archiver.archive.shard import ShardWriter
from archiver.archive.stored import Entry, StoredModel, StoredObject
from archiver.archive.usage import Totals
from archiver.archive.writer import ArchiveWriter

__all__ = [
    "TILE",
    "Archive",
    "ArchiveWriter",
    "Entry",
    "EntryRecord",
    "ImageRecord",
    "ObjectRecord",
    "Problem",
    "ResidueRecord",
    "ShardRecord",
    "ShardWriter",
    "StoredModel",
    "StoredObject",
    "Totals",
    "check_structure",
]
