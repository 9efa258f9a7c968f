"""DICOM as scanners, clouds and old software write it: headers, orders of samples, fragments."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from test_dicom import write
from test_read_residues import read_gzip, read_segmented
from trees import dicom_dataset

from archiver.image import seen
from archiver.sources import Format, ParsedFile, parse, rebuild
from archiver.sources.dicom import header as dicom_header

CASES = Path(__file__).parents[3] / "shared" / "cases"
BUNDLED = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
PREAMBLE = 132


def check(path: Path, expected: Format = Format.DICOM) -> ParsedFile:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert parsed.format is expected, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return parsed


def check_text(path: Path, parsed: ParsedFile) -> None:
    """Rebuild the file by what FORMAT.md says of its residue, without our code."""
    reader = read_segmented if parsed.format is Format.DICOM else read_gzip
    assert reader(parsed.residue, [image.read() for image in parsed.images]) == path.read_bytes()


def read(parsed: ParsedFile) -> np.ndarray:
    """Return all samples as a reader of an archive gets them, without axes of one."""
    return np.stack([seen(image.read(), image.view) for image in parsed.images]).squeeze()


def slices(dtype: str = "u2", n: int = 3) -> np.ndarray:
    """Return smooth frames (n, 40, 34)."""
    rng = np.random.default_rng(4)
    return (np.cumsum(rng.integers(-2, 3, (n, 40, 34)), axis=2) % 100).astype(dtype)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("keeps_meta", [False, True])
def test_a_file_without_preamble_is_read(tmp_path: Path, syntax: str, keeps_meta: bool) -> None:
    """Its first elements say what it is, with group 2 or without, of explicit VR or implicit."""
    frames = slices()
    write(tmp_path / "a.dcm", frames, syntax)
    data = (tmp_path / "a.dcm").read_bytes()[PREAMBLE:]
    (length,) = struct.unpack_from("<I", data, 8)
    (tmp_path / "a").write_bytes(data if keeps_meta else data[12 + length :])
    np.testing.assert_array_equal(read(check(tmp_path / "a")), frames)


def test_a_big_endian_file_without_preamble_is_read(tmp_path: Path) -> None:
    """The group of its first element says the byte order."""
    frames = slices()
    write(tmp_path / "a.dcm", frames, ExplicitVRBigEndian)
    data = (tmp_path / "a.dcm").read_bytes()[PREAMBLE:]
    (length,) = struct.unpack_from("<I", data, 8)
    (tmp_path / "a").write_bytes(data[12 + length :])
    np.testing.assert_array_equal(read(check(tmp_path / "a")), frames)


def test_what_only_looks_like_dicom_is_kept(tmp_path: Path, rng: np.random.Generator) -> None:
    """Two elements in order are asked for; what has them by chance is kept, with a note."""
    assert not dicom_header.is_dicom(b"\x08\0\0\0" + bytes(400))
    assert not dicom_header.is_dicom(b"\x08\0" + rng.bytes(400))
    chance = b"\x08\0\x05\0CS\x04\0ABCD\x08\0\x08\0CS\x04\0ABCD" + rng.bytes(400)
    (tmp_path / "a").write_bytes(chance)
    parsed = parse(tmp_path / "a")
    assert parsed.format is Format.OPAQUE
    assert parsed.note.startswith("DICOM: ")


def test_no_note_differs_from_run_to_run(tmp_path: Path) -> None:
    """A note holds no address of an object, and no path of the file."""
    write(tmp_path / "x.dcm", slices("u1", 1), ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([b"\xff\xd8 no JPEG \xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    notes = set()
    for name in ("a.dcm", "b.dcm"):
        dataset.save_as(tmp_path / name)
        notes.add(parse(tmp_path / name).note)
    assert notes == {"DICOM: a frame that is no JPEG of 8 bits"}


def test_deflated_elements_are_taken_apart(tmp_path: Path) -> None:
    """Samples inside a deflated file are found, and the deflation is found again."""
    frames = slices()
    write(tmp_path / "a.dcm", frames, DeflatedExplicitVRLittleEndian)
    parsed = check(tmp_path / "a.dcm", Format.DICOM_DEFLATED)
    np.testing.assert_array_equal(read(parsed), frames)
    check_text(tmp_path / "a.dcm", parsed)
    whole = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[: len(whole) // 2])
    assert parse(tmp_path / "b.dcm").format is Format.OPAQUE


def test_a_gzipped_file_is_taken_apart(tmp_path: Path) -> None:
    """As slices are sent by mail: .dcm.gz."""
    write(tmp_path / "a.dcm", slices(), ExplicitVRLittleEndian)
    with gzip.GzipFile(tmp_path / "a.dcm.gz", "wb", mtime=0) as file:
        file.write((tmp_path / "a.dcm").read_bytes())
    np.testing.assert_array_equal(read(check(tmp_path / "a.dcm.gz", Format.GZIP)), slices())


def encoded(syntax: str, frame: np.ndarray) -> bytes:
    """Return one frame under a lossless codec."""
    if syntax == RLELossless:
        dataset = dicom_dataset(frame[None], ExplicitVRLittleEndian)
        dataset.PixelData = frame.tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.compress(RLELossless)
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    if syntax == JPEGLSLossless:
        return bytes(imagecodecs.jpegls_encode(frame))
    if syntax == HTJ2KLossless:
        return bytes(imagecodecs.htj2k_encode(frame))
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, reversible=True, codecformat="j2k"))


def write_encoded(
    path: Path, syntax: str, frames: np.ndarray, streams: Sequence[bytes], **how: object
) -> None:
    """Write compressed frames, in fragments as asked for."""
    dataset = dicom_dataset(frames, syntax)
    if how.pop("extended", False):
        value, offsets, lengths = encapsulate_extended(list(streams))
        dataset.PixelData = value
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        dataset.PixelData = encapsulate(list(streams), **how)  # type: ignore[arg-type]
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless])
@pytest.mark.parametrize("has_bot", [False, True])
@pytest.mark.parametrize("n_frames", [1, 3])
def test_frames_in_several_fragments(
    tmp_path: Path, syntax: str, has_bot: bool, n_frames: int
) -> None:
    """A table of offsets tells which are whose; without one, how a frame begins."""
    frames = slices(n=n_frames)
    streams = [encoded(syntax, frame) for frame in frames]
    how = {"fragments_per_frame": 3, "has_bot": has_bot}
    write_encoded(tmp_path / "a.dcm", syntax, frames, streams, **how)
    np.testing.assert_array_equal(read(check(tmp_path / "a.dcm")), frames.squeeze())


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_an_extended_table_of_offsets(tmp_path: Path, syntax: str) -> None:
    """Frames of which a table beside the pixels tells the offsets."""
    frames = slices()
    streams = [encoded(syntax, frame) for frame in frames]
    write_encoded(tmp_path / "a.dcm", syntax, frames, streams, extended=True)
    np.testing.assert_array_equal(read(check(tmp_path / "a.dcm")), frames)


def test_fragments_that_cut_a_header_or_hold_nothing(tmp_path: Path) -> None:
    """A JPEG-LS frame comes back whose first fragment ends in its header, before an empty one."""
    frames = slices(n=1)
    stream = encoded(JPEGLSLossless, frames[0])
    stream += bytes(len(stream) % 2)
    parts = [stream[:6], b"", stream[6:]]
    items = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in (b"", *parts)
    )
    write_encoded(tmp_path / "a.dcm", JPEGLSLossless, frames, [stream], has_bot=False)
    whole = (tmp_path / "a.dcm").read_bytes()
    start = whole.index(struct.pack("<HHI", 0xFFFE, 0xE000, 0))
    end = whole.index(b"\xfe\xff\xdd\xe0")
    (tmp_path / "a.dcm").write_bytes(whole[:start] + items + whole[end:])
    np.testing.assert_array_equal(read(check(tmp_path / "a.dcm")), frames[0])


def test_sequences_of_unknown_kind_in_a_big_endian_file(tmp_path: Path) -> None:
    """Inside UN of undefined length, elements are implicit and little-endian whatever is around."""
    frames = slices()
    write(tmp_path / "a.dcm", frames, ExplicitVRBigEndian)
    whole = (tmp_path / "a.dcm").read_bytes()
    value = struct.pack("<HHI", 0x0009, 0x1001, 4) + b"text"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value
    item += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    unknown = b"\x00\x09\x10\x02UN\0\0\xff\xff\xff\xff" + item
    at = whole.index(b"\x00\x28\x00\x02US")
    (tmp_path / "a.dcm").write_bytes(whole[:at] + unknown + whole[at:])
    np.testing.assert_array_equal(read(check(tmp_path / "a.dcm")), frames)


def test_native_422(tmp_path: Path) -> None:
    """Two pixels share their colour in the file; readers get RGB, as pydicom gives it."""
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 256, (2, 20, 24, 3)).astype(np.uint8)
    dataset = dicom_dataset(frames, ExplicitVRLittleEndian)
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = rng.integers(0, 256, 2 * 20 * 24 * 2).astype(np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
    expected = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    parsed = check(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(parsed), expected)
    check_text(tmp_path / "a.dcm", parsed)


@pytest.mark.parametrize(
    ("keyword", "dtype", "bits"),
    [("FloatPixelData", "<f4", 32), ("DoubleFloatPixelData", "<f8", 64)],
)
def test_floats(tmp_path: Path, keyword: str, dtype: str, bits: int) -> None:
    """Parametric maps keep their pixels in elements of their own."""
    frames = (slices("u2", 2) / 7).astype(dtype)
    dataset = dicom_dataset(slices("u2", 2), ExplicitVRLittleEndian)
    dataset.BitsAllocated = bits
    for name in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, name)
    setattr(dataset, keyword, frames.tobytes())
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
    np.testing.assert_array_equal(read(check(tmp_path / "a.dcm")), frames)


@pytest.mark.parametrize("shape", [(3, 16, 24), (5, 11, 13), (1, 9, 9)])
def test_bits(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Frames of a segmentation follow each other bit by bit: they may begin within a byte."""
    frames = np.random.default_rng(6).integers(0, 2, shape).astype(np.uint8)
    dataset = dicom_dataset(frames, ExplicitVRLittleEndian)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\x5a" * (len(packed) % 2)
    dataset["PixelData"].VR = "OB"
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
    parsed = check(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(parsed), frames.squeeze())
    assert {image.bit_depth for image in parsed.images} == {1}
    check_text(tmp_path / "a.dcm", parsed)


