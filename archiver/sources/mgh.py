"""MGH files (FreeSurfer; ``.mgz`` if gzipped): every slice of the volume is an image.

As of NIfTI; the header is read by nibabel and stays bytes, as does what follows the voxels.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

from archiver.sources.contract import Fidelity, Held, Split, Unsupported
from archiver.sources.quiet import quiet
from archiver.sources.segmented.find_recipes import split_volume
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.planes import Volume

_HEADER = struct.Struct(">iiiiiiih")  # version, width, height, depth, frames, type, -, has axes
_HEADER_BYTES = 284  # then voxels
_TYPES = (0, 1, 3, 4, 10)


def is_mgh(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is one: a version of 1, then sizes."""
    if len(head) < _HEADER_BYTES:
        return False
    version, *sizes, kind, _, has_axes = _HEADER.unpack_from(head)
    return version == 1 and min(sizes) >= 1 and kind in _TYPES and has_axes in (0, 1)


def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split an MGH file, or raise Unsupported."""
    from nibabel.freesurfer.mghformat import MGHHeader  # takes a while to import

    with path.open("rb") as file, quiet("nibabel"):
        head = io.BytesIO(file.read(_HEADER_BYTES))
        header = MGHHeader.from_fileobj(head, check=False)  # type: ignore[no-untyped-call]
    width, height, *counts = map(int, header.get_data_shape())
    dtype = header.get_data_dtype()
    geometry = Geometry.plain(height, width, 1, dtype)
    if geometry is None or min(counts) < 1:
        raise Unsupported(f"MGH: {height} x {width} voxels of type {dtype}")
    return split_volume(path, Volume(geometry, _HEADER_BYTES, tuple(counts)), fidelity=fidelity)
