"""TIFF compressed by Zstandard, LZMA and LERC: samples, and a plan of what encoders decided."""

from __future__ import annotations

import lzma
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.errors import IntegrityError
from archiver.sources import Format, ParsedFile, parse, rebuild
from archiver.sources.contract import Unsupported
from archiver.sources.lerc import segment as lerc_segment
from archiver.sources.lerc.blob import Outer
from archiver.sources.xz import plan as xz_plan
from archiver.sources.zstd import plan as zstd_plan

CODES = {"zstd": 50000, "zstd old": 34926, "lzma": 34925, "lerc": 34887}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a hypothesis test."""
    return tmp_path_factory.mktemp("compressions")


def samples(shape: tuple[int, ...], dtype: str, seed: int, noise: int = 3) -> np.ndarray:
    """Make samples with structure, noise, and a part that repeats."""
    rng = np.random.default_rng(seed)
    out = np.cumsum(rng.integers(-noise, noise + 1, shape), axis=-2)
    out[: shape[0] // 3] = out[:1]
    return (
        out % 251 if np.dtype(dtype).kind == "u" else out / 4 if dtype[0] == "f" else out
    ).astype(dtype)


def check(path: Path, expected: np.ndarray) -> ParsedFile:
    """Parse, expect these samples, rebuild the very bytes."""
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.TIFF, "")
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    np.testing.assert_array_equal(parsed.images[0].read(), expected)
    return parsed


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 3])),
    dtype=st.sampled_from(["u1", "u2", "i2", "i4", "f4", "f8"]),
    compression=st.sampled_from(
        [("zstd", 1), ("zstd", 9), ("zstd", 19), ("lzma", 1), ("lzma", 6), ("lerc", 0)]
    ),
    predictor=st.booleans(),
    cutting=st.sampled_from([{"tile": (32, 48)}, {"rowsperstrip": None}, {"rowsperstrip": 7}]),
    planar=st.booleans(),
    byteorder=st.sampled_from("<>"),
)
def test_tifffile(
    folder: Path,
    shape: tuple[int, int, int],
    dtype: str,
    compression: tuple[str, int],
    predictor: bool,
    cutting: dict[str, Any],
    planar: bool,
    byteorder: str,
) -> None:
    """What tifffile writes with these compressions is rebuilt, and reads as tifffile reads it."""
    channels, several = shape[2], samples(shape, dtype, shape[0] + shape[1])
    path = folder / "a.tif"
    tifffile.imwrite(
        path,
        several.transpose(2, 0, 1)
        if planar and channels > 1
        else several.squeeze(2)
        if channels == 1
        else several,
        photometric="minisblack",
        planarconfig=("separate" if planar else "contig") if channels > 1 else None,
        compression=compression[0],
        compressionargs={"level": compression[1]},
        predictor=predictor and compression[0] != "lerc",
        byteorder="<" if compression[0] == "lerc" else byteorder,  # tifffile writes no other
        metadata=None,
        **cutting,
    )
    check(path, several)


RAW = {
    "nothing but one": b"\x07",
    "equal": bytes(70_000),
    "noise": np.random.default_rng(1).integers(0, 256, 30_000, np.uint8).tobytes(),
    "smooth": samples((150, 400, 1), "u1", 2).tobytes(),
    "few": np.random.default_rng(3)
    .choice([0, 5, 9], 60_000, p=[0.9, 0.06, 0.04])
    .astype("u1")
    .tobytes(),
    "text": b"".join(b"row %d of %d\n" % (i, i * i) for i in range(3000)),
}


@pytest.mark.parametrize("level", [-5, 1, 3, 5, 9, 13, 17, 19])
@pytest.mark.parametrize("name", RAW)
def test_every_level_of_zstandard_has_a_plan(name: str, level: int) -> None:
    """Frames of every strategy, with and without sizes and checksums, come back from their plan."""
    raw = RAW[name]
    with_all = zstandard.ZstdCompressor(level, write_checksum=True).compress(raw)
    stream = zstandard.ZstdCompressor(level).compressobj()
    for frame in (with_all, stream.compress(raw) + stream.flush()):
        made = zstd_plan.make(raw, frame + b"more")
        assert made is not None
        assert made.used == len(frame)
        assert zstd_plan.replay(raw, made.plan) == frame


def test_frames_of_another_release_have_a_plan() -> None:
    """Frames of an older library come back: no library is asked for its bytes."""
    for raw in RAW.values():
        frame = bytes(imagecodecs.zstd_encode(raw, 9))
        made = zstd_plan.make(raw, frame)
        assert made is not None
        assert zstd_plan.replay(raw, made.plan) == frame


@pytest.mark.parametrize(
    "filters",
    [
        [{"id": lzma.FILTER_LZMA2, "preset": 0}],
        [{"id": lzma.FILTER_LZMA2, "preset": 6}],
        [{"id": lzma.FILTER_LZMA2, "preset": 3 | lzma.PRESET_EXTREME}],
        [{"id": lzma.FILTER_LZMA2, "lc": 0, "lp": 3, "pb": 4, "dict_size": 4096}],
        [{"id": lzma.FILTER_DELTA, "dist": 3}, {"id": lzma.FILTER_LZMA2, "preset": 6}],
    ],
    ids=["0", "6", "3e", "other properties", "delta"],
)
@pytest.mark.parametrize("name", RAW)
def test_every_preset_of_lzma_has_a_plan(name: str, filters: list[dict[str, int]]) -> None:
    """XZ streams come back from their plan, whatever the preset, the properties and the check."""
    raw = RAW[name]
    for kind in (lzma.CHECK_NONE, lzma.CHECK_SHA256):
        stream = lzma.compress(raw, check=kind, filters=filters)
        made = xz_plan.make(raw, stream + b"more")
        assert made is not None
        assert made.used == len(stream)
        assert xz_plan.replay(raw, made.plan) == stream


@pytest.mark.parametrize("error", [0, 0.01, 2])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_every_version_of_lerc_has_a_plan(version: int, dtype: str, error: float) -> None:
    """Blobs come back from a plan that is a small part of them; not: floats without loss in 6."""
    array = samples((97, 83, 1), dtype, 5, noise=90)[..., 0]
    array[40:60, 8:40] = array[40, 8]  # blocks of few values
    blob = bytes(imagecodecs.lerc_encode(array, level=error, version=version))
    if (version, error) == (6, 0) and dtype[0] == "f":
        with pytest.raises(Unsupported, match="floats that are coded without loss"):
            lerc_segment.decode(blob, Outer.NONE, array.nbytes)
        return
    decoded = lerc_segment.decode(blob, Outer.NONE, array.nbytes)
    rows = np.frombuffer(decoded, np.uint8).reshape(97, -1)
    made = lerc_segment.make(rows, blob, Outer.NONE)
    assert made is not None
    assert lerc_segment.replay(rows, made.plan) == blob
    assert len(made.plan) < 500 + len(blob) // 20


def test_blobs_with_invalid_pixels() -> None:
    """Floats that are not valid read as NaN, and the blob comes back."""
    array = samples((60, 70, 1), "f4", 6)[..., 0]
    valid = np.random.default_rng(0).random(array.shape) > 0.3
    blob = bytes(imagecodecs.lerc_encode(array, masks=valid, level=0.01, version=4))
    decoded = np.frombuffer(lerc_segment.decode(blob, Outer.NONE, array.nbytes), "f4").reshape(
        array.shape
    )
    np.testing.assert_array_equal(np.isnan(decoded), ~valid)
    rows = np.ascontiguousarray(decoded).view(np.uint8)
    made = lerc_segment.make(rows, blob, Outer.NONE)
    assert made is not None
    assert lerc_segment.replay(rows, made.plan) == blob


@pytest.mark.parametrize("outer", [1, 2])
def test_lerc_that_is_compressed_once_more(folder: Path, outer: int) -> None:
    """LERC_DEFLATE and LERC_ZSTD of GDAL are samples, too."""
    array = samples((64, 80, 1), "u2", 8, noise=20)[..., 0]
    blob = bytes(imagecodecs.lerc_encode(array, level=0, version=4))
    stored = zlib.compress(blob) if outer == 1 else zstandard.ZstdCompressor(9).compress(blob)
    path = folder / "outer.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            iter([stored]),
            shape=array.shape,
            dtype=array.dtype,
            compression=CODES["lerc"],
            rowsperstrip=64,
            metadata=None,
        )
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags[50674].valueoffset
    data = path.read_bytes()
    path.write_bytes(data[:at] + struct.pack("<II", 4, outer) + data[at + 8 :])
    check(path, array[..., None])


@pytest.mark.parametrize("make", ["zstd", "xz", "lerc"])
def test_plans_that_nobody_wrote_are_damage(make: str) -> None:
    """Every cut and every flip of a plan gives an IntegrityError, or bytes; nothing else."""
    array = samples((40, 50, 1), "u2", 9, noise=20)[..., 0]
    raw, rows = array.tobytes(), array.view(np.uint8)
    if make == "zstd":
        made = zstd_plan.make(raw, zstandard.ZstdCompressor(9).compress(raw))
    elif make == "xz":
        made = xz_plan.make(raw, lzma.compress(raw))
    else:
        made = lerc_segment.make(rows, bytes(imagecodecs.lerc_encode(array, version=4)), Outer.NONE)
    assert made is not None
    rng = np.random.default_rng(0)
    for _ in range(300):
        plan = bytearray(made.plan)
        plan[int(rng.integers(len(plan)))] ^= 1 << int(rng.integers(8))
        plan = plan[: len(plan) - int(rng.integers(3)) * int(rng.integers(len(plan)))]
        try:
            if make == "lerc":
                lerc_segment.replay(rows, bytes(plan))
            else:
                {"zstd": zstd_plan, "xz": xz_plan}[make].replay(raw, bytes(plan))
        except IntegrityError:
            continue


@pytest.mark.parametrize(
    ("compression", "says"),
    [
        (3, "group 3"),
        (4, "group 4"),
        (6, "old-style JPEG"),
        (32809, "THUNDERSCAN"),
        (34933, "PNG"),
        (50001, "WebP"),
        (50002, "JPEG XL"),
        (34934, "JPEGXR"),
    ],
)
def test_what_stays_as_it_is_says_why(folder: Path, compression: int, says: str) -> None:
    """A file that is kept names its compression, and that it cannot be written again."""
    path = folder / "kept.tif"
    tifffile.imwrite(path, samples((9, 9, 1), "u1", 0)[..., 0], metadata=None)
    data = path.read_bytes()
    old = struct.pack("<HHIHH", 259, 3, 1, 1, 0)
    assert old in data
    path.write_bytes(data.replace(old, struct.pack("<HHIHH", 259, 3, 1, compression, 0)))
    parsed = parse(path)
    assert parsed.format is Format.OPAQUE
    assert says in parsed.note


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_samples_are_two_numbers(folder: Path, dtype: str, compression: str | None) -> None:
    """Complex samples are read as their real and imaginary parts, side by side."""
    real = samples((20, 30, 1), "f8", 1)[..., 0]
    path = folder / "complex.tif"
    tifffile.imwrite(path, (real + 1j * real[::-1]).astype(dtype), compression=compression)
    check(path, np.stack([real, real[::-1]], axis=-1))


@pytest.mark.parametrize("bits", [3, 5, 7, 9, 10, 12, 14, 15])
def test_samples_that_fill_no_bytes(folder: Path, bits: int) -> None:
    """Samples of any number of bits are read as they are, a row from a whole byte on."""
    array = np.random.default_rng(bits).integers(0, 1 << bits, (21, 33), np.uint16)
    fitting = array.astype(np.uint8) if bits < 8 else array
    path = folder / "packed.tif"
    packed = b"".join(bytes(imagecodecs.packints_encode(row, bits)) for row in fitting)
    tifffile.imwrite(
        path, np.frombuffer(packed, np.uint8).reshape(21, -1), metadata=None, rowsperstrip=21
    )
    data = path.read_bytes()
    for code, old, new in ((256, len(packed) // 21, 33), (258, 8, bits)):
        for kind, layout in ((3, "<HHIHH"), (4, "<HHII")):
            rest = (0,) if kind == 3 else ()
            data = data.replace(
                struct.pack(layout, code, kind, 1, old, *rest),
                struct.pack(layout, code, kind, 1, new, *rest),
            )
    path.write_bytes(data)
    image = check(path, array[..., None]).images[0]
    assert image.bit_depth == bits


@pytest.mark.parametrize("compression", ["lzw", "lzma"])
def test_thousands_of_tiny_strips_are_given_up_at_once(folder: Path, compression: str) -> None:
    """A file whose planning would take minutes for a megabyte stays as it is, and says so."""
    path = folder / "strips.tif"
    tifffile.imwrite(
        path, samples((9, 8, 1), "u1", 0)[..., 0], compression=compression, rowsperstrip=1
    )
    with tifffile.TiffFile(path) as tif:
        where, count = tif.pages[0].dataoffsets, tif.pages[0].databytecounts
        stored = [path.read_bytes()[a : a + n] for a, n in zip(where, count, strict=True)]
    many = 4000
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            iter(stored[i % 9] for i in range(many)),
            shape=(many, 8),
            dtype=np.uint8,
            compression=compression,
            rowsperstrip=1,
        )
    assert "too small for the time" in parse(path).note


def test_thousands_of_tiny_pages_are_given_up_at_once(folder: Path) -> None:
    """Pages of a few bytes each, thousands of them, stay as they are."""
    path = folder / "pages.tif"
    tags = ((256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 8), (278, 4), (279, 16))
    size = 2 + 12 * len(tags) + 4
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", a, 4, 1, b) for a, b in tags)
    pages = [ifd + struct.pack("<I", 24 + (i + 1) * size) for i in range(2100)]
    pages[-1] = ifd + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 24) + bytes(16) + b"".join(pages))
    assert "thousands of pages" in parse(path).note
