"""NIfTI and Analyze 7.5 files: every slice of the volume is an image.

A slice has the first dimension as its columns and the second as its rows; further dimensions count
slices.  The header is read by nibabel; it and all extensions stay bytes.  The voxels of a pair
(``.img``) are read as the header beside them (``.hdr``) says, which stays as it is.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from archiver.sources.contract import Fidelity, Held, Split, Unsupported
from archiver.sources.quiet import quiet
from archiver.sources.segmented.find_recipes import split_volume
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.planes import Volume

_ONE, _ONE_AT = b"n+1\0", 344  # magic of NIfTI-1, and where it is
_TWO, _TWO_AT = b"n+2\0\r\n\x1a\n", 4
_PAIR_ONE, _PAIR_TWO = b"ni1\0", b"ni2\0\r\n\x1a\n"  # of a header whose voxels lie beside it
_ANALYZE = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # its size, 348, in either order
HEAD_BYTES = _ONE_AT + len(_ONE)  # enough to recognise one
HEADER_BYTES = 540  # of the longest one


def is_nifti(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is one."""
    return head[_ONE_AT:HEAD_BYTES] == _ONE or head[_TWO_AT : _TWO_AT + len(_TWO)] == _TWO


def is_header(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is the header of a pair, of NIfTI or Analyze."""
    is_analyze = head[:4] in _ANALYZE and head[_ONE_AT:HEAD_BYTES] not in (_ONE, b"")
    return is_analyze or head[_TWO_AT : _TWO_AT + len(_PAIR_TWO)] == _PAIR_TWO


def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a NIfTI file, or raise Unsupported."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)  # extensions would become millions of objects
    return split_voxels(path, head, fidelity=fidelity)


def split_voxels(path: Path | Held, head: bytes, *, fidelity: Fidelity) -> Split:
    """Split the voxels of a volume with the header ``head``, or raise Unsupported."""
    return split_volume(path, _volume(head), fidelity=fidelity)


def _volume(head: bytes) -> Volume:
    with quiet("nibabel"):
        header = _header(head)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        offset = int(header.get_data_offset())
    channels = len(dtype.names or "1")
    if dtype.names:  # red, green, blue; of other types, nothing is an image
        dtype = dtype[0] if set(dtype.names) <= set("RGBA") else dtype
    if len(shape) < 2 or min(shape) < 1:
        raise Unsupported(f"NIfTI: a volume of {shape}")
    geometry = Geometry.plain(shape[1], shape[0], channels, dtype)
    if geometry is None:
        raise Unsupported(f"NIfTI: {shape[1]} x {shape[0]} voxels of type {dtype}")
    return Volume(geometry, offset, tuple(shape[2:]))


def _header(head: bytes) -> Any:
    """Return what nibabel reads from the bytes of a header."""
    from nibabel import AnalyzeHeader, Nifti1Header, Nifti2Header  # takes a while to import

    kind = Nifti1Header if head[_ONE_AT:HEAD_BYTES] in (_ONE, _PAIR_ONE) else AnalyzeHeader
    if head[_TWO_AT : _TWO_AT + len(_TWO)] in (_TWO, _PAIR_TWO):
        kind = Nifti2Header
    file = io.BytesIO(head[: kind.sizeof_hdr])
    return kind.from_fileobj(file, check=False)  # type: ignore[no-untyped-call]
