"""The sample that models are tuned and judged by: bounded, fair, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archiver.pipeline.write import dataset_sample
from archiver.pipeline.write.dataset_sample import Limits


def make(folder: Path, sides: list[int]) -> list[tuple[Path, int]]:
    """Write one image a side, of noise, and return paths and sizes."""
    rng = np.random.default_rng(1)
    files = []
    for i, side in enumerate(sides):
        path = folder / f"{i}.bmp"
        Image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8)).save(path)
        files.append((path, path.stat().st_size))
    return files


def draw(files: list[tuple[Path, int]], /, **limits: object) -> dataset_sample.Sample:
    """Draw a sample with tiles of 16."""
    total = sum(size for _, size in files)
    return dataset_sample.draw(files, total, tile=16, limits=Limits(**limits))


@pytest.mark.parametrize("sides", [[64], [16, 16], [48, 96, 16], [32] * 30])
def test_what_is_held_out_stands_for_all(tmp_path: Path, sides: list[int]) -> None:
    """Scaled, it has the pixels of the dataset; something is left to learn from."""
    sample = draw(make(tmp_path, sides))
    pixels = sum(side * side for side in sides)
    assert sample.pixels == pytest.approx(pixels)
    area = sum(t.scale * t.samples.shape[0] * t.samples.shape[1] for t in sample.held_out)
    assert area == pytest.approx(pixels)
    assert sum(sample.as_is.values()) == pytest.approx(3 * pixels, rel=0.1)
    assert sample.learned_from
    if len(sides) == 30:
        assert not {t.file for t in sample.held_out} & {t.file for t in sample.learned_from}


def test_one_tile_cannot_be_shared(tmp_path: Path) -> None:
    """Nothing is held out of a single tile, so no model is judged by what it was tuned on."""
    assert not draw(make(tmp_path, [16])).held_out


def test_limits_hold(tmp_path: Path) -> None:
    """Files, bytes and pixels are bounded; what was not read is accounted for."""
    files = make(tmp_path, [64] * 30)
    assert len(draw(files, files=7).paths) == 7
    assert len(draw(files, input_bytes=50_000, share=100).paths) == 4
    sample = draw(files, pixels=(1, 10_000))
    assert 9_000 < sum(t.samples.shape[0] * t.samples.shape[1] for t in sample.tiles) < 20_000
    assert sample.pixels == pytest.approx(30 * 64 * 64, rel=0.05)
    assert dataset_sample.shortlist(1000, limits=Limits(visits=5)) == dataset_sample.shortlist(
        1000, limits=Limits(visits=5)
    )


def test_the_same_files_give_the_same_sample(tmp_path: Path) -> None:
    """Tiles and marks are equal from one time to the next."""
    files = make(tmp_path, [64] * 12)
    first, second = draw(files, pixels=(1, 9_000)), draw(files, pixels=(1, 9_000))
    for one, other in zip(first.tiles, second.tiles, strict=True):
        assert (one.file, one.scale, one.is_held_out) == (
            other.file,
            other.scale,
            other.is_held_out,
        )
        np.testing.assert_array_equal(one.samples, other.samples)


def test_what_is_no_image_or_a_copy_counts_as_nothing_to_save(tmp_path: Path) -> None:
    """Text, a copy and a lost file leave the estimate of what models could code right."""
    files = make(tmp_path, [64, 64])
    for name, data in (("a.txt", b"x" * 12_342), ("copy.bmp", files[0][0].read_bytes())):
        (tmp_path / name).write_bytes(data)
        files.append((tmp_path / name, len(data)))
    files.append((tmp_path / "lost.bmp", 12_342))
    sample = draw(files)
    assert len(sample.paths) == 2
    assert sample.pixels == pytest.approx(2 * 64 * 64, rel=0.01)
