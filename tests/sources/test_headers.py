"""NRRD, MetaImage, MGH, pairs of header and voxels: slices are images, the very bytes come back."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import metaimageio
import nibabel
import nrrd
import numpy as np
import pytest
from test_volumes import AFFINE, check, volume

from archiver.sources import NO_FORMAT, Format, parse, rebuild

CASES = Path(__file__).parents[3] / "shared" / "cases"


def slices(path: Path, format: Format) -> np.ndarray:
    """Return the samples of a file (slices, rows, columns, channels), proven to come back."""
    return np.stack([image.read() for image in check(path, format).images])


def write_nrrd(path: Path, voxels: np.ndarray, **fields: object) -> None:
    """Write an array whose first dimension is the last one of the file."""
    nrrd.write(str(path), voxels, index_order="C", header={"encoding": "raw"} | fields)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">u2", "<i4", "<u4", ">f4", "<f8"])
@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_slices_of_nrrd_are_images(tmp_path: Path, dtype: str, encoding: str) -> None:
    """Every sample type and order of bytes, as they are or as a member of gzip."""
    voxels = volume((5, 20, 31)).astype(dtype)
    write_nrrd(tmp_path / "a.nrrd", voxels, encoding=encoding)
    assert np.array_equal(slices(tmp_path / "a.nrrd", Format.NRRD)[..., 0], voxels)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_samples_beside_an_nrrd_header_are_read_by_it(tmp_path: Path, encoding: str) -> None:
    """The file that a detached header names is images; the header is text, and says so."""
    voxels = volume((5, 20, 31))
    write_nrrd(tmp_path / "a.nhdr", voxels, encoding=encoding)
    name, format = ("a.raw", Format.NRRD) if encoding == "raw" else ("a.raw.gz", Format.GZIP)
    assert np.array_equal(slices(tmp_path / name, format)[..., 0], voxels)
    header = parse(tmp_path / "a.nhdr")
    assert (header.format, header.note[:14]) == (Format.OPAQUE, "NRRD: a header")


def test_samples_come_back_without_their_header(tmp_path: Path) -> None:
    """What is kept of voxels does not need the header beside them."""
    write_nrrd(tmp_path / "a.nhdr", volume((5, 20, 31)))
    parsed = parse(tmp_path / "a.raw")
    images = [(image, image.read()) for image in parsed.images]
    (tmp_path / "a.nhdr").unlink()
    assert len(images) == 5
    rebuilt = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
    assert rebuilt == (tmp_path / "a.raw").read_bytes()


def test_a_header_of_another_name_is_found(tmp_path: Path) -> None:
    """A header says which file it is of; that of another one is not used."""
    write_nrrd(tmp_path / "b.nhdr", volume((5, 20, 31)))
    (tmp_path / "b.raw").rename(tmp_path / "other.raw")
    assert parse(tmp_path / "other.raw").note == NO_FORMAT
    text = (tmp_path / "b.nhdr").read_text().replace("b.raw", "other.raw")
    (tmp_path / "b.nhdr").write_text(text)
    check(tmp_path / "other.raw", Format.NRRD)


@pytest.mark.parametrize(
    ("kinds", "shape"),
    [
        (["RGB-color", "domain", "domain", "domain"], (4, 20, 31, 3)),
        (["list", "domain", "domain", "domain"], (4, 20, 31, 7)),
        (None, (20, 31, 3)),
    ],
)
def test_channels_of_nrrd(tmp_path: Path, kinds: list[str] | None, shape: tuple[int, ...]) -> None:
    """A first axis of colours, or of vectors, is the channels of a pixel."""
    voxels = volume(shape)
    write_nrrd(tmp_path / "a.nrrd", voxels, **({"kinds": kinds} if kinds else {}))
    decoded = slices(tmp_path / "a.nrrd", Format.NRRD)
    assert np.array_equal(decoded.reshape(shape), voxels)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (b"type: int16", b"type: block", "of type block"),
        (b"encoding: raw", b"encoding: bzip2", "encoding bzip2"),
        (b"encoding: raw", b"encoding: ascii", "encoding ascii"),
        (b"encoding: raw", b"encoding: raw\nline skip: 2", "2 lines skipped"),
        (b"encoding: raw", b"encoding: raw\ndata file: LIST", "a header"),
        (b"sizes: 31 20 5", b"sizes: 31 20 99999999999", "bytes for"),
        (b"sizes: 31 20 5", b"sizes: 31 20 -5", "an array of"),
        (b"sizes: 31 20 5", b"sizes: 31 20", "an array of"),
        (b"sizes: 31 20 5", b"sizes: nan 20 5", "an array of"),
        (b"sizes: 31 20 5", b"", "an array of"),
        (b"encoding: raw", b"encoding: raw\nbyte skip: 99", "bytes for"),
        (b"encoding: raw", b"encoding: gzip", "gzip"),
    ],
)
def test_nrrd_that_is_kept_says_why(tmp_path: Path, field: bytes, value: bytes, why: str) -> None:
    """What no image is, or lies about its size, is kept byte for byte with a true reason."""
    write_nrrd(tmp_path / "a.nrrd", volume((5, 20, 31)))
    data = (tmp_path / "a.nrrd").read_bytes()
    assert data.count(field) == 1
    (tmp_path / "a.nrrd").write_bytes(data.replace(field, value))
    parsed = parse(tmp_path / "a.nrrd")
    assert parsed.format is Format.OPAQUE
    assert parsed.note.startswith("NRRD: ")
    assert why in parsed.note


def test_bytes_before_the_samples_of_nrrd(tmp_path: Path) -> None:
    """They are skipped from the front, or counted from the end."""
    voxels = volume((5, 20, 31))
    write_nrrd(tmp_path / "a.nrrd", voxels)
    head, samples = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)
    for skip in (b"7", b"-1"):
        (tmp_path / "b.nrrd").write_bytes(
            head + b"\r\nbyte skip: " + skip + b"\r\n\r\n" + bytes(7) + samples
        )
        assert np.array_equal(slices(tmp_path / "b.nrrd", Format.NRRD)[..., 0], voxels)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_slices_of_metaimage_are_images(
    tmp_path: Path, dtype: str, suffix: str, compressed: bool
) -> None:
    """As one file or as header and samples, as they are or as a zlib stream."""
    voxels = volume((5, 20, 31), dtype)
    path = tmp_path / f"a{suffix}"
    metaimageio.write(path, voxels, CompressedData=compressed)
    if suffix == ".mhd":
        assert "a header" in parse(path).note
        path = tmp_path / ("a.zraw" if compressed else "a.raw")
    assert np.array_equal(slices(path, Format.METAIMAGE)[..., 0], voxels)


def write_mha(path: Path, voxels: bytes, **fields: object) -> None:
    """Write a header of these fields, and then the samples."""
    base = {"ObjectType": "Image", "NDims": 3, "DimSize": "31 20 5", "ElementType": "MET_SHORT"}
    lines = [f"{name} = {value}\n" for name, value in (base | fields).items()]
    path.write_bytes("".join([*lines, "ElementDataFile = LOCAL\n"]).encode() + voxels)


def test_channels_and_order_of_metaimage(tmp_path: Path) -> None:
    """Colours are channels of a pixel; the order of bytes is the stated one."""
    colours = volume((5, 20, 31, 3), "u1")
    fields = {"ElementNumberOfChannels": 3, "ElementType": "MET_UCHAR"}
    write_mha(tmp_path / "a.mha", colours.tobytes(), **fields)
    assert np.array_equal(slices(tmp_path / "a.mha", Format.METAIMAGE), colours)
    voxels = volume((5, 20, 31)).astype(">i2")
    write_mha(tmp_path / "a.mha", voxels.tobytes(), BinaryDataByteOrderMSB=True, HeaderSize=-1)
    assert np.array_equal(slices(tmp_path / "a.mha", Format.METAIMAGE)[..., 0], voxels)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"DimSize": "31 20 99999999999"}, "bytes for"),
        ({"DimSize": "31 20 -5"}, "an array of"),
        ({"DimSize": "31 nan 5"}, "dimsize"),
        ({"NDims": 2}, "an array of"),
        ({"ElementType": "MET_LONG_DOUBLE"}, "of type long_double"),
        ({"ElementNumberOfChannels": 1 << 40}, "samples of"),
        ({"BinaryData": False}, "as text"),
        ({"CompressedData": True}, "no zlib stream"),
        ({"HeaderSize": 1 << 50}, "bytes for"),
    ],
)
def test_metaimage_that_is_kept_says_why(
    tmp_path: Path, fields: dict[str, object], why: str
) -> None:
    """What no image is, or lies about its size, is kept byte for byte with a true reason."""
    write_mha(tmp_path / "a.mha", volume((5, 20, 31)).tobytes(), **fields)
    parsed = parse(tmp_path / "a.mha")
    assert parsed.format is Format.OPAQUE
    assert parsed.note.startswith("MetaImage: ")
    assert why in parsed.note


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize(("name", "format"), [("a.mgh", Format.MGH), ("a.mgz", Format.GZIP)])
def test_slices_of_mgh_are_images(tmp_path: Path, dtype: str, name: str, format: Format) -> None:
    """Volumes of FreeSurfer, gzipped or not, of one frame or more."""
    voxels = volume((31, 20, 5, 2), dtype)
    nibabel.MGHImage(voxels, AFFINE).to_filename(tmp_path / name)
    decoded = slices(tmp_path / name, format)[..., 0]
    assert np.array_equal(decoded, voxels.reshape(31, 20, 10, order="F").T)


def test_mgh_that_lies_about_its_size_is_kept(tmp_path: Path) -> None:
    """A volume that the file does not hold is no volume."""
    nibabel.MGHImage(volume((31, 20, 5)), AFFINE).to_filename(tmp_path / "a.mgh")
    data = bytearray((tmp_path / "a.mgh").read_bytes())
    data[12:16] = (1 << 30).to_bytes(4, "big")
    (tmp_path / "a.mgh").write_bytes(data)
    assert parse(tmp_path / "a.mgh").format is Format.OPAQUE
    assert "bytes for" in parse(tmp_path / "a.mgh").note


PAIRS: dict[str, Callable[[np.ndarray], object]] = {
    "analyze": lambda v: nibabel.AnalyzeImage(v, AFFINE),
    "analyze, big-endian": lambda v: nibabel.AnalyzeImage(
        v, AFFINE, nibabel.AnalyzeHeader(endianness=">")
    ),
    "spm": lambda v: nibabel.Spm99AnalyzeImage(v, AFFINE),
    "nifti": lambda v: nibabel.Nifti1Pair(v, AFFINE),
    "nifti, big-endian": lambda v: nibabel.Nifti1Pair(
        v, AFFINE, nibabel.Nifti1Header(endianness=">")
    ),
    "nifti 2": lambda v: nibabel.Nifti2Pair(v, AFFINE),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_voxels_of_a_pair_are_images(tmp_path: Path, kind: str) -> None:
    """The header beside them says what they are; gzipped ones, too, and no other header."""
    voxels = volume((31, 20, 5))
    PAIRS[kind](voxels).to_filename(tmp_path / "a.img")
    decoded = slices(tmp_path / "a.img", Format.NIFTI)[..., 0]
    assert np.array_equal(decoded, voxels.T)
    assert parse(tmp_path / "a.hdr").note.startswith("NIfTI: a header")
    data = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img.gz").write_bytes(gzip.compress(data))
    assert np.array_equal(slices(tmp_path / "a.img.gz", Format.GZIP)[..., 0], decoded)
    (tmp_path / "b.img").write_bytes(data)
    assert parse(tmp_path / "b.img").note == NO_FORMAT


def test_a_pair_that_lies_about_its_size_is_kept(tmp_path: Path) -> None:
    """Voxels of which there are fewer than the header claims are bytes."""
    nibabel.Nifti1Pair(volume((31, 20, 5)), AFFINE).to_filename(tmp_path / "a.img")
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-1])
    parsed = parse(tmp_path / "a.img")
    assert parsed.format is Format.OPAQUE
    assert "bytes for" in parsed.note


def test_a_header_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe or a folder in place of a header blocks nothing."""
    (tmp_path / "a.img").write_bytes(bytes(1000))
    os.mkfifo(tmp_path / "a.hdr")
    (tmp_path / "a.mhd").mkdir()
    os.mkfifo(tmp_path / "z.nhdr")
    assert parse(tmp_path / "a.img").note == NO_FORMAT


