"""Headers that lie beside the voxels that they describe: which one it is, what it says.

``.img`` is read as the ``.hdr`` of its name says (Analyze, NIfTI), any file as the ``.nhdr`` (NRRD)
or ``.mhd`` (MetaImage) of its folder that names it.  What is kept rebuilds the file without them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from archiver.sources import metaimage, nifti, nrrd, volumes
from archiver.sources.contract import Fidelity, Format, Held, Split
from archiver.sources.volumes import Voxels

_MOST_NAMES = 1000  # in a folder that is searched for a header of another name
_MOST_HEADERS = 64
_DATA = (".raw", ".zraw", ".img", ".bin", ".dat", ".data")  # that headers of other names describe
_DETACHED: dict[str, tuple[Callable[[bytes], tuple[str, Voxels] | None], int]] = {
    ".nhdr": (nrrd.described, nrrd.MAX_HEADER_BYTES),
    ".mhd": (metaimage.described, metaimage.MAX_HEADER_BYTES),
}


@dataclass(frozen=True)
class Described:
    """What a header says of the file beside it.

    ``split`` takes that file apart, ``split_inside`` what is in it if it is a file of gzip.
    """

    format: Format
    split: Callable[..., Split]
    split_inside: Callable[..., Split]

    @classmethod
    def by_pair(cls, head: bytes) -> Described:
        """Return what the header of a pair says."""

        def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
            return nifti.split_voxels(path, head, fidelity=fidelity)

        return cls(Format.NIFTI, split, split)

    @classmethod
    def by_text(cls, voxels: Voxels) -> Described:
        """Return what a header of text says."""

        def split(path: Path, *, fidelity: Fidelity) -> Split:
            return volumes.split(path, voxels, fidelity=fidelity)

        return cls(voxels.format, split, replace(voxels, wrapper="").split)


def find(path: Path) -> Described | None:
    """Return what a header beside ``path`` says of it, None if there is no such header."""
    stem = path.name.removesuffix(".gz").rpartition(".")
    if stem[2].lower() == "img":
        head = _head(path, stem[0] + (".hdr" if stem[2] == "img" else ".HDR"), nifti.HEADER_BYTES)
        if nifti.is_header(head):
            return Described.by_pair(head)
    for name in _candidates(path, stem[0] or stem[2]):
        read, most = _DETACHED[Path(name).suffix]
        with contextlib.suppress(Exception):  # of a header that describes something else
            described = read(_head(path, name, most))
            if described and described[0].removeprefix("./") == path.name:
                return Described.by_text(described[1])
    return None


def _candidates(path: Path, stem: str) -> Iterator[str]:
    """Yield the names of headers that may describe a file: of its own name first."""
    named_alike = [stem + suffix for suffix in _DETACHED]
    yield from named_alike
    if not path.name.removesuffix(".gz").lower().endswith(_DATA):
        return
    with os.scandir(path.parent) as entries:
        names = [entry.name for _, entry in zip(range(_MOST_NAMES + 1), entries, strict=False)]
    if len(names) <= _MOST_NAMES:  # else what is found depends on the order of the file system
        others = sorted(name for name in names if name.endswith(tuple(_DETACHED)))
        yield from (name for name in others[:_MOST_HEADERS] if name not in named_alike)


def _head(path: Path, name: str, most: int) -> bytes:
    """Return the first bytes of the regular file ``name`` beside ``path``; b"" if there is none."""
    beside = path.with_name(name)
    if not beside.is_file():
        return b""
    with beside.open("rb") as file:
        return file.read(most)
