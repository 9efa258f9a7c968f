"""PNG: every kind that programs write comes back byte for byte, oddities included."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from trees import unplanned

from archiver.sources import Fidelity, Format, parse, png, rebuild

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "P": 1, "1": 1, "I;16": 1}


def pillow_png(mode: str, height: int, width: int, seed: int, **options: object) -> bytes:
    """Write a PNG by Pillow: half noise, half smooth, so that all filters and matches occur."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.integers(-2, 3, (height, width, MODES[mode])), axis=1) + 100
    values = np.where(rng.random((height, 1, 1)) < 0.5, smooth, rng.integers(0, 256, smooth.shape))
    samples = values.astype(np.uint8)
    if mode == "I;16":
        picture = Pillow.fromarray((values[..., 0] * 257).astype(np.uint16))
    elif mode == "1":
        picture = Pillow.fromarray(samples[..., 0] > 99)
    elif mode == "P":
        picture = Pillow.fromarray(samples[..., 0]).convert("P")
    else:
        picture = Pillow.fromarray(samples[..., 0] if MODES[mode] == 1 else samples)
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def pillow_is_classic() -> bool:
    """Whether Pillow is linked with classic zlib; some of its wheels bring zlib-ng."""
    data = pillow_png("P", 60, 60, 1)
    stream = png._read_chunks(data).data
    raw = zlib.decompress(stream)
    compressor = zlib.compressobj(6, zlib.DEFLATED, 15, 9)
    return compressor.compress(raw) + compressor.flush() == stream


def chunk(kind: bytes, data: bytes) -> bytes:
    """Write one chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(
    filters: np.ndarray, rows: np.ndarray, head: tuple[int, ...], level: int = 6, piece: int = 999
) -> bytes:
    """Write a PNG from filter types and filtered rows as they are."""
    stream = zlib.compress(np.column_stack((filters, rows)).astype(np.uint8).tobytes(), level)
    pieces = [chunk(b"IDAT", stream[i : i + piece]) for i in range(0, len(stream), piece)]
    start = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", *head))
    return start + b"".join(pieces) + chunk(b"IEND", b"")


CLASSIC = pytest.mark.skipif(not pillow_is_classic(), reason="Pillow brings another zlib")


def check(path: Path, data: bytes) -> np.ndarray:
    """Parse, expect samples, rebuild the bytes, return the samples."""
    path.write_bytes(data)
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.PNG, "")
    copy = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
    assert copy == data
    assert parsed.sha256 == parsed.rebuilt_sha256
    return parsed.images[0].read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a hypothesis test."""
    return tmp_path_factory.mktemp("png")


@CLASSIC
@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(sorted(MODES)),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
    level=st.sampled_from([1, 3, 6, 9]),
)
def test_pillow(folder: Path, mode: str, height: int, width: int, seed: int, level: int) -> None:
    """Every mode, size and level that Pillow writes is rebuilt from samples that Pillow reads."""
    data = pillow_png(mode, height, width, seed, compress_level=level)
    samples = check(folder / "a.png", data)
    with Pillow.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture).reshape(height, width, -1)
    np.testing.assert_array_equal(samples, expected)


@settings(max_examples=40, deadline=None)
@given(
    depth=st.sampled_from([1, 2, 4, 8, 16]),
    colour=st.sampled_from([0, 2, 3, 4, 6]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 999),
    piece=st.integers(1, 300),
)
def test_any_row(
    folder: Path, depth: int, colour: int, height: int, width: int, seed: int, piece: int
) -> None:
    """Random filter types over random bytes, unused bits set, any IDAT size: all are restored."""
    if depth not in png._DEPTHS[colour]:
        depth = 8
    rng = np.random.default_rng(seed)
    n_bytes = (width * depth * png._CHANNELS[colour] + 7) // 8
    filters = rng.integers(0, 5, (height, 1))
    rows = rng.integers(0, 256, (height, n_bytes))
    head = (width, height, depth, colour, 0, 0, 0)
    samples = check(folder / "b.png", raw_png(filters, rows, head, piece=piece))
    assert samples.max() < 1 << depth


