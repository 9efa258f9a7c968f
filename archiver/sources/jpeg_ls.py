"""Bare JPEG-LS and lossless JPEG: one frame as DICOM has them, from samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from archiver.sources.contract import MAX_WHOLE_BYTES, Fidelity, Split, Unsupported
from archiver.sources.segmented import find_recipes, jpeg_frames
from archiver.sources.segmented.encodings import Compression
from archiver.sources.segmented.geometry import Geometry
from archiver.sources.segmented.segments import Page


def is_jpeg_ls(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is JPEG-LS, as far as its first markers tell."""
    frame = jpeg_frames.frame_of(head)
    return frame is not None and frame[0] == jpeg_frames.SOF_LS


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a file of one frame, or raise Unsupported."""
    size = path.stat().st_size
    if size > MAX_WHOLE_BYTES:
        raise Unsupported("JPEG-LS: too large to hold in memory")
    return find_recipes.split(path, [page(path.read_bytes())], fidelity=fidelity)


def page(data: bytes) -> Page:
    """Return a stream as the one segment of an image, or raise Unsupported."""
    header = jpeg_frames.Header.of(data)
    height, width, channels = header.shape
    bits = 8 * header.dtype.itemsize
    geometry = Geometry(height, width, channels, height, width, bits)
    if not geometry.is_sound:
        raise Unsupported(f"a lossless JPEG of {height} x {width} x {channels}")
    at, length = np.array([0], np.int64), np.array([len(data)], np.int64)
    return Page(geometry, Compression.JPEG_LS, at, length)
