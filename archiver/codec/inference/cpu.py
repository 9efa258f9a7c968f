"""The coder on a CPU: what `inference.wavefront` computes, in loops that stay in cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec.entropy import RADIX, encode_digits
from archiver.codec.inference import wavefront
from archiver.codec.inference.cpu_high_depth import HighDepthWavefront, triple
from archiver.codec.inference.cpu_wavefront import CpuWavefront
from archiver.codec.inference.kernels import counts, high_depth, layers
from archiver.codec.inference.kernels.arrays import Float32, Tables
from archiver.codec.inference.matmul import ALL_TAPS, COPIED, STRICT, SUMS, Block, Buffers, Port
from archiver.codec.model import causal, mgcf
from archiver.codec.model.frequencies import lookup
from archiver.codec.model.high_depth import Values, Window

CHUNK_PIXELS = 512  # what is computed at once: its widest buffer stays in a core's cache

Uint8 = NDArray[np.uint8]


class CpuCoder:
    """Encode and decode tiles with one network on the CPU.

    ``kind`` is what products multiply: float32, or int8 where :func:`~matmul.has_int8` says so.
    """

    device = torch.device("cpu")

    def __init__(self, net: mgcf.MGCF, kind: torch.dtype) -> None:
        self.kind = kind
        self.sizes = net.architecture
        self.blocks = [Block(cast(mgcf.Block, block), self.kind) for block in net.blocks]
        self.ports = {
            name: Port(cast(mgcf.Port, port), self.kind) for name, port in net.ports.items()
        }
        tables = lookup(self.device)
        self.tables: Tables = (
            tables.inverse_scale.numpy(),
            tables.weight.numpy(),
            tables.sigmoid.numpy(),
        )

    def predict(self, tiles: Uint8) -> tuple[Tensor, Tensor]:
        """Return outputs (N, H, W, n_outputs) and base predictions (N, H, W, C) of tiles."""
        results = [self._predict(tile) for tile in tiles]
        outputs, bases = zip(*results, strict=True)
        shape = tiles.shape[:3]
        return (
            torch.from_numpy(np.stack(outputs)).view(*shape, -1),
            torch.from_numpy(np.stack(bases)).view(*shape, -1),
        )

    def features(self, tiles: Uint8) -> tuple[Tensor, Tensor]:
        """Return what the head sees, (N, H, W, dim) int8, and base predictions of tiles."""
        levels = np.empty((*tiles.shape[:3], self.sizes.dim), np.int8)
        bases = np.empty(tiles.shape, np.float32)
        for tile, into, base in zip(tiles, levels, bases, strict=True):
            port = self.ports[mgcf.PORT_OF[tile.shape[2]]]
            h = self._stream(port, self._planes(port, tile, base), self._room(tile.shape[1]))
            layers.snap_rows(h, into.reshape(h.shape))
        return torch.from_numpy(levels), torch.from_numpy(bases)

    def encode(self, tiles: Uint8) -> list[bytes]:
        """Return the payloads of ``tiles`` (N, H, W, C), all of one shape."""
        return [self._encode(tile) for tile in tiles]

    def _encode(self, tile: Uint8) -> bytes:
        outputs, base = self._predict(tile)
        positions = wavefront.digit_positions(*tile.shape)
        n_digits = positions.size
        table, digits = np.empty((n_digits, RADIX), np.float32), np.empty(n_digits, np.int32)
        tile, copied = np.ascontiguousarray(tile), COPIED[: self.sizes.copies]
        coded = table, digits
        counts.encode_tables(outputs, base, tile, positions, copied, self.tables, coded)
        return encode_digits(digits, table)

    def _predict(self, tile: Uint8) -> tuple[Float32, Float32]:
        """Return outputs (H * W, n_outputs) and base predictions (H * W, C) of one tile."""
        port, base = self.ports[mgcf.PORT_OF[tile.shape[2]]], np.empty(tile.shape, np.float32)
        return self._outputs(port, self._planes(port, tile, base)), base.reshape(-1, tile.shape[2])

    def _planes(self, port: Port, tile: Uint8, base: Float32) -> NDArray[np.int8]:
        """Return the planes of a tile (H + 3, W + 6, n); fill in its ``base`` (H, W, C)."""
        height, width, channels = tile.shape
        planes = np.zeros((height + 3, width + 6, mgcf.n_planes(channels)), np.int8)
        layers.base_and_planes(np.ascontiguousarray(tile), port.base, STRICT, base, planes)
        return planes

    def _room(self, width: int) -> Buffers:
        """Make room for the rows that are computed at once."""
        rows = max(1, CHUNK_PIXELS // width)
        return Buffers.of(rows * width, self.sizes.dim, self.sizes.hidden, self.kind)

    def _outputs(self, port: Port, planes: NDArray[np.int8]) -> Float32:
        """Return the head's outputs (H * W, n_outputs), given the planes (H + 3, W + 6, n)."""
        room = self._room(planes.shape[1] - 6)
        h, size = self._stream(port, planes, room), len(room.levels)
        outputs = np.empty((len(h), len(port.head.bias)), np.float32)
        sums = torch.empty(size, outputs.shape[1], dtype=SUMS[self.kind])
        for start in range(0, len(h), size):
            pixels = slice(start, min(start + size, len(h)))
            n = pixels.stop - start
            levels = room.levels[:n]
            layers.snap_rows(h[pixels], levels.numpy())
            port.head.into(sums[:n], levels)
            layers.scaled(sums[:n].numpy(), port.head.scale, port.head.bias, outputs[pixels])
        return outputs

    def _stream(self, port: Port, planes: NDArray[np.int8], room: Buffers) -> Float32:
        """Return the residual stream (H * W, dim) after all blocks."""
        height, width, dim = planes.shape[0] - 3, planes.shape[1] - 6, self.sizes.dim
        rows = len(room.levels) // width
        parts = [(top, min(rows, height - top)) for top in range(0, height, rows)]
        h = self._embed(port, planes, parts)
        value = np.empty((height * width, dim), np.float32)
        x = np.zeros((height + 3, width + 6, dim), np.float32)
        for block in self.blocks:
            self._advance(block, h, x, value, parts, room)
        return h

    def _embed(
        self, port: Port, planes: NDArray[np.int8], parts: Sequence[tuple[int, int]]
    ) -> Float32:
        """Return the residual stream (H * W, dim) before the blocks."""
        height, width = planes.shape[0] - 3, planes.shape[1] - 6
        h = np.empty((height * width, self.sizes.dim), np.float32)
        seen = torch.empty(parts[0][1] * width, len(port.embed.weight), dtype=self.kind)
        sums = torch.empty(len(seen), self.sizes.dim, dtype=SUMS[self.kind])
        for top, n in parts:
            layers.gather(planes, top, n, STRICT, seen.numpy())
            port.embed.into(sums[: n * width], seen[: n * width])
            chunk = h[top * width : (top + n) * width]
            layers.scaled(sums[: n * width].numpy(), port.embed.scale, port.embed.bias, chunk)
        return h

    def _advance(
        self,
        block: Block,
        h: Float32,
        x: Float32,
        value: Float32,
        parts: Sequence[tuple[int, int]],
        room: Buffers,
    ) -> None:
        """Pass the residual stream through one block, in place."""
        width, both = x.shape[1] - 6, block.attend_value
        depthwise = ALL_TAPS, block.taps, block.bias
        for top, n in parts:
            buffers = room.first(n * width)
            layers.snap_rows(h[top * width : (top + n) * width], buffers.levels.numpy())
            both.into(buffers.features, buffers.levels)
            sums = buffers.features.numpy(), both.scale, both.bias
            layers.features(sums, x, top, n, value)
        for top, n in parts:
            buffers = room.first(n * width)
            layers.depthwise_gate(x, top, n, depthwise, value, buffers.levels.numpy())
            buffers.mix(block, h[top * width : (top + n) * width])

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int]], channels: int
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode, in one wavefront."""
        return CpuWavefront(self, shapes, mgcf.PORT_OF[channels]).decode(payloads)

    # --- more than 8 bits --------------------------------------------------------------------

    def predict_high_depth(self, values: Values, window: Window) -> tuple[Float32, Float32]:
        """Return outputs (H * W, n_outputs) and base predictions (H, W) of numbers (H, W)."""
        centred = _centred(values, window)
        return self._predict_high_depth(centred, window)

    def _predict_high_depth(
        self, centred: NDArray[np.int32], window: Window
    ) -> tuple[Float32, Float32]:
        port, base = self.ports[mgcf.HIGH_DEPTH], np.empty(_inner(centred), np.float32)
        planes = np.zeros((*centred.shape, mgcf.n_planes(1)), np.int8)
        high_depth.base_and_planes(centred, window.shift, port.mantissas, STRICT, base, planes)
        return self._outputs(port, planes), base

    def encode_high_depth(self, values: Values, window: Window) -> bytes:
        """Return the stream of numbers (H, W)."""
        centred = _centred(values, window)
        outputs, base = self._predict_high_depth(centred, window)
        positions = wavefront.digit_positions(*values.shape, 1, window.digits)[:, 0]
        table = np.empty((positions.size, RADIX), np.float32)
        digits = np.empty(positions.size, np.int32)
        copied = COPIED[: self.sizes.copies]
        limits, coded = triple(window), (table, digits)
        high_depth.encode_tables(
            outputs, base, centred, limits, positions, copied, self.tables, coded
        )
        return encode_digits(digits, table)

    def decode_high_depth(
        self, streams: Sequence[bytes], shapes: Sequence[tuple[int, int]], windows: Sequence[Window]
    ) -> list[Values]:
        """Return the numbers (H, W) of streams, all of one number of digits."""
        return HighDepthWavefront(self, shapes, windows).decode_values(streams)


def _centred(values: Values, window: Window) -> NDArray[np.int32]:
    """Return numbers in steps from the middle, with zeros around: (H + 3, W + 6)."""
    around = (causal.ABOVE, 0), (causal.SIDE, causal.SIDE)
    return np.pad(values.astype(np.int32) - np.int32(window.middle), around)


def _inner(centred: NDArray[np.int32]) -> tuple[int, int]:
    return centred.shape[0] - causal.ABOVE, centred.shape[1] - 2 * causal.SIDE
