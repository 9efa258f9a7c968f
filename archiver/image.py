"""The raster that sources produce and codecs consume: shape, sample type, windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.generic]
ReadWindow = Callable[[int, int, int, int], Samples]  # row, column, height, width -> (h, w, C)
ReadTile = Callable[[int, int], bytes]  # row, column -> a JpegTile as bytes


@dataclass(frozen=True)
class Image:
    """One raster of (height, width, channels) samples, read by windows so that it may be huge.

    ``neighbours`` says how many images before it in its file lie those that it may resemble most:
    the slice before, the volume before.  Each divides the next one.

    ``bit_depth`` is the number of bits a sample can use, at most the width of ``dtype``.
    ``window(row, column, height, width)`` returns a (height, width, channels) array of ``dtype``;
    the window lies inside the raster.

    An image whose file keeps it as JPEG tiles has ``jpeg_tile(row, column)``, which returns the one
    that begins there (`sources.segmented.jpeg_tile.JpegTile`), and their height and width in
    ``tile_shape``.

    ``view`` says how its samples are to be read (:func:`seen`), 0: as they are.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype[np.generic]
    bit_depth: int
    window: ReadWindow
    tile_shape: tuple[int, int] | None = None
    jpeg_tile: ReadTile | None = None
    neighbours: tuple[int, ...] = (1,)
    view: int = 0

    @classmethod
    def from_array(cls, array: Samples, *, bit_depth: int | None = None) -> Image:
        """Wrap an (H, W) or (H, W, C) array held in memory."""
        raster = array[..., None] if array.ndim == 2 else array

        def window(row: int, column: int, height: int, width: int) -> Samples:
            return raster[row : row + height, column : column + width]

        height, width, channels = raster.shape
        bits = raster.dtype.itemsize * 8 if bit_depth is None else bit_depth
        return cls(height, width, channels, raster.dtype, bits, window)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def n_bytes(self) -> int:
        """Uncompressed size of all samples, in bytes."""
        return self.height * self.width * self.channels * self.dtype.itemsize

    def read(self) -> Samples:
        """Return all samples, (H, W, C)."""
        return self.window(0, 0, self.height, self.width)


SIGNED_VIEW = 0x80
YCBCR_VIEW = 65
PLANES_VIEW = 66  # Y above Cb and Cr, these side by side at half the width
_RGB_OF_YCBCR = np.array(
    [[1, 1, 1], [0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0]], np.float32
)


def view_of(dtype: np.dtype[np.generic], bits: int, *, signed: bool) -> int:
    """Return the view of integers of which the lowest ``bits`` count, 0 if all do as they are."""
    width = 8 * dtype.itemsize
    n = bits if 1 <= bits <= width else width
    as_they_are = n == width and signed == (dtype.kind == "i")
    return 0 if as_they_are else n | signed * SIGNED_VIEW


def seen_shape(shape: tuple[int, int, int], view: int) -> tuple[int, int, int]:
    """Return height, width and channels of an image as it is to be read."""
    height, width, channels = shape
    return (height // 2, width, 3) if view == PLANES_VIEW else (height, width, channels)


def seen_window(
    window: ReadWindow, shape: tuple[int, int, int], view: int, box: tuple[int, int, int, int]
) -> Samples:
    """Return a part of an image as it is to be read: row, column, height and width there."""
    if view != PLANES_VIEW:
        return seen(window(*box), view)
    row, column, height, width = box
    left, half = column // 2, -(-(column + width) // 2) - column // 2
    chroma = shape[0] // 2 + row
    parts = [window(chroma, at + left, height, half) for at in (0, shape[1] // 2)]
    planes = np.vstack([window(row, 2 * left, height, 2 * half), np.hstack(parts)])
    colours = seen(planes, view)
    return colours[:, column % 2 : column % 2 + width]


def seen(samples: Samples, view: int) -> Samples:
    """Return samples as ``view`` says that they are to be read."""
    if not view:
        return samples
    if view == PLANES_VIEW:
        luma, chroma = np.split(samples[..., 0], 2)
        return _rgb(np.dstack([luma, *np.repeat(np.hsplit(chroma, 2), 2, axis=2)]))
    if view == YCBCR_VIEW:
        return _rgb(samples)
    width, bits = 8 * samples.dtype.itemsize, view & ~SIGNED_VIEW
    kind = "i" if view & SIGNED_VIEW else "u"
    integers: Samples = samples.view(f"{kind}{samples.dtype.itemsize}")
    shift = integers.dtype.type(width - bits)
    cut: Samples = np.right_shift(np.left_shift(integers, shift), shift)
    return cut


def _rgb(samples: Samples) -> Samples:
    """Return 8-bit YCbCr (H, W, 3) of full range as RGB (ITU-T T.871), rounded as pydicom does."""
    wide = samples.astype(np.float32) - np.array([0, 128, 128], np.float32)
    rgb = np.floor(np.matmul(wide, _RGB_OF_YCBCR) + np.float32(0.5))
    clipped: Samples = np.clip(rgb, 0, 255).astype(np.uint8)
    return clipped
