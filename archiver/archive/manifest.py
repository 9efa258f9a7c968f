"""Own how one table lies on disk: written through Zarr v3, read strictly (FORMAT.md, "Tables").

The only module that imports zarr, and only when a table is written.  Reading trusts nothing: the
file set and every metadata byte follow from the table's size, a SHA-256 covers all of it, and a
chunk is only inflated after its frame declares exactly the expected length.  So damage cannot
make a reader allocate more than 8 MiB per file that is really there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from archiver.archive import durable
from archiver.archive.tables import (
    GROUP,
    TABLES,
    Column,
    Columns,
    Size,
    file_names,
    n_files,
)
from archiver.errors import IntegrityError

_MAX_CHUNK_FILE = 16 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def write_table(folder: Path, table: str, columns: Columns, size: Size) -> str:
    """Write a table as Zarr arrays below ``folder``; return its digest.  Syncs nothing."""
    import zarr

    folder.mkdir(parents=True)
    (folder / "zarr.json").write_bytes(GROUP)
    with zarr.config.set({"array.write_empty_chunks": True}):
        for column in TABLES[table]:
            place = folder / column.name
            place.mkdir()
            (place / "zarr.json").write_bytes(column.metadata(size))
            array = zarr.open_array(place, mode="r+", zarr_format=3)
            if array.size:
                array[...] = columns[column.name]
    return digest(folder)


def digest(folder: Path) -> str:
    """Return the SHA-256 of what `sha256sum` prints for all files below ``folder``, sorted."""
    listing = hashlib.sha256()
    for name, _ in sorted(durable.regular_files(folder)):
        listing.update(f"{_file_digest(folder / name)}  {name}\n".encode())
    return listing.hexdigest()


def read_table(folder: Path, table: str, size: Size, *, sha256: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a table after its files were checked against ``sha256``."""
    _check_names(folder, table, size)
    found = digest(folder)
    if found != sha256:
        _read_columns(folder, table, size)  # names the damaged file if its own checks notice
        raise IntegrityError(
            f"{folder}: damaged; its files have SHA-256 {found}, expected {sha256}; "
            "restore the folder from a backup of the archive"
        )
    return _read_columns(folder, table, size)


def _file_digest(path: Path) -> str:
    descriptor = durable.open_regular(path)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise durable.unreadable(path, error) from error


def _check_names(folder: Path, table: str, size: Size) -> None:
    found = {name for name, _ in durable.regular_files(folder)}
    missing = next((name for name in file_names(table, size) if name not in found), None)
    if missing is not None:  # found by the time len(found) + 1 names were tried
        raise IntegrityError(
            f"{folder / missing}: expected a file, found nothing; "
            f"restore {folder} from a backup of the archive"
        )
    if len(found) != n_files(table, size):
        extra = min(found.difference(file_names(table, size)))
        raise IntegrityError(
            f"{folder / extra}: this file does not belong to the archive; move it elsewhere"
        )


def _read_columns(folder: Path, table: str, size: Size) -> dict[str, NDArray[Any]]:
    return {item.name: _read_column(folder / item.name, item, size) for item in TABLES[table]}


def _read_column(folder: Path, column: Column, size: Size) -> NDArray[Any]:
    metadata = durable.read_file(folder / "zarr.json", limit=_MAX_CHUNK_FILE)
    if metadata != column.metadata(size):
        raise IntegrityError(
            f"{folder / 'zarr.json'}: expected {column.metadata(size)!r}, found other metadata; "
            "restore it from a backup of the archive"
        )
    shape, step = column.shape(size), column.chunk_rows(size)
    values = np.zeros(shape, column.dtype)
    for index in range(column.n_chunks(size)):
        path = folder / column.chunk_name(index)
        values[index * step : (index + 1) * step] = _read_chunk(path, column, step, shape)
    values.flags.writeable = False
    return values


def _read_chunk(path: Path, column: Column, rows: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return one chunk; the last one is stored padded to ``rows`` and cut here."""
    stored = durable.read_file(path, limit=_MAX_CHUNK_FILE)
    frame, crc = stored[:-4], stored[-4:]
    if int(google_crc32c.value(frame)) != int.from_bytes(crc, "little"):
        raise _chunk_error(path, "its CRC-32C does not match")
    dtype = np.dtype(column.dtype)
    expected = rows * max(1, column.width) * dtype.itemsize
    raw = _inflate(path, frame, expected)
    chunk = np.frombuffer(raw, dtype).reshape(rows, *shape[1:])
    start = int(path.parent.name if column.width else path.name) * rows
    return chunk[: shape[0] - start]


def _inflate(path: Path, frame: bytes, expected: int) -> bytes:
    from numcodecs.zstd import Zstd

    found = _declared_length(frame)
    if found != expected:
        raise _chunk_error(path, f"its Zstandard frame declares {found} bytes, expected {expected}")
    try:
        raw = bytes(Zstd().decode(frame))
    except (RuntimeError, ValueError) as error:
        raise _chunk_error(path, f"its Zstandard frame is invalid ({error})") from error
    if len(raw) != expected:
        raise _chunk_error(path, f"it inflates to {len(raw)} bytes, expected {expected}")
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


def _chunk_error(path: Path, fault: str) -> IntegrityError:
    return IntegrityError(f"{path}: {fault}; restore it from a backup of the archive")
