"""Samples of DICOM as an archive gives them: whole, by regions, and as it describes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from trees import dicom_dataset

from archiver.codec.model import pretrained
from archiver.jobs import run
from archiver.jobs.spec import PackSettings
from archiver.pipeline import OpenArchive, open_archive

BOXES = [(0, 0, 120, 160), (3, 5, 41, 43), (7, 6, 99, 120), (119, 159, 1, 1)]


def write(path: Path, frames: np.ndarray, **header: object) -> None:
    """Write one frame with other elements than its samples have by themselves."""
    dataset = dicom_dataset(frames, ExplicitVRLittleEndian)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    if "PixelData" not in dataset:
        dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames with unused bits, of native 4:2:2, in YCbCr, and of one bit."""
    source = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:120, :160]
    wave = np.sin(y / 9) + np.cos(x / 14)
    deep = (900 * wave).astype(np.int16) & 0x0FFF | 0x4000
    write(source / "signed.dcm", deep[None].astype(np.int16), BitsStored=12, HighBit=11)
    bytes_ = (60 * wave + 128).astype(np.uint8)
    colour = np.stack([bytes_, 255 - bytes_, bytes_ // 2], axis=-1)[None]
    colour = colour + rng.integers(0, 4, colour.shape).astype(np.uint8)
    write(source / "ybr.dcm", colour, PhotometricInterpretation="YBR_FULL")
    half = bytes_[:, ::2]
    pairs = np.dstack([half, half + 1, 255 - half, half // 2]).tobytes()
    write(source / "422.dcm", colour, PhotometricInterpretation="YBR_FULL_422", PixelData=pairs)
    bits = np.packbits(
        (wave + rng.random(wave.shape) / 4 > 0.3).astype(np.uint8).reshape(-1), bitorder="little"
    ).tobytes()
    how = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": bits}
    write(source / "bits.dcm", colour[..., 0], **how)
    return source


@pytest.fixture(scope="module")
def archive(
    source: Path, tiny_model: bytes, tmp_path_factory: pytest.TempPathFactory
) -> OpenArchive:
    """An archive of them."""
    path = tmp_path_factory.mktemp("archive") / "a.archive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "load", lambda name: tiny_model)
        run.pack(source, path, PackSettings(profile="fast", workers=0, tile=64), lambda _: None)
    return open_archive(path)


@pytest.mark.parametrize("name", ["signed.dcm", "ybr.dcm", "422.dcm", "bits.dcm"])
def test_regions_are_those_of_pydicom(archive: OpenArchive, source: Path, name: str) -> None:
    """Bits that are not used, colours and their halves are read right at every place."""
    expected = pydicom.dcmread(source / name).pixel_array
    expected = expected[..., None] if expected.ndim == 2 else expected
    entry = archive.entry(name)
    assert entry.format == "DICOM", entry.note
    assert entry.images[0].shape == expected.shape
    assert entry.images[0].dtype == expected.dtype
    np.testing.assert_array_equal(entry.read(), expected)
    for row, column, height, width in BOXES:
        window = expected[row : row + height, column : column + width]
        np.testing.assert_array_equal(entry.read((row, column, height, width)), window)
    assert b"".join(entry.chunks()) == (source / name).read_bytes()
