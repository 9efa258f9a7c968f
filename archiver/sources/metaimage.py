"""MetaImage files (``.mha``; ``.mhd`` beside its data): every slice of the volume is an image.

The header is some lines of text, ``Key = Value``; no light library reads it without the samples, so
that its eleven keys that matter are read here.  Samples are as they are, or one zlib stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from archiver.sources import volumes
from archiver.sources.contract import Fidelity, Format, Held, Split, Unsupported
from archiver.sources.volumes import Voxels

MAX_HEADER_BYTES = 1 << 16
_BEGIN = re.compile(rb"\s*(ObjectType|ObjectSubType|NDims|Comment|Name|ID)\s*=[^\r\n]*[\r\n]", re.I)
_LINE = re.compile(rb"([A-Za-z]+)\s*=[ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)")
_LOCAL = "local"
_DTYPES = {
    name: np.dtype(code)
    for name, code in (
        *(("char", "i1"), ("uchar", "u1"), ("short", "i2"), ("ushort", "u2")),
        *(("int", "i4"), ("uint", "u4"), ("long", "i8"), ("ulong", "u8")),
        *(("long_long", "i8"), ("ulong_long", "u8"), ("float", "f4"), ("double", "f8")),
    )
}


def is_metaimage(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is one."""
    return _BEGIN.match(head) is not None and b"\0" not in head[:32]


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a MetaImage file, or raise Unsupported."""
    return volumes.split(path, _own(path), fidelity=fidelity)


def split_plain(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a file without compression of its own, or raise Unsupported."""
    return volumes.split_plain(path, _own(path), fidelity=fidelity)


def described(head: bytes) -> tuple[str, Voxels] | None:
    """Return which file a detached header names, and what it says of it; None if it is none."""
    header, _ = _read(head)
    name = header.get("elementdatafile", _LOCAL)
    if name.lower() == _LOCAL:
        return None
    return name, _voxels(header, 0)


def _own(path: Path | Held) -> Voxels:
    """Return what the header of a file says of the samples after it."""
    with path.open("rb") as file:
        header, end = _read(file.read(MAX_HEADER_BYTES))
    if "elementdatafile" not in header:
        raise Unsupported("MetaImage: a header without an end, or of no image")
    if header["elementdatafile"].lower() != _LOCAL:
        raise Unsupported("MetaImage: a header; its samples are in the files that it names")
    return _voxels(header, end)


def _read(head: bytes) -> tuple[Mapping[str, str], int]:
    """Return all fields up to the last one, by their names in lower case, and where they end."""
    fields: dict[str, str] = {}
    at = 0
    while "elementdatafile" not in fields:
        line = _LINE.match(head, at)
        if line is None:
            break
        name, value = (field.decode("utf-8", "replace") for field in line.groups())
        fields[name.lower()] = value
        at = line.end()
    return fields, at


def _voxels(header: Mapping[str, str], offset: int) -> Voxels:
    sizes = _numbers(header, "dimsize")
    kind = header.get("elementtype", "").lower().removeprefix("met_")
    if kind not in _DTYPES:
        raise Unsupported(f"MetaImage: samples of type {kind[:40] or 'none'}")
    if _numbers(header, "ndims") != (len(sizes),) or len(sizes) < 2 or min(sizes) < 1:
        raise Unsupported(f"MetaImage: an array of {sizes[:9]}")
    if not _is_true(header, "binarydata", missing=True):
        raise Unsupported("MetaImage: samples as text")
    big = _is_true(header, "binarydatabyteordermsb") or _is_true(header, "elementbyteordermsb")
    return Voxels(
        Format.METAIMAGE,
        *(sizes, _number(header, "elementnumberofchannels", 1)),
        _DTYPES[kind].newbyteorder(">" if big else "<"),
        offset=offset,
        skipped=_number(header, "headersize", 0),
        wrapper="zlib" if _is_true(header, "compresseddata") else "",
    )


def _numbers(header: Mapping[str, str], name: str) -> tuple[int, ...]:
    words = header.get(name, "").split()
    try:
        return tuple(map(int, words))
    except ValueError as error:
        raise Unsupported(f"MetaImage: {name} is {' '.join(words)[:40]}") from error


def _number(header: Mapping[str, str], name: str, missing: int) -> int:
    return (*_numbers(header, name), missing)[0]


def _is_true(header: Mapping[str, str], name: str, *, missing: bool = False) -> bool:
    value = header.get(name, "").lower()
    return value in ("true", "t", "1", "yes") if value else missing
