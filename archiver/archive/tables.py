"""Tables and columns of a manifest, their shapes and chunks (FORMAT.md, "Tables")."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]

ZSTD_LEVEL = 9  # of chunks
CHUNK_ROWS: Final = 1 << 18
CHUNK_TEXT: Final = 1 << 22  # bytes
GROUP: Final = b'{"node_type":"group","zarr_format":3}\n'
_ZARR_TYPES: Final = {
    "u1": "uint8",
    "<u2": "uint16",
    "<u4": "uint32",
    "<i4": "int32",
    "<i8": "int64",
}


@dataclass(frozen=True)
class Size:
    """Rows of a table, and bytes of its text column if it has one."""

    rows: int
    text: int = 0


@dataclass(frozen=True)
class Column:
    """One array: (rows,) or (rows, width); offsets have rows + 1, text has its own length."""

    name: str
    dtype: str
    width: int = 0
    is_offsets: bool = False
    is_text: bool = False

    def shape(self, size: Size) -> tuple[int, ...]:
        """Return the shape of the array for a table of that size."""
        if self.is_text:
            return (size.text,)
        rows = size.rows + 1 if self.is_offsets else size.rows
        return (rows, self.width) if self.width else (rows,)

    def chunk_rows(self, size: Size) -> int:
        """Return how many rows one chunk holds."""
        limit = CHUNK_TEXT if self.is_text else CHUNK_ROWS
        return max(1, min(self.shape(size)[0], limit))

    def n_chunks(self, size: Size) -> int:
        """Return the number of chunk files."""
        return -(-self.shape(size)[0] // self.chunk_rows(size))

    def chunk_name(self, index: int) -> str:
        """Return the file name of a chunk inside the column's directory."""
        return f"c/{index}/0" if self.width else f"c/{index}"

    @lru_cache(maxsize=1024)  # noqa: B019 - columns are constants
    def metadata(self, size: Size) -> bytes:
        """Return the one valid zarr.json of this column: readers compare, they need not parse."""
        shape = self.shape(size)
        codecs = [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ]
        chunk = {"chunk_shape": [self.chunk_rows(size), *shape[1:]]}
        document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(shape),
            "data_type": _ZARR_TYPES[self.dtype],
            "chunk_grid": {"name": "regular", "configuration": chunk},
            "chunk_key_encoding": {"name": "default"},
            "fill_value": 0,
            "codecs": codecs,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _text(name: str) -> tuple[Column, Column]:
    offsets = Column(f"{name}_offsets", "<i8", is_offsets=True)
    return Column(f"{name}_data", "u1", is_text=True), offsets


TABLES: Final[dict[str, tuple[Column, ...]]] = {
    "entries": (
        *_text("path"),
        Column("kind", "u1"),
        Column("mode", "<u4"),
        Column("mtime_ns", "<i8"),
        Column("object", "<i8"),
        Column("link", "<i8"),
        Column("sparse", "u1"),
    ),
    "objects": (
        Column("sha256", "u1", 32),
        Column("rebuilt_sha256", "u1", 32),
        Column("size", "<i8"),
        Column("format", "u1"),
        Column("fidelity", "u1"),
        *_text("note"),
    ),
    "images": (
        Column("object", "<i8"),
        Column("shape", "<u4", 3),  # height, width, channels
        Column("tile_shape", "<u4", 2),  # height, width
        Column("dtype", "u1"),
        Column("bit_depth", "u1"),
        Column("view", "u1"),  # how samples are read
    ),
    "tiles": (
        Column("image", "<i8"),
        Column("component", "<u2"),
        Column("window", "<u4", 4),  # row, column, height, width
        Column("shard", "<u4"),
        Column("offset", "<i8"),
        Column("length", "<u4"),
        Column("crc32c", "<u4"),
        Column("sample_crc32c", "<u4"),
        Column("codec", "u1"),
        Column("model", "<i4"),
    ),
    "residues": (
        Column("object", "<i8"),
        Column("shard", "<u4"),
        Column("offset", "<i8"),
        Column("length", "<u4"),
        Column("raw_length", "<u4"),
        Column("crc32c", "<u4"),
        Column("codec", "u1"),
    ),
    "shards": (Column("sha256", "u1", 32), Column("size", "<i8")),
    "models": (Column("sha256", "u1", 32), Column("size", "<i8"), *_text("name")),
}
TEXT: Final[dict[str, str]] = {"entries": "path", "objects": "note", "models": "name"}


@cache
def column(table: str, name: str) -> Column:
    """Return the column of that name."""
    return next(item for item in TABLES[table] if item.name == name)


def size_of(table: str, columns: Columns) -> Size:
    """Return the size of a table in memory."""
    rows = len(columns["object" if table == "entries" else TABLES[table][0].name])
    return Size(rows, len(columns[f"{TEXT[table]}_data"]) if table in TEXT else 0)


def empty(table: str) -> dict[str, NDArray[Any]]:
    """Return a table without rows."""
    return {item.name: np.zeros(item.shape(Size(0)), item.dtype) for item in TABLES[table]}


def file_names(table: str, size: Size) -> Iterator[str]:
    """Yield the name of every file of a table on disk, in no order."""
    yield "zarr.json"
    for item in TABLES[table]:
        yield f"{item.name}/zarr.json"
        for index in range(item.n_chunks(size)):
            yield f"{item.name}/{item.chunk_name(index)}"


def n_files(table: str, size: Size) -> int:
    """Return how many names `file_names` yields, without walking them."""
    return 1 + sum(1 + item.n_chunks(size) for item in TABLES[table])


def to_text(values: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return byte strings as data (bytes,) and offsets (rows + 1,)."""
    offsets = np.fromiter(chain([0], map(len, values)), np.int64, len(values) + 1)
    return np.frombuffer(b"".join(values), np.uint8), np.cumsum(offsets)


def from_text(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> list[bytes]:
    """Return the byte strings that `to_text` was given."""
    raw, ends = data.tobytes(), offsets.tolist()
    return [raw[start:end] for start, end in pairwise(ends)]
