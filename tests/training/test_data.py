"""Training data: what is read, what is left out and why, and that batches depend on the step."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from archiver.errors import UsageError
from archiver.training.data import (
    COLOUR,
    GREY,
    HIGH_DEPTH,
    Crops,
    Prefetch,
    load_domain,
    read_image,
)


def load(folder: Path, side: int = 16, limit: int = 1 << 30):  # type: ignore[no-untyped-def]
    return load_domain(folder, 1.0, side=side, seed=0, limit=limit)


def test_batches_depend_on_seed_and_step_alone(photos: Path) -> None:
    """The same step gives the same crops from another object; another seed or step does not."""
    domain = load(photos)
    first, again = (Crops([domain], side=16, batch=3, seed=1) for _ in range(2))
    other = Crops([domain], side=16, batch=3, seed=2)
    assert np.array_equal(first.draw(5, COLOUR).samples, again.draw(5, COLOUR).samples)
    assert not np.array_equal(first.draw(5, COLOUR).samples, first.draw(6, COLOUR).samples)
    assert not np.array_equal(first.draw(5, COLOUR).samples, other.draw(5, COLOUR).samples)
    assert first.draw(0, GREY).samples.shape == (3, 16, 16, 1)


@pytest.mark.parametrize("processes", [0, 2])
def test_prefetch_gives_the_batches_of_the_steps_in_order(photos: Path, processes: int) -> None:
    """Threads and processes change when a batch is drawn, not which; every fifth is grey."""
    crops = Crops([load(photos)], side=16, batch=2, seed=1)
    batches = Prefetch(
        crops, step=3, grey_share=0.2, high_depth_share=0.0, ahead=3, processes=processes
    )
    for step in range(3, 13):
        drawn, kind = batches.draw().to("cpu"), GREY if step % 5 == 4 else COLOUR
        assert drawn.kind == kind
        assert np.array_equal(drawn.samples, crops.draw(step, kind).samples)
    batches.close()


def test_crops_are_pieces_of_the_images_turned(tmp_path: Path) -> None:
    """Each crop is found in its image under one of the eight symmetries."""
    image = np.random.default_rng(3).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    crops = Crops([load(tmp_path)], side=16, batch=6, seed=0)
    windows = {image[y : y + 16, x : x + 16].tobytes() for y in range(5) for x in range(9)}
    for crop in crops.draw(0, COLOUR).samples.numpy().astype(np.uint8):
        turns = [np.rot90(f, k) for f in (crop, crop[:, ::-1]) for k in range(4)]
        assert any(np.ascontiguousarray(t).tobytes() in windows for t in turns)


def test_files_left_out_say_why(tmp_path: Path) -> None:
    """Floats, one value, too small, broken: named, with the reason; the rest is used."""
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((40, 40), np.float32))
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((40, 40), np.uint16))
    Image.new("RGB", (8, 40)).save(tmp_path / "narrow.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (tmp_path / "notes.txt").write_text("no image")
    Image.effect_noise((40, 40), 50).save(tmp_path / "good.png")
    domain = load(tmp_path)
    assert len(domain.images) == 1
    reasons = dict(reason.split(": ", 1) for reason in domain.skipped)
    assert set(reasons) == {"float.tif", "flat.tif", "narrow.png", "broken.png"}
    assert reasons["float.tif"] == "float32 samples"
    assert reasons["flat.tif"] == "one value only"
    assert "smaller than a crop" in reasons["narrow.png"]


def test_folder_without_images_is_a_usage_error(tmp_path: Path) -> None:
    """The message names the folder and what was expected there."""
    with pytest.raises(UsageError, match=r"no image to train on: expected images"):
        load(tmp_path)


def test_memory_limit_is_kept(photos: Path) -> None:
    """Images beyond the limit are left out and said so."""
    domain = load(photos, limit=20_000)
    assert sum(image.nbytes for image in domain.images) <= 20_000
    assert any("memory limit" in reason for reason in domain.skipped)


def test_lossy_files_are_halved(tmp_path: Path) -> None:
    """A JPEG comes at half its size, without its block structure; equal channels become grey."""
    Image.effect_noise((64, 48), 50).convert("RGB").save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (24, 32, 1)


def test_jpeg_and_enlarged_crops_have_the_size_asked_for(photos: Path) -> None:
    """Whatever a crop went through, it has its side, and differs from the plain one."""
    domain = load(photos)
    plain = Crops([domain], side=24, batch=8, seed=1).draw(0, COLOUR).samples
    for changed in ({"jpeg": 1.0}, {"resized": 1.0}):
        crops = Crops([domain], side=24, batch=8, seed=1, **changed)
        drawn = crops.draw(0, COLOUR).samples
        assert drawn.shape == plain.shape
        assert np.array_equal(drawn, crops.draw(0, COLOUR).samples)
        assert not np.array_equal(drawn, plain)


def test_planar_and_flat_images_are_read(tmp_path: Path) -> None:
    """Channels first become channels last; a height of 3 is not taken for channels."""
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 24), np.uint8)
    tifffile.imwrite(tmp_path / "planar.tif", image, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "planar.tif"), np.moveaxis(image, 0, 2))
    flat = image.transpose(1, 2, 0)[:3]
    Image.fromarray(np.ascontiguousarray(flat)).save(tmp_path / "flat.png")
    assert np.array_equal(read_image(tmp_path / "flat.png"), flat)


def test_high_depth_png_is_not_taken_for_8_bit(tmp_path: Path) -> None:
    """A 16-bit RGB PNG, whose low bytes Pillow drops, is left out."""
    high_depth = np.random.default_rng(0).integers(0, 1 << 16, (20, 20, 3)).astype(np.uint16)
    (tmp_path / "high.png").write_bytes(imagecodecs.png_encode(high_depth))
    with pytest.raises(ValueError, match="uint16"):
        read_image(tmp_path / "high.png")


def test_high_depth_images_are_shown_in_units_of_their_noise(tmp_path: Path) -> None:
    """Signed and unsigned planes, and crops made from colour; each crop has its own window."""
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 300, (2, 40, 50))
    tifffile.imwrite(tmp_path / "signed.tif", noise.astype(np.int16), photometric="minisblack")
    tifffile.imwrite(tmp_path / "large.tif", (40_000 + noise[0]).astype(np.uint16))
    Image.fromarray(rng.integers(0, 256, (70, 70, 3), np.uint8)).save(tmp_path / "colour.png")
    domain = load(tmp_path)
    assert [plane.shape for plane in domain.high_depth] == [(40, 50)] * 3
    crops = Crops([domain], side=16, batch=20, seed=1)
    assert [crops.kind(step, 0.2, 0.5) for step in range(4)] == 2 * [COLOUR, HIGH_DEPTH]
    batch = crops.draw(1, HIGH_DEPTH)
    assert batch.samples.shape == (20, 16, 16, 1)
    assert batch.grain is not None
    assert batch.ends is not None
    for units, grain, (low, high) in zip(batch.samples, batch.grain, batch.ends, strict=True):
        assert (low, high) == (units.min(), units.max())
        assert bool((units / grain == (units / grain).round()).all())
        assert 0.5 < float(units.std()) < 60
    assert Crops([load(tmp_path)], side=16, batch=2, seed=1).kind(0, 0.2, 0.0) == COLOUR
