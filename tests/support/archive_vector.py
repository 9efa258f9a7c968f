"""Make the golden archive: a small tree with a file of every kind, packed on two nights."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian
from trees import dicom_dataset

from archiver.jobs import run
from archiver.jobs.spec import PackSettings


def write_archive(folder: Path, samples: Mapping[str, np.ndarray]) -> None:
    """Pack a small tree in two generations; write the digests of its files beside it."""
    if folder.exists():
        return
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        grow_tree(tree, samples)
        settings = PackSettings(profile="fast", workers=0, tile=16)
        run.pack(tree, folder / "example.archive", settings, lambda _: None)
        (tree / "added.txt").write_text("the second night\n")
        shutil.rmtree(tree / "gone")
        run.pack(tree, folder / "example.archive", settings, lambda _: None)
        shutil.rmtree(folder / "example.archive" / "wip")
        (folder / "example.archive" / "lock").unlink()  # it names a machine
        files = sorted(p for p in tree.rglob("*") if p.is_file())
        digests = {
            str(p.relative_to(tree)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        }
    (folder / "sha256.json").write_text(json.dumps(digests, indent=1) + "\n")


def write_dicom(path: Path) -> None:
    """Write a slice of which 12 bits count, with sign, and a bit above them is set."""
    y, x = np.mgrid[:40, :48]
    samples = ((300 * np.sin(y / 7) + 8 * x + y % 3).astype(np.int16) & 0x0FFF) | 0x4000
    dataset = dicom_dataset(samples[None].astype(np.int16), ExplicitVRLittleEndian)
    dataset.BitsStored, dataset.HighBit, dataset.PixelData = 12, 11, samples.tobytes()
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def grow_tree(tree: Path, samples: Mapping[str, np.ndarray]) -> None:
    """Write one small file of every kind that version 0.1.0 takes apart."""
    rgb, grey = samples["01-rgb-ramp"], samples["02-grey-ramp"][..., 0]
    Image.fromarray(rgb).save(tree / "ramp.bmp")
    Image.fromarray(np.tile(rgb, (3, 1, 1))).save(tree / "ramp.png")
    Image.fromarray(rgb).save(tree / "ramp.jpg", quality=90)
    Image.fromarray(grey).save(tree / "grey.bmp")
    Image.fromarray(rgb).quantize(16).save(tree / "palette.png")
    (tree / "deep").mkdir()
    tifffile.imwrite(tree / "deep" / "pages.tif", np.stack([grey, grey // 2]), compression="zlib")
    tifffile.imwrite(tree / "deep" / "wide.tif", samples["09-grey-16"][..., 0])
    write_dicom(tree / "deep" / "slice.dcm")
    (tree / "deep" / "notes.txt").write_text("kept as it is\n")
    (tree / "empty").mkdir()
    (tree / "link").symlink_to("deep/notes.txt")
    (tree / "again.txt").hardlink_to(tree / "deep" / "notes.txt")
    (tree / "gone" / "deep").mkdir(parents=True)
    (tree / "gone" / "deep" / "notes.txt").write_text("of the first night alone\n")
    with (tree / "holes").open("wb") as file:
        file.truncate(1 << 16)
