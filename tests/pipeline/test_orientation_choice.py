"""Which way a file is turned: as well whichever way it comes; turned files come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from archiver.codec import learned
from archiver.codec.inference.engine import Engine
from archiver.codec.model import pretrained
from archiver.codec.transforms.orientation import IDENTITY, SIDES, Orientation
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive
from archiver.pipeline.write import adapter, orientation


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.open(pretrained.load(pretrained.SMALL), device="cpu", threads=1)


def trails(noise: float = 0.6) -> np.ndarray:
    """Sparks with trails to the right: from there they come without warning."""
    rng = np.random.default_rng(3)
    image = np.zeros((96, 96))
    for row, column in rng.integers(0, 96, (150, 2)):
        length = min(24, 96 - column)
        image[row, column : column + length] += 200 * 0.85 ** np.arange(length)
    image = np.minimum(image + 20, 250)[..., None] + rng.normal(0, noise, (96, 96, 3))
    return np.clip(image * [1, 0.8, 0.6], 0, 255).round().astype(np.uint8)


def size(tile: np.ndarray, turn: Orientation, engine: Engine) -> int:
    [coded] = learned.encode([turn.oriented(tile)], engine)
    assert coded is not None
    return len(coded.payload)


@pytest.mark.slow
def test_one_picture_takes_the_same_whichever_way_it_comes(engine: Engine) -> None:
    """A turn is found that undoes, or outdoes, the one that the picture came in."""
    tile = trails()
    sizes = [size(tile, Orientation(number), engine) for number in range(SIDES)]
    assert min(sizes) < 0.98 * max(sizes)
    for number in (0, 2, 5, 7):
        given = Orientation(number).oriented(tile)
        *_, found = orientation.find([given], engine, engine)
        assert size(given, found, engine) <= 1.002 * min(sizes)


def test_colours_in_another_order_are_put_right(engine: Engine) -> None:
    """Channels whose order is not the one that was learned are reordered where it pays."""
    tile = trails()
    *_, found = orientation.find([tile[..., [1, 2, 0]]], engine, engine)
    *_, plain = orientation.find([tile], engine, engine)
    given = np.ascontiguousarray(tile[..., [1, 2, 0]])
    assert size(given, found, engine) <= 1.002 * size(tile, plain, engine)


@pytest.mark.parametrize(
    "tile",
    [
        np.full((64, 64, 3), 9, np.uint8),
        np.zeros((64, 64, 2), np.uint8),
        np.zeros((8, 8, 1), np.float32),
    ],
    ids=["constant", "two channels", "float"],
)
def test_what_no_model_codes_stays_upright(engine: Engine, tile: np.ndarray) -> None:
    assert orientation.find([tile], engine, engine) == (IDENTITY,)
    assert orientation.find([], engine, engine) == (IDENTITY,)


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "fits"), [("balanced", True), ("max", True), ("max", False)])
def test_a_turned_file_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, fits: bool
) -> None:
    """Packed in a turn, with and without an adapter: verified, restored, read by region."""
    monkeypatch.setattr("archiver.codec.classic.encode_jpegxl", lambda *_, **__: None)
    monkeypatch.setattr(adapter, "LEAST_BYTES", 1000 if fits else 1 << 30)
    monkeypatch.setattr(orientation, "find", lambda *_, **__: (Orientation(29),))
    source, archive = tmp_path / "source", tmp_path / "a.archive"
    source.mkdir()
    colour = trails(noise=2)
    rng = np.random.default_rng(5)
    deep = [(colour[..., c] * 90 + rng.integers(0, 99, (96, 96))).astype("<u2") for c in (0, 0, 0)]
    Pillow.fromarray(colour).save(source / "colour.png")
    tifffile.imwrite(source / "slices.tif", np.stack(deep), photometric="minisblack")
    how = PackSettings(
        profile=profile, model=pretrained.SMALL, workers=0, tile=64, adapt_steps=2 if fits else 1
    )
    summary = run.pack(source, archive, how)
    name = "adapted_oriented" if fits else "learned_oriented"
    assert summary.tiles[name] >= (4 if fits else 1)
    assert not run.verify(archive, workers=0).problems
    region = open_archive(archive).entry("colour.png").read((10, 50, 60, 40))
    np.testing.assert_array_equal(region, colour[10:70, 50:90])
    run.unpack(archive, tmp_path / "out", workers=0)
    for path in source.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_max_never_takes_more_than_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that was a mistake costs nothing under `max`: every tile has the choice."""
    monkeypatch.setattr("archiver.codec.classic.encode_jpegxl", lambda *_, **__: None)
    sizes = {}
    source = tmp_path / "source"
    source.mkdir()
    Pillow.fromarray(trails(noise=2)).save(source / "a.bmp")
    for number in range(SIDES):
        monkeypatch.setattr(orientation, "find", lambda *_, n=number, **__: (Orientation(n),))
        how = PackSettings(profile="max", model=pretrained.SMALL, workers=0, adapt_steps=1)
        run.pack(source, archive := tmp_path / f"{number}.archive", how)
        sizes[number] = open_archive(archive).entry("a.bmp").stored_bytes
    assert max(sizes.values()) == sizes[0]
    assert min(sizes.values()) < sizes[0]
