"""Tables on disk: Zarr v3 arrays, read strictly (FORMAT.md, "Tables").

Written as the zarr library writes them (tests compare every byte), which takes a second to import.
Reading trusts nothing: the file set and every metadata byte follow from the table's size, a SHA-256
covers all of it, and a chunk is only inflated after its frame declares exactly the expected length.
So damage cannot make a reader allocate more than 8 MiB per file that is really there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from archiver.archive import durable
from archiver.archive.tables import (
    GROUP,
    TABLES,
    ZSTD_LEVEL,
    Column,
    Columns,
    Size,
    file_names,
    n_files,
)
from archiver.errors import IntegrityError

_MAX_FILE = 16 << 20
_KEPT_BYTES = 64 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def write_table(folder: Path, table: str, columns: Columns, size: Size) -> str:
    """Write a table as Zarr arrays below ``folder``; return its digest.  Syncs nothing."""
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_bytes(GROUP)
    for column in TABLES[table]:
        place = folder / column.name
        place.mkdir()
        (place / "zarr.json").write_bytes(column.metadata(size))
        _write_column(place, column, size, columns[column.name])
    return digest(folder)


def _write_column(place: Path, column: Column, size: Size, values: NDArray[Any]) -> None:
    """Write the chunks that the column's metadata speaks of; the last one is padded with zeros."""
    shape, step = column.shape(size), column.chunk_rows(size)
    whole = np.zeros((column.n_chunks(size) * step, *shape[1:]), column.dtype)
    whole[: shape[0]] = values
    for index in range(column.n_chunks(size)):
        frame = _deflate(whole[index * step : (index + 1) * step].tobytes())
        file = place / column.chunk_name(index)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(frame + int(google_crc32c.value(frame)).to_bytes(4, "little"))


def _deflate(raw: bytes) -> bytes:
    from numcodecs.zstd import Zstd

    frame: bytes = Zstd(level=ZSTD_LEVEL).encode(raw)
    return frame


def digest(folder: Path) -> str:
    """Return the SHA-256 of what `sha256sum` prints for all files below ``folder``, sorted."""
    return _digest(_Files(folder))


def read_table(folder: Path, table: str, size: Size, *, sha256: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a table after its files were checked against ``sha256``."""
    files = _Files(folder)
    _check_names(files, table, size)
    digest = _digest(files)
    columns = _read_columns(files, table, size)  # names the damaged file if its checks notice
    if digest != sha256:
        raise IntegrityError(
            f"{folder}: damaged, its files have SHA-256 {digest}, expected {sha256}; "
            "restore the folder from a backup of the archive"
        )
    return columns


def read_columns(
    folder: Path, table: str, size: Size, *, names: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Return some columns of a table whose digest is unknown or wrong, each chunk checked alone."""
    files = _Files(folder)
    wanted = [column for column in TABLES[table] if column.name in names]
    return {column.name: _read_column(files, column, size) for column in wanted}


class _Files:
    """The files of one table by name, each read once unless they are too many bytes to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sizes = dict(durable.regular_files(folder))
        self._is_kept = sum(self.sizes.values()) <= _KEPT_BYTES
        self._kept: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        data = self._kept.get(name)
        if data is None:
            data = durable.read_file(f"{self.folder}/{name}", limit=_MAX_FILE)
            if self._is_kept:
                self._kept[name] = data
        return data


def _digest(files: _Files) -> str:
    listing = hashlib.sha256()
    for name in sorted(files.sizes):
        listing.update(f"{hashlib.sha256(files.read(name)).hexdigest()}  {name}\n".encode())
    return listing.hexdigest()


def _check_names(files: _Files, table: str, size: Size) -> None:
    expected = file_names(table, size)
    missing = next((name for name in expected if name not in files.sizes), None)
    if missing is not None:  # found after at most as many names as there are files
        raise IntegrityError(
            f"{files.folder / missing}: expected a file, found nothing; "
            f"restore {files.folder} from a backup of the archive"
        )
    if len(files.sizes) != n_files(table, size):
        extra = min(files.sizes.keys() - set(file_names(table, size)))
        raise IntegrityError(
            f"{files.folder / extra}: this file does not belong to the archive; move it elsewhere"
        )


def _read_columns(files: _Files, table: str, size: Size) -> dict[str, NDArray[Any]]:
    return {column.name: _read_column(files, column, size) for column in TABLES[table]}


def _read_column(files: _Files, column: Column, size: Size) -> NDArray[Any]:
    name = f"{column.name}/zarr.json"
    if files.read(name) != column.metadata(size):
        raise _damaged(files, name, f"expected {column.metadata(size)!r}, found other metadata")
    shape, step = column.shape(size), column.chunk_rows(size)
    values = np.zeros(shape, column.dtype)
    for index in range(column.n_chunks(size)):
        name = f"{column.name}/{column.chunk_name(index)}"
        rows = values[index * step : (index + 1) * step]
        rows[...] = _read_chunk(files, name, column, step)[: len(rows)]
    values.flags.writeable = False
    return values


def _read_chunk(files: _Files, name: str, column: Column, rows: int) -> NDArray[Any]:
    """Return one chunk; the last one of a column is stored padded to ``rows``."""
    stored = files.read(name)
    frame, crc = stored[:-4], stored[-4:]
    if int(google_crc32c.value(frame)) != int.from_bytes(crc, "little"):
        raise _damaged(files, name, "its CRC-32C does not match")
    dtype = np.dtype(column.dtype)
    try:
        raw = _inflate(frame, rows * max(1, column.width) * dtype.itemsize)
    except (RuntimeError, ValueError) as error:
        raise _damaged(files, name, f"its Zstandard frame is invalid ({error})") from error
    return np.frombuffer(raw, dtype).reshape(rows, *([column.width] if column.width else []))


def _inflate(frame: bytes, expected: int) -> bytes:
    """Return the content of a frame that must have ``expected`` bytes; RuntimeError, ValueError."""
    from numcodecs.zstd import Zstd

    declared = _declared_length(frame)
    if declared != expected:
        raise ValueError(f"it declares {declared} bytes, expected {expected}")
    raw = bytes(Zstd().decode(frame))
    if len(raw) != expected:
        raise ValueError(f"it inflates to {len(raw)} bytes, expected {expected}")
    return raw


def _declared_length(frame: bytes) -> int:
    """Return Frame_Content_Size of a Zstandard frame (RFC 8878, 3.1.1.1), -1 if there is none."""
    if frame[:4] != _ZSTD_MAGIC or len(frame) < 5:
        return -1
    descriptor = frame[4]
    is_single = bool(descriptor & 0x20)
    n_bytes = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if is_single else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = frame[start : start + n_bytes]
    if not n_bytes or len(field) < n_bytes:
        return -1
    return int.from_bytes(field, "little") + (256 if n_bytes == 2 else 0)


def _damaged(files: _Files, name: str, fault: str) -> IntegrityError:
    return IntegrityError(
        f"{files.folder / name}: {fault}; restore it from a backup of the archive"
    )
