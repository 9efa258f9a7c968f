"""Residues of volumes, and of tiny planes, as the reader written from FORMAT.md reads them."""

from __future__ import annotations

from pathlib import Path

import metaimageio
import nibabel
import nrrd
import numpy as np
import pytest
from test_planes import series, write_pages
from test_read_residues import read_gzip, read_segmented, read_volume
from test_volumes import AFFINE, volume

from archiver.sources import Format, ParsedFile, parse


def read(parsed: ParsedFile) -> bytes:
    """The file, by the text alone."""
    images = [image.read() for image in parsed.images]
    readers = {Format.GZIP: read_gzip, Format.NRRD: read_volume, Format.METAIMAGE: read_volume}
    return readers.get(parsed.format, read_segmented)(parsed.residue, images)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_nrrd_reads_from_the_text_alone(tmp_path: Path, encoding: str, name: str) -> None:
    """In one file and in two, as samples are and deflated."""
    path = tmp_path / name
    nrrd.write(str(path), volume((4, 10, 9)), header={"encoding": encoding})
    if name == "a.nhdr":
        path = tmp_path / ("a.raw" if encoding == "raw" else "a.raw.gz")
    parsed = parse(path)
    assert parsed.format in (Format.NRRD, Format.GZIP)
    assert read(parsed) == path.read_bytes()


@pytest.mark.parametrize("compressed", [False, True])
def test_metaimage_reads_from_the_text_alone(tmp_path: Path, compressed: bool) -> None:
    """As samples are, and as a zlib stream."""
    metaimageio.write(tmp_path / "a.mha", volume((4, 10, 9)), CompressedData=compressed)
    parsed = parse(tmp_path / "a.mha")
    assert parsed.format is Format.METAIMAGE
    assert read(parsed) == (tmp_path / "a.mha").read_bytes()


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz"])
def test_mgh_reads_from_the_text_alone(tmp_path: Path, name: str) -> None:
    """Gzipped or not."""
    nibabel.MGHImage(volume((9, 10, 4)), AFFINE).to_filename(tmp_path / name)
    assert read(parse(tmp_path / name)) == (tmp_path / name).read_bytes()


def test_tiny_planes_read_from_the_text_alone(tmp_path: Path) -> None:
    """Planes in one piece, and pages apart from each other: geometries as any other."""
    nibabel.Nifti1Image(series(80, 2, 5, 4).T, AFFINE).to_filename(tmp_path / "a.nii")
    write_pages(tmp_path / "a.tif", series(1, 70, 9, 8)[0].astype(np.uint16))
    for name in ("a.nii", "a.tif"):
        parsed = parse(tmp_path / name)
        assert len(parsed.images) == 1
        assert read(parsed) == (tmp_path / name).read_bytes()
