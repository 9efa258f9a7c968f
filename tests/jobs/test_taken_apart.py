"""What is found inside files, over a whole archive: JPEGs in samples, one image in two codecs."""

from __future__ import annotations

import filecmp
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from jpegs import scene, through_jpeg
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless
from trees import dicom_dataset

from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import OpenArchive, open_archive


def packed(tmp_path: Path) -> OpenArchive:
    """Pack and unpack tmp_path/source; expect the same bytes; return the archive."""
    settings = PackSettings(workers=0, profile="fast")
    assert not run.pack(tmp_path / "source", tmp_path / "a.archive", settings).failures
    run.unpack(tmp_path / "a.archive", tmp_path / "out", workers=0)
    for path in (tmp_path / "source").iterdir():
        assert filecmp.cmp(path, tmp_path / "out" / path.name, shallow=False), path.name
    return open_archive(tmp_path / "a.archive")


def test_patches_of_a_jpeg(tmp_path: Path) -> None:
    """They take a fraction of their files, come back, and are read by region."""
    (tmp_path / "source").mkdir()
    samples = through_jpeg(scene(sides=(300, 310)), 75)[7:, 3:]
    Image.fromarray(samples).save(tmp_path / "source" / "a.png")
    entry = packed(tmp_path).entry("a.png")
    assert entry.stored_bytes < entry.size / 2
    np.testing.assert_array_equal(entry.read((130, 140, 99, 60)), samples[130:229, 140:200])


@pytest.mark.slow
def test_one_image_under_two_lossless_codecs_is_stored_once(tmp_path: Path) -> None:
    """A copy under JPEG 2000 costs its header and a plan."""
    (tmp_path / "source").mkdir()
    samples = scene(1, (200, 210))[..., 0].astype(np.uint16) * 9
    streams = {
        JPEGLSLossless: bytes(imagecodecs.jpegls_encode(samples)),
        JPEG2000Lossless: bytes(imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k")),
    }
    for number, (syntax, stream) in enumerate(streams.items()):
        dataset = dicom_dataset(samples[None, ..., None], syntax)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        path = tmp_path / "source" / f"{number}.dcm"
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    archive = packed(tmp_path)
    tiles = [archive.entry(f"{number}.dcm").images[0].stored_bytes for number in range(2)]
    shards = sum(path.stat().st_size for path in (tmp_path / "a.archive" / "shards").iterdir())
    assert tiles[0] == tiles[1]
    assert shards < tiles[0] + 4000
