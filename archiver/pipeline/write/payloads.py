"""Coded tiles and chunks of a residue, checked, as they go to a shard."""

from __future__ import annotations

from dataclasses import dataclass, replace

from archiver.archive.records import ResidueRecord
from archiver.archive.shard import ShardWriter


@dataclass(frozen=True)
class CodedTile:
    """A tile's payload, checked; ``offset`` is -1 and ``payload`` there until it is appended."""

    codec: int
    payload: bytes
    sample_crc32c: int
    needs_model: bool
    notice: str = ""
    offset: int = -1
    length: int = 0
    crc32c: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the payload, wherever it is."""
        return max(self.length, len(self.payload))

    def appended(self, shard: ShardWriter) -> CodedTile:
        """Append the payload, unless that was done, and return where it is."""
        if self.offset >= 0:
            return self
        offset, crc = shard.append(self.payload)
        return replace(self, payload=b"", offset=offset, length=len(self.payload), crc32c=crc)


@dataclass(frozen=True)
class Chunk:
    """One coded chunk of a residue, checked."""

    codec: int
    payload: bytes
    raw_length: int

    def appended(self, shard: ShardWriter) -> ResidueRecord:
        """Append the payload and describe it to the archive."""
        offset, crc = shard.append(self.payload)
        return ResidueRecord(offset, len(self.payload), self.raw_length, crc, self.codec)
