"""TIFF: strips and tiles of every supported kind are samples, the rest of the file is residue."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from trees import unplanned

from archiver.sources import Fidelity, Format, ParsedFile, parse, rebuild
from archiver.sources.segmented import segments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a hypothesis test."""
    return tmp_path_factory.mktemp("tiff")


STRIPS = [{"rowsperstrip": rows} for rows in (None, 1, 7)]


def smooth(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Make samples that compress a little."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.integers(-3, 4, shape), axis=-2).astype(dtype)


def check(path: Path) -> ParsedFile:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.TIFF, "")
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return parsed


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 3, 4, 5])),
    dtype=st.sampled_from(["u1", "u2", "i1", "i2", "i4", "u8", "f2", "f4", "f8"]),
    compression=st.sampled_from([None, "zlib", "lzw", "packbits"]),
    predictor=st.booleans(),
    cutting=st.sampled_from([{"tile": (16, 16)}, {"tile": (32, 48)}, *STRIPS]),
    planar=st.booleans(),
    layout=st.fixed_dictionaries({"byteorder": st.sampled_from("<>"), "bigtiff": st.booleans()}),
)
def test_tifffile(
    folder: Path,
    shape: tuple[int, int, int],
    dtype: str,
    compression: str | None,
    predictor: bool,
    cutting: dict[str, Any],
    planar: bool,
    layout: dict[str, Any],
) -> None:
    """Whatever tifffile writes by default codecs is rebuilt, and reads as tifffile reads it."""
    height, width, channels = shape
    samples = smooth(shape, dtype, height + width)
    several = samples.transpose(2, 0, 1) if planar else samples
    path = folder / "a.tif"
    tifffile.imwrite(
        path,
        several if channels > 1 else samples[..., 0],
        photometric="minisblack",
        planarconfig=("separate" if planar else "contig") if channels > 1 else None,
        compression=compression,
        # tifffile refuses a predictor for integers of 64 bits
        predictor=predictor and compression in ("zlib", "lzw") and dtype != "u8",
        metadata=None,
        **cutting,
        **layout,
    )
    image = check(path).images[0]
    assert image.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.read(), samples)
    window = image.window(height // 3, width // 3, height - height // 3, width - width // 3)
    np.testing.assert_array_equal(window, samples[height // 3 :, width // 3 :])


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(["L", "RGB", "RGBA", "1", "I;16"]),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    compression=st.sampled_from([None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]),
    noise=st.booleans(),
)
def test_libtiff(
    folder: Path, mode: str, height: int, width: int, compression: str | None, noise: bool
) -> None:
    """What libtiff writes through Pillow is rebuilt, its own LZW and PackBits included."""
    channels = {"RGB": 3, "RGBA": 4}.get(mode, 1)
    samples = smooth((height, width, channels), "u1", height)
    if noise:
        samples = np.random.default_rng(width).integers(0, 256, samples.shape, np.uint8)
    if mode == "1":
        picture = Pillow.fromarray(samples[..., 0] > 99)
    elif mode == "I;16":
        picture = Pillow.fromarray(samples[..., 0].astype(np.uint16) * 257)
    else:
        picture = Pillow.fromarray(samples[..., 0] if channels == 1 else samples)
    path = folder / "b.tif"
    picture.save(path, "TIFF", compression=compression)
    np.testing.assert_array_equal(
        check(path).images[0].read(), np.asarray(picture).reshape(height, width, channels)
    )


def test_pages_and_sub_ifds(tmp_path: Path) -> None:
    """All pages and sub-IFDs are images, each of its own size and compression."""
    path = tmp_path / "a.tif"
    base = smooth((64, 64, 3), "u1", 1)
    with tifffile.TiffWriter(path) as writer:
        writer.write(base, photometric="rgb", subifds=2, compression="zlib")
        writer.write(base[::2, ::2], photometric="rgb", subfiletype=1, tile=(16, 16))
        writer.write(base[::4, ::4], photometric="rgb", subfiletype=1, compression="lzw")
        writer.write(base[..., 0], photometric="minisblack", compression="packbits")
    shapes = [image.shape for image in check(path).images]
    assert shapes == [(64, 64, 3), (32, 32, 3), (16, 16, 3), (64, 64, 1)]


@pytest.mark.parametrize("mode", ["constant", "edge", "wrap"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_padding_of_tiles(tmp_path: Path, mode: str, compression: str | None) -> None:
    """Padding beyond the raster comes back, be it zero, the repeated edge, or anything else."""
    samples = smooth((20, 25), "u1", 3) + 7
    padded = np.pad(samples, ((0, 12), (0, 7)), mode)
    tiles = [padded[r : r + 16, c : c + 16] for r in (0, 16) for c in (0, 16)]
    path = tmp_path / "a.tif"
    options = {"shape": (20, 25), "dtype": "u1", "tile": (16, 16), "compression": compression}
    tifffile.imwrite(path, iter(tiles), **options)
    np.testing.assert_array_equal(check(path).images[0].read()[..., 0], samples)


def test_float_samples_keep_their_bits(tmp_path: Path) -> None:
    """32-bit floats are floats, with negative zeros and NaN payloads as they were."""
    path = tmp_path / "a.tif"
    samples = np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32)
    tifffile.imwrite(path, samples)
    decoded = check(path).images[0].read()[..., 0]
    assert decoded.dtype == samples.dtype
    assert decoded.tobytes() == samples.tobytes()


def test_trailing_and_gap_bytes(tmp_path: Path) -> None:
    """Bytes that no tag explains, between strips and at the end, are kept."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, smooth((64, 64), "u2", 5), compression="zlib", rowsperstrip=16)
    path.write_bytes(path.read_bytes() + b"vendor" * 99)
    check(path)


def test_large_strip_is_read_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One unencoded strip of 48 MB is parsed and read holding a fraction of it in memory."""
    monkeypatch.setattr(segments, "_CACHE_BYTES", 8 << 20)
    path = tmp_path / "a.tif"
    image = tifffile.memmap(path, shape=(4000, 4000, 3), dtype="u1", photometric="rgb")
    image[1234] = 7
    image.flush()
    tracemalloc.start()
    parsed = parse(path)
    assert parsed.format is Format.TIFF
    assert (parsed.images[0].window(1234, 50, 1, 2) == 7).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows over a whole image keep no more decoded segments than the budget says."""
    monkeypatch.setattr(segments, "_CACHE_BYTES", 3 * 256)
    path = tmp_path / "a.tif"
    samples = smooth((64, 64), "u1", 6)
    tifffile.imwrite(path, samples, tile=(16, 16), compression="zlib")
    reader = check(path).images[0]
    for row in range(0, 64, 8):
        np.testing.assert_array_equal(
            reader.window(row, 3, 8, 50)[..., 0], samples[row : row + 8, 3:53]
        )


def patched(value: dict[int, int]) -> bytes:
    """Write a small uncompressed TIFF and overwrite values of its tags."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8), np.uint8), metadata=None)
    data = bytearray(file.getvalue())
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        for code, number in value.items():
            tag = tif.pages[0].tags[code]
            struct.pack_into("<I" if tag.dtype == 4 else "<H", data, tag.valueoffset, number)
    return bytes(data)


@pytest.mark.parametrize(
    "tags",
    [
        {256: 0xFFFFFFFF, 257: 0xFFFFFFFF},
        {257: 0},
        {258: 12},
        {259: 7},
        {273: 0xFFFFFF00},
        {277: 9},
        {279: 0xFFFFFFFF},
        {278: 0},
    ],
)
def test_absurd_tags(tmp_path: Path, tags: dict[int, int]) -> None:
    """Impossible sizes, offsets and unknown compression leave the file as it is, with a note."""
    path = tmp_path / "a.tif"
    path.write_bytes(patched(tags))
    parsed = parse(path)
    assert parsed.format is Format.OPAQUE or parsed.rebuilt_sha256 == parsed.sha256
    assert parsed.note or parsed.images


def test_cyclic_ifds(tmp_path: Path) -> None:
    """A chain of IFDs that bites its tail ends as an opaque file."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(np.zeros((8, 8), np.uint8), metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        first, last = tif.pages[0].offset, tif.pages[1].offset
    data = bytearray(path.read_bytes())
    (n_tags,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * n_tags, first)
    path.write_bytes(data)
    parsed = parse(path)
    assert parsed.rebuilt_sha256 == parsed.sha256


def test_overlapping_strips(tmp_path: Path) -> None:
    """Two pages that share their strip are not samples twice: the file stays opaque."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for _ in range(2):
            writer.write(np.ones((8, 8), np.uint8), metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        tag, other = tif.pages[1].tags[273], tif.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, tag.valueoffset, other)
    path.write_bytes(data)
    assert "overlap" in parse(path).note


def test_samples_fidelity(tmp_path: Path) -> None:
    """Strips of an unknown encoder are compressed again in place: no offset moves."""
    path = tmp_path / "a.tif"
    samples = smooth((64, 64), "u1", 2)
    stream = b"".join(
        (
            unplanned(zlib.compress(samples.tobytes(), 0)[:-4]),
            zlib.adler32(samples).to_bytes(4, "big"),
        )
    )
    options = {"shape": (64, 64), "dtype": "u1", "compression": "zlib", "rowsperstrip": 64}
    tifffile.imwrite(path, iter([stream]), **options)
    assert "not found" in parse(path).note
    parsed = parse(path, fidelity=Fidelity.SAMPLES)
    assert (parsed.format, parsed.fidelity) == (Format.TIFF, Fidelity.SAMPLES)
    copy = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
    assert len(copy) == path.stat().st_size
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(copy)), samples)
