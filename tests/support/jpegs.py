"""JPEG files in the making, and what their decoders make of them."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from archiver.codec.jpeg.baseline import Header, Parts
from archiver.codec.jpeg.t81 import segment
from archiver.codec.transforms.from_jpeg.pixels import Coefficients, Mode


def scene(channels: int = 3, sides: tuple[int, int] = (190, 210), seed: int = 1) -> np.ndarray:
    """Return blobs of colour with grain, as tissue has."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(30, 226, (14, 15, 3), np.uint8))
    smooth = np.asarray(small.resize(sides[::-1], Image.Resampling.BICUBIC)).astype(np.float64)
    grain = rng.normal(0, 6, (*sides, 1))
    return (smooth + grain).clip(0, 255).astype(np.uint8)[..., :channels]


def through_jpeg(samples: np.ndarray, quality: int, **how: object) -> np.ndarray:
    """Return what a JPEG decoder makes of samples."""
    file = io.BytesIO()
    picture = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture.save(file, "JPEG", quality=quality, **how)
    with Image.open(file) as decoded:
        return np.asarray(decoded).reshape(samples.shape)


def coefficients(mode: Mode, seed: int = 0) -> Coefficients:
    """Return coefficients by chance, of 6 x 5 MCUs."""
    rng, (down, across) = np.random.default_rng(seed), mode.factors
    planes = []
    for c in range(mode.channels):
        shape = (6, 5) if c else (6 * down, 5 * across)
        plane = rng.integers(-7, 8, (*shape, 8, 8)) * (rng.random((*shape, 8, 8)) < 0.15)
        plane[..., 0, 0] = rng.integers(-30, 31, shape)
        planes.append(plane)
    luma, chroma = rng.integers(1, 30, (8, 8)), rng.integers(1, 40, (8, 8))
    return Coefficients(mode, tuple(planes), (luma, luma if mode is Mode.GREY else chroma))


def saved(samples: np.ndarray, quality: int, mode: str | None = None, **how: object) -> bytes:
    """Return samples as a JPEG file."""
    file = io.BytesIO()
    picture = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    picture = picture.convert(mode) if mode else picture
    picture.save(file, "JPEG", quality=quality, **how)
    return file.getvalue()


def crafted(sides: tuple[int, int], factors: list[int], most: int, *, wide: bool = False) -> bytes:
    """Return a JPEG of coefficients by chance, up to ``most``, with the oddities that T.81 allows.

    A fill byte before a marker, Huffman tables of one length, ``wide`` steps of 16 bits.
    """
    rng, n = np.random.default_rng(most), len(factors)
    steps = rng.integers(1, 300 if wide else 30, 64)
    table = struct.pack(">B64H", 0x10, *steps) if wide else bytes([0, *steps])
    frame = struct.pack(">BHHB", 8, *sides, n) + bytes(
        byte for c in range(n) for byte in (c + 1, factors[c], 0)
    )
    dc = bytes([0, *bytes(4), 16, *bytes(11), *range(16)])
    symbols = [symbol for symbol in range(256) if symbol & 15 < 15]
    ac = bytes([0x10, *bytes(7), len(symbols), *bytes(8), *symbols])
    scan = bytes([n, *(byte for c in range(n) for byte in (c + 1, 0)), 0, 63, 0])
    before = b"\xff\xd8\xff" + segment(0xDB, table) + segment(0xC1, frame)
    before += segment(0xC4, dc + ac) + segment(0xDA, scan)
    header = Header.of(before)
    planes = []
    for shape in header.shapes:
        sparse = rng.integers(-most, most + 1, (*shape, 64)) * (rng.random((*shape, 64)) < 0.2)
        sparse[..., 0] = rng.integers(-most // 2, most // 2 + 1, shape)
        planes.append(sparse.astype(np.int16))
    return Parts(before, header, planes, b"\xff\xd9").to_bytes()


def jpeg_files() -> dict[str, bytes]:
    """Return a JPEG of every kind whose coefficients are coded, small ones."""
    small, rng = scene(3, (45, 61)), np.random.default_rng(3)
    noise = rng.integers(0, 256, (24, 24, 3), np.uint8)
    return {
        "grey": saved(small[..., :1], 90),
        "full": saved(small, 80, subsampling=0),
        "wide": saved(small, 50, subsampling=1),
        "quarter": saved(small, 75, subsampling=2, optimize=True),
        "rgb": saved(small, 85, keep_rgb=True),
        "cmyk": saved(small, 60, "CMYK"),
        "restarts": saved(small, 70, restart_marker_blocks=2),
        "noise": saved(noise, 100, subsampling=0, qtables=[[1] * 64] * 2),
        "flat": saved(np.full((16, 40, 3), 77, np.uint8), 75),
        "tail": saved(small[:20, :20], 30, comment=b"a comment") + b"more, after its end",
        "restarts-each": saved(small, 40, subsampling=2, restart_marker_blocks=1),
        "two": crafted((20, 30), [0x11, 0x11], 40),
        "factors": crafted((40, 20), [0x22], 300, wide=True),
        "uneven": crafted((30, 40), [0x11, 0x21, 0x11], 30),
        "apart": crafted((30, 40), [0x22, 0x21, 0x11], 30),
        "large": crafted((24, 40), [0x11, 0x11, 0x11], 16383, wide=True),
        "primed-0": saved(small[:32, :32], 75),
        "primed-1": saved(small[8:40, 24:56], 75),
        "primed-2": saved(small[10:42, 20:52], 65),
    }
