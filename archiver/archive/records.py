"""Records that a packing task hands over: shards, objects, images, tiles; and their JSON."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout

TILE: Final = np.dtype(
    [
        ("image", "<i8"),
        ("component", "<u2"),
        ("row", "<u4"),
        ("column", "<u4"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("offset", "<i8"),
        ("length", "<u4"),
        ("crc32c", "<u4"),
        ("sample_crc32c", "<u4"),
        ("codec", "u1"),
        ("model", "<i4"),
    ]
)
TileArray = NDArray[np.void]


@dataclass(frozen=True)
class ImageRecord:
    """One raster of an object and the size of its tiles; ``dtype`` is a numpy code like "<u2"."""

    height: int
    width: int
    channels: int
    dtype: str
    bit_depth: int
    tile_height: int
    tile_width: int
    view: int = 0


@dataclass(frozen=True)
class ResidueRecord:
    """One payload of an object that holds no samples; several follow one another."""

    offset: int
    length: int
    raw_length: int
    crc32c: int
    codec: int


@dataclass(frozen=True, eq=False)
class ObjectRecord:
    """One unique file content.  In ``tiles``, "image" counts within ``images``."""

    sha256: bytes
    rebuilt_sha256: bytes
    size: int
    format: int
    fidelity: int
    note: str
    images: tuple[ImageRecord, ...]
    tiles: TileArray  # (n,) TILE
    residues: tuple[ResidueRecord, ...]

    def __eq__(self, other: object) -> bool:
        """Compare by value, tiles included."""
        if not isinstance(other, ObjectRecord):
            return NotImplemented
        return _plain(self) == _plain(other)

    def __hash__(self) -> int:
        """Hash by content digest."""
        return hash(self.sha256)


@dataclass(frozen=True)
class ShardRecord:
    """One finished shard.  "model" of a tile is an index into ``models``, or -1."""

    sha256: bytes
    size: int
    objects: tuple[ObjectRecord, ...]
    models: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class EntryRecord:
    """One path of the tree.  ``sha256`` names its object; directories have none.

    Files of one ``link``, unless it is 0, are names of one file; ``is_sparse``: it has holes.
    """

    path: bytes
    kind: int
    mode: int
    mtime_ns: int
    sha256: bytes | None
    link: int = 0
    is_sparse: bool = False


def removal(path: bytes) -> EntryRecord:
    """Return the entry that says: this path, and all below it, is gone."""
    return EntryRecord(path, layout.REMOVED, 0, 0, None)


def to_json(record: ShardRecord) -> str:
    """Return a shard record as JSON text that `from_json` turns back into an equal record."""
    document = {
        "sha256": record.sha256.hex(),
        "size": record.size,
        "models": [digest.hex() for digest in record.models],
        "objects": [_plain(item) for item in record.objects],
    }
    return json.dumps(document, separators=(",", ":"))


def from_json(text: str) -> ShardRecord:
    """Read what `to_json` wrote; raise ValueError on anything else."""
    try:
        document = json.loads(text)
        return ShardRecord(
            bytes.fromhex(document["sha256"]),
            int(document["size"]),
            tuple(_object(item) for item in document["objects"]),
            tuple(bytes.fromhex(digest) for digest in document["models"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"not a shard record: {error!r}") from error


def _plain(record: ObjectRecord) -> dict[str, Any]:
    return {
        "sha256": record.sha256.hex(),
        "rebuilt_sha256": record.rebuilt_sha256.hex(),
        "size": record.size,
        "format": record.format,
        "fidelity": record.fidelity,
        "note": record.note,
        "images": [asdict(image) for image in record.images],
        "tiles": base64.b64encode(record.tiles.astype(TILE).tobytes()).decode(),
        "residues": [asdict(residue) for residue in record.residues],
    }


def _object(document: dict[str, Any]) -> ObjectRecord:
    tiles = base64.b64decode(document["tiles"], validate=True)
    return ObjectRecord(
        sha256=bytes.fromhex(document["sha256"]),
        rebuilt_sha256=bytes.fromhex(document["rebuilt_sha256"]),
        size=int(document["size"]),
        format=int(document["format"]),
        fidelity=int(document["fidelity"]),
        note=str(document["note"]),
        images=tuple(ImageRecord(**image) for image in document["images"]),
        tiles=np.frombuffer(tiles, TILE).copy(),
        residues=tuple(ResidueRecord(**residue) for residue in document["residues"]),
    )
