"""DICOM files: plain frames, RLE and what lossless codecs wrote as samples, JPEG as it is.

All elements but the frames are kept.  What irreversible JPEG 2000 wrote stays in the file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from archiver.sources.contract import Fidelity, Held, Split, Unsupported
from archiver.sources.dicom import (
    frames as dicom_frames,
)
from archiver.sources.dicom import (
    header as dicom_header,
)
from archiver.sources.dicom import (
    native as dicom_native,
)
from archiver.sources.dicom.header import BIG_ENDIAN, EXPLICIT, IMPLICIT, UNDEFINED, Header
from archiver.sources.quiet import quiet
from archiver.sources.segmented import find_recipes
from archiver.sources.segmented.encodings import Compression

_NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN, "")


def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a DICOM file, or raise Unsupported."""
    return split_elements(path, read(path), fidelity=fidelity)


def read(path: Path | Held, syntax: str = "") -> Header:
    """Read the header of a file, or of elements alone if their ``syntax`` is given."""
    with quiet("pydicom"), path.open("rb") as file:
        return dicom_header.read(file, syntax)


def split_elements(path: Path | Held, header: Header, *, fidelity: Fidelity) -> Split:
    """Split the elements that ``header`` was read from."""
    is_known = dicom_frames.is_known(header.syntax)
    if not is_known and header.syntax not in _NATIVE:
        raise Unsupported(f"DICOM: frames compressed by {_name(header.syntax)}")
    if not header.tag:
        raise Unsupported("DICOM: no pixel data")
    if not is_known or header.length != UNDEFINED:
        return find_recipes.split(path, dicom_native.find(path, header), fidelity=fidelity)
    frames = dicom_frames.find(path, header)
    try:
        return _noted(find_recipes.split(path, frames.pages, fidelity=fidelity), frames.note)
    except Unsupported:
        if frames.pages[0].compression is not Compression.JPEG:
            raise
    frames = dicom_frames.decodable(path, frames.pages)
    return _noted(find_recipes.split(path, frames.pages, fidelity=fidelity), frames.note)


def _noted(split: Split, note: str) -> Split:
    return replace(split, note="; ".join(filter(None, (split.note, note))))


def _name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name or "an unnamed transfer syntax"
