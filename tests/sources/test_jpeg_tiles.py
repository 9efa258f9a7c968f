"""TIFF files whose tiles are JPEGs, as slide scanners write them: smaller, and byte for byte."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from archiver.archive.reader import Archive
from archiver.codec import tiles
from archiver.codec.ids import TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.errors import ArchiverError, IntegrityError
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline.read.open_archive import open_archive
from archiver.sources import Format, parse, rebuild
from archiver.sources.segmented.jpeg_tile import JpegTile

SIDES = (280, 300)
KINDS = {
    "tiles of YCbCr": {"tile": (128, 128), "photometric": "ycbcr", "subsampling": (2, 2)},
    "tiles of RGB": {"tile": (128, 128), "photometric": "rgb"},
    "grey tiles": {"tile": (112, 128), "photometric": "minisblack"},
    "strips": {"rowsperstrip": 64, "photometric": "ycbcr", "subsampling": (1, 1)},
    "strips with shared tables": {},
}


def scene(channels: int) -> np.ndarray:
    """Smooth colour with some texture."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[0 : SIDES[0], 0 : SIDES[1]]
    wave = [128 + 70 * np.sin(row / (9 + c)) * np.cos(column / 13) for c in range(channels)]
    noisy = np.stack(wave, -1) + rng.normal(0, 9, (*SIDES, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def write(path: Path, kind: str) -> np.ndarray:
    """Write a TIFF; return what tifffile reads of it, (H, W, C)."""
    samples = scene(1 if "grey" in kind else 3)
    if not KINDS[kind]:
        Image.fromarray(samples).save(path, "TIFF", compression="jpeg", quality=85)
    else:
        squeezed = samples[..., 0] if samples.shape[2] == 1 else samples
        how = {"compression": "jpeg", "compressionargs": {"level": 92}, **KINDS[kind]}
        tifffile.imwrite(path, squeezed, **how)
    with tifffile.TiffFile(path) as tif:
        return tif.pages[0].asarray().reshape(samples.shape)


def pack(folder: Path, archive: Path) -> None:
    settings = PackSettings(profile="fast", workers=0)
    run.pack(folder, archive, settings, lambda _: None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_comes_back_from_its_jpegs(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    samples = write(path, kind)
    parsed = parse(path)
    assert (parsed.format, parsed.note) == (Format.TIFF, "")
    [image] = parsed.images
    assert image.jpeg_tile is not None
    np.testing.assert_array_equal(image.read(), samples)
    assert b"".join(rebuild(Format.TIFF, parsed.residue, parsed.images)) == path.read_bytes()
    assert len(parsed.residue) < 0.5 * path.stat().st_size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tiles of RGB"])
def test_packed_it_is_smaller_and_readable_by_region(kind: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    samples = write(tree / "slide.tif", kind)
    pack(tree, tmp_path / "a")
    opened = open_archive(tmp_path / "a")
    entry = opened.entry("slide.tif")
    assert set(entry.images[0].tiles) == {"jpeg"}
    assert entry.stored_bytes < (tree / "slide.tif").stat().st_size
    assert b"".join(entry.chunks()) == (tree / "slide.tif").read_bytes()
    np.testing.assert_array_equal(entry.read((40, 50, 60, 70)), samples[40:100, 50:120])
    np.testing.assert_array_equal(entry.read(), samples)


def test_a_region_decodes_only_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    write(tree / "slide.tif", "tiles of YCbCr")
    pack(tree, tmp_path / "a")
    decoded = []
    samples = JpegTile.samples
    monkeypatch.setattr(JpegTile, "samples", lambda tile: decoded.append(1) or samples(tile))
    entry = open_archive(tmp_path / "a").entry("slide.tif")
    entry.read((0, 0, 128, 129))
    assert len(decoded) == 2
    entry.read((1, 1, 128, 129))
    assert len(decoded) == 4  # those below come new


def test_reading_all_of_it_decodes_each_tile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    write(tree / "slide.tif", "tiles of YCbCr")
    pack(tree, tmp_path / "a")
    decoded = []
    samples = JpegTile.samples
    monkeypatch.setattr(JpegTile, "samples", lambda tile: decoded.append(1) or samples(tile))
    run.verify(tmp_path / "a", depth="samples", workers=0)
    assert len(decoded) == 9


def test_a_damaged_tile_is_named_and_costs_only_its_file(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    write(tree / "slide.tif", "tiles of YCbCr")
    (tree / "other.txt").write_text("whole " * 99)
    pack(tree, tmp_path / "a")
    row = Archive.open(tmp_path / "a").tiles(0)[1]
    [shard] = (tmp_path / "a" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[row["offset"] + 40] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    opened = open_archive(tmp_path / "a")
    with pytest.raises(IntegrityError, match=r"image 0, tile at row 0, column 128"):
        b"".join(opened.entry("slide.tif").chunks())
    with pytest.raises(IntegrityError, match=r"image 0, tile at row 0, column 128"):
        opened.entry("slide.tif").read((0, 124, 10, 10))
    assert b"".join(opened.entry("other.txt").chunks()).startswith(b"whole")


def test_what_tiles_begin_with_is_kept_once(tmp_path: Path) -> None:
    """The head is taken from the first tile; a tile of another head keeps its own."""
    write(tmp_path / "slide.tif", "tiles of YCbCr")
    [image] = parse(tmp_path / "slide.tif").images
    assert image.jpeg_tile is not None
    first, second = (
        jpeg_tile.encode(jpeg_tile.as_tile(image.jpeg_tile(0, column))) for column in (0, 128)
    )
    head = jpeg_tile.head_of(first)
    short = jpeg_tile.without_head(second, head)
    assert len(short) == len(second) - len(head) < len(second) - 50
    assert jpeg_tile.is_headless(short)
    assert jpeg_tile.with_head(short, head) == second
    assert jpeg_tile.without_head(second, b"another") == second
    assert not jpeg_tile.is_headless(second)


def test_a_damaged_head_is_named(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    write(tree / "slide.tif", "tiles of YCbCr")
    pack(tree, tmp_path / "a")
    [chunk] = [
        residue for residue in Archive.open(tmp_path / "a").residues(0) if residue["codec"] == 3
    ]
    [shard] = (tmp_path / "a" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[chunk["offset"] + 9] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    with pytest.raises(IntegrityError, match="head of its file's JPEG tiles"):
        open_archive(tmp_path / "a").entry("slide.tif").read((0, 200, 10, 10))


def test_a_jpeg_that_cannot_be_transcoded_is_kept() -> None:
    tile = jpeg_tile.as_tile(JpegTile(b"\xff\xd8 no JPEG at all").to_bytes())
    [coded] = tiles.encode([tile], None)
    assert coded.codec == TileCodec.JPEG
    assert jpeg_tile.decode(coded.payload) == tile.tobytes()
    assert len(coded.payload) == tile.nbytes + 1


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x02abcdef", b"\x01\x00\x00\x00rubbish"])
def test_payloads_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(IntegrityError, match="JPEG tile"):
        jpeg_tile.decode(payload)


@pytest.mark.parametrize("data", [b"", b"\x05\x00\x00", b"\x01\xff\xffabc"])
def test_headers_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(ArchiverError, match="JPEG tile"):
        JpegTile.from_bytes(data)


def test_the_aperio_slide_shrinks_by_a_quarter(real_images: Path, tmp_path: Path) -> None:
    [slide] = (real_images / "zoo" / "wsi").glob("*.svs")
    parsed = parse(slide)
    assert (parsed.format, len(parsed.images)) == (Format.TIFF, 4)
    first = parsed.images[0]
    with tifffile.TiffFile(slide) as tif:
        expected = tif.pages[0].asarray()[1000:1512, 700:1212]
    np.testing.assert_array_equal(first.window(1000, 700, 512, 512), expected)


def test_jpegs_of_another_size_than_their_tile_are_no_tiles(tmp_path: Path) -> None:
    """A small tile must not hide a large JPEG: the file is kept as it is."""
    large = bytes(imagecodecs.jpeg8_encode(np.zeros((512, 512), np.uint8)))
    tifffile.imwrite(
        tmp_path / "x.tif",
        iter([large] * 4),
        shape=(128, 128),
        dtype=np.uint8,
        tile=(64, 64),
        compression="jpeg",
        photometric="minisblack",
    )
    parsed = parse(tmp_path / "x.tif")
    assert parsed.format is Format.OPAQUE
    assert "512 x 512" in parsed.note


def test_a_jpeg_of_a_thousand_scans_is_refused_at_once() -> None:
    stream = bytes(imagecodecs.jpeg8_encode(np.zeros((64, 64), np.uint8)))
    with pytest.raises(ValueError, match="scans"):
        JpegTile(stream + b"\xff\xda" * 1000).samples()
