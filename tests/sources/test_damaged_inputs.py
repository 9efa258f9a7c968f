"""Damaged files of every reader: parsed to something that rebuilds them, or kept; never a crash."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import metaimageio
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import test_dicom
import test_jpeg_frames as frames
import test_jpeg_tiles
import tifffile
from PIL import Image
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from archiver.sources import Format, parse, rebuild
from archiver.sources.jpeg2000 import blocks as jpeg2000_blocks

MOST_SECONDS = 10.0


def _pillow(format: str, **how: object) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(frames.scene(8, 3)).save(path, format, **how)


def _tiff(**how: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, frames.scene(16)[..., 0], **how)


def _frame(bits: int, syntax: str, encode: Callable[[np.ndarray], bytes]) -> Callable[[Path], None]:
    samples = frames.scene(bits)
    return lambda path: frames.write(path, encode(samples), samples, syntax, fragments=2)


def _codestream(samples: np.ndarray) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(samples[..., 0], level=0, codecformat="j2k"))


def _rle(path: Path) -> None:
    test_dicom.write(path, frames.scene(16)[None, ..., 0], ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)


def _nifti(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        voxels = np.stack([frames.scene(12)[..., 0]] * 3, 2)
        nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(path.with_name(name))
        path.with_name(name).rename(path)

    return write


def _beside(name: str, image: type) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        voxels = np.stack([frames.scene(12)[..., 0]] * 3, 2)
        image(voxels.astype(np.int16), np.eye(4)).to_filename(path.with_name(name))
        path.with_name(name).rename(path)

    return write


def _nrrd(encoding: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        voxels = np.stack([frames.scene(12)[..., 0]] * 3)
        nrrd.write(str(path.with_name("a.nrrd")), voxels, header={"encoding": encoding})
        path.with_name("a.nrrd").rename(path)

    return write


def _metaimage(compressed: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        voxels = np.stack([frames.scene(12)[..., 0]] * 3)
        metaimageio.write(path.with_name("a.mha"), voxels, CompressedData=compressed)
        path.with_name("a.mha").rename(path)

    return write


def _planes(path: Path) -> None:
    np.save(path.with_name("a.npy"), frames.scene(12, sides=(800, 8)).reshape(-1, 8, 8))
    path.with_name("a.npy").rename(path)


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, frames.scene(8, 3))


WRITERS: dict[str, Callable[[Path], object]] = {
    "png": _pillow("PNG"),
    "bmp": _pillow("BMP"),
    "ppm": _pillow("PPM"),
    "jpeg": _pillow("JPEG", quality=85),
    "tiff lzw": _tiff(compression="lzw"),
    "tiff zlib tiles": _tiff(compression="zlib", tile=(32, 32), predictor=True),
    "tiff floats": lambda path: tifffile.imwrite(
        path, frames.scene(12)[..., 0].astype(np.float32), compression="zlib", predictor=True
    ),
    "tiff pages": lambda path: tifffile.imwrite(path, frames.scene(8, 3)[..., 0], bigtiff=True),
    "slide": lambda path: test_jpeg_tiles.write(path, "tiles of YCbCr"),
    "strips": lambda path: test_jpeg_tiles.write(path, "strips with shared tables"),
    "dicom": lambda path: test_dicom.write(
        path, frames.scene(16)[None, ..., 0], ExplicitVRLittleEndian
    ),
    "dicom rle": _rle,
    "tiff packbits": _tiff(compression="packbits", rowsperstrip=16),
    "lossless jpeg": _frame(16, JPEGLosslessSV1, lambda s: frames.lossless_jpeg(s, 16, 1)),
    "jpeg-ls": _frame(16, JPEGLSLossless, lambda s: bytes(imagecodecs.jpegls_encode(s[..., 0]))),
    "nifti": _nifti("a.nii"),
    "nifti gzip": _nifti("a.nii.gz"),
    "npy": _npy,
    "tiny planes": _planes,
    "nrrd": _nrrd("raw"),
    "nrrd gzip": _nrrd("gzip"),
    "metaimage": _metaimage(False),
    "metaimage zlib": _metaimage(True),
    "mgh": _beside("a.mgh", nibabel.MGHImage),
    "mgz": _beside("a.mgz", nibabel.MGHImage),
    "bare jpeg-ls": lambda path: path.write_bytes(
        bytes(imagecodecs.jpegls_encode(frames.scene(8)[..., 0]))
    ),
    "jpeg 2000": _pillow("JPEG2000", num_resolutions=3),
    "jpeg 2000 frames": _frame(16, JPEG2000Lossless, _codestream),
    "tiff jpeg 2000": _tiff(
        compression="jpeg2000", compressionargs={"level": 0, "reversible": True}, tile=(32, 32)
    ),
    "jpeg frames": _frame(
        8, JPEGBaseline8Bit, lambda s: bytes(imagecodecs.jpeg8_encode(s[..., 0]))
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """Compile the loops: the time of that is not the files'."""
    jpeg2000_blocks.encode(np.ones((4, 4), np.int32), jpeg2000_blocks.Band.LL, 0, 1, 1)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return data with some bytes changed, removed or cut off; half of it near the beginning."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if len(out) < 60:
            break
        at = rng.randrange(len(out) if rng.random() < 0.5 else min(len(out), 1500))
        what = rng.random()
        if what < 0.7:
            out[at] = rng.randrange(256)
        elif what < 0.8:
            out[at : at + 4] = bytes(rng.choice((0, 1, 127, 255)) for _ in range(4))
        elif what < 0.9:
            del out[at : at + rng.randrange(1, 50)]
        else:
            del out[max(10, at) :]
    return bytes(out)


def check(path: Path) -> Format:
    """Parse a file: what has images gives it back, and reads or raises, in time."""
    began = time.monotonic()
    parsed = parse(path)
    if parsed.format is not Format.OPAQUE:
        rebuilt = b"".join(rebuild(parsed.format, parsed.residue, parsed.images))
        assert rebuilt == path.read_bytes()
    assert time.monotonic() - began < MOST_SECONDS
    return parsed.format


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_are_taken_apart_or_kept(name: str, tmp_path: Path) -> None:
    run(name, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WRITERS)
def test_many_damaged_files(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run(name, tmp_path, int(request.config.getoption("--damages")))


def run(name: str, folder: Path, n: int) -> None:
    """Damage a file in so many ways."""
    path, rng = folder / "x", random.Random(n)
    WRITERS[name](path)
    data = path.read_bytes()
    assert check(path) is not Format.OPAQUE
    for _ in range(n):
        path.write_bytes(damaged(data, rng))
        check(path)