@CLASSIC
def test_large_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filtering in blocks of rows gives the same bytes as filtering at once."""
    monkeypatch.setattr(png, "_BLOCK_BYTES", 100)
    check(tmp_path / "a.png", pillow_png("RGB", 31, 20, 1))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_interlaced(tmp_path: Path, depth: int) -> None:
    """Adam7 images of every depth are rebuilt, and their pixels are in place."""
    height, width = 11, 13
    rng = np.random.default_rng(depth)
    values = rng.integers(0, 1 << depth, (height, width))
    body = b""
    for row, column, down, across in png._ADAM7:
        for line in values[row::down, column::across]:
            bits = (line[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            body += b"\0" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 1)
    data = (
        SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(check(tmp_path / "a.png", data)[..., 0], values)


@CLASSIC
def test_metadata_and_trailing_bytes(tmp_path: Path) -> None:
    """Text, profiles, unknown chunks, bytes after IEND and inside IDAT after the stream stay."""
    text = PngInfo()
    text.add_text("scanner", "37")
    plain = pillow_png("RGB", 9, 9, 3, pnginfo=text, icc_profile=b"profile" * 9)
    check(tmp_path / "a.png", plain.replace(b"IEND\xaeB`\x82", b"IEND\0\0\0\0") + b"tail" * 5)
    stream = zlib.compress(bytes(10)) + b"junk"
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 1, 8, 0, 0, 0, 0))
    parts = head + chunk(b"vpAg", b"?") + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    check(tmp_path / "b.png", SIGNATURE + parts)


@pytest.mark.parametrize(
    ("note", "change"),
    [
        ("animated", lambda d: d[:33] + chunk(b"acTL", bytes(8)) + d[33:]),
        ("no image data", lambda d: d[:33]),
        ("damaged", lambda d: d[:33] + chunk(b"IDAT", b"\x78\x9c123") + chunk(b"IEND", b"")),
        ("too large", lambda d: d[:16] + struct.pack(">II", 1 << 31, 1 << 31) + d[24:]),
        ("wrong CRC", lambda d: d[:-17] + b"\0" + d[-16:]),
        ("expected", lambda d: d[:16] + struct.pack(">II", 9, 99) + d[24:]),
    ],
)
def test_opaque(tmp_path: Path, note: str, change: object) -> None:
    """What cannot be rebuilt is kept as it is, and the note says why."""
    path = tmp_path / "a.png"
    path.write_bytes(change(pillow_png("L", 9, 9, 1)))  # type: ignore[operator]
    parsed = parse(path)
    assert parsed.format is Format.OPAQUE
    assert note in parsed.note


def test_samples_fidelity(tmp_path: Path) -> None:
    """With fidelity SAMPLES an unknown encoder's file is compressed again, metadata kept."""
    rows = np.arange(4000, dtype=np.uint8).reshape(40, 100)
    raw = np.column_stack((np.zeros(40, np.uint8), rows)).tobytes()
    stream = unplanned(zlib.compress(raw))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 40, 8, 0, 0, 0, 0))
    text = chunk(b"tEXt", b"Patient\0none")
    data = SIGNATURE + head + chunk(b"IDAT", stream) + text + chunk(b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert parse(path).note == "PNG: deflate parameters not found"
    parsed = parse(path, fidelity=Fidelity.SAMPLES)
    copy = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
    assert parsed.fidelity is Fidelity.SAMPLES
    assert parsed.rebuilt_sha256 != parsed.sha256
    assert "compressed again" in parsed.note
    assert text in copy
    with Pillow.open(io.BytesIO(copy)) as picture:
        np.testing.assert_array_equal(np.asarray(picture), rows)
