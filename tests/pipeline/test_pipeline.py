"""Files to objects and back: cut, coded, checked, never grown; regions; damage; changing files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from archiver import sources
from archiver.archive.shard import ShardWriter
from archiver.archive.writer import ArchiveWriter
from archiver.codec import tiles
from archiver.codec.ids import TileCodec
from archiver.codec.inference.engine import Engine
from archiver.codec.model import pretrained
from archiver.errors import IntegrityError, UsageError
from archiver.image import Image
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import (
    Alternative,
    Failure,
    OpenArchive,
    Packed,
    open_archive,
    pack_files,
    tiling,
)
from archiver.pipeline.write import batch, queued_file, source_file, tile_samples
from archiver.pipeline.write.residues import residue_chunks
from archiver.sources import Format


@pytest.fixture(scope="module")
def engine(tiny_model: bytes) -> Engine:
    """The tiny model, opened once."""
    return Engine.open(tiny_model, threads=1)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An empty archive that shards can be written to."""
    with ArchiveWriter.open(tmp_path / "a.archive"):
        pass
    return tmp_path / "a.archive"


@pytest.fixture
def photo(tmp_path: Path, rng: np.random.Generator) -> Path:
    """An RGB PNG of 70 x 50."""
    y, x = np.mgrid[:70, :50]
    base = np.stack([x * 4, y * 3, x + y], axis=-1) + rng.integers(0, 4, (70, 50, 3))
    Pillow.fromarray(base.astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


# --- geometry --------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 300))
def test_tiles_have_no_slivers(length: int, tile: int) -> None:
    """Parts cover the length, none exceeds the tile, none is less than half of another."""
    parts = tiling.spans(length, tiling.tile_side(length, tile))
    assert sum(size for _, size in parts) == length
    sizes = [size for _, size in parts]
    assert max(sizes) <= tile
    assert len(sizes) == -(-length // tile) or min(sizes) * 2 >= max(sizes) or len(sizes) > tile


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.integers(1, 50))
def test_tiles_cover_every_sample_once(h: int, w: int, channels: int, tile: int) -> None:
    """Reading all tiles gives every sample of every channel exactly once."""
    samples = np.arange(h * w * channels, dtype=np.uint32).reshape(h, w, channels)
    image = Image.from_array(samples)
    cut = list(tile_samples.read_tiles([image], tile))
    places = [place for _, place in tile_samples.all_places([image], tile)]
    assert [(p.height, p.width) for p in places] == [t.shape[:2] for t in cut]
    assert np.array_equal(np.sort(np.concatenate([t.ravel() for t in cut])), samples.ravel())


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, ((0,),)),
        (2, ((0,), (1,))),
        (3, ((0, 1, 2),)),
        (4, ((0, 1, 2), (3,))),
        (5, ((0,), (1,), (2,), (3,), (4,))),
    ],
)
def test_components(channels: int, expected: tuple[tuple[int, ...], ...]) -> None:
    """Colours go together, everything else alone."""
    assert tiling.components(channels) == expected


# --- packing ---------------------------------------------------------------------------------


def pack(archive: Path, paths: list[Path], engine: Engine | None) -> list[Packed | Failure]:
    """Pack into one shard that is thrown away."""
    with ShardWriter(archive) as shard:
        return pack_files(paths, shard, [engine] if engine else [], how=Alternative(64))


def test_learned_tiles_are_recorded(archive: Path, photo: Path, engine: Engine) -> None:
    """An image becomes tiles of one size; offsets follow one another in the shard."""
    [packed] = pack(archive, [photo], engine)
    assert isinstance(packed, Packed)
    assert packed.record is not None
    assert packed.record.format == Format.PNG
    table = packed.record.tiles
    assert table["offset"].tolist() == (np.cumsum(table["length"]) - table["length"]).tolist()
    assert int((table["height"] * table["width"]).sum()) == 70 * 50
    assert set(table["model"][table["codec"] == TileCodec.LEARNED].tolist()) <= {0}


def test_same_content_is_coded_once(archive: Path, photo: Path, engine: Engine) -> None:
    """A copy gets no record, in whatever batch it comes."""
    copy = photo.with_name("copy.png")
    copy.write_bytes(photo.read_bytes())
    first, second = pack(archive, [photo, copy], engine)
    assert isinstance(first, Packed)
    assert isinstance(second, Packed)
    assert first.record is not None
    assert second.record is None
    assert first.sha256 == second.sha256


