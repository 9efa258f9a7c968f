"""Bare JPEG-LS and lossless JPEG: samples that are encoded again bit for bit."""

from __future__ import annotations

import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from test_jpeg_frames import lossless_jpeg, scene

from archiver.sources import Format, ParsedFile, parse, rebuild

CASE = Path(__file__).parents[3] / "shared" / "cases" / "CT2.JLS"


def check(path: Path, format: Format) -> ParsedFile:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert parsed.format is format, parsed.note
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return parsed


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (12, 1), (16, 1), (8, 3)])
def test_bare_jpeg_ls_comes_from_samples(tmp_path: Path, bits: int, channels: int) -> None:
    """Grey of 8 to 16 bits, and colour sample by sample; bytes after the frame stay."""
    samples = scene(bits, channels)
    stream = bytes(imagecodecs.jpegls_encode(samples[..., 0] if channels == 1 else samples))
    (tmp_path / "a.jls").write_bytes(stream + b"\0rest")
    [image] = check(tmp_path / "a.jls", Format.JPEG_LS).images
    assert np.array_equal(image.read(), samples)


def test_jpeg_ls_is_known_behind_many_markers(tmp_path: Path) -> None:
    """Its frame need not be among the first bytes."""
    stream = bytes(imagecodecs.jpegls_encode(scene(8)[..., 0]))
    comment = b"\xff\xfe\x04\x00" + bytes(1022)
    (tmp_path / "a.jls").write_bytes(stream[:2] + comment + stream[2:])
    [image] = check(tmp_path / "a.jls", Format.JPEG).images
    assert np.array_equal(image.read(), scene(8))


@pytest.mark.parametrize(("bits", "channels", "predictor"), [(8, 1, 1), (12, 1, 7), (8, 3, 4)])
def test_bare_lossless_jpeg_comes_from_samples(
    tmp_path: Path, bits: int, channels: int, predictor: int
) -> None:
    """Which libjxl cannot transcode."""
    samples = scene(bits, channels)
    (tmp_path / "a.jpg").write_bytes(lossless_jpeg(samples, bits, predictor))
    [image] = check(tmp_path / "a.jpg", Format.JPEG).images
    assert np.array_equal(image.read(), samples)


def test_what_is_kept_says_why(tmp_path: Path) -> None:
    """Of a lossless JPEG with restarts, and of a JPEG-LS cut off, the note names that."""
    stream = lossless_jpeg(scene(8), 8, 1)
    (tmp_path / "a.jpg").write_bytes(stream[:2] + b"\xff\xdd\x00\x04\x00\x10" + stream[2:])
    assert "with restarts" in parse(tmp_path / "a.jpg").note
    stream = bytes(imagecodecs.jpegls_encode(scene(8)[..., 0]))
    began = time.process_time()
    for end in range(len(stream) - 40, len(stream), 4):
        (tmp_path / "a.jls").write_bytes(stream[:end])
        parsed = parse(tmp_path / "a.jls")
        assert parsed.format is Format.OPAQUE
        assert parsed.note == "JPEG-LS: JPEG-LS that is cut off"
    assert time.process_time() - began < 1  # it took seconds each


def test_jpeg_ls_that_claims_much_is_not_decoded(tmp_path: Path) -> None:
    """A header of a few bytes may claim any number of samples."""
    stream = bytearray(imagecodecs.jpegls_encode(scene(8)[..., 0]))
    at = stream.index(b"\xff\xf7")
    stream[at + 5 : at + 9] = b"\x40\x00\x40\x00"
    (tmp_path / "a.jls").write_bytes(stream)
    assert "268435456 samples in" in parse(tmp_path / "a.jls").note


def test_jpegs_of_twelve_bits_say_so(tmp_path: Path) -> None:
    """Nothing here transcodes them, and the note names the reason."""
    stream = bytes(imagecodecs.jpeg8_encode(scene(8)[..., 0]))
    at = stream.index(b"\xff\xc0")
    changed = stream[:at] + b"\xff\xc1" + stream[at + 2 : at + 4] + b"\x0c" + stream[at + 5 :]
    (tmp_path / "a.jpg").write_bytes(changed)
    assert parse(tmp_path / "a.jpg").note == "JPEG: 12 bits, libjxl cannot transcode it"


@pytest.mark.beside("cases")
def test_a_ct_slice_comes_from_samples() -> None:
    """A real file of another encoder."""
    [image] = check(CASE, Format.JPEG_LS).images
    assert image.shape == (512, 512, 1)
