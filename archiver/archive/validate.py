"""The rules that hold between the columns of a manifest: ranges, order, extents, paths.

Pure functions over one table of one generation; each raises IntegrityError naming the row.  Sizes
are compared by subtraction on the known side, so hostile values cannot overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archiver.archive import layout
from archiver.archive.tables import Columns, from_text
from archiver.errors import IntegrityError
from archiver.image import PLANES_VIEW, SIGNED_VIEW, YCBCR_VIEW

Mask = NDArray[np.bool_] | np.bool_
Range = tuple[int, int]  # low <= index < high


@dataclass(frozen=True)
class Bounds:
    """The ranges that global indices of one generation may refer to."""

    objects: Range  # of this generation
    images: Range  # of this generation
    n_models: int  # up to this generation
    shard_sizes: NDArray[np.int64]  # up to this generation


def entries(where: str, columns: Columns, n_objects: int) -> None:
    """Check entries: paths, kinds, and that each refers to an object as its kind says."""
    kind, index = columns["kind"], columns["object"]
    has_none = np.isin(kind, layout.WITHOUT_OBJECT)
    _require(where, kind <= layout.REMOVED, "kind is unknown")
    _require(where, columns["mode"] <= layout.MAX_MODE, "mode has bits that are not permissions")
    _require(where, (index == -1) == has_none, "a directory has an object or a file none")
    _require(where, (index >= -1) & (index < n_objects), "object is out of range")
    _check_attributes(where, columns)
    seen: set[bytes] = set()
    for row, path in enumerate(text(where, columns, "path")):
        fault = layout.path_fault(path) or ("it occurs twice" if path in seen else "")
        if fault:
            raise _error(where, row, f"path {layout.display(path)!r} is refused: {fault}")
        seen.add(path)


def _check_attributes(where: str, columns: Columns) -> None:
    """Check that only files are linked or have holes, and that a removal says nothing else."""
    kind, link, sparse = columns["kind"], columns["link"], columns["sparse"]
    _require(where, link >= 0, "link is negative")
    _require(where, sparse <= 1, "sparse is not 0 or 1")
    is_plain = (link == 0) & (sparse == 0)
    _require(where, is_plain | (kind == layout.FILE), "something else than a file has link, sparse")
    is_blank = (columns["mode"] == 0) & (columns["mtime_ns"] == 0)
    _require(where, is_blank | (kind != layout.REMOVED), "a removal has a mode or time")


def objects(where: str, columns: Columns) -> None:
    """Check objects: sizes and notes."""
    _require(where, columns["size"] >= 0, "size is negative")
    for row, note in enumerate(text(where, columns, "note")):
        _check_utf8(where, row, note)


def images(where: str, columns: Columns, bounds: Bounds) -> None:
    """Check images: owner, dimensions and sample type."""
    _check_owner(where, columns["object"], bounds.objects)
    _require(where, (columns["shape"] > 0).all(axis=1), "a dimension is 0")
    _require(where, (columns["tile_shape"] > 0).all(axis=1), "a tile dimension is 0")
    known = np.array(sorted(layout.DTYPES))
    _require(where, np.isin(columns["dtype"], known), "dtype is unknown")
    depth = columns["bit_depth"]
    _require(where, (depth >= 1) & (depth <= 64), "bit_depth is not 1 to 64")
    width = np.zeros(known[-1] + 1, np.int64)  # of integers, in bits
    for number, code in layout.DTYPES.items():
        width[number] = 8 * np.dtype(code).itemsize if np.dtype(code).kind in "iu" else 0
    bits = columns["view"] & ~np.uint8(SIGNED_VIEW)
    is_sound = (columns["view"] == 0) | ((bits >= 1) & (bits <= width[columns["dtype"]]))
    view, shape = columns["view"], columns["shape"]
    is_even = (shape[:, :2] % 2 == 0).all(axis=1) & (shape[:, 2] == 1)
    is_colour = ((view == YCBCR_VIEW) & (shape[:, 2] == 3)) | ((view == PLANES_VIEW) & is_even)
    is_sound |= is_colour & (columns["dtype"] == layout.DTYPE_IDS["|u1"])
    _require(where, is_sound, "view is not of as many bits as a sample has, or of its colours")


def tiles(where: str, columns: Columns, bounds: Bounds, shape: NDArray[np.uint32]) -> None:
    """Check tiles: owner, window inside the image, extent inside the shard, model."""
    index = columns["image"]
    _check_owner(where, index, bounds.images)
    _check_extents(where, columns, bounds.shard_sizes)
    limits = shape[index - bounds.images[0]].astype(np.int64)  # (rows, 3)
    window = columns["window"].astype(np.int64)
    _require(where, (window[:, 2:] > 0).all(axis=1), "the window is empty")
    _require(
        where,
        (window[:, :2] + window[:, 2:] <= limits[:, :2]).all(axis=1),
        "the window leaves the image",
    )
    _require(where, columns["component"] < limits[:, 2], "component is out of range")
    model = columns["model"]
    _require(where, (model >= -1) & (model < bounds.n_models), "model is out of range")


def residues(where: str, columns: Columns, bounds: Bounds) -> None:
    """Check residues: owner and extent inside the shard."""
    _check_owner(where, columns["object"], bounds.objects)
    _check_extents(where, columns, bounds.shard_sizes)


def files(where: str, columns: Columns) -> None:
    """Check shards or models: sizes, and names of models."""
    _require(where, columns["size"] >= 0, "size is negative")
    if "name_data" in columns:
        for row, name in enumerate(text(where, columns, "name")):
            _check_utf8(where, row, name)


def text(where: str, columns: Columns, name: str) -> list[bytes]:
    """Return the byte strings of a text column after checking its offsets."""
    data, offsets = columns[f"{name}_data"], columns[f"{name}_offsets"]
    _require(where, offsets[1:] >= offsets[:-1], f"{name}_offsets decrease")
    if offsets[0] != 0 or offsets[-1] != len(data):
        raise _error(where, 0, f"{name}_offsets do not span {len(data)} bytes")
    return from_text(data, offsets)


def _check_owner(where: str, index: NDArray[Any], owners: Range) -> None:
    low, high = owners
    _require(where, (index >= low) & (index < high), f"owner is not in {low} to {high - 1}")
    _require(where, np.concatenate([[True], index[1:] >= index[:-1]]), "rows are not in order")


def _check_extents(where: str, columns: Columns, sizes: NDArray[np.int64]) -> None:
    shard, offset = columns["shard"], columns["offset"]
    _require(where, shard < len(sizes), "shard is out of range")
    room = sizes[shard] - columns["length"]  # int64 - uint32 -> int64
    _require(where, (offset >= 0) & (offset <= room), "the extent leaves the shard")


def _check_utf8(where: str, row: int, value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise _error(where, row, "text is not UTF-8") from error


def _require(where: str, is_good: Mask, fault: str) -> None:
    if not is_good.all():
        raise _error(where, int(np.argmin(is_good)), fault)


def _error(where: str, row: int, fault: str) -> IntegrityError:
    return IntegrityError(
        f"{where}: row {row}: {fault}; the program that wrote it is at fault: "
        "restore a backup of the archive"
    )
