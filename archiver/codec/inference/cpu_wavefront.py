"""Decoding on a CPU: a wavefront over many tiles, in loops that stay in cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from archiver.codec.entropy import RADIX, DigitDecoder
from archiver.codec.inference.kernels import counts, layers, wavefront
from archiver.codec.inference.kernels.arrays import Float32, Place, Tables
from archiver.codec.inference.matmul import SKEWED_ALL, SKEWED_STRICT, SUMS, Block, Buffers, Port
from archiver.codec.inference.wavefront import RING, group_rows
from archiver.codec.model import causal, mgcf

Uint8 = NDArray[np.uint8]


class Network(Protocol):
    """What a wavefront computes with: a network's weights, and the coder's tables."""

    kind: torch.dtype  # of what products multiply
    sizes: mgcf.Architecture
    blocks: list[Block]
    ports: dict[str, Port]
    tables: Tables


class CpuWavefront:
    """Decode a batch of tiles of one kind, group by group, rows by tiles as lanes."""

    def __init__(self, network: Network, shapes: Sequence[tuple[int, int]], port: str) -> None:
        self._blocks, self._tables = network.blocks, network.tables
        self._port, dim = network.ports[port], network.sizes.dim
        self._channels = channels = self._port.channels
        self._shapes = shapes
        self._height = max(height for height, _ in shapes)
        self._width = max(width for _, width in shapes)
        tiles, ring = len(shapes), (RING, causal.ABOVE + self._height, len(shapes))
        self._rings = [np.zeros((*ring, dim), np.float32) for _ in network.blocks]
        self._planes = np.zeros((*ring, mgcf.n_planes(channels)), np.int8)
        lanes = tiles * min(self._height, (self._width + 1) // 2)  # rows of one group at most
        self._room = Buffers.of(lanes, dim, network.sizes.hidden, network.kind)
        self._seen = torch.empty(lanes, len(self._port.embed.weight), dtype=network.kind)
        self._h = np.empty((lanes, dim), np.float32)
        self._outputs = np.empty((lanes, len(self._port.head.bias)), np.float32)
        self._sums = torch.empty(self._outputs.shape, dtype=SUMS[network.kind])
        self._copied = [causal.tap_index(*at) for at in mgcf.COPIED[: network.sizes.copies]]
        n_components = network.sizes.mixtures + len(self._copied)
        self._mixtures = np.empty((lanes, 3, n_components), np.float32)
        self._cumulative = np.empty((lanes, RADIX + 1), np.float32)
        self._table = np.empty((lanes, RADIX), np.float32)

    def decode(self, payloads: Sequence[bytes]) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode."""
        return self._decode(payloads, np.uint8)

    def _decode(self, payloads: Sequence[bytes], kind: type[np.generic]) -> list[NDArray[Any]]:
        decoders = [DigitDecoder(payload) for payload in payloads]
        tiles = [np.empty((*shape, self._channels), kind) for shape in self._shapes]
        for group in range(self._width + 2 * (self._height - 1)):
            first, end = group_rows(group, self._height, self._width)
            if first == end:  # tiles one column wide have no pixel in odd groups
                continue
            samples = self._step(group, first, end, decoders)
            for i, (tile, (height, width)) in enumerate(zip(tiles, self._shapes, strict=True)):
                start, stop = group_rows(group, height, width)
                rows = np.arange(max(start, first), min(stop, end))
                tile[rows, group - 2 * rows] = samples[rows - first, i]
        return tiles

    def _step(self, group: int, first: int, end: int, decoders: list[DigitDecoder]) -> NDArray[Any]:
        """Decode one group: returns (rows, tiles, C) samples, rubbish outside of tiles."""
        rows, tiles, place = end - first, len(decoders), (group, first)
        inside = self._inside(group, first, end)
        self._clear_ended(place)
        lanes = rows * tiles
        seen, room, h = self._seen[:lanes], self._room.first(lanes), self._h[:lanes]
        wavefront.gather_ring(
            self._planes, place, SKEWED_STRICT, seen.numpy().reshape(rows, tiles, -1)
        )
        base = self._base(place, rows, seen)
        embed = self._port.embed
        embed.into(room.sums, seen)
        layers.scaled(room.sums.numpy(), embed.scale, embed.bias, h)
        for block, ring in zip(self._blocks, self._rings, strict=True):
            layers.snap_rows(h, room.levels.numpy())
            both = block.attend_value
            both.into(room.features, room.levels)
            sums = room.features.numpy(), both.scale, both.bias
            wavefront.features_ring(sums, ring, place, inside)
            depthwise = SKEWED_ALL, block.taps, block.bias
            wavefront.depthwise_gate_ring(ring, place, depthwise, sums, room.levels.numpy())
            room.mix(block, h)
        layers.snap_rows(h, room.levels.numpy())
        head, outputs, totals = self._port.head, self._outputs[:lanes], self._sums[:lanes]
        head.into(totals, room.levels)
        layers.scaled(totals.numpy(), head.scale, head.bias, outputs)
        return self._samples(place, outputs, base, seen, decoders, inside)

    def _clear_ended(self, place: Place) -> None:
        """Make the rows that ended read as outside."""
        for ring in (self._planes, *self._rings):
            wavefront.clear_ended(ring, place)

    def _base(self, place: Place, rows: int, seen: torch.Tensor) -> Float32:
        """Return the base predictions (lanes, C) of a group."""
        base = np.empty((len(seen), self._channels), np.float32)
        wavefront.base_of(seen.numpy(), self._planes.shape[3], self._port.base, base)
        return base

    def _samples(
        self,
        place: Place,
        outputs: Float32,
        base: Float32,
        seen: torch.Tensor,
        decoders: list[DigitDecoder],
        inside: NDArray[np.bool_],
    ) -> NDArray[Any]:
        """Decode the samples (rows, tiles, C) of a group, and keep what later ones see of them."""
        taps = seen.numpy().reshape(len(base), -1, self._planes.shape[3])
        neighbours = taps[:, self._copied, : self._channels].astype(np.float32)
        samples = self._decode_samples(outputs, base, neighbours, decoders, inside)
        wavefront.write_planes(self._planes, place, samples, base, inside)
        return samples

    def _inside(self, group: int, first: int, end: int) -> NDArray[np.bool_]:
        """Return which lanes (rows, tiles) are pixels of their tile."""
        ranges = [group_rows(group, height, width) for height, width in self._shapes]
        row = np.arange(first, end)[:, None]
        starts, stops = np.array(ranges).T
        return np.ascontiguousarray((starts <= row) & (row < stops))

    def _decode_samples(
        self,
        outputs: Float32,
        base: Float32,
        neighbours: Float32,
        decoders: list[DigitDecoder],
        inside: NDArray[np.bool_],
    ) -> Uint8:
        """Decode all channels of one group, given samples to copy (lanes, J, C)."""
        lanes, channels = base.shape
        samples = np.zeros((lanes, channels), np.uint8)
        centred = np.zeros_like(base)
        seen = centred, neighbours
        kept = self._mixtures[:lanes], self._cumulative[:lanes]
        table = self._table[:lanes]
        for channel in range(channels):
            counts.high_tables(outputs, base, seen, channel, self._tables, kept, table)
            high = self._digits(decoders, table, inside)
            counts.low_tables(high, self._tables[2], kept, table)
            low = self._digits(decoders, table, inside)
            samples[:, channel] = high * RADIX + low
            centred[:, channel] = samples[:, channel].astype(np.float32) - mgcf.MID
        return samples.reshape(*inside.shape, channels)

    def _digits(
        self, decoders: list[DigitDecoder], table: Float32, inside: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """Decode one digit of every lane (rows * tiles,); 0 outside of tiles."""
        rows, tiles = inside.shape
        frequencies = table.reshape(rows, tiles, RADIX)
        digits = np.zeros((rows, tiles), np.int32)
        for i, decoder in enumerate(decoders):
            mine = inside[:, i]
            if mine.any():
                digits[mine, i] = decoder.decode(np.ascontiguousarray(frequencies[mine, i]))
        return digits.reshape(-1)
