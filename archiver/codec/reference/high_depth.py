"""The last word on samples of more than 8 bits: the decoder of `decoder`.

It follows FORMAT.md, "High bit depth", in float64, where all of it is exact.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from archiver.codec.reference.decoder import Array, Count, Field, ReferenceModel, snap, window
from archiver.codec.reference.range_coder import DigitDecoder

PORT = "ports.deep"


def decode(payload: bytes, shape: tuple[int, int], model: ReferenceModel) -> NDArray[np.uint16]:
    """Return the (H, W) plane of a deep tile (FORMAT.md, "High bit depth")."""
    lowest, step, top, middle, shift = struct.unpack_from("<HHHHB", payload)
    height, width = shape
    stream = DigitDecoder(payload[9:])
    numbers = np.zeros(shape, np.int64)
    field = HighDepthField(model, shape, middle, shift)
    digits = max(1, -(-top.bit_length() // 4))
    for group in range(width + 2 * (height - 1)):
        rows = np.arange(max(0, (group - width + 2) // 2), min(height, group // 2 + 1))
        if not len(rows):
            continue
        columns = group - 2 * rows
        outputs, base = field.predict(rows, columns)
        count = field.count(rows, columns, outputs, base, top)
        values = np.zeros(len(rows), np.int64)
        for digit in range(digits - 1, -1, -1):
            frequencies = count.frequencies(values, 16**digit)
            values += stream.decode(frequencies) * 16**digit
        numbers[rows, columns] = values
        field.store(rows, columns, values[:, None], base)
    samples: NDArray[np.uint16] = (lowest + step * numbers).astype(np.uint16)
    return samples


class HighDepthField(Field):
    """The same for numbers of more than 8 bits; ``centred`` holds them from the middle."""

    def __init__(
        self, model: ReferenceModel, shape: tuple[int, int], middle: int, shift: int
    ) -> None:
        super().__init__(model, (*shape, 1))
        self.port, self.middle, self.unit = PORT, middle, 2.0**shift
        self.centred = np.zeros((*self.planes.shape[:2], 1))

    def _base(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], seen: Array, kernel: Array
    ) -> Array:
        seen = window(self.centred, rows, columns, strict=True)
        return snap(np.einsum("nijp,cpij->nc", seen, kernel) * 16 / self.unit, 2**20)

    def count(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        outputs: Array,
        base: Array,
        top: int,
    ) -> HighDepthCount:
        """Return the count F of the numbers of some pixels."""
        copies = self.model.architecture.get("copies", 0)
        own, copied = np.split(outputs, [outputs.shape[1] - 2 * copies], 1)
        logits, means, scales = np.split(own, 3, 1)
        logits = snap(np.concatenate([logits, copied[:, :copies]], 1))
        scales = snap(np.concatenate([scales, copied[:, copies:]], 1) - 12, 92) + 12
        centre = (snap(means * 8, 255 * 16) + base) * 4
        for row, column in [(0, -1), (-1, 0)][:copies]:
            copy = self.centred[rows + 3 + row, columns + 3 + column]
            centre = np.concatenate([centre, copy * 64 / self.unit], 1)
        return HighDepthCount(logits, centre, scales, top, self.middle, self.unit)

    def store(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.int64],
        base: Array,
    ) -> None:
        self.centred[rows + 3, columns + 3] = values - self.middle
        unit = (values - self.middle) / self.unit
        residual = unit * 16 - base
        inside = np.full((len(rows), 1), 64.0)
        planes = [snap(unit), snap(residual / 8), snap(residual / 2), inside]
        self.planes[rows + 3, columns + 3] = np.concatenate(planes, 1)


class HighDepthCount(Count):
    """The cumulative count F of numbers 0..top of n pixels (FORMAT.md, "High bit depth")."""

    def __init__(
        self, logits: Array, centre: Array, scale: Array, top: int, middle: int, unit: float
    ) -> None:
        super().__init__(logits, centre, scale)
        self.top, self.middle, self.unit = top, middle, unit

    def at(self, edges: NDArray[np.int64]) -> Array:
        """Return F at (n, e) numbers: (n, e) whole numbers."""
        position = (edges[..., None] - self.middle - 0.5) * 64 / self.unit - self.centre[:, None]
        place = np.rint(np.clip(position * self.inverse[:, None] * 256, -655360, 655360))
        entry = np.floor(place / 256)
        share = place - 256 * entry
        here, following = (np.rint(8192 / (1 + np.exp(-(entry + i) / 256))) for i in (0, 1))
        inner = (self.weight[:, None] * (256 * here + share * (following - here))).sum(-1)
        total = 8192 * self.weight.sum(1)[:, None]
        inside = np.where(edges > self.top, total, np.floor(inner / 256))
        return np.where(edges <= 0, 0, inside)
