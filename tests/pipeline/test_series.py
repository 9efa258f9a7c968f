"""Slices, volumes and bands as differences: smaller, exact, few tiles for one; damage is named."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import tifffile

from archiver.archive.shard import crc32c
from archiver.codec import tiles
from archiver.codec.classic import little_endian
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.model import pretrained
from archiver.codec.transforms import delta
from archiver.codec.transforms.chain import as_delta
from archiver.codec.transforms.delta import Base
from archiver.errors import IntegrityError
from archiver.image import Image
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import OpenArchive, open_archive
from archiver.pipeline.read import decode as decoding
from archiver.pipeline.read.decode import TileDecoder
from archiver.pipeline.read.stored_tile import StoredTile
from archiver.pipeline.write import tile_samples
from archiver.pipeline.write.delta_bases import DeltaBases

SIDE = 24


def volume(n: int, *, noise: int = 3, seed: int = 0) -> np.ndarray:
    """Return n slices (n, SIDE, SIDE), int16, of one thing that moves a little."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(-400, 400, (SIDE, SIDE))
    return (shared + rng.integers(-noise, noise + 1, (n, SIDE, SIDE))).astype(np.int16)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of stacks, time series, bands and 16-bit colour."""
    folder = tmp_path / "source"
    folder.mkdir()
    tifffile.imwrite(folder / "stack.tif", volume(20), photometric="minisblack")
    series = np.concatenate([volume(5, seed=z, noise=1)[:, None] for z in range(4)], 1)  # (t, z)
    image = nibabel.Nifti1Image(series.transpose(3, 2, 1, 0), np.eye(4))
    image.to_filename(folder / "series.nii")
    bands = (volume(6)[..., :] // 4 + 128).astype(np.uint8).transpose(1, 2, 0)
    tifffile.imwrite(folder / "bands.tif", bands, photometric="minisblack", planarconfig="contig")
    red = 4 * (volume(1)[0].astype(np.int64) + 500)
    colour = np.stack([red, red * 3 // 4, red * 9 // 16], -1).astype(np.uint16)
    tifffile.imwrite(folder / "colour.tif", colour, photometric="rgb")
    return folder


@pytest.fixture
def archive(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenArchive:
    """The folder, packed with a model that learned nothing: what is small is small by differing."""
    model = (Path(__file__).parents[1] / "vectors" / "codec-v1" / "deep.model").read_bytes()
    monkeypatch.setattr(pretrained, "load", lambda name: model)
    run.pack(source, tmp_path / "a.archive", PackSettings(profile="fast", workers=0))
    return open_archive(tmp_path / "a.archive")


def tile_table(archive: OpenArchive, name: str) -> np.ndarray:
    """Return the tiles of one file."""
    images = archive._restorer.images_of(archive.entry(name).object)
    return np.concatenate([table for _, table in images])


def test_series_come_back_from_differences(
    archive: OpenArchive, source: Path, tmp_path: Path
) -> None:
    """Every kind of neighbour is used; every file is what it was."""
    for path in source.iterdir():
        codecs = tile_table(archive, path.name)["codec"]
        assert TileCodec.DELTA in codecs, path.name
        archive.entry(path.name).write_to(tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert run.verify(archive.path, workers=0).problems == ()


def test_every_eighth_slice_is_coded_by_itself(archive: OpenArchive) -> None:
    """So one slice takes at most seven others."""
    codecs = tile_table(archive, "stack.tif")["codec"]
    assert len(codecs) == 20
    assert [i for i, codec in enumerate(codecs) if codec != TileCodec.DELTA] == [0, 8, 16]


def test_a_slice_of_a_time_series_follows_the_volume_before(archive: OpenArchive) -> None:
    """Four slices make a volume; what lies four before is the same slice."""
    decoder, images = (
        archive._restorer.decoder,
        archive._restorer.images(archive.entry("series.nii").object),
    )
    backs = [decoder._open(tile).back for image in images for tile in image.tiles.values()]
    assert backs == [0] * 4 + [4] * 16


def test_a_region_reads_its_chain_and_no_more(
    archive: OpenArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seventh slice takes six; read again it takes none."""
    counted: list[int] = []
    decode = tiles.decode

    def counting(encoded: list[tuple[int, bytes]], *rest: object) -> object:
        counted.append(len(encoded))
        return decode(encoded, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tiles, "decode", counting)
    entry = archive.entry("stack.tif")
    np.testing.assert_array_equal(
        entry.read((3, 4, 5, 6), page=14)[..., 0], volume(20)[14, 3:8, 4:10]
    )
    assert sum(counted) == 7
    entry.read(page=13)
    assert sum(counted) == 7


