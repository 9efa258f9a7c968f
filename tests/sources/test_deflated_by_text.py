"""Plans and residues as the readers that were written from FORMAT.md read them."""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from test_deflated import ENCODERS, OLD, RAW
from test_png import chunk, pillow_png
from test_read_plans import Plan, replay
from test_read_residues import ADAM7, read_gzip, read_png, read_segmented
from trees import blob

from archiver.sources import Format, ParsedFile, parse
from archiver.sources.deflate import plan

CUT = 3000  # bytes: the reader is plain Python
PLANNED = 2
Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("name", OLD)
def test_a_plan_of_old_reads_from_the_text_alone(name: str) -> None:
    """The pinned plans give the pinned bytes."""
    raw, whole, answer = OLD[name]
    assert zlib.crc32(replay(raw, base64.b85decode(whole))) == answer


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("what", RAW)
def test_a_plan_reads_from_the_text_alone(what: str, encoder: str) -> None:
    """The text and archiver give the same stream, where there is a plan."""
    raw = RAW[what][:CUT]
    stream = ENCODERS[encoder](raw)
    planned = plan.make(raw, stream)
    if planned is None:  # the plan would be no smaller than what it stands for
        assert len(stream) < 0.2 * len(raw) or what == "one byte"
    else:
        assert replay(raw, planned) == stream


def of_one_block(raw: bytes, effort: tuple[int, ...], table: bytes) -> tuple[bytes, int]:
    """A plan for all bytes without an exception, and the number of its tokens."""
    head = struct.pack("<BHBHHH", 1, *effort) + table
    reader, passed = Plan(raw, head + bytes(12)), False
    while reader.at < len(raw):
        _, _, passed = reader.token(passed)
    return head + struct.pack("<IBIH", 1, 6, reader.number, 0) + bytes(8), reader.number


COLLIDING = b"aaa1lge2wmi3aaa4"  # three hashes of three bytes are one


@pytest.mark.parametrize(
    ("raw", "effort", "n_tokens"),
    [
        *((COLLIDING, (depth, 3, 258, 9, 32767), n) for depth, n in ((0, 16), (2, 16), (3, 14))),
        (COLLIDING, (9, 3, 0, 9, 32767), 14),
    ],
)
def test_corners_of_the_search_are_in_the_text(
    raw: bytes, effort: tuple[int, ...], n_tokens: int
) -> None:
    """Candidates of the same hash count, whatever their bytes; no match, no end of the search."""
    whole, n_read = of_one_block(raw, effort, b"\xff" * 56)
    assert n_read == n_tokens
    assert zlib.decompress(plan.replay(raw, whole), -15) == raw
    assert plan.replay(raw, whole) == replay(raw, whole)


@pytest.mark.parametrize("distance", [4096, 4097, 32768, 32769])
@pytest.mark.parametrize("least", [3, 4])
def test_distances_are_in_the_text(distance: int, least: int) -> None:
    """Far matches have contexts of their own; the window is the largest distance."""
    start = np.random.default_rng(8).bytes(40)
    raw = start + bytes(distance - 40) + start + b"!"
    counts = []
    for table in (b"\xff", b"\x0f"):  # the second one takes near matches only
        whole, count = of_one_block(raw, (8, least, 258, 9, 32767), table * 56)
        assert plan.replay(raw, whole) == replay(raw, whole)
        counts.append(count)
    assert (counts[0] < counts[1]) == (4096 < distance <= 32768)


@pytest.mark.parametrize("seed", range(100))
def test_any_effort_and_table_are_in_the_text(seed: int) -> None:
    """Plans that no encoder gives, too, mean one stream."""
    rng = np.random.default_rng(seed)
    raw = rng.choice([97, 98, 99, 100], 300, p=rng.dirichlet([1, 1, 1, 1])).astype("u1").tobytes()
    efforts = [[0, 1, 2, 9, 4096], [3, 4], [0, 3, 8, 258], [0, 4, 258], [0, 6, 99, 65535]]
    table = np.packbits(rng.random(448) < rng.choice([0.5, 0.9])).tobytes()
    whole, _ = of_one_block(raw, tuple(int(rng.choice(of)) for of in efforts), table)
    assert plan.replay(raw, whole) == replay(raw, whole)


@pytest.mark.parametrize("n_symbols", [1, 2, 3, 19])
def test_code_lengths_are_in_the_text(n_symbols: int) -> None:
    """Counts like Fibonacci's numbers need more than 15 bits; a single symbol needs a code."""
    counts = [1, 1]
    for _ in range(n_symbols):
        counts.append(counts[-1] + counts[-2])
    raw = b"".join(bytes([i]) * count for i, count in enumerate(counts[:n_symbols]))
    whole, _ = of_one_block(raw, (0, 3, 258, 9, 32767), bytes(56))
    assert plan.replay(raw, whole) == replay(raw, whole)
    by_zlib = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    if n_symbols == 19:
        assert replay(raw, whole) == by_zlib.compress(raw) + by_zlib.flush()


