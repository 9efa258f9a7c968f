"""What of a DICOM header says where pixels lie and what they are, read by pydicom.

[128 bytes, DICM] [group 2, explicit, little-endian] elements ... pixel data

Only the top level is read, up to the pixels.  Files without a preamble, without group 2, or of
another byte order or kind of VR than group 2 says are read, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from archiver.sources.contract import Unsupported

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
PIXELS, FLOATS, DOUBLES = 0x7FE00010, 0x7FE00008, 0x7FE00009
UNDEFINED = 0xFFFFFFFF
_OFFSETS = 0x7FE00001  # of frames: "Extended Offset Table"
_MAGIC, _PREAMBLE = b"DICM", 128
_META, _IDENTIFYING, _IMAGE, _PIXEL = 0x0002, 0x0008, 0x0028, 0x7FE0  # groups
_DEFER_BYTES = 1 << 20  # larger values stay in the file
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"))
_LONG |= {b"UT", b"UV"}  # VRs whose lengths have four bytes, after two that are zero
_SHORT = frozenset((b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"))
_SHORT |= {b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
_AT_LEAST = 2  # elements that have to make sense, where no magic number says what a file is


@dataclass(frozen=True)
class Header:
    """The elements that tell about pixels, and where these lie in the file."""

    elements: Dataset
    syntax: str  # UID, "" if none is given
    big_endian: bool
    start: int  # of the elements after group 2
    tag: int = 0  # of the pixels, 0 if there are none
    vr: str = ""
    offset: int = 0  # of their value
    length: int = 0

    def number(self, keyword: str, missing: int) -> int:
        """Return a whole number of the header."""
        value = self.elements.get(keyword, missing)
        try:
            return missing if value is None or value == "" else int(value)
        except (TypeError, ValueError) as error:
            raise Unsupported(f"DICOM: {keyword} is no number") from error

    @property
    def colour(self) -> str:
        """What the samples of a pixel mean, "RGB" for instance."""
        return str(self.elements.get("PhotometricInterpretation", ""))

    @property
    def is_ycbcr(self) -> bool:
        """Whether the samples of a pixel are YCbCr of full range."""
        return self.colour in ("YBR_FULL", "YBR_FULL_422")

    @property
    def frames(self) -> int:
        """How many frames are told of."""
        return self.number("NumberOfFrames", 1) or 1

    @property
    def frame_offsets(self) -> list[int]:
        """Where frames begin, counted from the first; of the extended table, often empty."""
        table = self.elements.get(_OFFSETS)
        value = getattr(table, "value", None) or b""
        return [offset for (offset,) in struct.iter_unpack("<Q", value[: len(value) // 8 * 8])]


def is_dicom(head: bytes) -> bool:
    """Whether a file begins so: with its magic number, or with elements that make sense."""
    if head[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC:
        return True
    return any(_makes_sense(head, order) for order in "<>")


def is_deflated(head: bytes) -> bool:
    """Whether a DICOM file that begins so says that its elements are deflated."""
    return DEFLATED.encode() in head[_PREAMBLE:]


def _makes_sense(head: bytes, order: str) -> bool:
    """Whether bytes are elements in the order of their tags, the first of a group that is first."""
    at = n = last = 0
    while at + 8 <= len(head):
        group, element = struct.unpack_from(order + "HH", head, at)
        tag, size = group << 16 | element, _sizes(head, at, order)
        if (n == 0 and group not in (_META, _IDENTIFYING)) or (n and tag <= last) or not size:
            return False
        if group > _PIXEL or (size[1] % 2 and size[1] != UNDEFINED):
            return False
        at, last, n = at + sum(size), tag, n + 1
    return n >= _AT_LEAST


def _sizes(head: bytes, at: int, order: str) -> tuple[int, int] | None:
    """Return the bytes of an element before its value, and in it; None if it cannot be one."""
    vr = head[at + 4 : at + 6]
    if vr in _SHORT:
        return 8, struct.unpack_from(order + "H", head, at + 6)[0]
    if vr in _LONG and at + 12 <= len(head):
        return 12, struct.unpack_from(order + "I", head, at + 8)[0]
    return (8, struct.unpack_from("<I", head, at + 4)[0]) if order == "<" else None


def read(file: BinaryIO, syntax: str = "") -> Header:
    """Read the header of a file, or of elements alone if their ``syntax`` is given."""
    from pydicom.dataset import Dataset  # takes a while: not for trees without DICOM

    if not syntax:
        syntax = _read_meta(file)
    start = file.tell()
    if syntax == DEFLATED:
        return Header(Dataset(), syntax, big_endian=False, start=start)
    implicit, big_endian = _order(file, syntax)
    walk = _Walk(file, implicit=implicit, big_endian=big_endian)
    kept = {
        element.tag: element for element in walk.elements() if element.tag >> 16 in (_IMAGE, _PIXEL)
    }
    dataset = Dataset(kept)
    where = (walk.tag, walk.vr, walk.offset, walk.length)
    return Header(dataset, syntax, big_endian, start, *where)


def _read_meta(file: BinaryIO) -> str:
    """Read preamble and group 2, if they are there; return the transfer syntax, "" if unknown."""
    from pydicom.dataset import Dataset
    from pydicom.filereader import data_element_generator

    file.seek(_PREAMBLE)
    start = _PREAMBLE + len(_MAGIC) if file.read(len(_MAGIC)) == _MAGIC else 0
    file.seek(start)
    is_meta = file.read(2) == struct.pack("<H", _META)
    file.seek(start)
    if not is_meta:
        return ""
    elements = data_element_generator(
        file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != _META
    )
    meta = Dataset({element.tag: element for element in elements})
    return str(meta.get("TransferSyntaxUID", ""))


def _order(file: BinaryIO, syntax: str) -> tuple[bool, bool]:
    """Return whether VRs are implicit, and whether numbers are big-endian, as the bytes say."""
    start = file.tell()
    head = file.read(6).ljust(6, b"\0")
    file.seek(start)
    group, vr = struct.unpack_from("<H", head)[0], head[4:6]
    implicit = not (vr in _SHORT or vr in _LONG)
    if syntax in (IMPLICIT, EXPLICIT, "") and group >= 0x400:  # byte order of another syntax
        return implicit, not implicit
    return implicit, syntax == BIG_ENDIAN and not implicit


class _Walk:
    """The elements of the top level, up to the pixels."""

    def __init__(self, file: BinaryIO, *, implicit: bool, big_endian: bool) -> None:
        self._file, self._implicit, self._big_endian = file, implicit, big_endian
        self.tag = self.offset = self.length = 0  # of the pixels
        self.vr = ""
        self._stop = (0, "", 0, 0)

    def elements(self) -> Iterator[Any]:
        """Yield elements; what is no use here, without its value."""
        from pydicom.filereader import data_element_generator, read_sequence

        while True:
            self._stop = (0, "", 0, 0)
            yield from data_element_generator(
                self._file,
                self._implicit,
                not self._big_endian,
                stop_when=self._stops,
                defer_size=_DEFER_BYTES,
            )
            tag, vr, length, offset = self._stop
            if tag in (0, PIXELS, FLOATS, DOUBLES):
                self.tag, self.vr, self.length, self.offset = tag, vr, length, offset
                return
            self._file.seek(offset)
            read_sequence(self._file, True, True, length, ["iso8859"])

    def _stops(self, tag: int, vr: str | None, length: int) -> bool:
        """Stop at pixels, and at sequences of unknown VR: these are implicit and little-endian."""
        unknown = vr == "UN" and length == UNDEFINED and self._big_endian
        if tag in (PIXELS, FLOATS, DOUBLES) or unknown:
            self._stop = (int(tag), vr or "", length, self._file.tell())
            return True
        return False