@pytest.mark.parametrize(("n", "height"), [(3, 6), (1, 5)])
def test_bytes_in_big_endian_words(tmp_path: Path, n: int, height: int) -> None:
    """8-bit samples with VR OW lie in swapped pairs; the padding of an odd frame before its end."""
    frames = np.random.default_rng(8).integers(0, 256, (n, height, 7)).astype(np.uint8)
    dataset = dicom_dataset(frames, ExplicitVRBigEndian)
    flat = frames.tobytes() + bytes(frames.size % 2)
    dataset.PixelData = np.frombuffer(flat, "<u2").byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
    parsed = check(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read(parsed), frames.squeeze())
    check_text(tmp_path / "a.dcm", parsed)


def jpeg(height: int, width: int) -> bytes:
    """Return a small JPEG in colour."""
    y, x = np.mgrid[:height, :width]
    file = io.BytesIO()
    picture = np.stack([x * 3, y * 4, x + y], axis=-1).astype(np.uint8)
    Pillow.fromarray(picture).save(file, "JPEG")
    return file.getvalue()


def test_frames_of_other_sizes(tmp_path: Path) -> None:
    """Frames at the edge of a slide may be smaller than the header says; damaged ones stay."""
    frames = np.zeros((4, 48, 48, 3), np.uint8)
    damaged = b"\xff\xd8\xff no JPEG at all \xff\xd9"
    streams = [jpeg(48, 48), jpeg(48, 17), damaged, jpeg(48, 48)]
    write_encoded(tmp_path / "a.dcm", JPEGBaseline8Bit, frames, streams)
    parsed = check(tmp_path / "a.dcm")
    assert [image.shape for image in parsed.images] == [(48, 48, 3), (48, 17, 3), (48, 48, 3)]
    assert "1 of 4 frames kept as they are" in parsed.note


