"""No profile keeps a file in more bytes than a cheaper one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jpegs import scene, through_jpeg
from PIL import Image

from archiver.codec.model import pretrained
from archiver.jobs import model_tuning, run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import open_archive
from archiver.pipeline.write import adapter, alternatives
from archiver.pipeline.write.confidence import is_sure

TILES = {"fast": 64, "balanced": 64, "max": 128}  # an eighth of what they are, as the images are


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are tried on small files, whose sample is not all of them; no archive model."""
    monkeypatch.setattr(model_tuning, "HOPED_GAIN", 0)
    monkeypatch.setattr(adapter, "LEAST_BYTES", 2000)
    monkeypatch.setattr(adapter, "HEAD_PIXELS", 1 << 14)
    monkeypatch.setattr(adapter, "SAMPLE_PIXELS", 1 << 15)
    monkeypatch.setattr(alternatives, "DEFAULT_TILE", TILES["balanced"])


def woven(sides: tuple[int, int], seed: int = 3) -> np.ndarray:
    """Return colour of which an adapter learns: each sample remembers what was 8 before it."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 14, (sides[0], sides[1] + 16))
    weave = noise[:, 8:-8] + 0.9 * noise[:, :-16]
    weave = (weave + 0.8 * np.roll(weave, 2, 0) + 120).clip(0, 255)
    colour = [weave, 255 - weave / 2, weave / 3 + rng.normal(60, 2, sides)]
    return np.stack(colour, -1).astype(np.uint8)


def collage() -> np.ndarray:
    """Return two JPEGs of other grids, decoded, side by side."""
    parts = [through_jpeg(scene(sides=(128, 128), seed=n), 70 + 10 * n) for n in (0, 1)]
    return np.hstack([parts[0][3:115, 5:90], parts[1][1:113, 2:79]])


IMAGES = {
    "woven": lambda: woven((128, 160)),
    "scene": lambda: scene(sides=(100, 150)),
    "half woven": lambda: np.hstack([woven((128, 64)), scene(sides=(128, 100))]),
    "collage": collage,
    "grey": lambda: scene(1, (96, 130)),
}


def stored(folder: Path, image: np.ndarray, **how: Any) -> int:
    """Return what an image takes."""
    source, archive = folder / "source", folder / "-".join(map(str, how.values()))
    source.mkdir(exist_ok=True)
    Image.fromarray(image.squeeze()).save(source / "a.png")
    settings = PackSettings(model=pretrained.SMALL, workers=0, **how)
    assert not run.pack(source, archive, settings).failures
    run.unpack(archive, folder / "out", workers=0)
    assert (folder / "out" / "a.png").read_bytes() == (source / "a.png").read_bytes()
    return open_archive(archive).entry("a.png").stored_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    IMAGES,
)
def test_a_dearer_profile_takes_no_more_bytes(tmp_path: Path, name: str) -> None:
    image = IMAGES[name]()
    sizes = {
        profile: stored(tmp_path, image, profile=profile, tile=tile, adapt_steps=1)
        for profile, tile in TILES.items()
    }
    assert sizes["max"] <= sizes["balanced"] <= sizes["fast"]


def test_an_adapter_that_only_the_sample_pays_for_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of the whole file decide: most tiles are nothing like those of the sample."""
    monkeypatch.setattr(adapter, "SAMPLE_PIXELS", 2 * 32 * 32)
    image = np.ascontiguousarray(scene(sides=(128, 128)))
    n, count = 16, 2
    for number in [(2 * i + 1) * n // (2 * count) for i in range(count)]:
        row, column = 32 * (number // 4), 32 * (number % 4)
        image[row : row + 32, column : column + 32] = woven((32, 32), number)
    plain = stored(tmp_path, image, profile="max", tile=32, adapt_steps=0)
    assert stored(tmp_path, image, profile="max", tile=32, adapt_steps=2) <= plain


def test_a_sample_is_sure_only_of_what_all_of_it_says() -> None:
    """Gains that agree are believed; few, or ones that do not, are not; of all, the sum counts."""
    assert is_sure([10, 11, 9, 10], 16, 100)
    assert not is_sure([10, 11, 9, 10], 16, 170)
    assert not is_sure([40, 0, 0, 0], 16, 100)
    assert not is_sure([10], 2)
    assert is_sure([40, -10, 0, 0], 4, 20)
    assert not is_sure([40, -10, 0, 0], 4, 30)
