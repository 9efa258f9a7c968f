"""Own DICOM files: native frames, RLE and what lossless codecs wrote as samples, JPEG as it is.

All elements but the frames are kept.  What irreversible JPEG 2000 and near-lossless encoders wrote
stays in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from archiver.sources import jpeg_frames, runs, scan
from archiver.sources.contract import Fidelity, Split, Unsupported
from archiver.sources.encodings import RLE, Compression
from archiver.sources.geometry import Geometry
from archiver.sources.jpeg2000 import codestream
from archiver.sources.quiet import quiet
from archiver.sources.segments import BREAK_BYTES, Page, joined

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

PIXEL_DATA = 0x7FE00010
_DEFER_BYTES = 1024  # larger values stay in the file until somebody asks
_UNDEFINED = 0xFFFFFFFF
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_ENCAPSULATED = {
    "1.2.840.10008.1.2.4.50": Compression.JPEG,
    "1.2.840.10008.1.2.4.57": Compression.JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": Compression.JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": Compression.JPEG_LS,
    "1.2.840.10008.1.2.4.90": Compression.JPEG_2000,
    "1.2.840.10008.1.2.4.91": Compression.JPEG_2000,
}
_RLE = "1.2.840.10008.1.2.5"
_RLE_OF = {8 * n_bytes: how for how, n_bytes in RLE.items()}  # by bits
_ITEM_BYTES = BREAK_BYTES  # tag and length
_ITEM, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN)
_END_OF_JPEG = b"\xff\xd9"


def split(path: Path, *, fidelity: Fidelity) -> Split:
    """Split a DICOM file, or raise Unsupported."""
    import pydicom.filereader  # takes a while to import: not for trees without DICOM

    with quiet("pydicom"):
        meta = pydicom.filereader.read_file_meta_info(path)
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax not in (*_NATIVE, *_ENCAPSULATED, _RLE):  # deflated: may be a bomb
            raise Unsupported(f"DICOM: frames compressed by {_name(syntax)}")
        return _split(path, pydicom.dcmread(path, defer_size=_DEFER_BYTES), fidelity)


def _split(path: Path, header: FileDataset, fidelity: Fidelity) -> Split:
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    element = header.get_item(PIXEL_DATA, keep_deferred=True)
    offset, length = getattr(element, "value_tell", None), getattr(element, "length", _UNDEFINED)
    if syntax in _ENCAPSULATED and offset is not None and length == _UNDEFINED:
        pages = _frames(path, offset, header, _ENCAPSULATED[syntax])
        return scan.split(path, pages, fidelity=fidelity)
    if syntax == _RLE and offset is not None and length == _UNDEFINED:
        return scan.split(path, _rle_frames(path, offset, header), fidelity=fidelity)
    if offset is None or length == _UNDEFINED:
        raise Unsupported("DICOM: no native pixel data")
    geometry = _geometry(header, big_endian=syntax == _BIG_ENDIAN)
    n_frames = _number(header, "NumberOfFrames", 1)
    pages = scan.frames(geometry, offset, n_frames, offset + length)
    return scan.split(path, pages, fidelity=fidelity)


def _frames(path: Path, offset: int, header: FileDataset, how: Compression) -> list[Page]:
    """Return a page for each compressed frame: one fragment each, or all of them for one frame."""
    with path.open("rb") as file:
        fragments = list(_fragments(file, offset))[1:]  # the first item is the table of offsets
        n_frames = _number(header, "NumberOfFrames", 1)
        if n_frames == 1 and fragments:
            return [_frame(file, fragments, header, how)]
        return [_frame(file, [one], header, how) for one in _one_each(fragments, n_frames)]


def _rle_frames(path: Path, offset: int, header: FileDataset) -> list[Page]:
    """Return a page for each RLE frame, which has a fragment of its own."""
    geometry = replace(_geometry(header, big_endian=False), planar=False)
    geometry = replace(geometry, segment_height=geometry.height)
    n_frames, n_planes = _number(header, "NumberOfFrames", 1), geometry.row_bytes // geometry.width
    if not geometry.is_sound or geometry.height * geometry.row_bytes > runs.MAX_BYTES:
        raise Unsupported(f"DICOM: an RLE frame of {geometry.height} x {geometry.width}")
    with path.open("rb") as file:
        fragments = _one_each(list(_fragments(file, offset))[1:], n_frames)
        for start, _ in fragments:
            file.seek(start)
            if file.read(4) != struct.pack("<I", n_planes):
                raise Unsupported(f"DICOM: an RLE frame of other than {n_planes} planes")
    spans = np.array(fragments, np.int64)
    how = _RLE_OF[geometry.bits]
    return [Page(geometry, how, span[:1], span[1:]) for span in spans]


def _one_each(fragments: list[tuple[int, int]], n_frames: int) -> list[tuple[int, int]]:
    """Return the fragments of frames, or raise Unsupported if they are not one for each."""
    if len(fragments) != n_frames or not n_frames:
        raise Unsupported(f"DICOM: {len(fragments)} fragments for {n_frames} frames")
    return fragments


def _fragments(file: BinaryIO, offset: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of every item of encapsulated pixel data."""
    for _ in range(scan.MAX_FRAMES + 1):
        file.seek(offset)
        item = file.read(_ITEM_BYTES)
        if len(item) < _ITEM_BYTES:
            raise Unsupported("DICOM: pixel data that ends too early")
        *tag, length = struct.unpack("<HHI", item)
        if tuple(tag) == _SEQUENCE_END:
            return
        if tuple(tag) != _ITEM or length == _UNDEFINED:
            raise Unsupported("DICOM: damaged fragments")
        yield offset + _ITEM_BYTES, length
        offset += _ITEM_BYTES + length
    raise Unsupported("DICOM: too many fragments")


def _frame(
    file: BinaryIO, fragments: Sequence[tuple[int, int]], header: FileDataset, how: Compression
) -> Page:
    """Return the page of one compressed frame, without the byte that pads its last fragment."""
    offset = fragments[0][0]
    breaks = tuple(start - _ITEM_BYTES - offset for start, _ in fragments[1:])
    file.seek(offset)
    span = file.read(sum(fragments[-1]) - offset)
    whole = joined(span, breaks)
    stream = whole[: whole.rfind(_END_OF_JPEG) + len(_END_OF_JPEG)]
    inside = [at for i, at in enumerate(breaks) if at - BREAK_BYTES * i < len(stream)]
    length = len(stream) + BREAK_BYTES * len(inside)
    colour = str(header.get("PhotometricInterpretation", ""))
    if how is Compression.JPEG:
        shape = [_number(header, "Rows", 0), _number(header, "Columns", 0)]
        channels, bits = _number(header, "SamplesPerPixel", 1), 8
    else:
        read = (codestream if how is Compression.JPEG_2000 else jpeg_frames).Header.of(stream)
        *shape, channels = read.shape
        bits = 8 * read.dtype.itemsize
    height, width = shape
    signed = _number(header, "PixelRepresentation", 0) == 1 and bits == 16
    geometry = Geometry(height, width, channels, height, width, bits, signed=signed)
    if not geometry.is_sound or channels not in (1, 3):
        raise Unsupported(f"DICOM: a frame of {height} x {width} x {channels}")
    at, n = np.array([offset], np.int64), np.array([length], np.int64)
    return Page(geometry, how, at, n, b"", colour.startswith("YBR"), breaks)


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
