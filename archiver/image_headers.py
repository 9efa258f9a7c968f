"""The size that a JPEG XL stream, or a JPEG, declares, read before libjxl allocates for it.

ISO/IEC 18181-1, SizeHeader and ImageMetadata: a few bits after the signature; in a container
(ISO/IEC 18181-2), at the beginning of the box ``jxlc``, or of what boxes ``jxlp`` are joined to.
"""

from __future__ import annotations

import re
import struct

# ISO/IEC 10918-1, frame header of 8 bits: height, width
_JPEG_FRAME = re.compile(rb"\xff[\xc0-\xc2](?=..\x08(..)(..))", re.DOTALL)
_SIGNATURE = b"\xff\x0a"
_LENGTHS = (9, 13, 18, 30)  # bits of a side, by its selector
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
_ENOUGH = 20  # bytes hold the longest SizeHeader and what is read after it
_DEPTHS = ((0, 8), (0, 10), (0, 12), (6, 1))  # bits to read, and what they are added to
_FLOAT_DEPTHS = ((0, 32), (0, 16), (0, 24), (6, 1))
_EXTRA_CHANNELS = ((0, 0), (0, 1), (4, 2), (12, 1))


def sides(stream: bytes) -> tuple[int, int]:
    """Return the (height, width) that ``stream`` declares; ValueError if it is no JPEG XL."""
    return _size(_bits_of(stream))


def check_still(stream: bytes) -> None:
    """Raise ValueError if ``stream`` holds more than one image of grey or colour.

    libjxl decodes all frames, a preview and all extra channels, each of the declared size.
    """
    bits = _bits_of(stream)
    _size(bits)
    if bits.take(1):  # all_default
        return
    if bits.take(1):  # extra_fields: orientation, intrinsic size, preview, animation
        bits.take(3)
        if bits.take(3):
            raise ValueError("a JPEG XL codestream with a preview or of several frames")
    is_float = bits.take(1)
    _number(bits, _FLOAT_DEPTHS if is_float else _DEPTHS)
    bits.take(4 if is_float else 0)  # exponent
    bits.take(1)  # modular_16bit_buffers
    if _number(bits, _EXTRA_CHANNELS):
        raise ValueError("a JPEG XL codestream with extra channels")


def _bits_of(stream: bytes) -> _Bits:
    """Return the bits that follow the signature; ValueError if there is none."""
    start = stream[:_ENOUGH] if stream.startswith(_SIGNATURE) else _codestream(stream)
    if not start.startswith(_SIGNATURE):
        raise ValueError("no JPEG XL codestream")
    return _Bits(start[len(_SIGNATURE) :])


def _size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take(1)
    height = _side(bits, is_small)
    ratio = bits.take(3)
    if ratio:
        wide, high = _RATIOS[ratio - 1]
        return height, height * wide // high
    return height, _side(bits, is_small)


def jpeg_pixels(data: bytes) -> int:
    """Return the most that any frame header declares, wherever it is: libjxl allocates for each."""
    sides = (map(int.from_bytes, match.groups()) for match in _JPEG_FRAME.finditer(data))
    return max((height * width for height, width in sides), default=0)


class _Bits:
    """Bits of a few bytes, the lowest of each first; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value


def _number(bits: _Bits, choices: tuple[tuple[int, int], ...]) -> int:
    count, offset = choices[bits.take(2)]
    return bits.take(count) + offset


def _side(bits: _Bits, is_small: int) -> int:
    if is_small:
        return 8 * (bits.take(5) + 1)
    return bits.take(_LENGTHS[bits.take(2)]) + 1


def _codestream(container: bytes) -> bytes:
    """Return the first bytes of the codestream in a container, b"" if there is none."""
    at, start = 0, b""
    while at + 8 <= len(container):
        length, kind = struct.unpack_from(">I4s", container, at)
        header = 8
        if length == 1 and at + 16 <= len(container):
            header, length = 16, int.from_bytes(container[at + 8 : at + 16], "big")
        end = at + length if length else len(container)
        if end < at + header:
            break
        if kind in (b"jxlc", b"jxlp"):
            first = at + header + (4 if kind == b"jxlp" else 0)
            start += container[first : min(end, first + _ENOUGH)]
        if kind == b"jxlc" or len(start) >= _ENOUGH:
            break
        at = end
    return start[:_ENOUGH]
