"""The formats that are taken apart: how each is recognised, split and rebuilt."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from archiver.errors import MachineError, SourceError, UsageError
from archiver.image import Image, Samples
from archiver.sources import (
    bitmap,
    detached_header,
    gzipped,
    jp2,
    jpeg,
    jpeg_ls,
    metaimage,
    mgh,
    nifti,
    notes,
    npy,
    nrrd,
    opaque,
    png,
    tiff,
    volumes,
)
from archiver.sources.contract import Fidelity, Format, ParsedFile, Split, Unsupported
from archiver.sources.dicom import deflated as dicom_deflated
from archiver.sources.dicom import file as dicom_file
from archiver.sources.dicom import header as dicom_header
from archiver.sources.segmented import segments

NO_FORMAT = "of no format that is taken apart"
_BLOCK = 1 << 20
_HEAD_BYTES = max(132, nifti.HEAD_BYTES)
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"\xff\xd8\xff", Format.JPEG),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),
    (b"MM\0+", Format.TIFF),
    (b"BM", Format.BITMAP),
    (b"P4", Format.BITMAP),
    (b"P5", Format.BITMAP),
    (b"P6", Format.BITMAP),
    (npy.MAGIC, Format.NUMPY),
    (gzipped.MAGIC, Format.GZIP),
    (jp2.MAGIC, Format.JPEG_2000),
    (jp2.MAGIC_BARE, Format.JPEG_2000),
    (nrrd.MAGIC, Format.NRRD),
)
_SPLIT: dict[Format, Callable[..., Split]] = {
    Format.PNG: png.split,
    Format.TIFF: tiff.split,
    Format.JPEG: jpeg.split,
    Format.BITMAP: bitmap.split,
    Format.DICOM: dicom_file.split,
    Format.NIFTI: nifti.split,
    Format.NUMPY: npy.split,
    Format.GZIP: gzipped.split,
    Format.JPEG_2000: jp2.split,
    Format.NRRD: nrrd.split,
    Format.METAIMAGE: metaimage.split,
    Format.MGH: mgh.split,
    Format.JPEG_LS: jpeg_ls.split,
    Format.DICOM_DEFLATED: dicom_deflated.split,
}
_REBUILD: dict[Format, Callable[[bytes, Sequence[Image]], Iterator[bytes]]] = {
    Format.OPAQUE: opaque.rebuild,
    Format.PNG: png.rebuild,
    Format.TIFF: segments.rebuild,
    Format.JPEG: jpeg.rebuild,
    Format.BITMAP: segments.rebuild,
    Format.DICOM: segments.rebuild,
    Format.NIFTI: segments.rebuild,
    Format.NUMPY: segments.rebuild,
    Format.GZIP: gzipped.rebuild,
    Format.JPEG_2000: segments.rebuild,
    Format.NRRD: volumes.rebuild,
    Format.METAIMAGE: volumes.rebuild,
    Format.MGH: segments.rebuild,
    Format.JPEG_LS: segments.rebuild,
    Format.DICOM_DEFLATED: gzipped.rebuild,
}


def parse(path: Path, *, fidelity: Fidelity = Fidelity.BYTES) -> ParsedFile:
    """Split a file; what cannot be rebuilt exactly comes back as OPAQUE with a note.

    Parameters
    ----------
    path
        A regular file.  It has to stay in place: images read it window by window.
    fidelity
        SAMPLES allows compressed samples to be compressed again when the settings of the
        original encoder are not found; the result says in ``fidelity`` whether that happened.

    Raises
    ------
    SourceError
        If the file cannot be read.
    MachineError
        If this machine lacks the native core, and the file needs it.  Content never raises.
    """
    try:
        with path.open("rb") as file:
            digest, size = _digest(iter(lambda: file.read(_BLOCK), b""))
            file.seek(0)
            format = _recognise(file.read(_HEAD_BYTES))
        return _parse_as(format, path, digest, size, fidelity)
    except OSError as error:
        raise SourceError(
            f"{path}: expected a readable file, found: {error.strerror or error};"
            " check its permissions and the disk, then run again"
        ) from error


def rebuild(format: Format, residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces.

    Images are read by windows in the order of the file, each once per plane, top to bottom (BMP:
    bottom to top).  Raises IntegrityError for a residue that no writer wrote or images that do
    not belong to it, ParityError if an encoder of this machine gives other bytes.
    """
    return _REBUILD[format](residue, images)


def decode_samples(format: Format, data: bytes) -> list[Samples]:
    """Decode the samples of a rebuilt file of a format without images (JPEG), (H, W, C) each."""
    if format is not Format.JPEG:
        raise UsageError(
            f"{format.label}: expected a format whose samples are inside the file (JPEG);"
            " read the images of the entry, or unpack the file"
        )
    return jpeg.decode(data)


def _recognise(head: bytes) -> Format:
    if head[128:132] == b"DICM":  # its preamble may look like a TIFF
        return Format.DICOM_DEFLATED if dicom_header.is_deflated(head) else Format.DICOM
    if nifti.is_nifti(head):
        return Format.NIFTI
    if jpeg_ls.is_jpeg_ls(head):
        return Format.JPEG_LS
    format = next((format for magic, format in _MAGIC if head.startswith(magic)), None)
    if format is None and metaimage.is_metaimage(head):
        return Format.METAIMAGE
    if format is None and dicom_header.is_dicom(head):
        return Format.DICOM
    if format is None and mgh.is_mgh(head):
        return Format.MGH
    return format or Format.OPAQUE


def _parse_as(
    format: Format, path: Path, digest: bytes, size: int, fidelity: Fidelity
) -> ParsedFile:
    split = _SPLIT.get(format)
    if split is None:
        described = detached_header.find(path)
        if described is None:
            note = _unread(path) if size else ""
            return ParsedFile(format, (), b"", note, digest, size, digest, Fidelity.BYTES)
        format, split = described.format, described.split
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = split(path, fidelity=fidelity)
            rebuilt, _ = _digest(rebuild(format, parts.residue, parts.images))
            parts.forget()
        if rebuilt != digest and parts.fidelity is Fidelity.BYTES:
            raise Unsupported(f"{format.label}: rebuilt file differs")
    except Exception as error:  # whatever a decoder raises on damaged content
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system; decoders raise OSError, too
        if isinstance(error, MachineError):
            raise  # the native core is missing: that says nothing of the file
        note = notes.of(error, format.label, str(path))
        return ParsedFile(Format.OPAQUE, (), b"", note, digest, size, digest, Fidelity.BYTES)
    note = notes.steady(parts.note, str(path))
    return ParsedFile(
        format, parts.images, parts.residue, note, digest, size, rebuilt, parts.fidelity
    )


def _unread(path: Path) -> str:
    """Return why a file of none of the formats above is kept."""
    with path.open("rb") as file:
        is_pair = nifti.is_header(file.read(nifti.HEADER_BYTES))
    return (
        f"{Format.NIFTI.label}: a header; its voxels are in the file beside it"
        if is_pair
        else NO_FORMAT
    )


def _digest(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    total, size = hashlib.sha256(), 0
    for piece in pieces:
        total.update(piece)
        size += len(piece)
    return total.digest(), size