def test_counts_have_more_than_16_bits() -> None:
    """A block may have more tokens than those of zlib."""
    samples = np.random.default_rng(2).choice([0, 1, 2], 66_000, p=[0.94, 0.04, 0.02])
    raw = samples.astype("u1").tobytes()
    whole, _ = of_one_block(raw, (0, 3, 258, 9, 32767), bytes(56))
    assert plan.replay(raw, whole) == replay(raw, whole)


def by_zlib_ng(raw: bytes) -> bytes:
    return bytes(imagecodecs.zlibng_encode(raw, 2))


def arrays_of(parsed: ParsedFile) -> list[Array]:
    return [image.read() for image in parsed.images]


def noisy(dtype: str, shape: tuple[int, ...] = (24, 30, 2)) -> Array:
    """Smooth samples with noise, some of them negative where they can be."""
    rng = np.random.default_rng(4)
    samples = np.cumsum(rng.integers(-3, 4, shape), axis=1) * 5
    return samples.astype(np.int64).astype(dtype)


def as_gzip(path: Path, raw: bytes) -> ParsedFile:
    """Write a gzip file by zlib-ng, and parse it."""
    whole = gzip.compress(raw)
    path.write_bytes(whole[:10] + by_zlib_ng(raw)[2:-4] + whole[-8:])
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.GZIP, "")
    assert parsed.residue[2] == PLANNED
    return parsed


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">u2", "<i4", ">f4"])
def test_a_gzip_of_an_array_reads_from_the_text_alone(tmp_path: Path, dtype: str) -> None:
    path, file = tmp_path / "a.npy.gz", io.BytesIO()
    np.save(file, noisy(dtype))
    parsed = as_gzip(path, file.getvalue())
    assert read_gzip(parsed.residue, arrays_of(parsed)) == path.read_bytes()


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_a_gzip_of_a_volume_reads_from_the_text_alone(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.nii.gz"
    volume = nibabel.Nifti1Image(noisy(dtype, (20, 11, 5)), np.eye(4))
    parsed = as_gzip(path, volume.to_bytes())
    assert len(parsed.images) == 5
    assert read_gzip(parsed.residue, arrays_of(parsed)) == path.read_bytes()


def of_png(data: bytes) -> bytes:
    """A PNG of Pillow, its stream written again by zlib-ng, in two chunks and with a tail."""
    start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    rows = zlib.decompress(data[start + 8 : end - 4])
    rows = rows[:-1] + bytes([rows[-1] | 5])  # bits that are padding, if pixels have fewer than 8
    stream = by_zlib_ng(rows) + b"tail"
    return data[:start] + chunk(b"IDAT", stream[:99]) + chunk(b"IDAT", stream[99:]) + data[end:]


def read_png_of(path: Path, data: bytes) -> bytes:
    path.write_bytes(data)
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.PNG, "")
    assert parsed.residue[12] == PLANNED
    return read_png(parsed.residue, arrays_of(parsed)[0])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "P", "I;16"])
def test_a_png_reads_from_the_text_alone(tmp_path: Path, mode: str) -> None:
    """Bits below the last pixel of a row are part of the file, too."""
    data = of_png(pillow_png(mode, 43, 45, 3))
    assert read_png_of(tmp_path / "a.png", data) == data


@pytest.mark.parametrize("depth", [4, 8])
def test_an_interlaced_png_reads_from_the_text_alone(tmp_path: Path, depth: int) -> None:
    values = noisy("u1", (67, 71)) >> (8 - depth)
    rows = b""
    for row, column, down, across in ADAM7:
        for line in values[row::down, column::across]:
            bits = (line[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            rows += b"\x02" + np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 71, 67, depth, 0, 0, 0, 1))
    body = chunk(b"IDAT", by_zlib_ng(rows)) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + head + body
    assert read_png_of(tmp_path / "a.png", data) == data


@pytest.mark.parametrize(
    ("dtype", "predictor"), [*itertools.product(["u1", ">u2", "f4"], [False, True]), (">f8", True)]
)
def test_tiff_tiles_read_from_the_text_alone(tmp_path: Path, predictor: bool, dtype: str) -> None:
    path = tmp_path / "a.tif"
    image = blob(np.random.default_rng(0), 70, 80).astype(dtype)
    options = {
        "photometric": "rgb",
        "tile": (32, 48),
        "predictor": predictor,
        "compressionargs": {"level": 0},
    }
    order = ">" if ">" in dtype else "<"
    tifffile.imwrite(path, image, byteorder=order, compression="zlib", **options)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    data = bytearray(path.read_bytes())
    for offset, length in spans:
        foreign = by_zlib_ng(zlib.decompress(data[offset : offset + length]))
        data[offset : offset + length] = foreign.ljust(length, b"\0")  # which is allowed
    path.write_bytes(data)
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.TIFF, "")
    assert struct.pack("<BB", 8, PLANNED) in parsed.residue[:60]
    assert read_segmented(parsed.residue, arrays_of(parsed)) == bytes(data)