def test_a_jpeg_that_ends_early_leaves_the_others(tmp_path: Path) -> None:
    """A frame whose header is good and whose scan is not does not make the file opaque."""
    frames = np.zeros((3, 48, 48, 3), np.uint8)
    good = jpeg(48, 48)
    scan = good.index(b"\xff\xda")
    streams = [good, good[: scan + 4] + b"\xff\xd9", jpeg(48, 48)]
    write_encoded(tmp_path / "a.dcm", JPEGBaseline8Bit, frames, streams)
    assert len(check(tmp_path / "a.dcm").images) in (2, 3)


@pytest.mark.parametrize(
    ("bits", "signed"), [(12, True), (12, False), (16, True), (9, True), (1, False)]
)
def test_bits_that_are_not_used_are_not_read(tmp_path: Path, bits: int, signed: bool) -> None:
    """What lies above the stored bits comes back in the file and not in the samples."""
    frames = np.random.default_rng(9).integers(0, 1 << 16, (2, 12, 14)).astype(np.uint16)
    frames = frames.view(np.int16) if signed else frames
    write(tmp_path / "a.dcm", frames, ExplicitVRLittleEndian, BitsStored=bits, HighBit=bits - 1)
    expected = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    decoded = read(check(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(decoded, expected)
    assert decoded.dtype == expected.dtype


def comparable(path: Path) -> np.ndarray | None:
    """Return what pydicom reads, None if it does not."""
    try:
        dataset = pydicom.dcmread(path, force=True)
        if not dataset.file_meta.get("TransferSyntaxUID"):
            plain = ImplicitVRLittleEndian if dataset.is_implicit_VR else ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = plain
        return dataset.pixel_array.squeeze()
    except Exception:
        return None


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_samples_are_those_that_pydicom_reads(path: Path) -> None:
    """Of every file that both read: stored bits, sign, colour, order of bytes and planes."""
    parsed, expected = parse(path), comparable(path)
    if parsed.images and expected is not None:
        np.testing.assert_array_equal(read(parsed), expected)


@pytest.mark.beside("cases")
@pytest.mark.parametrize("path", sorted(CASES.glob("*.dcm")), ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore")
def test_cases_come_from_samples(path: Path) -> None:
    """Each real file is read from samples, but for the one whose frames are none."""
    parsed = parse(path)
    if "genFile" in path.name:
        assert parsed.note == "DICOM: a frame that is no JPEG of 8 bits"
        return
    check(path, Format.DICOM_DEFLATED if "deflated" in path.name else Format.DICOM)
    expected = comparable(path)
    if expected is not None:
        np.testing.assert_array_equal(read(parsed), expected)


@pytest.mark.parametrize("how", ["levels", "tiles", "colour", "version", "markers"])
def test_high_throughput_codestreams(tmp_path: Path, how: str) -> None:
    """A bare one comes from samples, whatever its markers, tiles and levels; another's stays."""
    grey = slices("u2", 1)[0]
    stream = {
        "levels": lambda: imagecodecs.htj2k_encode(grey, resolutions=2),
        "tiles": lambda: imagecodecs.htj2k_encode(np.tile(grey, (4, 4)), tile=(64, 128)),
        "colour": lambda: imagecodecs.htj2k_encode(np.stack([grey.astype("u1")] * 3, axis=-1)),
        "version": lambda: imagecodecs.htj2k_encode(grey).replace(b"Ver 0.26.3", b"Ver 0.10.2"),
        "markers": lambda: imagecodecs.htj2k_encode(grey, tlm=True, tilepart=1),
    }[how]()
    (tmp_path / "a.jhc").write_bytes(stream)
    check(tmp_path / "a.jhc", Format.JPEG_2000)
    (tmp_path / "b.jhc").write_bytes(imagecodecs.htj2k_encode(grey, reversible=False, level=0.01))
    assert parse(tmp_path / "b.jhc").note == "JPEG 2000: JPEG 2000 that is not reversible"


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements that inflate beyond what may be held are refused."""
    write(tmp_path / "a.dcm", slices(n=1), DeflatedExplicitVRLittleEndian)
    whole = (tmp_path / "a.dcm").read_bytes()
    start = dicom_header.read(io.BytesIO(whole)).start
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(1 << 22)) + compressor.flush()
    (tmp_path / "b.dcm").write_bytes(whole[:start] + bomb)
    monkeypatch.setattr("archiver.sources.dicom.deflated.MAX_WHOLE_BYTES", 1 << 20)
    assert "too large" in parse(tmp_path / "b.dcm").note
