"""Several models for a file: the one that codes a sample of it smallest codes all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archiver.archive.shard import ShardWriter
from archiver.archive.writer import ArchiveWriter
from archiver.codec.inference.engine import Engine
from archiver.codec.model.batches import Shown
from archiver.codec.tuning.archive_model import Budget, tune
from archiver.errors import SourceError
from archiver.image import Image as Raster
from archiver.pipeline import Packed, pack_files
from archiver.pipeline.write import batch, model_choice, planning, source_file, tile_samples
from archiver.pipeline.write.alternatives import Alternative
from archiver.pipeline.write.rows import with_used_models
from archiver.pipeline.write.source_file import SourceFile
from archiver.sources import Fidelity


@pytest.fixture(scope="module")
def engines(tiny_model: bytes) -> list[Engine]:
    """The tiny model, the same again, and one tuned on ramps with noise."""
    sample = [ramp(seed) for seed in range(12)]
    shown = [Shown.of(tile) for tile in sample]
    tuned = tune(tiny_model, shown, [1.0] * 12, Budget(40, 60.0), name="tuned")
    assert tuned is not None
    return [Engine.open(model, device="cpu") for model in (tiny_model, tiny_model, tuned)]


@pytest.fixture(autouse=True)
def _weak_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.codec.classic.encode_jpegxl", lambda *_, **__: None)


def ramp(seed: int, side: int = 64) -> np.ndarray:
    """Return an RGB image of a slope with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    samples = (x + y)[..., None] + rng.normal(0, 4, (side, side, 3))
    return np.clip(samples, 0, 255).astype(np.uint8)


def pack(folder: Path, samples: list[np.ndarray], engines: list[Engine]) -> list[Packed]:
    """Pack arrays as BMP files in tiles of 16; return what came of each."""
    paths = []
    for i, one in enumerate(samples):
        paths.append(folder / f"{i}.bmp")
        Image.fromarray(one).save(paths[-1])
    with ArchiveWriter.open(folder / "a.archive"), ShardWriter(folder / "a.archive") as shard:
        packed = pack_files(paths, shard, engines, how=Alternative(16))
    assert all(isinstance(one, Packed) for one in packed)
    return [one for one in packed if isinstance(one, Packed)]


def models_of(packed: Packed) -> set[int]:
    """Return the models that the tiles of a file use."""
    assert packed.record is not None
    return set(packed.record.tiles["model"].tolist()) - {-1}


def stored(packed: list[Packed]) -> int:
    """Return the bytes of all tiles."""
    return sum(int(one.record.tiles["length"].sum()) for one in packed if one.record is not None)


def test_files_take_the_model_that_codes_them_smallest(
    tmp_path: Path, engines: list[Engine]
) -> None:
    """One model a file, never a later one that is no better, and no more bytes than with one."""
    samples = [ramp(99), ramp(98, 48)]
    for folder in ("one", "all"):
        (tmp_path / folder).mkdir()
    alone = pack(tmp_path / "one", samples, engines[:1])
    chosen = pack(tmp_path / "all", samples, engines)
    assert [models_of(one) for one in chosen] == [{2}, {2}]
    assert stored(chosen) < stored(alone)
    (tmp_path / "same").mkdir()
    assert models_of(pack(tmp_path / "same", samples, engines[:2])[0]) == {0}


