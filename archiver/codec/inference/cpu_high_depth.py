"""Decoding samples of more than 8 bits on a CPU: the wavefront of 8-bit tiles, other ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from archiver.codec.entropy import RADIX, DigitDecoder
from archiver.codec.inference.cpu_wavefront import CpuWavefront, Network
from archiver.codec.inference.kernels import high_depth
from archiver.codec.inference.kernels.arrays import Float32, Place
from archiver.codec.inference.matmul import SKEWED_STRICT
from archiver.codec.inference.wavefront import RING
from archiver.codec.model import causal, mgcf
from archiver.codec.model.high_depth import Values, Window


def triple(window: Window) -> NDArray[np.int64]:
    """Return what the loops take of a window."""
    return np.array([window.top, window.middle, window.shift])


class HighDepthWavefront(CpuWavefront):
    """Decode a batch of tiles of high bit depth, all of one number of digits."""

    def __init__(
        self, network: Network, shapes: Sequence[tuple[int, int]], windows: Sequence[Window]
    ) -> None:
        super().__init__(network, shapes, mgcf.HIGH_DEPTH)
        self._windows = np.stack([triple(window) for window in windows])
        self._middles = self._windows[:, 1].astype(np.int32)
        self._digits_each = windows[0].digits
        ring = (RING, causal.ABOVE + self._height, len(shapes))
        self._ring = np.zeros(ring, np.int32)
        self._near = SKEWED_STRICT[self._copied]
        self._mixtures64 = np.empty(self._mixtures.shape)

    def decode_values(self, streams: Sequence[bytes]) -> list[Values]:
        """Return the numbers (H, W) that ``streams`` encode."""
        tiles = self._decode(streams, np.int32)
        return [tile[..., 0] for tile in tiles]

    def _base(self, place: Place, rows: int, seen: torch.Tensor) -> Float32:
        ring, base = self._ring, np.empty((rows, len(self._shapes)), np.float32)
        high_depth.base_of_ring(
            ring, place, SKEWED_STRICT, self._port.mantissas, self._windows[:, 2], base
        )
        return base.reshape(-1, 1)

    def _clear_ended(self, place: Place) -> None:
        super()._clear_ended(place)
        group, first = place
        column = self._ring[group % RING]
        column[causal.ABOVE + max(0, first - RING) : causal.ABOVE + first] = 0

    def _samples(
        self,
        place: Place,
        outputs: Float32,
        base: Float32,
        seen: torch.Tensor,
        decoders: list[DigitDecoder],
        inside: NDArray[np.bool_],
    ) -> NDArray[np.int32]:
        grid = base.reshape(inside.shape)
        mixtures, table = self._mixtures64[: len(base)], self._table[: len(base)]
        high_depth.mixtures_of_group(
            outputs, grid, self._ring, place, self._near, self._windows, self._tables, mixtures
        )
        values = np.zeros(len(base), np.int64)
        for digit in range(self._digits_each - 1, -1, -1):
            step = RADIX**digit
            high_depth.group_tables(values, step, self._windows, mixtures, self._tables[2], table)
            values += self._digits(decoders, table, inside).astype(np.int64) * step
        samples = values.reshape(inside.shape).astype(np.int32)
        centred = samples - self._middles
        high_depth.write_ring(self._ring, self._planes, place, centred, grid, self._windows, inside)
        return samples[..., None]
