"""Many tiny planes are one image: the bytes come back, in seconds and in little memory."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from test_volumes import AFFINE, check
from trees import dicom_dataset

from archiver.sources import Format, parse
from archiver.sources.segmented import planes

CASE = Path(__file__).parents[3] / "shared" / "cases" / "mem_ts_7200_slices_of_8x8.nii"


def series(*shape: int) -> np.ndarray:
    """Volumes (T, D, H, W) of structure that stays, and noise that does not."""
    rng = np.random.default_rng(1)
    still = rng.normal(500, 60, shape[1:])
    return (still + rng.normal(0, 4, shape)).astype(np.int16)


def test_rows_of_a_time_series_are_volumes(tmp_path: Path) -> None:
    """Where volumes predict each other best, a row is a volume, and samples keep their order."""
    voxels = series(300, 5, 8, 7)
    nibabel.Nifti1Image(voxels.T, AFFINE).to_filename(tmp_path / "a.nii")
    [image] = check(tmp_path / "a.nii", Format.NIFTI).images
    assert image.shape == (300, 5 * 8 * 7, 1)
    assert np.array_equal(image.read().reshape(voxels.shape), voxels)


def test_rows_of_smooth_planes_are_rows(tmp_path: Path) -> None:
    """Where rows of planes predict each other best, the image is a stack of planes."""
    rng = np.random.default_rng(1)
    level = rng.integers(0, 20_000, (500, 1, 1))
    voxels = (level + np.arange(16)[:, None] * 40 + np.arange(16) * 30).astype(np.int16)
    np.save(tmp_path / "a.npy", voxels)
    [image] = check(tmp_path / "a.npy", Format.NUMPY).images
    assert image.shape == (500 * 16, 16, 1)
    assert np.array_equal(image.read().reshape(voxels.shape), voxels)


def test_arrays_of_many_small_planes_are_images(tmp_path: Path) -> None:
    """One plane of 6 x 5 is no image; many of them are."""
    voxels = series(80, 3, 6, 5)
    np.save(tmp_path / "a.npy", voxels)
    [image] = check(tmp_path / "a.npy", Format.NUMPY).images
    assert image.shape == (80, 90, 1)
    np.save(tmp_path / "a.npy", voxels[:1])
    assert "is no image" in parse(tmp_path / "a.npy").note


@pytest.mark.parametrize("dtype", ["u1", "i1", ">u2", "<i4", "<f4", "<f8"])
def test_every_type_of_tiny_planes(tmp_path: Path, dtype: str) -> None:
    """Floats that are no numbers do not disturb the choice of rows."""
    array = (series(1, 100, 9, 11)[0] % 100).astype(dtype)
    if array.dtype.kind == "f":
        array[0, 0, :3] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "a.npy", array)
    [image] = check(tmp_path / "a.npy", Format.NUMPY).images
    assert np.array_equal(
        image.read().reshape(array.shape), array, equal_nan=array.dtype.kind == "f"
    )


def test_colours_of_tiny_planes(tmp_path: Path) -> None:
    """Channels of a pixel stay together."""
    array = (series(100, 8, 8, 3) % 200).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    [image] = check(tmp_path / "a.npy", Format.NUMPY).images
    assert image.channels == 3
    assert np.array_equal(image.read().reshape(array.shape), array)


@pytest.mark.parametrize("shape", [(planes.MANY - 1, 8, 8), (planes.MANY, 33, 32)])
def test_few_or_larger_planes_are_images_each(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A plane of more than 1024 samples, or one of less than 64, is an image."""
    np.save(tmp_path / "a.npy", series(1, *shape)[0])
    assert len(check(tmp_path / "a.npy", Format.NUMPY).images) == shape[0]


def write_pages(path: Path, frames: np.ndarray, **how: object) -> None:
    """Write a TIFF whose pages do not follow each other."""
    with tifffile.TiffWriter(path) as writer:
        for frame in frames:
            writer.write(frame, contiguous=False, metadata=None, **how)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits"])
def test_tiny_pages_of_tiff_are_a_stack(tmp_path: Path, compression: str | None) -> None:
    """One below the other, whatever lies between them and however they are compressed."""
    frames = series(1, 70, 9, 8)[0].astype(np.uint16)
    write_pages(tmp_path / "a.tif", frames, compression=compression)
    [image] = check(tmp_path / "a.tif", Format.TIFF).images
    assert image.shape == (70 * 9, 8, 1)
    assert np.array_equal(image.read().reshape(frames.shape), frames)
    assert np.array_equal(image.window(13, 2, 20, 5), image.read()[13:33, 2:7])


def test_pages_of_other_kinds_stay_images(tmp_path: Path) -> None:
    """A large page among tiny ones, and tiny ones of two shapes, are not mixed up."""
    frames = series(1, 140, 9, 8)[0].astype(np.uint16)
    pages = [*frames[:70], series(1, 1, 60, 60)[0, 0].astype(np.uint16)]
    pages += [frame[:5] for frame in frames[70:]]
    write_pages(tmp_path / "a.tif", pages)  # type: ignore[arg-type]
    images = check(tmp_path / "a.tif", Format.TIFF).images
    assert [image.shape for image in images] == [(630, 8, 1), (60, 60, 1), (350, 8, 1)]
    assert np.array_equal(images[2].read().reshape(70, 5, 8), frames[70:, :5])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_tiny_frames_of_dicom_are_one_image(tmp_path: Path, syntax: str) -> None:
    """Native frames in the order of the file, compressed ones as a stack."""
    frames = series(1, 90, 8, 8)[0].astype(np.uint16)
    dataset = dicom_dataset(frames, ExplicitVRLittleEndian)
    dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    [image] = check(tmp_path / "a.dcm", Format.DICOM).images
    assert np.array_equal(image.read().reshape(frames.shape), frames)
    assert np.array_equal(pydicom.dcmread(tmp_path / "a.dcm").pixel_array, frames)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_tens_of_thousands_of_planes_take_no_time(tmp_path: Path, side: int) -> None:
    """A file of a megabyte is taken apart in a second and in some megabytes, whatever its planes.

    It took half a minute and a gigabyte, and was then kept as it was.
    """
    voxels = series(1000, 512 // side**2, side, side)
    nibabel.Nifti1Image(voxels.T, AFFINE).to_filename(tmp_path / "a.nii")
    check(tmp_path / "a.nii", Format.NIFTI)  # imports
    tracemalloc.start()
    began = time.process_time()
    parsed = parse(tmp_path / "a.nii")
    took = time.process_time() - began
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert len(parsed.images) == 1
    assert took < 3


def test_planes_that_a_header_only_claims_are_not_made(tmp_path: Path) -> None:
    """Millions of planes of nothing cost nothing."""
    nibabel.Nifti1Image(series(3, 2, 8, 8).T, AFFINE).to_filename(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[40:56] = np.array((7, 1, 1, 32767, 32767, 32767, 32767, 32767), "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    began = time.process_time()
    parsed = parse(tmp_path / "a.nii")
    assert parsed.format is Format.OPAQUE
    assert "planes" in parsed.note
    assert time.process_time() - began < 1


@pytest.mark.beside("cases")
def test_a_time_series_is_predicted_from_its_past() -> None:
    """A row of the series of 900 volumes is a volume."""
    [image] = check(CASE, Format.NIFTI).images
    assert image.shape == (900, 512, 1)
