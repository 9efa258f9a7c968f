"""The plan of a file: decided once, the same for every worker; state that changes only itself."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import tifffile
from jpegs import scene

from archiver.codec.inference.engine import Engine
from archiver.codec.jpeg import tile as jpeg_tile
from archiver.codec.jpeg.context_mixing import ContextState
from archiver.codec.model import pretrained
from archiver.image import Samples
from archiver.jobs import model_tuning, run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import key_tiles, write
from archiver.pipeline.key_tiles import KeyTiles
from archiver.pipeline.write import adapter, encode, planning, source_file, tile_samples
from archiver.pipeline.write.adapter import Effort
from archiver.pipeline.write.alternatives import Alternative
from archiver.pipeline.write.file_plan import FilePlan, PlanEngines
from archiver.pipeline.write.source_file import SourceFile
from archiver.sources import Fidelity

TINY = Path(__file__).parents[1] / "vectors" / "codec-v1" / "tiny.model"
MODULES = sorted(Path(write.__file__).parent.glob("*.py"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(pretrained.load(pretrained.SMALL), device="cpu", threads=1)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A slide of JPEG tiles with a label that a model codes."""
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as tif:
        how = {"compression": "jpeg", "compressionargs": {"level": 90}, "tile": (64, 64)}
        tif.write(scene(3, (192, 192)), photometric="ycbcr", **how)
        rng = np.random.default_rng(3)
        noise = rng.normal(0, 14, (144, 160 + 16))
        weave = noise[:, 8:-8] + 0.9 * noise[:, :-16]  # rows remember what was 8 samples back
        weave = (weave + 0.8 * np.roll(weave, 2, 0) + 120).clip(0, 255)
        colour = [weave, 255 - weave / 2, weave / 3 + rng.normal(60, 2, weave.shape)]
        tif.write(np.stack(colour, -1).astype(np.uint8), photometric="rgb")
    return path


def planned(path: Path, engine: Engine) -> tuple[FilePlan, list[tile_samples.RawTile]]:
    """Return the plan of a file with an adapter, and its tiles."""
    source = SourceFile.parse(path, source_file.stamp(path), Fidelity.BYTES)
    images = source.parsed.images
    places = list(tile_samples.all_places(images, 64))
    tiles = list(tile_samples.raw_tiles(images, places, 64))
    draft = planning.draft(source, Alternative(64, Effort(0)), places, [engine])
    sample = planning.whole_sample(draft, source, places, {n: tiles[n].samples for n in (9, 10)})
    [decision] = planning.decide([(draft, sample)], [engine])
    return decision.plan, tiles


@pytest.mark.slow
def test_a_plan_is_all_that_coding_takes(
    mixed: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent elsewhere, and tile by tile, it gives the same payloads; what it holds is small."""
    monkeypatch.setattr(adapter, "LEAST_BYTES", 100)
    monkeypatch.setattr("archiver.codec.classic.encode_jpegxl", lambda *_, **__: None)
    plan, tiles = planned(mixed, engine)
    assert plan.key_tiles is not None
    assert plan.adapter_record
    engines = PlanEngines([engine])
    coded = encode.code([(plan, tile) for tile in tiles], engines.of(plan))
    sent = pickle.dumps(plan)
    assert len(sent) < mixed.stat().st_size
    for tile, whole in reversed(list(zip(tiles, coded, strict=True))):
        again = pickle.loads(sent)
        assert encode.code([(again, tile)], PlanEngines([engine]).of(again)) == [whole]
    with pytest.raises(FrozenInstanceError):
        plan.model = 1  # type: ignore[misc]


def test_a_key_tile_is_kept_as_it_taught(
    tmp_path: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file that a model is chosen for, too, key tiles are never coded in another way.

    They were coded again after the choice, as what is smallest: others could not learn from that.
    """
    find, encode_jpeg, taught = key_tiles.find, jpeg_tile.encode, set()

    def find_and_note(
        tiles: Sequence[int], read: Callable[[int], Samples]
    ) -> tuple[KeyTiles, dict[int, bytes]]:
        keys, payloads = find(tiles, read)
        taught.update(read(number).tobytes() for number in payloads)
        return keys, payloads

    def encode_otherwise(tile: Samples, state: ContextState | None) -> bytes:
        is_key = tile.tobytes() in taught
        return jpeg_tile.encode_quickly(tile) if is_key else encode_jpeg(tile, state)

    monkeypatch.setattr(model_tuning, "HOPED_GAIN", 0)
    monkeypatch.setattr(key_tiles, "find", find_and_note)
    monkeypatch.setattr(jpeg_tile, "encode", encode_otherwise)
    how = PackSettings(model=str(TINY), workers=0, tile=64)
    run.pack(mixed.parent, tmp_path / "a.archive", how)
    assert taught
    assert not run.verify(tmp_path / "a.archive", depth="samples", workers=0).problems


def assigned(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Yield the attributes that are assigned to, at any depth of a target."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node


def test_objects_change_only_themselves() -> None:
    """No statement assigns to an attribute of anything but ``self``."""
    for path in MODULES:
        owners = {ast.unparse(node.value) for node in assigned(ast.parse(path.read_text()))}
        assert owners <= {"self"}, path.name
