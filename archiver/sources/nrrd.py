"""NRRD files: every slice of the volume is an image; the header is read by pynrrd.

The first axis counts columns, the second rows, further ones slices; before them may come an axis of
channels.  Samples are as they are, or one member of gzip, in the file itself or beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archiver.sources import volumes
from archiver.sources.contract import Fidelity, Format, Held, Split, Unsupported
from archiver.sources.volumes import Voxels

MAGIC = b"NRRD000"
MAX_HEADER_BYTES = 1 << 20
_END = re.compile(rb"\r?\n\r?\n")
_FIELDS = re.compile(
    rb"(type|dimension|sizes|encoding|endian|kinds|data ?file|(?:line|byte) ?skip)\s*:", re.I
)
_FEW = 4  # an axis of so many samples before two others counts channels
_SPATIAL = ("domain", "space", "time", "???", "none", "")
_TYPES = {
    "i1": "signed char,int8,int8_t",
    "u1": "uchar,unsigned char,uint8,uint8_t",
    "i2": "short,short int,signed short,signed short int,int16,int16_t",
    "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
    "i4": "int,signed int,int32,int32_t",
    "u4": "uint,unsigned int,uint32,uint32_t",
    "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
    "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: np.dtype(code) for code, names in _TYPES.items() for name in names.split(",")}


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split an NRRD file, or raise Unsupported."""
    return volumes.split(path, _own(path), fidelity=fidelity)


def split_plain(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a file without compression of its own, or raise Unsupported."""
    return volumes.split_plain(path, _own(path), fidelity=fidelity)


def described(head: bytes) -> tuple[str, Voxels] | None:
    """Return which file a detached header names, and what it says of it; None if it is none."""
    header, _ = _read(head)
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return None
    return str(name), _voxels(header, 0)


def _own(path: Path | Held) -> Voxels:
    """Return what the header of a file says of the samples after it."""
    with path.open("rb") as file:
        header, end = _read(file.read(MAX_HEADER_BYTES))
    if "data file" in header or "datafile" in header:
        raise Unsupported("NRRD: a header; its samples are in the file that it names")
    return _voxels(header, end)


def _read(head: bytes) -> tuple[Mapping[str, Any], int]:
    """Return the fields that matter, and where the header ends."""
    import nrrd

    blank = _END.search(head)
    end = blank.end() if blank else len(head)
    magic, *lines = head[: blank.start() if blank else end].splitlines()
    wanted = [line.decode("ascii", "replace") for line in lines if _FIELDS.match(line)]
    fields = nrrd.read_header([magic.decode("ascii", "replace"), *wanted])
    return {name.lower(): value for name, value in fields.items()}, end


def _voxels(header: Mapping[str, Any], offset: int) -> Voxels:
    sizes = [int(size) for size in header.get("sizes", ())]
    kind = str(header.get("type", "none")).lower()
    if kind not in _DTYPES:
        raise Unsupported(f"NRRD: samples of type {kind[:40]}")
    if len(sizes) != header.get("dimension") or len(sizes) < 2 or min(sizes) < 1:
        raise Unsupported(f"NRRD: an array of {sizes[:9]}")
    skips = _Skips.of(header)
    encoding = str(header.get("encoding", "none")).lower()
    if encoding not in ("raw", "gzip", "gz") or skips.lines:
        raise Unsupported(f"NRRD: encoding {encoding[:40]}, {skips.lines} lines skipped")
    big = str(header.get("endian", "little")).lower() == "big"
    channels = sizes.pop(0) if _has_channels(sizes, header.get("kinds")) else 1
    return Voxels(
        Format.NRRD,
        *(tuple(sizes), channels, _DTYPES[kind].newbyteorder(">" if big else "<")),
        offset=offset,
        skipped=skips.n_bytes,
        wrapper="" if encoding == "raw" else "gzip",
    )


@dataclass(frozen=True)
class _Skips:
    """What lies before the samples: lines, then bytes; -1: the samples are the last of the file."""

    lines: int
    n_bytes: int

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> _Skips:
        lines, n_bytes = (
            int(header.get(f"{what} skip", header.get(f"{what}skip", 0)))
            for what in ("line", "byte")
        )
        return cls(lines, n_bytes)


def _has_channels(sizes: list[int], kinds: Any) -> bool:
    """Whether the first axis counts the channels of a pixel."""
    if len(sizes) < 3:
        return False
    named = [str(kind).lower() for kind in kinds] if kinds is not None else []
    return sizes[0] <= _FEW or (bool(named) and named[0] not in _SPATIAL)
