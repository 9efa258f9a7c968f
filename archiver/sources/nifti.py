"""Own NIfTI files (``.nii``, header and voxels in one): every slice of the volume is an image.

A slice has the first dimension as its columns and the second as its rows; further dimensions count
slices.  The header is read by nibabel; it and all extensions stay bytes.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

from archiver.sources import scan
from archiver.sources.contract import Fidelity, Held, Split, Unsupported
from archiver.sources.geometry import Geometry
from archiver.sources.quiet import quiet

_ONE, _ONE_AT = b"n+1\0", 344  # magic of NIfTI-1, and where it is
_TWO, _TWO_AT = b"n+2\0\r\n\x1a\n", 4
HEAD_BYTES = _ONE_AT + len(_ONE)  # enough to recognise one


def is_nifti(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is one."""
    return head[_ONE_AT:HEAD_BYTES] == _ONE or head[_TWO_AT : _TWO_AT + len(_TWO)] == _TWO


def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a NIfTI file, or raise Unsupported."""
    from nibabel import Nifti1Header, Nifti2Header  # takes a while to import

    with path.open("rb") as file, quiet("nibabel"):
        kind = Nifti2Header if is_second(file.read(HEAD_BYTES)) else Nifti1Header
        file.seek(0)
        head = io.BytesIO(file.read(kind.sizeof_hdr))  # extensions would become millions of objects
        header = kind.from_fileobj(head, check=False)  # type: ignore[no-untyped-call]
        size = file.seek(0, 2)
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        offset = int(header.get_data_offset())
    channels = 1
    if dtype.names == ("R", "G", "B"):
        dtype, channels = dtype["R"], 3
    if len(shape) < 2 or min(shape) < 1:
        raise Unsupported(f"NIfTI: a volume of {shape}")
    geometry = Geometry.plain(shape[1], shape[0], channels, dtype)
    if geometry is None:
        raise Unsupported(f"NIfTI: {shape[1]} x {shape[0]} voxels of type {dtype}")
    pages = scan.frames(geometry, offset, math.prod(shape[2:]), size)
    found = scan.split(path, pages, fidelity=fidelity)
    if math.prod(shape[3:]) == 1:
        return found
    neighbours = (1, shape[2])  # the slice before, and the same one of the volume before
    return replace(found, images=tuple(replace(i, neighbours=neighbours) for i in found.images))


def is_second(head: bytes) -> bool:
    """Whether it is of the second version."""
    return head[_TWO_AT : _TWO_AT + len(_TWO)] == _TWO
