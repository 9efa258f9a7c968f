"""What the manifest has no place for is found while a file is packed, never at the commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from archiver.archive.shard import ShardWriter
from archiver.image import Image
from archiver.pipeline import Packed, pack_files
from archiver.pipeline.write import rows


def image(height: int, channels: int, dtype: str, bit_depth: int) -> Image:
    """Return an image of any shape and type, without samples."""
    return Image(height, 5, channels, np.dtype(dtype), bit_depth, lambda *_: np.zeros(0))


@pytest.mark.parametrize(
    ("shape", "is_fine"),
    [
        ((1 << 31, 3, "<u2", 12), True),
        ((7, 3, ">f4", 32), True),
        ((1 << 32, 1, "|u1", 8), False),
        ((7, (1 << 16) + 1, "|u1", 8), False),
        ((7, 1, "<c8", 64), False),
        ((7, 1, "|u1", 0), False),
        ((7, 1, "<u8", 65), False),
    ],
)
def test_images_without_a_place(shape: tuple[int, int, str, int], is_fine: bool) -> None:
    """A side of 2^32, 65 537 channels, complex samples or no bits at all cannot be recorded."""
    assert (rows.unrecordable(image(*shape)) == "") == is_fine


def test_a_file_with_such_an_image_is_kept_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the whole job at its commit; now it is opaque, and says why."""
    monkeypatch.setattr(rows, "_MAX_CHANNELS", 2)
    Picture.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "a.archive" / "wip").mkdir(parents=True)
    (tmp_path / "a.archive" / "shards").mkdir()
    with ShardWriter(tmp_path / "a.archive") as shard:
        [packed] = pack_files([tmp_path / "a.png"], shard, [])
    assert isinstance(packed, Packed)
    assert packed.record is not None
    assert not packed.record.images
    assert packed.record.note == "PNG: an image of 30 x 40 x 3 samples"
