"""What ordinary files need at run time: reading them waits for no compiler and no network."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from archiver.errors import MachineError
from archiver.native import library

HEAVY = ("numba", "torch")
CODE = """
import sys
from pathlib import Path
from archiver import sources

path = Path(sys.argv[1])
parsed = sources.parse(path)
rebuilt = b"".join(sources.rebuild(parsed.format, parsed.residue, parsed.images))
assert rebuilt == path.read_bytes()
print(parsed.format.label, len(parsed.images), *sys.modules)
"""
WHOLE = """
import sys
from pathlib import Path
import archiver

top = Path(sys.argv[1])
settings = archiver.PackSettings(profile="fast", workers=0)
summary = archiver.pack(top / "tree", top / "a.archive", settings)
assert not archiver.verify(top / "a.archive", workers=0).problems
archiver.unpack(top / "a.archive", top / "out", workers=0)
assert archiver.open_archive(top / "a.archive").entry("photo.png").read((4, 5, 6, 7)).size
print(*summary.tiles, *sys.modules)
"""
PIXELS = (np.add.outer(np.arange(48), np.arange(64)) // 3 % 256).astype(np.uint8)


@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "packbits"])
def test_tiff_needs_no_compiler(tmp_path: Path, compression: str | None) -> None:
    """The loops of LZW, PackBits and deflate are in the native core."""
    tifffile.imwrite(tmp_path / "image.tif", PIXELS, compression=compression)
    assert_light(tmp_path / "image.tif", "TIFF")


def test_bitmap_needs_no_compiler(tmp_path: Path) -> None:
    """A file without compression."""
    Image.fromarray(PIXELS).save(tmp_path / "image.bmp")
    assert_light(tmp_path / "image.bmp", "bitmap")


def test_png_needs_no_compiler(tmp_path: Path) -> None:
    """A PNG by zlib, and one by zlib-ng, which comes apart by a plan."""
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    assert_light(tmp_path / "image.png", "PNG")
    noisy = PIXELS + np.random.default_rng(0).integers(0, 3, PIXELS.shape, np.uint8)
    rows = np.pad(noisy, ((0, 0), (1, 0))).tobytes()  # a filter before each: none
    head = struct.pack(">IIBBBBB", *PIXELS.shape[::-1], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", bytes(imagecodecs.zlibng_encode(rows, 6))), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    (tmp_path / "planned.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    assert_light(tmp_path / "planned.png", "PNG")


def test_fast_needs_neither_torch_nor_numba(tmp_path: Path) -> None:
    """Packing a photograph under fast, verifying, unpacking and reading it by region."""
    rng = np.random.default_rng(0)
    photo = np.clip(PIXELS[..., None] + rng.normal(0, 9, (*PIXELS.shape, 3)), 0, 255)
    (tmp_path / "tree").mkdir()
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "tree" / "photo.png")
    run = subprocess.run(
        [sys.executable, "-c", WHOLE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    tiles, *modules = run.stdout.split()
    assert tiles == "learned"
    assert not set(HEAVY) & set(modules)


def test_the_core_is_asked_for_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is said, and how to mend it: no file is kept as it is for that."""
    monkeypatch.setattr(library, "core", lambda: None)
    with pytest.raises(MachineError, match="ziglang"):
        library.required()


def assert_light(path: Path, label: str) -> None:
    """Take a file apart in a process of its own: one image, and nothing heavy was imported."""
    command = [sys.executable, "-c", CODE, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    name, n_images, *modules = run.stdout.split()
    assert (name, n_images) == (label, "1")
    assert not set(HEAVY) & set(modules)
