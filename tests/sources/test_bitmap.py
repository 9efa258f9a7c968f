"""BMP and PNM: samples are the pixels in RGB order, top down, whatever the file does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from archiver.sources import Format, parse, rebuild


def check(path: Path) -> np.ndarray:
    """Parse, expect samples, rebuild the very bytes."""
    parsed = parse(path)
    assert parsed.format is Format.BITMAP
    assert b"".join(rebuild(parsed.format, parsed.residue, parsed.images)) == path.read_bytes()
    return parsed.images[0].read()


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
@pytest.mark.parametrize("suffix", ["bmp", "ppm"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (700, 901)])
def test_pillow(tmp_path: Path, mode: str, suffix: str, shape: tuple[int, int]) -> None:
    """What Pillow writes is rebuilt, and the samples are what Pillow reads."""
    rng = np.random.default_rng(1)
    colour = Pillow.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
    picture = colour.convert(mode)
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    expected = np.asarray(picture).reshape(*shape, -1)
    if (mode, suffix) == ("1", "ppm"):
        expected = ~expected  # PBM: one is black
    np.testing.assert_array_equal(check(path), expected)


def test_top_down_and_row_padding(tmp_path: Path) -> None:
    """A top-down BMP with garbage between its rows comes back with the garbage."""
    path = tmp_path / "a.bmp"
    Pillow.fromarray(np.arange(45, dtype=np.uint8).reshape(3, 5, 3)).save(path)
    data = bytearray(path.read_bytes())
    data[22:26] = (-3).to_bytes(4, "little", signed=True)
    data[54 + 15] = 99
    path.write_bytes(data)
    np.testing.assert_array_equal(check(path)[0, 0], [32, 31, 30][::-1])


def test_pgm_of_16_bits_with_comment(tmp_path: Path) -> None:
    """Comments in the header and big-endian samples of 16 bits are understood."""
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 # made by hand\n2 1\n65535\n\x01\x02\x03\x04rest")
    np.testing.assert_array_equal(check(path)[..., 0], [[0x102, 0x304]])


@pytest.mark.parametrize("data", [b"BM", b"BM" + bytes(60), b"P6 9 9 255 ", b"P5\n", b"P4 0 0\n"])
def test_damaged(tmp_path: Path, data: bytes) -> None:
    """Headers that are cut off or promise more than there is leave the file as it is."""
    path = tmp_path / "a.bmp"
    path.write_bytes(data)
    assert parse(path).format is Format.OPAQUE
