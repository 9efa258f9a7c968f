"""Own JPEG: kept as libjxl's lossless transcoding, which gives the very file back.

Residue (FORMAT.md, "Residue of JPEG"): u1 layout version (1), then a JPEG XL file with JPEG
bitstream reconstruction data.  There are no images: the samples are what the JPEG decodes to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import imagecodecs

from archiver import jpegxl_sides
from archiver.errors import IntegrityError, ParityError
from archiver.image import Image, Samples
from archiver.sources.contract import (
    LAYOUT_VERSION,
    MAX_WHOLE_BYTES,
    Fidelity,
    Split,
    Unsupported,
)
from archiver.sources.wire import Cursor

MAX_PIXELS = 1 << 26  # libjxl takes up to 20 bytes for each


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Transcode a JPEG file, or raise Unsupported."""
    if path.stat().st_size > MAX_WHOLE_BYTES:
        raise Unsupported("JPEG: too large to hold in memory")
    data = path.read_bytes()
    try:
        if jpegxl_sides.jpeg_pixels(data) > MAX_PIXELS:
            raise Unsupported(f"JPEG: more than {MAX_PIXELS >> 20} Mpixel")
        transcoded = bytes(imagecodecs.jpegxl_encode_jpeg(data))
    except Unsupported:
        raise
    except Exception as error:
        raise Unsupported("JPEG: libjxl cannot transcode it") from error
    return Split((), bytes([LAYOUT_VERSION]) + transcoded)


def rebuild(residue: bytes, images: Sequence[Image]) -> Iterator[bytes]:
    """Yield the bytes of the JPEG file."""
    cursor = Cursor(residue, "residue of a JPEG file")
    if images:
        raise cursor.damaged("no images", len(images))
    try:
        height, width = jpegxl_sides.sides(residue[1:])
        if height * width > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels")
        yield bytes(imagecodecs.jpegxl_decode_jpeg(residue[1:], numthreads=1))
    except imagecodecs.DelayedImportError as error:
        raise ParityError(
            "imagecodecs: expected a build with libjxl, found none; install one to restore JPEGs"
        ) from error
    except Exception as error:
        raise IntegrityError(
            f"residue of a JPEG file: expected JPEG XL with reconstruction data, found {error};"
            " the archive is damaged, run `archiver verify` on it"
        ) from error


def decode(data: bytes) -> list[Samples]:
    """Decode the samples of a JPEG file, as libjpeg-turbo does."""
    samples: Samples = imagecodecs.jpeg8_decode(data)
    return [samples[..., None] if samples.ndim == 2 else samples]