def test_the_choice_does_not_depend_on_batches(
    tmp_path: Path, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tile by tile, in a batch, or as a large file: the same payloads under the same model."""
    found = []
    samples = [ramp(5), ramp(6, 50), ramp(7)]
    cases = (("a", None, ""), ("b", batch, "BATCH_PIXELS"), ("c", source_file, "LARGE_BYTES"))
    for name, module, limit in cases:
        (tmp_path / name).mkdir()
        with monkeypatch.context() as patch:
            if module is not None:
                patch.setattr(module, limit, 1000)
            packed = pack(tmp_path / name, samples, engines)
        columns = ("length", "crc32c", "codec", "model")
        found.append([one.record.tiles[list(columns)].tolist() for one in packed if one.record])
    assert found[0] == found[1] == found[2]


def test_a_sample_is_spread_and_bounded() -> None:
    """All of a few tiles, some of many, none that no model codes."""
    small, floats = (
        Raster.from_array(np.zeros((64, 64, 4), dtype)) for dtype in (np.uint8, np.float32)
    )
    places = list(tile_samples.all_places([small, floats], 32))
    assert model_choice.sample(model_choice.learnable_tiles([small, floats], places), 32, 4096) == [
        1,
        3,
        5,
        7,
    ]
    found = model_choice.sample(range(4096), 256)
    assert len(found) == model_choice.MAX_TILES
    assert len(model_choice.sample(range(4096), 256, 20 << 16)) == 20
    assert len(model_choice.sample(range(40), 128)) == model_choice.LEAST_PIXELS >> 14
    assert max(np.diff(found)) == min(np.diff(found))
    assert model_choice.learnable_tiles([floats], list(tile_samples.all_places([floats], 32))) == []
    assert model_choice.sample([], 256) == []


def test_a_sample_of_a_large_file_holds_no_empty_tiles(
    tmp_path: Path, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of a slide is glass: what stands for it is tissue, and for how much of it is told."""
    samples = np.full((640, 640, 3), 240, np.uint8)
    samples[320:, 480:] = ramp(3, 160)[:1].repeat(320, 0)  # an eighth
    path = tmp_path / "a.bmp"
    Image.fromarray(samples).save(path)
    monkeypatch.setattr(model_choice, "LEAST_PIXELS", 4 << 10)
    source = SourceFile.parse(path, source_file.stamp(path), Fidelity.BYTES)
    places = list(tile_samples.all_places(source.parsed.images, 32))
    assert planning.draft(source, Alternative(tile=32), places, engines).n_learnable == 400
    monkeypatch.setattr(source_file, "LARGE_BYTES", 0)
    draft = planning.draft(source, Alternative(tile=32), places, engines)
    assert len(draft.numbers) >= 4
    assert all(draft.read[number].std() > 0 for number in draft.numbers)
    assert 25 <= draft.n_learnable <= 75


def test_a_sample_that_cannot_be_read_fails_its_file(
    tmp_path: Path, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that vanishes while its model is chosen is a failure, as at any other moment."""

    def vanish(*_: object) -> None:
        raise SourceError("gone")

    for i in range(2):
        Image.fromarray(ramp(i)).save(tmp_path / f"{i}.bmp")
    monkeypatch.setattr(planning, "read_tile", vanish)
    monkeypatch.setattr(batch, "BATCH_PIXELS", 256)
    with ArchiveWriter.open(tmp_path / "a"), ShardWriter(tmp_path / "a") as shard:
        paths = [tmp_path / "0.bmp", tmp_path / "1.bmp"]
        failed = pack_files(paths, shard, engines, how=Alternative(16))
        assert not any(isinstance(one, Packed) for one in failed)
        [packed] = pack_files(paths[:1], shard, engines[:1], how=Alternative(16))
        assert isinstance(packed, Packed)


def test_a_shard_lists_the_models_in_use(tmp_path: Path, engines: list[Engine]) -> None:
    """Models are renumbered to those that tiles use; a record without model stays without."""
    [packed] = pack(tmp_path, [ramp(3)], engines)
    assert packed.record is not None
    plain = replace(packed.record, tiles=packed.record.tiles.copy())
    plain.tiles["model"] = -1
    objects, used = with_used_models([packed.record, plain], [b"a", b"b", b"c"])
    assert used == (b"c",)
    assert set(objects[0].tiles["model"].tolist()) <= {0, -1}
    assert set(objects[1].tiles["model"].tolist()) == {-1}
    assert with_used_models([plain], [b"a"])[1] == ()