def test_damage_takes_what_is_built_on_it_and_nothing_else(archive: OpenArchive) -> None:
    """The tile that is damaged is named, and why others cannot be read."""
    row = tile_table(archive, "stack.tif")[10]
    [shard] = (archive.path / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[int(row["offset"]) + int(row["length"]) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    entry = open_archive(archive.path).entry("stack.tif")
    for page in (0, 7, 8, 9, 16, 19):
        np.testing.assert_array_equal(entry.read(page=page)[..., 0], volume(20)[page])
    for page in (10, 11, 15):
        with pytest.raises(IntegrityError, match=r"image 10, tile at row 0, column 0"):
            entry.read(page=page)
    problems = run.verify(archive.path, workers=0).problems
    assert {problem.entries for problem in problems} == {("stack.tif",)}


def test_large_stacks_are_decoded_many_slices_at_a_time(
    archive: OpenArchive, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is too large for one call takes as few calls as its pixels need."""
    monkeypatch.setattr("archiver.pipeline.read.restore.SMALL_PIXELS", 1000)
    for module in ("decode", "windows"):
        monkeypatch.setattr(f"archiver.pipeline.read.{module}.BATCH_PIXELS", 5 * SIDE * SIDE)
    calls: list[int] = []
    decode = tiles.decode

    def counting(encoded: list[tuple[int, bytes]], *rest: object) -> object:
        calls.append(len(encoded))
        return decode(encoded, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tiles, "decode", counting)
    entry = open_archive(archive.path).entry("stack.tif")
    assert b"".join(entry.chunks()) == (source / "stack.tif").read_bytes()
    assert calls == [5, 5, 5, 5]


def test_what_is_given_depends_on_the_file_alone(source: Path, tmp_path: Path) -> None:
    """Batches of any size give the same differences."""
    found = []
    for pixels in (1 << 22, 700):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("archiver.pipeline.write.batch.BATCH_PIXELS", pixels)
            path = tmp_path / f"{pixels}.archive"
            run.pack(source, path, PackSettings(profile="fast", workers=0))
        found.append(sorted(shard.name for shard in (path / "shards").iterdir()))
    assert found[0] == found[1]


def test_images_of_other_shapes_and_types_are_no_neighbours() -> None:
    """A pyramid, a label image beside a slice: each by itself."""
    slices = [volume(1)[0, :, :, None] for _ in range(3)]
    odd = [slices[0], slices[0][:20], slices[0].view(np.uint16), slices[0]]
    images = [Image.from_array(one) for one in odd]
    places = list(tile_samples.all_places(images, 256))
    bases = DeltaBases(images, places)
    assert [bases.delta(n, tile) for n, tile in enumerate(odd)] == [None] * 4


# --- hostile archives --------------------------------------------------------------------------


def stored(
    payloads: list[bytes], samples: list[np.ndarray]
) -> tuple[TileDecoder, list[StoredTile]]:
    """Return a decoder and tiles of one object with these payloads, CRCs and all."""
    siblings: list[StoredTile] = []
    for number, (payload, tile) in enumerate(zip(payloads, samples, strict=True)):
        one = StoredTile(
            *(f"image {number}", 0, number, len(payload), crc32c(payload)),
            *(crc32c(little_endian(tile)), TileCodec.DELTA, -1, {}),
            *(tile.shape, tile.shape[:2], tile.dtype, 0, number, siblings),
        )
        siblings.append(one)
    archive = SimpleNamespace(payload=lambda shard, offset, length, crc: payloads[offset])
    return TileDecoder(archive, 1), siblings  # type: ignore[arg-type]


def chained(back: int, tile: np.ndarray, base: np.ndarray) -> bytes:
    taken = Base(back, 64)
    left = taken.minus(tile, base)
    return as_delta(taken, Encoded(TileCodec.STORED, little_endian(left))).payload


def chain(length: int) -> tuple[TileDecoder, list[StoredTile], list[np.ndarray]]:
    """Return tiles each of which is the difference to the one before it."""
    slices = [volume(1, seed=n)[0, :, :, None] for n in range(length)]
    payloads = [chained(0, slices[0], slices[0])]
    payloads += [chained(1, b, a) for a, b in pairwise(slices)]
    return *stored(payloads, slices), slices


def test_a_chain_is_followed_so_far_and_no_further() -> None:
    """32 tiles before one are decoded, 33 are refused, whatever else is asked for or at hand."""
    n = delta.MAX_CHAIN
    for asked in ([n], [n + 1], [2 * n], range(3 * n), [n + 1, n // 2], [3 * n - 1, 2 * n]):
        for before in ((), (0,), (n // 2, n), (n + 1, 2 * n)):
            decoder, siblings, slices = chain(3 * n)
            for one in before:
                decoder.decode([siblings[one]], keep=True)
            found = decoder.decode([siblings[i] for i in asked], keep=True)
            for i, result in zip(asked, found, strict=True):
                if i <= n:
                    np.testing.assert_array_equal(result, slices[i])
                else:
                    assert isinstance(result, IntegrityError)
                    assert decoding.TOO_LONG in str(result)


def test_a_message_names_the_tile_and_the_root_only() -> None:
    """Twenty tiles between them are no news."""
    decoder, siblings, _ = chain(30)
    tile = siblings[5]
    siblings[5] = replace(tile, sample_crc32c=tile.sample_crc32c ^ 1)
    [found] = decoder.decode([siblings[25]])
    assert "image 25: builds on what does not decode: image 5: its samples" in str(found)
    assert "image 15" not in str(found)


@pytest.mark.parametrize("volume_slices", [1, 2, 7, 8, 9, 20, 25, 33, 97])
@pytest.mark.parametrize("channels", [1, 17])
def test_no_path_to_a_tile_is_long(volume_slices: int, channels: int) -> None:
    """Seven steps in each direction, however many slices make a volume."""
    neighbours = (1,) if volume_slices == 1 else (1, volume_slices)
    pixel = np.zeros((4, 4, channels), np.uint16)
    image = replace(Image.from_array(pixel), neighbours=neighbours)
    images = [image] * (volume_slices * 20)
    places = list(tile_samples.all_places(images, 256))
    bases = DeltaBases(images, places)
    depths: list[int] = []
    for number in range(len(places)):
        depths.append(max((depths[n] + 1 for n in bases._before(number)), default=0))
    assert max(depths) <= 21
    assert max(depths) >= 7


@pytest.mark.parametrize(
    ("back", "shape", "dtype"),
    [
        (2, (24, 24, 1), "i2"),
        (2**32 - 1, (24, 24, 1), "i2"),
        (1, (24, 23, 1), "i2"),
        (1, (24, 24, 1), "u2"),
    ],
)
def test_bases_that_cannot_be_are_refused(back: int, shape: tuple[int, ...], dtype: str) -> None:
    """Before the first tile, of another shape, of another type: an error, no samples."""
    tile = volume(1)[0, :, :, None]
    other = np.zeros(shape, dtype)
    payloads = [chained(0, other, other), struct.pack("<IBB", back, 64, 0) + little_endian(tile)]
    decoder, siblings = stored(payloads, [other, tile])
    first, second = decoder.decode(siblings)
    np.testing.assert_array_equal(first, other)
    assert isinstance(second, IntegrityError)
