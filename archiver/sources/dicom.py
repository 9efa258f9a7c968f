"""Own DICOM files whose pixel data is native: frames in one piece between elements that are kept.

Compressed frames (JPEG, JPEG-LS, JPEG 2000, RLE) stay in the file as they are: the encoders that
wrote them are many, and none of them can be asked to write the same bytes again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archiver.sources import scan
from archiver.sources.contract import Fidelity, Split, Unsupported
from archiver.sources.encodings import Compression
from archiver.sources.geometry import Geometry
from archiver.sources.segments import Page

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

PIXEL_DATA = 0x7FE00010
_DEFER_BYTES = 1024  # larger values stay in the file until somebody asks
_UNDEFINED = 0xFFFFFFFF
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN)
_MAX_FRAMES = 1 << 16


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a DICOM file, or raise Unsupported."""
    import pydicom  # takes a while to import: not for trees without DICOM

    header = pydicom.dcmread(path, defer_size=_DEFER_BYTES)
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    if syntax not in _NATIVE:
        raise Unsupported(f"DICOM: frames compressed by {_name(syntax)}")
    element = header.get_item(PIXEL_DATA, keep_deferred=True)
    offset, length = getattr(element, "value_tell", None), getattr(element, "length", _UNDEFINED)
    if offset is None or length == _UNDEFINED:
        raise Unsupported("DICOM: no native pixel data")
    geometry = _geometry(header, big_endian=syntax == _BIG_ENDIAN)
    n_frames = _number(header, "NumberOfFrames", 1)
    frame_bytes = geometry.height * geometry.width * geometry.channels * geometry.bits // 8
    if not 1 <= n_frames <= _MAX_FRAMES or n_frames * frame_bytes > length:
        raise Unsupported(f"DICOM: {length} bytes for {n_frames} frames of {frame_bytes}")
    frames = offset + frame_bytes * np.arange(n_frames, dtype=np.int64)
    return scan.split(path, [_page(geometry, int(frame)) for frame in frames], fidelity=fidelity)


def _geometry(header: FileDataset, *, big_endian: bool) -> Geometry:
    """Return the raster of one frame; all allocated bits are samples, used or not."""
    channels, bits = _number(header, "SamplesPerPixel", 1), _number(header, "BitsAllocated", 0)
    width, planar = _number(header, "Columns", 0), _number(header, "PlanarConfiguration", 0)
    colour = str(header.get("PhotometricInterpretation", ""))
    if bits not in (8, 16, 32) or colour.endswith(("422", "420")):
        raise Unsupported(f"DICOM: {bits} bits, {colour or 'no photometric interpretation'}")
    geometry = Geometry(
        height=_number(header, "Rows", 0),
        width=width,
        channels=channels,
        segment_height=1,
        segment_width=width,
        bits=bits,
        signed=_number(header, "PixelRepresentation", 0) == 1,
        # 8-bit samples of OW data are swapped in pairs: kept as bytes, in the order of the file
        big_endian=big_endian and bits > 8,
        planar=channels > 1 and planar == 1,
    )
    if not geometry.is_sound:
        raise Unsupported(f"DICOM: a frame of {geometry.height} x {geometry.width} x {channels}")
    return geometry


def _page(geometry: Geometry, offset: int) -> Page:
    """Cut one frame into strips."""
    strips = scan.small_strips(geometry)
    plane, down = np.divmod(np.arange(strips.n_segments, dtype=np.int64), strips.down)
    first = down * strips.segment_height
    rows = np.minimum(strips.segment_height, geometry.height - first)
    start = plane * geometry.height + first
    return Page(
        strips,
        Compression.NONE,
        offset + start * geometry.row_bytes,
        rows * geometry.row_bytes,
    )


def _number(header: Any, keyword: str, missing: int) -> int:
    """Return a whole number of the header."""
    value = header.get(keyword, missing)
    try:
        return missing if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise Unsupported(f"DICOM: {keyword} is no number") from error


def _name(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name or "an unnamed transfer syntax"
