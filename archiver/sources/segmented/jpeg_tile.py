"""A JPEG that is one tile of an image: its bytes, what its file keeps elsewhere, its samples.

Slide scanners compress each tile of a TIFF as a JPEG, whose tables may stand once for all tiles, in
a tag.  Here a tile is a whole JPEG with its tables inside; what is lossy about it stays as it is.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from archiver.errors import IntegrityError

MAX_PIXELS = 1 << 26  # of one tile
MAX_SCANS = 100  # each is a pass over the tile, however few bytes it has
SCAN = b"\xff\xda"

_HEADER = struct.Struct("<BH")
_CONVERTS = 1


@dataclass(frozen=True)
class JpegTile:
    """A JPEG ``stream`` of which ``n_tables`` bytes after the first two are kept elsewhere.

    ``converts`` says that its three components are YCbCr, to be converted to RGB.
    """

    stream: bytes
    n_tables: int = 0
    converts: bool = True

    @classmethod
    def of_segment(cls, segment: bytes, tables: bytes, *, converts: bool) -> JpegTile:
        """Join a segment of a TIFF and the tables of its page, b"" or a JPEG without image."""
        inner = tables[2:-2]
        return cls(segment[:2] + inner + segment[2:], len(inner), converts)

    @classmethod
    def from_bytes(cls, data: bytes) -> JpegTile:
        """Read what :meth:`to_bytes` wrote; IntegrityError if it is none."""
        if len(data) < _HEADER.size:
            raise IntegrityError(f"JPEG tile: {len(data)} bytes, expected {_HEADER.size} and more")
        flags, n_tables = _HEADER.unpack_from(data)
        if flags > _CONVERTS or n_tables > len(data) - _HEADER.size:
            raise IntegrityError(f"JPEG tile: impossible header {flags}, {n_tables}")
        return cls(data[_HEADER.size :], n_tables, bool(flags))

    def to_bytes(self) -> bytes:
        """Return it in one piece."""
        return _HEADER.pack(self.converts * _CONVERTS, self.n_tables) + self.stream

    @property
    def segment(self) -> bytes:
        """The bytes that the file has in this tile's place."""
        return self.stream[:2] + self.stream[2 + self.n_tables :]

    def samples(self) -> NDArray[np.uint8]:
        """Return what it decodes to, (H, W, 1 or 3); ValueError if that is no such image."""
        with Pillow.open(io.BytesIO(self.stream), formats=["JPEG"]) as image:
            width, height = image.size
        if self.stream.count(SCAN) > MAX_SCANS:
            raise ValueError(f"JPEG tile of more than {MAX_SCANS} scans")
        if width * height > MAX_PIXELS:
            raise ValueError(f"JPEG tile of {width} x {height}: larger than any tile")
        samples = np.asarray(self._decoded(is_grey=image.mode == "L"))
        samples = samples[..., None] if samples.ndim == 2 else samples
        if samples.dtype != np.uint8 or samples.shape[2] not in (1, 3):
            raise ValueError(f"JPEG tile of {samples.shape} {samples.dtype}")
        return samples

    def _decoded(self, *, is_grey: bool) -> NDArray[np.generic]:
        if is_grey:
            return imagecodecs.jpeg8_decode(self.stream)
        space = "YCBCR" if self.converts else "RGB"
        return imagecodecs.jpeg8_decode(self.stream, colorspace=space, outcolorspace="RGB")
