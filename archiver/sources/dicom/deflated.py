"""DICOM files whose elements are deflated: the images inside, and the deflation.

Their residue is that of gzip (FORMAT.md, "Residue of GZIP"): the file up to the deflated elements
in place of the head, what follows them in place of the tail, and DICOM as the format inside.
"""

from __future__ import annotations

from pathlib import Path

from archiver.sources.contract import (
    MAX_WHOLE_BYTES,
    Fidelity,
    Format,
    Held,
    Split,
    Unsupported,
)
from archiver.sources.deflate import settings as deflate_settings
from archiver.sources.dicom import file as dicom_file
from archiver.sources.dicom.header import DEFLATED, EXPLICIT
from archiver.sources.segmented.streams import Deflated


def split(path: Path | Held, *, fidelity: Fidelity) -> Split:
    """Split a DICOM file of deflated elements, or raise Unsupported."""
    header = dicom_file.read(path)
    if header.syntax != DEFLATED:
        return dicom_file.split_elements(path, header, fidelity=fidelity)
    with path.open("rb") as file:
        data = file.read(MAX_WHOLE_BYTES + 1)
    if len(data) > MAX_WHOLE_BYTES:
        raise Unsupported("DICOM: deflated, and too large to hold in memory")
    stream = Deflated(data, header.start, deflate_settings.DEFAULT.header, 0, str(path))
    return stream.split(Format.DICOM, _split_elements, fidelity=fidelity)


def _split_elements(inside: Held, *, fidelity: Fidelity) -> Split:
    if len(inside.data) >= MAX_WHOLE_BYTES:
        raise Unsupported("DICOM: deflated, and too large to hold in memory")
    return dicom_file.split_elements(inside, dicom_file.read(inside, EXPLICIT), fidelity=fidelity)
