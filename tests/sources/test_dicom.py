"""DICOM: native frames are samples, everything else comes back as it was; compressed ones stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from trees import dicom_dataset

from archiver.sources import Format, parse, rebuild

BUNDLED = sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm"))
SYNTAXES = [ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def write(path: Path, frames: np.ndarray, syntax: str, **header: object) -> None:
    """Write frames (F, H, W) or (F, H, W, C) with an element after the pixels."""
    dataset = dicom_dataset(frames, syntax)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    if dataset.get("PlanarConfiguration") == 1:
        frames = np.moveaxis(frames, 3, 1)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset["PixelData"].VR = "OW" if frames.dtype.itemsize > 1 else "OB"
    dataset.add_new(0xFFFCFFFC, "OB", b"trailing padding")
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def check(path: Path) -> list[np.ndarray]:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert parsed.format is Format.DICOM, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return [image.read() for image in parsed.images]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4"])
@pytest.mark.parametrize("n_frames", [1, 3])
def test_native_frames(tmp_path: Path, syntax: str, dtype: str, n_frames: int) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 100, (n_frames, 21, 17)).astype(dtype)
    write(tmp_path / "a.dcm", frames, syntax)
    np.testing.assert_array_equal(np.stack(check(tmp_path / "a.dcm"))[..., 0], frames)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour(tmp_path: Path, planar: int) -> None:
    frames = np.random.default_rng(2).integers(0, 256, (2, 9, 14, 3)).astype(np.uint8)
    write(tmp_path / "a.dcm", frames, ExplicitVRLittleEndian, PlanarConfiguration=planar)
    np.testing.assert_array_equal(np.stack(check(tmp_path / "a.dcm")), frames)


def test_a_large_frame_is_read_by_strips(tmp_path: Path) -> None:
    frames = np.arange(1200 * 1100, dtype="<u2").reshape(1, 1200, 1100)
    write(tmp_path / "a.dcm", frames, ExplicitVRLittleEndian)
    parsed = parse(tmp_path / "a.dcm")
    window = parsed.images[0].window(1000, 500, 60, 70)[..., 0]
    np.testing.assert_array_equal(window, frames[0, 1000:1060, 500:570])


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"BitsAllocated": 12}, "12 bits"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "YBR_PARTIAL_420"),
        ({"NumberOfFrames": 99}, "99 frames"),
        ({"Rows": 0}, "0 x 17"),
    ],
)
def test_what_is_not_understood_stays(tmp_path: Path, header: dict[str, object], why: str) -> None:
    frames = np.zeros((1, 21, 17), np.uint8)
    write(tmp_path / "a.dcm", frames, ExplicitVRLittleEndian, **header)
    parsed = parse(tmp_path / "a.dcm")
    assert parsed.format is Format.OPAQUE
    assert why in parsed.note


@pytest.mark.parametrize(("dtype", "channels"), [("u1", 1), ("u2", 1), ("i2", 1), ("u1", 3)])
def test_rle_frames(tmp_path: Path, dtype: str, channels: int) -> None:
    """Planes of bytes, the highest first, of several frames; the samples as pydicom reads them."""
    rng = np.random.default_rng(channels)
    frames = np.cumsum(rng.integers(-2, 3, (3, 21, 17, channels)), axis=2).astype(dtype)
    frames = frames if channels > 1 else frames[..., 0]
    write(tmp_path / "a.dcm", frames, ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "b.dcm")
    read = np.stack(check(tmp_path / "b.dcm"))
    np.testing.assert_array_equal(read.reshape(frames.shape), frames)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"NumberOfFrames": 3}, "2 fragments for 3 frames"),
        ({"Rows": 60000, "Columns": 60000}, "an RLE frame of 60000 x 60000"),
        ({"Rows": 9000, "Columns": 9000}, "an RLE frame of 9000 x 9000"),
        ({"BitsAllocated": 16}, "an RLE frame of other than 2 planes"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "an RLE frame of other than 3 planes"),
        ({"PixelData": encapsulate([b"\0\0", b"\0\0"])}, "an RLE frame of other than 1 planes"),
    ],
)
def test_rle_frames_that_contradict_their_header_stay(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    """No sample is invented, and nothing large allocated."""
    write(tmp_path / "a.dcm", np.zeros((2, 21, 17), np.uint8), ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.compress(RLELossless)
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    dataset.save_as(tmp_path / "b.dcm")
    parsed = parse(tmp_path / "b.dcm")
    assert parsed.format is Format.OPAQUE
    assert why in parsed.note


def test_compressed_frames_stay(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", np.zeros((1, 21, 17), np.uint8), ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.PixelData = encapsulate([b"a codestream of an encoder that is not here"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "b.dcm")
    parsed = parse(tmp_path / "b.dcm")
    assert parsed.format is Format.OPAQUE
    assert parsed.note.startswith("DICOM: frames compressed by MPEG2")


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.name)
def test_every_file_of_pydicom_comes_back(path: Path) -> None:
    """Private tags, overlays, odd lengths, damage: the same bytes, or kept as they are."""
    parsed = parse(path)
    if parsed.images:
        again = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
        assert again == path.read_bytes()
    else:
        is_cut = path.name == "no_meta.dcm"  # begins within a number: nothing says what it is
        assert parsed.note.startswith("DICOM: ") or is_cut


def test_damage_is_no_error(tmp_path: Path) -> None:
    """Cut off or changed anywhere in the header, a file is still taken, somehow."""
    write(tmp_path / "a.dcm", np.zeros((1, 8, 8), np.uint8), ExplicitVRLittleEndian)
    data = (tmp_path / "a.dcm").read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(data[: rng.integers(132, len(data))])
        for at in rng.integers(132, len(damaged), 3):
            damaged[at] = rng.integers(256)
        (tmp_path / "b.dcm").write_bytes(damaged)
        parsed = parse(tmp_path / "b.dcm")
        assert parsed.size == len(damaged)


def test_a_file_that_ends_within_its_header_is_kept_as_it_is(tmp_path: Path) -> None:
    """pydicom says so by an OSError, which is none of the disk's."""
    write(tmp_path / "x.dcm", np.zeros((1, 9, 9), np.uint16), ExplicitVRLittleEndian)
    whole = (tmp_path / "x.dcm").read_bytes()
    for end in range(140, len(whole), 7):
        (tmp_path / "x.dcm").write_bytes(whole[:end])
        assert parse(tmp_path / "x.dcm").size == end