def test_tile_that_does_not_decode_falls_back(
    archive: Path, photo: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the learned codec does not give the samples back, a classic one is used and it is said."""
    decode = Engine.decode

    def wrong(self: Engine, payloads: list[bytes], shapes: list[tuple[int, int, int]]) -> object:
        decoded = decode(self, payloads, shapes)
        for tile in decoded:
            tile[0, 0, 0] ^= 1
        return decoded

    monkeypatch.setattr(tiles.classic, "encode_jpegxl", lambda tile, effort: None)
    monkeypatch.setattr(Engine, "decode", wrong)
    # kept as tiles whatever they cost
    monkeypatch.setattr(queued_file, "TILE_INDEX_BYTES", -1000)
    monkeypatch.setattr(engine, "encode", lambda same: [b"short"] * len(same))
    [packed] = pack(archive, [photo], engine)
    assert isinstance(packed, Packed)
    assert packed.record is not None
    assert packed.notices
    assert all("photo.png" in notice and "classic" in notice for notice in packed.notices)
    assert TileCodec.LEARNED not in packed.record.tiles["codec"]


def test_files_never_grow(archive: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """A file that is smaller as it is keeps its bytes, and says why."""
    noise = rng.integers(0, 2, (8, 8)).astype(np.uint8) * 255
    path = tmp_path / "noise.png"
    Pillow.fromarray(noise).convert("1").save(path)
    [packed] = pack(archive, [path], None)
    assert isinstance(packed, Packed)
    assert packed.record is not None
    stored = sum(one.length for one in packed.record.residues)
    stored += int(packed.record.tiles["length"].sum())
    assert stored <= path.stat().st_size


def test_file_that_changes_is_refused(
    archive: Path, photo: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written to while it is packed is a failure; its neighbours are packed."""
    other = photo.with_name("other.png")
    Pillow.fromarray(np.full((9, 9), 7, np.uint8)).save(other)
    parse = sources.parse

    def parse_and_touch(path: Path, **options: object) -> object:
        parsed = parse(path, **options)  # type: ignore[arg-type]
        if path == photo:
            os.utime(path, ns=(1, 1))
        return parsed

    monkeypatch.setattr(sources, "parse", parse_and_touch)
    failed, packed = pack(archive, [photo, other], engine)
    assert isinstance(failed, Failure)
    assert failed.message == source_file.CHANGED
    assert isinstance(packed, Packed)


def test_unreadable_file_is_a_failure(archive: Path, tmp_path: Path) -> None:
    """What cannot be read is reported with the reason."""
    [failed] = pack(archive, [tmp_path / "absent"], None)
    assert isinstance(failed, Failure)
    assert "No such file" in failed.message


def test_large_files_stream(
    archive: Path, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file gives the same record as a small one, but for where its payloads are."""
    samples = np.add.outer(np.arange(90), np.arange(80) * 3).astype(np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", samples, metadata=None)
    [small] = pack(archive, [tmp_path / "large.tif"], engine)
    monkeypatch.setattr(source_file, "LARGE_BYTES", 100)
    monkeypatch.setattr(batch, "BATCH_PIXELS", 2000)
    [large] = pack(archive, [tmp_path / "large.tif"], engine)
    assert isinstance(small, Packed)
    assert isinstance(large, Packed)
    assert large.record == small.record


def test_residue_chunks_cover_the_bytes(rng: np.random.Generator) -> None:
    """Blocks of any size become chunks of one size, whose raw lengths add up."""
    data = rng.bytes(9 << 20)
    chunks = list(residue_chunks([data[:5], b"", data[5 : 5 << 20], data[5 << 20 :]]))
    assert [chunk.raw_length for chunk in chunks] == [4 << 20, 4 << 20, 1 << 20]
    assert list(residue_chunks([])) == []


def test_stamp_notices_everything(tmp_path: Path) -> None:
    """Size, time and content are part of the stamp."""
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 5))
    first = source_file.stamp(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(5, 5))
    assert first != source_file.stamp(path)


# --- reading ---------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch) -> OpenArchive:
    """An archive of a few images with known samples."""
    monkeypatch.setattr(pretrained, "load", lambda name: tiny_model)
    root = tmp_path / "source"
    root.mkdir()
    for name, samples in known_images().items():
        kind = "rgb" if samples.ndim == 3 else "minisblack"
        tifffile.imwrite(root / name, samples, metadata=None, photometric=kind)
    (root / "notes.txt").write_text("no image", encoding="utf-8")
    photo = np.kron(known_images()["grey.tif"], np.ones((8, 8), np.uint8))
    Pillow.fromarray(photo).save(root / "photo.jpg")
    run.pack(root, tmp_path / "a.archive", PackSettings(workers=0, tile=16))
    return open_archive(tmp_path / "a.archive")


def known_images() -> dict[str, np.ndarray]:
    """Return images of several kinds, the same every time."""
    y, x = np.mgrid[:45, :37]
    noise = np.random.default_rng(3).integers(0, 5, (45, 37))
    return {
        "grey.tif": (x + y * 2 + noise).astype(np.uint8),
        "deep.tif": (x * 300 + y * 7 + noise).astype(np.uint16),
        "four.tif": np.stack([x + noise, y, x + y, x * 0 + 9], axis=-1).astype(np.uint8),
    }


@pytest.mark.parametrize("name", ["grey.tif", "deep.tif", "four.tif"])
def test_read_gives_the_samples(opened: OpenArchive, name: str) -> None:
    """Whole images and regions are exactly what was packed."""
    samples = known_images()[name]
    samples = samples[..., None] if samples.ndim == 2 else samples
    entry = opened.entry(name)
    assert np.array_equal(entry.read(), samples)
    assert np.array_equal(entry.read((3, 5, 20, 17)), samples[3:23, 5:22])
    assert np.array_equal(entry.read((slice(10, None), slice(None, 9))), samples[10:, :9])
    assert entry.images[0].shape == samples.shape


def test_region_decodes_only_its_tiles(
    opened: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region inside one tile decodes one tile."""
    decoded: list[int] = []
    decode = tiles.decode

    def counting(encoded: list[object], *rest: object) -> object:
        decoded.append(len(encoded))
        return decode(encoded, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tiles, "decode", counting)
    opened.entry("grey.tif").read((1, 1, 4, 4))
    assert sum(decoded) == 1


def test_jpeg_is_read_through_its_file(opened: OpenArchive) -> None:
    """A JPEG has no stored samples; reading decodes the file."""
    samples = opened.entry("photo.jpg").read((2, 3, 10, 11))
    assert samples.shape[:2] == (10, 11)


def test_read_refuses_what_makes_no_sense(opened: OpenArchive) -> None:
    """Regions outside, pages that are not there, files without samples: named errors."""
    entry = opened.entry("grey.tif")
    for region in ((0, 0, 46, 1), (-1, 0, 1, 1)):
        with pytest.raises(UsageError, match="region"):
            entry.read(region)
    with pytest.raises(UsageError, match="page"):
        entry.read(page=1)
    with pytest.raises(UsageError, match="unpack"):
        opened.entry("notes.txt").read()


def test_write_to_restores_a_file(opened: OpenArchive, tmp_path: Path) -> None:
    """One entry is written with its content, mode and time."""
    opened.entry("deep.tif").write_to(tmp_path / "back.tif")
    original = tmp_path / "source" / "deep.tif"
    assert (tmp_path / "back.tif").read_bytes() == original.read_bytes()
    assert (tmp_path / "back.tif").stat().st_mtime_ns == original.stat().st_mtime_ns


def test_totals_add_up(opened: OpenArchive) -> None:
    """The sums over an archive agree with its entries."""
    totals = opened.totals()
    assert totals.files == len(opened.entries()) == 5
    assert totals.archive_bytes == totals.payload_bytes + totals.model_bytes
    assert totals.input_bytes == sum(entry.size for entry in opened.entries())
    assert sum(totals.tiles.values()) == sum(
        sum(image.tiles.values()) for entry in opened.entries() for image in entry.images
    )


def test_wrong_samples_are_never_returned(
    opened: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that is off by one is caught by the CRC of the samples."""
    decode = tiles.decode

    def wrong(*given_: object) -> list[np.ndarray]:
        return [tile + np.ones((), tile.dtype) for tile in decode(*given_)]  # type: ignore[arg-type]

    monkeypatch.setattr(tiles, "decode", wrong)
    with pytest.raises(IntegrityError, match="samples"):
        opened.entry("grey.tif").read()
