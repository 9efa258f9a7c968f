"""JPEG 2000: reversible codestreams of any encoder come back, from samples and a small plan."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import time
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import test_jpeg_frames as frames
import tifffile
from PIL import Image as Pillow
from pydicom.uid import JPEG2000Lossless

from archiver.errors import IntegrityError
from archiver.sources import Fidelity, Format, ParsedFile, cursor, parse, rebuild
from archiver.sources.contract import Unsupported
from archiver.sources.jpeg2000 import blocks, plan, wavelet
from archiver.sources.jpeg2000.blocks import Band
from archiver.sources.jpeg2000.codestream import Header

HOW: dict[str, dict[str, object]] = {
    "as it comes": {},
    "no colour transform": {"mct": 0},
    "tiles": {"tile_size": (64, 48)},
    "tiles off the origin": {"tile_size": (50, 70), "offset": (13, 5)},
    "one resolution": {"num_resolutions": 1},
    "blocks": {"codeblock_size": (32, 16)},
    "precincts": {"precinct_size": (128, 128), "num_resolutions": 3},
    "layers": {"quality_layers": [20, 5, 0], "quality_mode": "rates"},
    **{name: {"progression": name, "tile_size": (80, 80)} for name in ("RLCP", "RPCL", "PCRL")},
    "CPRL": {"progression": "CPRL", "precinct_size": (64, 64), "num_resolutions": 2},
}


def encoded(samples: np.ndarray, **how: object) -> bytes:
    """Return the codestream that Pillow writes of samples (H, W, C)."""
    file = io.BytesIO()
    picture = Pillow.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(file, "JPEG2000", **{"irreversible": False, "no_jp2": True, **how})
    return file.getvalue()


def rows_of(stream: bytes) -> np.ndarray:
    """Return the samples of a codestream as rows of bytes."""
    samples = plan.decode(stream)
    return np.frombuffer(samples.tobytes(), np.uint8).reshape(len(samples), -1)


def check(path: Path, format: Format) -> ParsedFile:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (format, "")
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return parsed


CASES = [(name, 8) for name in HOW]
CASES += [(name, 12) for name, how in HOW.items() if not {"mct", "tile_size"} & set(how)]


@pytest.mark.parametrize(("name", "bits"), CASES)  # Pillow damages 16-bit tiles at the edge
def test_streams_come_back(name: str, bits: int) -> None:
    """Whatever a header chooses, the plan is small and gives the very bytes."""
    samples = frames.scene(bits, 3 if bits == 8 else 1)
    stream = encoded(samples, **HOW[name])
    np.testing.assert_array_equal(plan.decode(stream), samples)
    planned = plan.find(rows_of(stream), stream)
    assert planned is not None
    assert plan.replay(rows_of(stream), planned) == stream
    assert len(zlib.compress(planned)) < 300 + len(stream) // 12


@pytest.mark.parametrize("boxes", [False, True])
def test_files(tmp_path: Path, boxes: bool) -> None:
    """Bare codestreams and JP2 files are images; what is around the codestream is kept."""
    samples, path = frames.scene(8, 3), tmp_path / "a.jp2"
    path.write_bytes(encoded(samples, no_jp2=not boxes) + b"more" * (not boxes))
    image = check(path, Format.JPEG_2000).images[0]
    np.testing.assert_array_equal(image.read(), samples)


@pytest.mark.parametrize("fragments", [1, 3])
def test_dicom(tmp_path: Path, fragments: int) -> None:
    """Frames in one or more fragments are samples, 16 bits signed where the file says so."""
    samples, path = frames.scene(16), tmp_path / "a.dcm"
    stream = bytes(imagecodecs.jpeg2k_encode(samples[..., 0], level=0, codecformat="j2k"))
    frames.write(path, stream, samples, JPEG2000Lossless, fragments=fragments)
    image = check(path, Format.DICOM).images[0]
    np.testing.assert_array_equal(image.read().view(np.uint16), samples)


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_tiff(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    """Strips and padded tiles of a TIFF, each a codestream."""
    samples, path = frames.scene(8, 3), tmp_path / "a.tif"
    how = {"level": 0, "reversible": True, "codecformat": "j2k"}
    tifffile.imwrite(
        path, samples, photometric="rgb", compression="jpeg2000", compressionargs=how, tile=tile
    )
    np.testing.assert_array_equal(check(path, Format.TIFF).images[0].read(), samples)


def test_what_is_not_reversible_is_kept(tmp_path: Path) -> None:
    """With the reason; samples alone may not be compressed again by another encoder."""
    path = tmp_path / "a.jp2"
    path.write_bytes(encoded(frames.scene(8, 3), irreversible=True, quality_layers=[30]))
    for fidelity in Fidelity:
        parsed = parse(path, fidelity=fidelity)
        assert parsed.format is Format.OPAQUE
        assert parsed.note == "JPEG 2000: JPEG 2000 that is not reversible"


def test_passes_that_were_left_out(tmp_path: Path) -> None:
    """A reversible stream cut for a rate is kept: its samples would take more than it does."""
    path = tmp_path / "a.j2k"
    path.write_bytes(encoded(frames.scene(8, 3), quality_layers=[20]))
    assert "passes were left out" in parse(path).note


@pytest.mark.parametrize(
    "change",
    [
        b"\xff\x52\xff\x5f",  # no COD, but POC
        b"\xff\x5c\xff\x5e",  # a region of interest
        b"\xff\x5c\xff\x60",  # packet headers apart
    ],
)
def test_rare_kinds_are_refused(change: bytes) -> None:
    stream = encoded(frames.scene(8))
    with pytest.raises(Unsupported, match="JPEG 2000"):
        Header.of(stream.replace(change[:2], change[2:], 1))


def test_bombs_are_refused_unread() -> None:
    """A header of some bytes may claim any size; nothing is allocated for it."""
    stream = bytearray(encoded(frames.scene(8)))
    for side in (1 << 31, 40_000, 8_000):
        struct.pack_into(">II", stream, 8, side, side)
        struct.pack_into(">II", stream, 24, side, side)
        with pytest.raises(Unsupported, match="samples in"):
            plan.decode(bytes(stream[:400]))


def test_damaged_plans_are_refused_or_give_other_bytes() -> None:
    """Never another error, whatever byte changed or is missing."""
    stream = encoded(frames.scene(8)[:60, :60], tile_size=(32, 32), codeblock_size=(16, 16))
    rows, rng = rows_of(stream), np.random.default_rng(1)
    whole = plan.find(rows, stream)
    assert whole is not None
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        end = rng.integers(len(whole) // 2, len(whole) + 1) if rng.random() < 0.5 else len(whole)
        with contextlib.suppress(IntegrityError, Unsupported):
            plan.replay(rows, bytes(damaged[:end]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (8, 1), (5, 6), (33, 20)])
@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (0, 1), (3, 3)])
def test_wavelet_is_reversible(shape: tuple[int, int], origin: tuple[int, int]) -> None:
    """Lifting undone, step by step, gives the samples."""
    samples = np.random.default_rng(2).integers(-999, 999, shape).astype(np.int32)
    sub_bands = wavelet.bands(samples, *origin, 1)
    low_rows = _merged(sub_bands[0, Band.LL].T, sub_bands[1, Band.HL].T, origin[1]).T
    high_rows = _merged(sub_bands[1, Band.LH].T, sub_bands[1, Band.HH].T, origin[1]).T
    np.testing.assert_array_equal(_merged(low_rows, high_rows, origin[0]), samples)


def _merged(low: np.ndarray, high: np.ndarray, first: int) -> np.ndarray:
    """Return rows of a low and a high half, one sample at a time (annex F.3)."""
    n, odd = len(low) + len(high), first % 2
    if n == 1:
        return high // 2 if odd else low.copy()
    rows = np.empty((n, *low.shape[1:]), np.int32)
    rows[odd::2], rows[1 - odd :: 2] = low, high

    def at(i: int) -> np.ndarray:
        i = abs(i)
        return rows[2 * (n - 1) - i if i >= n else i]

    for i in range(odd, n, 2):
        rows[i] -= (at(i - 1) + at(i + 1) + 2) >> 2
    for i in range(1 - odd, n, 2):
        rows[i] += (at(i - 1) + at(i + 1)) >> 1
    return rows


def test_no_block_writes_beyond_its_room() -> None:
    """The loops check no bounds: what is hardest to code still fits."""
    rng = np.random.default_rng(3)
    for band in Band:
        for shape in ((1, 1), (4, 4), (3, 61), (64, 64)):
            for planes in (1, 2, 17):
                top = (1 << planes) - 1
                values = rng.integers(-top, top + 1, shape).astype(np.int32)
                values[0, 0] = top
                code = blocks.encode(values, band, 0, planes, 3 * planes - 2)
                assert 1 <= len(code) <= 48 + values.size * (planes + 2) // 2


# A plan of 16 x 16 samples as the first writer wrote it, under zlib, and the stream that it gives.
OLD_PLAN = (
    "c-mu}!2kjO{r?9tXo8snPz(d8d`5Og#{WSKJPb@A$jHdR_&<h$%fZ3JBLIm0r!c58Fgh2dCYGe8C?r)X_!p$"
    "+c?Gz-E0m=c6=&w>DH!RQ>Y4nXz`zAIj0vcH@;Q;ejt&h6Kle62muA1Buy_T-;a6tALY?0l{=do2fB^tG?<bT"
)
OLD_STREAM_CRC = 0xACF8B082


def test_plans_of_old_give_the_same_bytes() -> None:
    samples = (np.arange(256).reshape(16, 16) * 37 % 251 // 3).astype(np.uint8)
    stream = plan.replay(samples, zlib.decompress(base64.b85decode(OLD_PLAN)))
    assert zlib.crc32(stream) == OLD_STREAM_CRC
    np.testing.assert_array_equal(plan.decode(stream)[..., 0], samples)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tails": 1}, "blocks and their tails"),
        ({"tails": -1}, "blocks and their tails"),
        ({"longer": 200}, "a code of"),
    ],
)
def test_tails_that_do_not_fit_are_refused(change: dict[str, int], why: str) -> None:
    """None is left over, none missing, none longer than its block."""
    stream = encoded(frames.scene(8)[:40, :40])
    rows = rows_of(stream)
    whole = plan.find(rows, stream)
    assert whole is not None
    reader = cursor.Cursor(whole, "plan")
    skeleton, (n,) = reader.blob(), reader.unpack("<I")
    lengths, tails = bytearray(reader.take(n)), reader.blob()
    lengths[0] += change.get("longer", 1)
    tails += bytes(change.get("longer", 1) + change.get("tails", 0))
    parts = (
        b"\1",
        cursor.pack_blob(skeleton),
        struct.pack("<I", n),
        lengths,
        cursor.pack_blob(tails),
    )
    with pytest.raises(IntegrityError, match=why):
        plan.replay(rows, b"".join(parts))


def test_images_of_too_many_parts_are_refused_before_they_are_made() -> None:
    """Tiles, packets and blocks are counted, not built: each of these would take minutes."""
    began = time.monotonic()
    for size, coding in (
        (size_of(16, 16, tile=1), coding_of(3, layers=65535)),
        (size_of(1, 1, channels=10_000), coding_of(20)),
        (size_of(4000, 4000), coding_of(5, block=0)),
        (size_of(60_000, 60_000, tile=1), coding_of(0)),
    ):
        skeleton = b"\xff\x4f" + size + coding + TILE_PART
        with pytest.raises(Unsupported, match=r"too many|sub-bands"):
            plan.replay(np.zeros((2, 2), np.uint8), plan._pack(skeleton, []))
    assert time.monotonic() - began < 5


TILE_PART = b"\xff\x90\0\x0a\0\0\0\0\0\x0e\0\1\xff\x93\xff\xd9"


def size_of(width: int, height: int, tile: int = 0, channels: int = 1) -> bytes:
    """Return a marker SIZ."""
    sides = (width, height, 0, 0, tile or width, tile or height, 0, 0)
    body = struct.pack(">H8IH", 0, *sides, channels) + b"\7\1\1" * channels
    return b"\xff\x51" + struct.pack(">H", len(body) + 2) + body


def coding_of(levels: int, layers: int = 1, block: int = 4) -> bytes:
    """Return a marker COD."""
    body = struct.pack(">BBHB5B", 0, 0, layers, 0, levels, block, block, 0, 1)
    return b"\xff\x52" + struct.pack(">H", len(body) + 2) + body


def test_an_offset_outside_the_file_is_no_error_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    how = {"level": 0, "reversible": True}
    tifffile.imwrite(
        path, frames.scene(8)[..., 0], compression="jpeg2000", compressionargs=how, bigtiff=True
    )
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        where = tif.pages[0].tags["StripOffsets"].valueoffset
    struct.pack_into("<q", data, where, 1 << 62)
    path.write_bytes(data)
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.OPAQUE, "TIFF: strips or tiles outside the file")


def test_samples_of_a_big_endian_tiff(tmp_path: Path) -> None:
    """The order of bytes is that of the codestream, whatever the file's."""
    samples, path = frames.scene(12)[:48, :48], tmp_path / "a.tif"
    stream = bytes(imagecodecs.jpeg2k_encode(samples[..., 0], level=0, codecformat="j2k"))
    tifffile.imwrite(
        path, iter([stream]), shape=(48, 48), dtype=">u2", compression="jpeg2000", byteorder=">",
        tile=(48, 48),
    )  # fmt: skip
    np.testing.assert_array_equal(check(path, Format.TIFF).images[0].read(), samples)


def test_an_empty_box_hides_nothing(tmp_path: Path) -> None:
    data, path = encoded(frames.scene(8), no_jp2=False), tmp_path / "a.jp2"
    path.write_bytes(data[:12] + b"\0\0\0\x08free" + data[12:])
    check(path, Format.JPEG_2000)


def test_a_break_within_the_end_marker(tmp_path: Path) -> None:
    """DICOM: where fragments end says nothing about where the codestream does."""
    samples, path = frames.scene(16), tmp_path / "a.dcm"
    stream = bytes(imagecodecs.jpeg2k_encode(samples[..., 0], level=0, codecformat="j2k"))
    frames.write(path, stream, samples, JPEG2000Lossless)
    data = path.read_bytes()
    start = data.index(b"\xff\x4f\xff\x51")
    first, rest = stream[:-1], stream[-1:] + b"\0"
    item = b"\xfe\xff\0\xe0"
    padded = len(stream) + len(stream) % 2
    cut = struct.pack("<I", len(first)) + first + item + struct.pack("<I", len(rest)) + rest
    path.write_bytes(data[: start - 4] + cut + data[start + padded :])
    check(path, Format.DICOM)