def test_headers_inside_gzip(tmp_path: Path) -> None:
    """A whole volume file that is gzipped is read as one that is not; twice is once too many."""
    voxels = volume((5, 20, 31))
    write_nrrd(tmp_path / "a.nrrd", voxels)
    metaimageio.write(tmp_path / "a.mha", voxels, CompressedData=False)
    for name in ("a.nrrd", "a.mha"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        decoded = slices(tmp_path / f"{name}.gz", Format.GZIP)[..., 0]
        assert np.array_equal(decoded, voxels)
    metaimageio.write(tmp_path / "b.mha", voxels, CompressedData=True)
    (tmp_path / "b.mha.gz").write_bytes(gzip.compress((tmp_path / "b.mha").read_bytes()))
    assert "compressed twice" in parse(tmp_path / "b.mha.gz").note


def test_a_stream_that_no_plan_gives_is_named(tmp_path: Path) -> None:
    """Of a volume whose compression is not found, the note says that."""
    voxels = volume((5, 20, 31))
    write_mha(tmp_path / "a.mha", zlib.compress(voxels.tobytes())[:-40], CompressedData=True)
    assert parse(tmp_path / "a.mha").note.startswith("MetaImage: ")


def test_what_is_no_image_says_so(tmp_path: Path) -> None:
    """Every file that is kept has a reason, but for empty ones."""
    for data, note in ((b"stained on Monday", NO_FORMAT), (b"", "")):
        (tmp_path / "a.txt").write_bytes(data)
        assert parse(tmp_path / "a.txt").note == note


@pytest.mark.beside("cases")
@pytest.mark.parametrize(
    ("name", "format"),
    [("vol.nrrd", Format.NRRD), ("vol.mha", Format.METAIMAGE), ("pair.img", Format.NIFTI)],
)
def test_volumes_of_other_programs(name: str, format: Format) -> None:
    """The same volume in every container gives the same slices."""
    voxels = nibabel.load(CASES / "vol.nii").dataobj.get_unscaled()
    assert np.array_equal(slices(CASES / name, format)[..., 0], np.asarray(voxels).T)
