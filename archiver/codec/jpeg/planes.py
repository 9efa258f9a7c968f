"""All components of a JPEG as one stream of decisions."""

from __future__ import annotations

import numpy as np

from archiver.codec.jpeg import blocks
from archiver.codec.jpeg.baseline import Header, Planes
from archiver.codec.jpeg.context_mixing import Coder, ContextState
from archiver.codec.jpeg.huffman import Blocks
from archiver.errors import IntegrityError


def encode(planes: Planes, header: Header, state: ContextState, room: int) -> bytes | None:
    """Return the stream of coefficients, None if it takes more than ``room`` bytes.

    ``state`` learns from it.
    """
    coder = Coder.writer(room)
    if not _code(planes, header, state, coder):
        return None
    return coder.finished()


def decode(stream: bytes, header: Header, state: ContextState) -> Planes:
    """Return the coefficients of a stream; IntegrityError if it does not decode."""
    planes = [np.zeros((*shape, 64), np.int16) for shape in header.shapes]
    if not _code(planes, header, state, Coder.reader(stream)):
        raise IntegrityError("JPEG tile: coefficients that no JPEG has")
    return planes


def _code(planes: Planes, header: Header, state: ContextState, coder: Coder) -> bool:
    for component, plane in enumerate(planes):
        others = _others(planes, header, component)
        steps = header.tables[component]
        if not blocks.code_plane(plane, component, others, steps, state, coder):
            return False
    return True


def _others(planes: Planes, header: Header, component: int) -> list[Blocks]:
    """Return what a component may look at: the first one, brought to its size, and the second."""
    if component == 0:
        return []
    shape, whole = header.shapes[component], header.shapes[0]
    if whole[0] % shape[0] or whole[1] % shape[1]:
        return []
    others = [_shrunk(planes[0], shape)]
    if component == 2 and header.shapes[1] == shape:
        others.append(planes[1])
    return others


def _shrunk(plane: Blocks, shape: tuple[int, int]) -> Blocks:
    """Return twice the mean of as many blocks as one of ``shape`` covers; as it is if it is one."""
    rows, columns = shape
    down, across = plane.shape[0] // rows, plane.shape[1] // columns
    if down * across == 1:
        return plane
    total = plane.reshape(rows, down, columns, across, 64).sum((1, 3), dtype=np.int64)
    doubled = 2 * np.abs(total) // (down * across)
    return np.ascontiguousarray(np.sign(total) * doubled).astype(np.int16)
