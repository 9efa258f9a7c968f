"""JPEG: the file is one tile, which the codec of JPEG tiles gives back to the byte.

A lossless one comes from its samples (:mod:`archiver.sources.jpeg_ls`).

It is the one segment of a segmented file (`segmented.segments`) if it has 1 or 3
components.  Of all others the residue (FORMAT.md, "Residues") is u1 layout version (1), then
libjxl's lossless transcoding, JPEG XL with JPEG bitstream reconstruction data; there are no images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from archiver import image_headers
from archiver.errors import IntegrityError, ParityError
from archiver.image import Image, Samples
from archiver.sources import jpeg_ls
from archiver.sources.contract import (
    LAYOUT_VERSION,
    MAX_WHOLE_BYTES,
    Fidelity,
    Split,
    Unsupported,
)
from archiver.sources.cursor import Cursor
from archiver.sources.segmented import find_recipes, jpeg_frames, segments
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.jpeg_tile import MAX_SCANS, SCAN, JpegTile
from archiver.sources.segmented.segments import Page

MAX_PIXELS = 1 << 26  # libjxl takes up to 20 bytes for each
MAX_TILE_PIXELS = 1 << 24  # of a file that is a tile


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Take a JPEG file as one tile, or transcode it, or raise Unsupported."""
    size = path.stat().st_size
    if size > MAX_WHOLE_BYTES:
        raise Unsupported("JPEG: too large to hold in memory")
    data = path.read_bytes()
    if jpeg_frames.is_lossless(data):
        return find_recipes.split(path, [jpeg_ls.page(data)], fidelity=fidelity)
    pixels = image_headers.jpeg_pixels(data)
    if pixels > MAX_PIXELS:
        raise Unsupported(f"JPEG: more than {MAX_PIXELS >> 20} Mpixel")
    page = _page(data) if pixels <= MAX_TILE_PIXELS else None
    if page:
        return find_recipes.split(path, [page], fidelity=fidelity)
    try:
        transcoded = bytes(imagecodecs.jpegxl_encode_jpeg(data))
    except Exception as error:
        raise Unsupported(f"JPEG: {_odd(data)}libjxl cannot transcode it") from error
    return Split((), bytes([LAYOUT_VERSION]) + transcoded)


def _odd(data: bytes) -> str:
    """Return what is unusual about a JPEG, as a word before more."""
    frame = jpeg_frames.frame_of(data)
    if frame is None:
        return ""
    return f"{frame[1]} bits, " if frame[1] != 8 else ""


def _page(data: bytes) -> Page | None:
    """Return a file as the one tile of an image; None if its samples are of another kind."""
    if data.count(SCAN) > MAX_SCANS:
        return None
    try:
        [expected] = decode(data)
        for converts in (True, False):
            decoded = JpegTile.of_segment(data, b"", converts=converts).samples()
            if decoded.shape == expected.shape and np.array_equal(decoded, expected):
                break
        else:
            return None
    except Exception:  # of other components, damaged
        return None
    height, width, channels = expected.shape
    geometry = Geometry(height, width, channels, height, width, 8, signed=False)
    if not geometry.is_sound:
        return None
    where, length = np.array([0], np.int64), np.array([len(data)], np.int64)
    return Page(geometry, Compression.JPEG, where, length, b"", jpeg_converts=converts)


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the JPEG file."""
    if images:
        yield from segments.rebuild(residue, images)
        return
    Cursor(residue, "residue of a JPEG file")
    try:
        height, width = image_headers.sides(residue[1:])
        if height * width > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels")
        yield bytes(imagecodecs.jpegxl_decode_jpeg(residue[1:], numthreads=1))
    except imagecodecs.DelayedImportError as error:
        raise ParityError(
            "imagecodecs: expected a build with libjxl, found none; install one to restore JPEGs"
        ) from error
    except Exception as error:
        raise IntegrityError(
            "residue of a JPEG file: expected JPEG XL with reconstruction data, found"
            f" {error}; the archive is damaged, run `archiver verify` on it"
        ) from error


def decode(data: bytes) -> list[Samples]:
    """Decode the samples of a JPEG file, as libjpeg-turbo does."""
    samples: Samples = imagecodecs.jpeg8_decode(data)
    return [samples[..., None] if samples.ndim == 2 else samples]
