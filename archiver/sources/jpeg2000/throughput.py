"""The blocks of High-Throughput JPEG 2000 (ISO/IEC 15444-15), as OpenJPH codes them.

What one cleanup pass makes of a block is up to its encoder, within limits; most files are by
OpenJPH, whatever program wrote them.  Where packets lie does not matter: blocks are taken out of a
codestream that is made for that.
"""

from __future__ import annotations

import zlib
from functools import cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from archiver.errors import ParityError
from archiver.sources.contract import Unsupported
from archiver.sources.jpeg2000.codestream import Header

_SIDE = 6  # of the blocks that this door to OpenJPH makes, as a power of two
_ANSWER = 0x3A75ECB8  # CRC-32 of the probe's codestream by OpenJPH 0.26, comment apart


def encode(samples: NDArray[np.int32], header: Header) -> bytes:
    """Return a codestream of samples (H, W, C) around zero, with blocks as ``header`` has them."""
    if header.block_width != _SIDE or header.block_height != _SIDE:
        raise Unsupported("high-throughput JPEG 2000 with blocks other than 64 x 64")
    if header.x0 or header.y0 or header.tile_x0 or header.tile_y0:
        raise Unsupported("high-throughput JPEG 2000 of a rare kind")
    if header.channels not in (1, 3):
        raise Unsupported(f"high-throughput JPEG 2000 of {header.channels} channels")
    plain = np.ascontiguousarray(samples[..., 0] if header.channels == 1 else samples)
    whole = header.across == header.down == 1
    return bytes(
        imagecodecs.htj2k_encode(
            plain.astype(np.int16),
            resolutions=header.levels,
            rgb=header.colour,
            tile=None if whole else (header.tile_width, header.tile_height),
        )
    )


@cache
def check_encoder() -> None:
    """Compare this machine's OpenJPH with its stored known answer."""
    i = np.arange(96 * 160, dtype=np.int64)
    probe = ((i * 2654435761 >> 16 & i >> 5 & 1023) - (i % 160) * 7).astype(np.int16)
    stream = bytes(imagecodecs.htj2k_encode(probe.reshape(96, 160)))
    answer = zlib.crc32(stream[stream.find(b"\xff\x90") :])
    if answer != _ANSWER:
        raise ParityError(
            f"OpenJPH of imagecodecs: expected the bytes of version 0.26 ({_ANSWER:#010x}), found"
            f" others ({answer:#010x}); install imagecodecs 2026.3.6 to restore"
        )
