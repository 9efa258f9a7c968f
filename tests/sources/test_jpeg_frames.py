"""Lossless JPEG and JPEG-LS in DICOM: samples that are encoded again bit for bit."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless
from trees import dicom_dataset

from archiver.errors import IntegrityError
from archiver.sources import Format, parse, rebuild
from archiver.sources.contract import Unsupported
from archiver.sources.segmented import asides, encodings, jpeg_frames

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"


def scene(bits: int, channels: int = 1, sides: tuple[int, int] = (60, 71)) -> np.ndarray:
    """A wave with noise, in so many bits."""
    rng = np.random.default_rng(bits + channels)
    row, column = np.mgrid[0 : sides[0], 0 : sides[1]]
    wave = 0.5 + 0.3 * np.sin(row / 9)[..., None] * np.cos(
        column / 7 + np.arange(channels)[:, None, None]
    ).transpose(1, 2, 0)
    noisy = wave * 2**bits + rng.normal(0, 2 ** (bits - 6), (*sides, channels))
    return noisy.clip(0, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)


def lossless_jpeg(samples: np.ndarray, precision: int, predictor: int) -> bytes:
    """Return a stream that another encoder might write: all codes of 5 bits, all 17 categories."""
    height, width, channels = samples.shape
    lengths = bytes([0, 0, 0, 0, 17, *[0] * 11])
    table = b"\x00" + lengths + bytes(range(17))
    parts = b"".join(struct.pack("BBB", c + 1, 0x11, 0) for c in range(channels))
    frame = struct.pack(">BHHB", precision, height, width, channels) + parts
    scan = bytes([channels]) + b"".join(bytes([c + 1, 0]) for c in range(channels))
    scan += bytes([predictor, 0, 0])
    markers = [(0xC3, frame), (0xC4, table), (0xDA, scan)]
    header = b"\xff\xd8" + b"".join(
        struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in markers
    )
    rows = samples.astype(samples.dtype.newbyteorder("<")).reshape(height, -1).view(np.uint8)
    return header + jpeg_frames.encode(rows, header) + b"\xff\xd9"


def write(path: Path, stream: bytes, samples: np.ndarray, syntax: str, fragments: int = 1) -> None:
    dataset = dicom_dataset(samples[None], syntax)
    dataset.PixelData = encapsulate([stream], fragments_per_frame=fragments)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def check(path: Path) -> list[np.ndarray]:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert parsed.format is Format.DICOM, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return [image.read() for image in parsed.images]


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_what_is_encoded_decodes_by_another_library(bits: int, predictor: int) -> None:
    """The streams are right: libjpeg's and ours share nothing but the standard."""
    samples = scene(bits)
    stream = lossless_jpeg(samples, bits, predictor)
    np.testing.assert_array_equal(imagecodecs.jpegsof3_decode(stream), samples[..., 0])
    np.testing.assert_array_equal(jpeg_frames.decode(stream), samples)


