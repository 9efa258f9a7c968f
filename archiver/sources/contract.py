"""What every source promises: on-disk format ids, fidelity, the result of parsing a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO, Literal

from archiver.image import Image

LAYOUT_VERSION = 1  # first byte of every residue
MAX_WHOLE_BYTES = 256 << 20  # decoded or stored bytes that may be held in memory at once
MAX_SIDE = (1 << 31) - 1


class Format(IntEnum):
    """What rebuilds a file; on-disk ids, append only."""

    OPAQUE = 0
    PNG = 1
    TIFF = 2
    JPEG = 3
    BITMAP = 4
    DICOM = 5
    NIFTI = 6
    NUMPY = 7
    GZIP = 8
    JPEG_2000 = 9
    NRRD = 10
    METAIMAGE = 11
    MGH = 12
    JPEG_LS = 13
    DICOM_DEFLATED = 14

    @property
    def label(self) -> str:
        """The name that users see, in notes, lists and JSON."""
        return _LABELS.get(self, self.name)


_LABELS = {
    Format.OPAQUE: "other",
    Format.BITMAP: "bitmap",
    Format.NIFTI: "NIfTI",
    Format.NUMPY: "NumPy",
    Format.GZIP: "gzip",
    Format.JPEG_2000: "JPEG 2000",
    Format.METAIMAGE: "MetaImage",
    Format.JPEG_LS: "JPEG-LS",
    Format.DICOM_DEFLATED: "DICOM",
}


class Fidelity(IntEnum):
    """What a rebuilt file shares with the original: every byte, or every sample and metadata."""

    BYTES = 0
    SAMPLES = 1


@dataclass(frozen=True)
class ParsedFile:
    """A file split into images and residue; checked to rebuild to ``rebuilt_sha256``."""

    format: Format
    images: tuple[Image, ...]
    residue: bytes  # b"" for OPAQUE: there the file itself is the residue
    note: str  # why the file is kept as it is, or what was given up; "" otherwise
    sha256: bytes
    size: int
    rebuilt_sha256: bytes  # == sha256 unless fidelity is SAMPLES
    fidelity: Fidelity


@dataclass(frozen=True)
class Split:
    """What one format's parser found, before :func:`archiver.sources.parse` checks it."""

    images: tuple[Image, ...]
    residue: bytes
    fidelity: Fidelity = Fidelity.BYTES
    note: str = ""
    forget: Callable[[], None] = lambda: None  # drop what the images hold in memory


@dataclass(frozen=True)
class Held:
    """The bytes of a file in memory; opens like its path would."""

    data: bytes
    name: str

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Return a stream of the bytes."""
        return io.BytesIO(self.data)

    def __str__(self) -> str:
        return self.name


class Unsupported(Exception):
    """This file cannot be rebuilt from samples; the message becomes the note of an opaque file."""
