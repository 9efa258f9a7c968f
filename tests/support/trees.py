"""A small tree with a bit of everything, and what must come back of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import FileMetaDataset


def make_tree(root: Path, n_images: int = 3) -> Path:
    """Write the tree below ``root``; the same bytes every time."""
    rng = np.random.default_rng(7)
    (root / "slides" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    for i in range(n_images):
        Image.fromarray(blob(rng, 40 + i, 50)).save(root / "slides" / f"{i}.png")
        tifffile.imwrite(root / "slides" / f"{i}.tif", blob(rng, 33, 20 + i), metadata=None)
    grey = (np.arange(30 * 31).reshape(30, 31) * 17).astype(np.uint16)
    tifffile.imwrite(root / "slides" / "deep" / "grey16.tif", grey, metadata=None)
    (root / "copy.png").write_bytes((root / "slides" / "0.png").read_bytes())
    (root / "notes.txt").write_text("stained on Monday\n" * 40, encoding="utf-8")
    (root / "nothing").write_bytes(b"")
    (root / "broken.png").write_bytes((root / "copy.png").read_bytes()[:200])
    (root / os.fsdecode(b"odd \xff name")).write_bytes(b"\x00\x01\x02")
    (root / "link").symlink_to("slides/../notes.txt")
    (root / "dangling").symlink_to("nowhere")
    (root / "notes.txt").chmod(0o640)
    os.utime(root / "notes.txt", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    return root


def blob(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a small RGB image with structure and noise."""
    y, x = np.mgrid[:height, :width]
    base = np.stack([x * 3 + y, y * 4, x + 2 * y], axis=-1)
    return ((base + rng.integers(0, 9, base.shape)) % 256).astype(np.uint8)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Return everything that must come back: kind, mode, time, content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()), status.st_mtime_ns)
        elif path.is_dir():
            found[name] = ("directory", status.st_mode, status.st_mtime_ns)
        else:
            found[name] = ("file", status.st_mode, status.st_mtime_ns, path.read_bytes())
    return found


def unplanned(stream: bytes) -> bytes:
    """Return a zlib stream that no plan gives: of an empty block whose padding is not zero."""
    return stream[:2] + b"\xf8\x00\x00\xff\xff" + stream[2:]


def dicom_dataset(frames: np.ndarray, syntax: str) -> pydicom.Dataset:
    """Return a dataset for frames (F, H, W) or (F, H, W, C), without its pixels."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.3", "1.2.3.4"
    bits, is_rgb = 8 * frames.dtype.itemsize, frames[0, 0, 0].size == 3
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.NumberOfFrames, dataset.SamplesPerPixel = len(frames), frames[0, 0, 0].size
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(frames.dtype.kind == "i")
    dataset.PhotometricInterpretation = "RGB" if is_rgb else "MONOCHROME2"
    if is_rgb:
        dataset.PlanarConfiguration = 0
    return dataset
