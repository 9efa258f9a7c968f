"""Keys of JPEG tiles: what a few tiles teach makes the others smaller; damage is named."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from jpegs import jpeg_files, scene

from archiver.archive.reader import Archive
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.residue import ResidueCodec
from archiver.errors import IntegrityError, ParityError
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import key_tiles
from archiver.pipeline.key_tiles import KeyTiles, find
from archiver.pipeline.read.open_archive import open_archive
from archiver.pipeline.write.check import checked
from archiver.pipeline.write.file_plan import FilePlan
from archiver.pipeline.write.tile_samples import RawTile

TILES = [
    jpeg_tile.as_tile(bytes(3) + imagecodecs.jpeg8_encode(scene(3, (96, 96), seed), level=85))
    for seed in range(6)
]


def write_slide(path: Path) -> None:
    """Write a slide of twelve tiles and a small page of two."""
    with tifffile.TiffWriter(path) as tif:
        for sides in ((256, 224), (64, 128)):
            how = {"compression": "jpeg", "compressionargs": {"level": 90}, "tile": (64, 64)}
            tif.write(scene(3, sides), photometric="ycbcr", **how)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("key_tiles")
    (folder / "tree").mkdir()
    write_slide(folder / "tree" / "slide.tif")
    run.pack(folder / "tree", folder / "a", PackSettings(workers=0, adapt_steps=0), lambda _: None)
    return folder / "a"


def keys_of(archive: Path) -> tuple[int, ...]:
    opened = Archive.open(archive)
    [row] = [one for one in opened.residues(0) if one["codec"] == ResidueCodec.JPEG_KEY_TILES]
    chunk = opened.payload(*(int(row[name]) for name in ("shard", "offset", "length", "crc32c")))
    return KeyTiles.from_bytes(chunk, lambda _: b"").keys


def test_a_slide_has_keys_and_comes_back(archive: Path, tmp_path: Path) -> None:
    tree = archive.parent / "tree"
    assert len(keys_of(archive)) == key_tiles.KEYS
    run.unpack(archive, tmp_path / "out", workers=0)
    out = (tmp_path / "out" / "slide.tif").read_bytes()
    assert out == (tree / "slide.tif").read_bytes()
    opened = Archive.open(archive)
    tiles = [row for image in opened.images(0) for row in opened.tiles(image)]
    payloads = [
        opened.payload(*(int(row[name]) for name in ("shard", "offset", "length", "crc32c")))
        for row in tiles
    ]
    assert {int(row["codec"]) for row in tiles} == {TileCodec.JPEG}
    assert all(
        jpeg_tile.uses_key_tiles(one) and jpeg_tile.is_headless(one) for one in payloads[:16]
    )


def test_regions_read_alone(archive: Path) -> None:
    """Whatever comes first: keys, others, another page, all of it."""
    path = archive.parent / "tree" / "slide.tif"
    with tifffile.TiffFile(path) as tif:
        pages = [page.asarray() for page in tif.pages]
    entry = open_archive(archive).entry("slide.tif")
    for page, row, column in ((0, 192, 192), (1, 0, 64), (0, 0, 0), (0, 130, 70), (1, 0, 0)):
        found = entry.read((row, column, 20, 20), page)
        np.testing.assert_array_equal(found, pages[page][row : row + 20, column : column + 20])
    np.testing.assert_array_equal(entry.read(), pages[0])


def test_a_damaged_key_is_named(archive: Path, tmp_path: Path) -> None:
    """It takes the tiles that learned from it; those before it are there."""
    keys = keys_of(archive)
    copy = tmp_path / "a"
    run_copy(archive, copy)
    opened = Archive.open(copy)
    rows = [row for image in opened.images(0) for row in opened.tiles(image)]
    [shard] = (copy / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[rows[keys[2]]["offset"] + 9] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    entry = open_archive(copy).entry("slide.tif")
    images = [(int(row["row"]), int(row["column"])) for row in rows[: len(opened.tiles(0))]]
    with pytest.raises(IntegrityError, match=rf"key {keys[2]} of its file's JPEG tiles"):
        entry.read((*next(at for n, at in enumerate(images) if n not in keys[:3]), 8, 8))
    assert entry.read((*images[keys[1]], 8, 8)).shape == (8, 8, 3)
    problems = run.verify(copy, depth="samples", workers=0).problems
    assert "slide.tif" in str(problems)


def run_copy(source: Path, target: Path) -> None:
    """Copy an archive."""
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())


def test_memories_do_not_depend_on_the_order_of_reading() -> None:
    key_tiles, payloads = find(range(6), TILES.__getitem__)
    assert len(payloads) == 5
    again = KeyTiles(key_tiles.keys, payloads.__getitem__)
    for number in (5, 0, 3, 3, 2, 5, 4):
        ours = key_tiles.state(number)
        for one, other in zip(ours, again.state(number), strict=True):
            np.testing.assert_array_equal(one, other)
        again = KeyTiles(key_tiles.keys, payloads.__getitem__)


def test_a_small_tile_hides_no_large_jpeg(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides are compared before coefficients are decoded."""
    monkeypatch.setattr(jpeg_tile, "sides", lambda payload: (65, 64))
    monkeypatch.setattr(jpeg_tile, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(IntegrityError, match="65 x 64"):
        open_archive(archive).entry("slide.tif").read((0, 0, 8, 8))


def test_keys_in_the_way_cost_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in order learns from every key twice: for the tiles between, and for the keys."""
    key_tiles, payloads = find(range(6), TILES.__getitem__)
    taught, decode = [], jpeg_tile.decode
    monkeypatch.setattr(jpeg_tile, "decode", lambda *a: taught.append(1) or decode(*a))
    again = KeyTiles(key_tiles.keys, payloads.__getitem__)
    for number in (4, *range(6), 4):
        again.state(number)
    assert len(taught) <= 2 * len(key_tiles.keys)


def test_a_key_that_does_not_come_back_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have learned from what was coded, not from what would be stored in its place."""
    key_tiles, payloads = find(range(6), TILES.__getitem__)
    monkeypatch.setattr(KeyTiles, "decodes", lambda *_: False)
    plan = FilePlan(96).with_keys(key_tiles, payloads)
    for number, is_key in ((0, True), (4, False)):
        payload = payloads.get(number) or jpeg_tile.encode(TILES[number], key_tiles.state(number))
        coded = [Encoded(TileCodec.JPEG, payload)]
        tiles = [(plan, RawTile(number, TILES[number]))]
        if is_key:
            with pytest.raises(ParityError, match="learned"):
                checked(tiles, coded, None)
        else:
            [kept] = checked(tiles, coded, None)
            assert kept.notice
            assert not jpeg_tile.uses_key_tiles(kept.payload)


def test_little_has_no_keys() -> None:
    small = [jpeg_tile.as_tile(bytes(3) + data) for data in jpeg_files().values()][:3]
    assert find(range(3), small.__getitem__)[1] == {}
    assert find([0], [TILES[0]].__getitem__)[1] == {}
    assert find([], TILES.__getitem__)[1] == {}


def test_tiles_without_coefficients_are_no_keys() -> None:
    """They are left out, and the memory has nothing of them."""
    broken = jpeg_tile.as_tile(bytes(3) + b"\xff\xd8" + bytes(20_000))
    tiles = [TILES[0], broken, TILES[1], TILES[2]]
    key_tiles, payloads = find(range(4), tiles.__getitem__)
    assert 1 not in payloads
    assert key_tiles.keys == tuple(payloads)
    for number, payload in payloads.items():
        assert key_tiles.decodes(number, payload, tiles[number].tobytes())


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        b"\x01",
        struct.pack("<BB", 1, 0),
        struct.pack("<BBI", 2, 1, 0),
        struct.pack("<BB2I", 1, 2, 5, 5),
        struct.pack("<BB2I", 1, 2, 5, 4),
        struct.pack("<BB2I", 1, 1, 5, 6),
        struct.pack("<BB17I", 1, 17, *range(17)),
    ],
)
def test_chunks_that_are_none_are_refused(chunk: bytes) -> None:
    with pytest.raises(IntegrityError, match="keys of JPEG tiles"):
        KeyTiles.from_bytes(chunk, lambda _: b"")