def test_bands_of_rows_join(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are coded at once, the stream is the same."""
    samples = scene(12)
    whole = lossless_jpeg(samples, 12, 7)
    for band in (1, 71, 200):
        monkeypatch.setattr(jpeg_frames, "_BAND", band)
        assert lossless_jpeg(samples, 12, 7) == whole


def test_the_largest_differences_have_a_category(tmp_path: Path) -> None:
    samples = np.array([[0, 32768, 0, 65535, 32767]], np.uint16).repeat(3, 0)[..., None]
    stream = lossless_jpeg(samples, 16, 1)
    np.testing.assert_array_equal(jpeg_frames.decode(stream), samples)


@pytest.mark.parametrize("fragments", [1, 2, 5])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_comes_back(tmp_path: Path, bits: int, fragments: int) -> None:
    samples = scene(bits)
    stream = lossless_jpeg(samples, bits, 1)
    write(tmp_path / "x.dcm", stream, samples, JPEGLosslessSV1, fragments)
    [decoded] = check(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoded, samples)


def test_colour_comes_back(tmp_path: Path) -> None:
    samples = scene(8, 3)
    write(tmp_path / "x.dcm", lossless_jpeg(samples, 8, 4), samples, JPEGLosslessSV1)
    [decoded] = check(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_jpeg_ls_comes_back(tmp_path: Path, bits: int, fragments: int) -> None:
    samples = scene(bits)
    stream = bytes(imagecodecs.jpegls_encode(samples[..., 0]))
    write(tmp_path / "x.dcm", stream, samples, JPEGLSLossless, fragments)
    [decoded] = check(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("bits", [8, 16])
def test_jpeg_ls_in_colour_comes_back(tmp_path: Path, bits: int) -> None:
    """Components mixed sample by sample."""
    samples = scene(bits, 3)
    stream = bytes(imagecodecs.jpegls_encode(samples))
    write(tmp_path / "x.dcm", stream, samples, JPEGLSLossless)
    [decoded] = check(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("fragments", [1, 4])
def test_jpeg_frames_are_tiles(tmp_path: Path, fragments: int) -> None:
    samples = scene(8)
    stream = bytes(imagecodecs.jpeg8_encode(samples[..., 0], level=90))
    write(tmp_path / "x.dcm", stream, samples, JPEGBaseline8Bit, fragments)
    [decoded] = check(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoded[..., 0], imagecodecs.jpeg8_decode(stream))
    assert parse(tmp_path / "x.dcm").images[0].jpeg_tile is not None


def test_padding_that_no_encoder_writes_keeps_the_file_as_it_is(tmp_path: Path) -> None:
    """A scan that the samples do not give back: nine codes of 5 bits leave three to pad with."""
    samples = np.full((3, 3, 1), 128, np.uint8)
    stream = bytearray(lossless_jpeg(samples, 8, 1))
    stream[-3] ^= 1
    write(tmp_path / "x.dcm", bytes(stream), samples, JPEGLosslessSV1)
    parsed = parse(tmp_path / "x.dcm")
    assert parsed.format is Format.OPAQUE
    assert "not found" in parsed.note


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.replace(b"\xff\xc3", b"\xff\xc0", 1),
        lambda s: s[:30],
        lambda s: b"",
        lambda s: s.replace(b"\xff\xda", b"\xff\xdd\x00\x04\x00\x05\xff\xda", 1),
    ],
    ids=["another kind", "cut", "empty", "restarts"],
)
def test_streams_of_other_kinds_are_refused(change: object) -> None:
    stream = lossless_jpeg(scene(8), 8, 1)
    with pytest.raises(Unsupported):
        jpeg_frames.Header.of(change(stream))  # type: ignore[operator]


def test_a_damaged_residue_is_an_error() -> None:
    rows = np.zeros((4, 4), np.uint8)
    with pytest.raises(IntegrityError, match="cannot be encoded again"):
        encodings.replay(encodings.JPEG_SCAN, rows, b"no header")


@pytest.mark.parametrize(
    "name",
    ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_small_odd_jpeg.dcm"],
)
def test_files_of_other_writers_come_back(name: str) -> None:
    if not (BUNDLED / name).exists():
        pytest.skip("pydicom came without this file")
    assert check(BUNDLED / name)


@pytest.mark.parametrize("how", ["JPLL", "JLSL"])
@pytest.mark.parametrize("what", ["CT1", "MR1"])
def test_real_frames_come_back(real_images: Path, what: str, how: str) -> None:
    [path] = (real_images / "dev" / "medical").glob(f"*{what}_{how}")
    [samples] = check(path)
    assert samples.shape == (512, 512, 1)


def test_a_header_that_claims_more_than_there_is_is_refused_at_once() -> None:
    stream = bytearray(lossless_jpeg(scene(8), 8, 1))
    at = stream.index(b"\xff\xc3") + 5
    stream[at : at + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(Unsupported, match="fewer bits than samples"):
        jpeg_frames.decode(bytes(stream))


def test_what_pydicom_says_of_damaged_files_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = scene(8)
    write(tmp_path / "x.dcm", lossless_jpeg(samples, 8, 1), samples, JPEGLosslessSV1)
    (tmp_path / "x.dcm").write_bytes((tmp_path / "x.dcm").read_bytes()[:-700])
    assert parse(tmp_path / "x.dcm").format is Format.OPAQUE
    assert not caplog.records


def test_a_comment_that_looks_like_a_beginning_is_none(tmp_path: Path) -> None:
    samples = scene(8)
    stream = lossless_jpeg(samples, 8, 1)
    commented = stream[:2] + b"\xff\xfe\x00\x06\xff\xd8ab" + stream[2:]
    write(tmp_path / "x.dcm", commented, samples, JPEGLosslessSV1)
    [decoded] = check(tmp_path / "x.dcm")
    np.testing.assert_array_equal(decoded, samples)


def test_two_frame_headers_are_refused() -> None:
    stream = lossless_jpeg(scene(8), 8, 1)
    at = stream.index(b"\xff\xc3")
    with pytest.raises(Unsupported):
        jpeg_frames.Header.of(stream[:at] + stream[at : at + 13] + stream[at:])


@pytest.mark.parametrize("places", [[5, 4], [11], [0, 10, 3]])
def test_breaks_out_of_order_are_damage(places: list[int]) -> None:
    """A few bytes must not make a file of terabytes."""
    with pytest.raises(IntegrityError, match="breaks in order"):
        list(asides.broken(b"0123456789", [(at, bytes(8)) for at in places]))


def test_a_recipe_without_rows_is_damage() -> None:
    recipe = encodings.Recipe(encodings.Encoding.JPEG)
    with pytest.raises(IntegrityError, match="no rows to encode"):
        encodings.replay(recipe, np.zeros((4, 4), np.uint8))
