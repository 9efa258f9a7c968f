"""Gzip around a file of another format, such as ``.nii.gz``: which format that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from archiver.sources import detached_header, metaimage, mgh, nifti, npy, nrrd
from archiver.sources.contract import MAX_WHOLE_BYTES, Fidelity, Format, Split, Unsupported
from archiver.sources.dicom import file as dicom_file
from archiver.sources.dicom import header as dicom_header
from archiver.sources.segmented import streams

MAGIC = b"\x1f\x8b\x08"
_SPLIT: dict[Format, Callable[..., Split]] = {
    Format.NIFTI: nifti.split,
    Format.NUMPY: npy.split,
    Format.DICOM: dicom_file.split,
    Format.NRRD: nrrd.split_plain,
    Format.METAIMAGE: metaimage.split_plain,
    Format.MGH: mgh.split,
}
rebuild = streams.rebuild


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a gzip file of one member, or raise Unsupported."""
    if path.stat().st_size > MAX_WHOLE_BYTES:
        raise Unsupported("gzip: too large to hold in memory")
    stream = streams.Deflated.gzip(path.read_bytes(), 0, str(path))
    inside = _recognise(stream.head(nifti.HEAD_BYTES))
    if inside is not None:
        return stream.split(inside, _SPLIT[inside], fidelity=fidelity)
    voxels = detached_header.find(path)
    if voxels is None:
        raise Unsupported("gzip: of a file without images that are read")
    return stream.split(voxels.format, voxels.split_inside, fidelity=fidelity)


def _recognise(head: bytes) -> Format | None:
    if nifti.is_nifti(head):
        return Format.NIFTI
    if head.startswith(npy.MAGIC):
        return Format.NUMPY
    if head.startswith(nrrd.MAGIC):
        return Format.NRRD
    if metaimage.is_metaimage(head):
        return Format.METAIMAGE
    if dicom_header.is_dicom(head):
        return Format.DICOM
    return Format.MGH if mgh.is_mgh(head) else None
