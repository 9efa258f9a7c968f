"""Volumes whose header is text, NRRD and MetaImage: what it says, and how samples follow it.

Residue (FORMAT.md, "Residue of volumes"): u1 layout version (1), u1 whether the samples are
deflated; then the residue of a segmented file, or of one around a deflate stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from archiver.image import Image
from archiver.sources.contract import (
    LAYOUT_VERSION,
    MAX_WHOLE_BYTES,
    Fidelity,
    Format,
    Held,
    Split,
    Unsupported,
)
from archiver.sources.cursor import Cursor
from archiver.sources.segmented import segments, streams
from archiver.sources.segmented.find_recipes import split_volume
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.planes import Volume

_PLAIN, _DEFLATED = 0, 1


@dataclass(frozen=True)
class Voxels:
    """What a header says of samples: columns, rows, slices, ...; where they are, how encoded."""

    format: Format
    sizes: tuple[int, ...]
    channels: int
    dtype: np.dtype[np.generic]
    offset: int = 0  # of the header's end
    skipped: int = 0  # bytes before the samples; -1: they are the last of the file
    wrapper: str = ""  # "gzip", "zlib"

    @property
    def is_deflated(self) -> bool:
        """Whether they are compressed."""
        return bool(self.wrapper)

    @property
    def n_bytes(self) -> int:
        """Bytes of all samples."""
        return int(np.prod(self.sizes, dtype=object)) * self.channels * self.dtype.itemsize

    def volume(self, path: Path | Held, offset: int) -> Volume:
        """Return the samples from ``offset`` of a file on; Unsupported if they are no images."""
        if self.skipped < 0:
            with path.open("rb") as file:
                offset = file.seek(0, 2) - self.n_bytes
        else:
            offset += self.skipped
        width, height, *counts = self.sizes
        geometry = Geometry.plain(height, width, self.channels, self.dtype)
        if geometry is None:
            raise Unsupported(
                f"{self.format.label}: {height} x {width} samples of {self.channels} x {self.dtype}"
            )
        return Volume(geometry, offset, tuple(counts))

    def split(self, path: Path | Held, *, fidelity: Fidelity) -> Split:
        """Split the samples of a file that holds nothing before them."""
        return split_volume(path, self.volume(path, 0), fidelity=fidelity)


def split(path: Path, voxels: Voxels, *, fidelity: Fidelity) -> Split:
    """Split a file of header and samples, or of samples alone; or raise Unsupported."""
    if not voxels.is_deflated:
        parts = split_plain(path, voxels, fidelity=fidelity)
        return _wrapped(_PLAIN, parts)
    if path.stat().st_size > MAX_WHOLE_BYTES:
        raise Unsupported(f"{voxels.format.label}: too large to hold in memory")
    return _wrapped(_DEFLATED, _split_deflated(path, voxels, fidelity))


def split_plain(path: Path | Held, voxels: Voxels, *, fidelity: Fidelity) -> Split:
    """Split a file whose samples are not compressed, as a segmented file; or raise Unsupported."""
    if voxels.is_deflated:
        raise Unsupported(f"{voxels.format.label}: compressed twice")
    return split_volume(path, voxels.volume(path, voxels.offset), fidelity=fidelity)


def _split_deflated(path: Path, voxels: Voxels, fidelity: Fidelity) -> Split:
    data, at = path.read_bytes(), voxels.offset
    if voxels.wrapper == "gzip":
        stream = streams.Deflated.gzip(data, at, str(path))
    else:  # MetaImage skips bytes of the file, NRRD of what is inside
        at += max(0, voxels.skipped)
        stream = streams.Deflated.zlib(data, at, str(path))
        voxels = replace(voxels, skipped=0)
    return stream.split(voxels.format, voxels.split, fidelity=fidelity)


def _wrapped(how: int, parts: Split) -> Split:
    return replace(parts, residue=bytes([LAYOUT_VERSION, how]) + parts.residue)


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the file."""
    cursor = Cursor(residue, "residue of a volume")
    (how,) = cursor.unpack("<B")
    if how not in (_PLAIN, _DEFLATED):
        raise cursor.damaged("samples that are deflated or not", how)
    inner = streams.rebuild if how == _DEFLATED else segments.rebuild
    yield from inner(residue[2:], images)
