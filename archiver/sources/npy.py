"""NumPy's ``.npy`` files: arrays of two and more dimensions, as one image or as many.

The last two dimensions are rows and columns, after a dimension of at most four channels; those
before count images.  An array in Fortran order is the one of reversed dimensions.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from archiver.sources.contract import Fidelity, Held, Split, Unsupported
from archiver.sources.segmented.find_recipes import split_volume
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.planes import Volume

MAGIC = npy_format.MAGIC_PREFIX
_MOST_CHANNELS = 4
_LEAST_SIDE = 8  # of what may be an image
_HEAD_BYTES = 1 << 14  # more than any header that NumPy reads; a hostile one claims gigabytes


def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a file of one array, or raise Unsupported."""
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_HEAD_BYTES))
    shape, dtype = _header(head)
    offset = head.tell()
    if len(shape) < 2:
        raise Unsupported(f"NumPy: an array of {shape} is no image")
    *_, height, width, channels = (1, *shape) if _is_interleaved(shape) else (*shape, 1)
    geometry = Geometry.plain(height, width, channels, dtype)
    if geometry is None:
        raise Unsupported(f"NumPy: an array of {shape}, {dtype}")
    counts = shape[: len(shape) - (3 if _is_interleaved(shape) else 2)]
    volume = Volume(geometry, offset, counts[::-1])
    if min(height, width) < _LEAST_SIDE and not volume.is_tiny:
        raise Unsupported(f"NumPy: an array of {shape} is no image")
    return split_volume(path, volume, fidelity=fidelity)


def _is_interleaved(shape: tuple[int, ...]) -> bool:
    return len(shape) > 2 and 1 <= shape[-1] <= _MOST_CHANNELS


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return the dimensions in the order of the file, and the sample type."""
    version = npy_format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Unsupported(f"NumPy: version {version}")
    read = npy_format.read_array_header_1_0 if version[0] == 1 else npy_format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return tuple(reversed(shape)) if is_fortran else tuple(shape), dtype
