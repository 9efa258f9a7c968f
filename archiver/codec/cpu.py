"""Own the coder on a CPU: what :mod:`archiver.codec.scan` computes, in loops that stay in cache.

Matrix products are torch's, everything between two of them is one compiled loop
(:mod:`archiver.codec.kernels`).  Buffers are torch tensors whose memory NumPy views share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec import causal, grid, mgcf, scan
from archiver.codec.entropy import RADIX, DigitDecoder, encode_digits
from archiver.codec.kernels import counts, layers, wavefront
from archiver.codec.kernels.compiled import Float32
from archiver.codec.tables import lookup

SUMS = {torch.int8: torch.int32, torch.float32: torch.float32}  # of products of such levels
CHUNK_PIXELS = 512  # what is computed at once: its widest buffer stays in a core's cache

Uint8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class _Product:
    """One layer's matrix product: whole-number weights (n_in, n_out), what scales the sums."""

    weight: Tensor
    scale: Float32  # (n_out,) powers of two
    bias: Float32  # (n_out,) levels

    @classmethod
    def of(cls, kind: torch.dtype, *layers: mgcf.Linear | mgcf.CausalConv) -> _Product:
        """Join layers that take the same input, side by side."""
        parts = [layer.on_grid() for layer in layers]
        weight = torch.cat([weight for weight, _ in parts])
        scale = torch.exp2(grid.row_exponents(weight).float())
        mantissas = (weight / scale[:, None]).t().contiguous().to(kind)
        bias = torch.cat([bias for _, bias in parts])
        return cls(mantissas, scale.numpy(), bias.numpy())

    def into(self, out: Tensor, x: Tensor) -> None:
        """Compute the sums ``x @ weight`` (M, n_out)."""
        if self.weight.dtype == torch.int8:
            torch._int_mm(x, self.weight, out=out)
        else:
            torch.mm(x, self.weight, out=out)


class _Block:
    """The weights of one block."""

    def __init__(self, block: mgcf.Block, kind: torch.dtype) -> None:
        self.attend_value = _Product.of(kind, block.attend, block.value)
        self.project = _Product.of(kind, block.project)
        self.expand = _Product.of(kind, block.expand)
        self.contract = _Product.of(kind, block.contract)
        weight, bias = block.depthwise.on_grid()
        taps = causal.tap_weights(weight[:, 0], strict=False).t()
        self.taps, self.bias = taps.contiguous().numpy(), bias.contiguous().numpy()


@dataclass(frozen=True)
class _Buffers:
    """Room for some pixels at every stage of a block: levels go in, sums come out."""

    levels: Tensor  # (n, dim)
    sums: Tensor  # (n, dim)
    features: Tensor  # (n, 2 dim) sums
    wide: Tensor  # (n, hidden * dim) sums
    hidden: Tensor  # (n, hidden * dim) levels

    @classmethod
    def of(cls, n: int, dim: int, hidden: int, kind: torch.dtype) -> _Buffers:
        """Make room for ``n`` pixels."""
        total = SUMS[kind]
        return cls(
            torch.empty(n, dim, dtype=kind),
            torch.empty(n, dim, dtype=total),
            torch.empty(n, 2 * dim, dtype=total),
            torch.empty(n, hidden * dim, dtype=total),
            torch.empty(n, hidden * dim, dtype=kind),
        )

    def first(self, n: int) -> _Buffers:
        """Return views of the first ``n`` pixels."""
        return _Buffers(
            self.levels[:n], self.sums[:n], self.features[:n], self.wide[:n], self.hidden[:n]
        )

    def mix(self, block: _Block, h: Float32) -> None:
        """Add gated values and MLP to ``h`` (n, dim); the gated values are in ``levels``."""
        project, expand, contract = block.project, block.expand, block.contract
        levels, sums = self.levels.numpy(), self.sums.numpy()
        project.into(self.sums, self.levels)
        layers.add_limited_and_snap(h, sums, project.scale, project.bias, levels)
        expand.into(self.wide, self.levels)
        layers.activate(self.wide.numpy(), expand.scale, expand.bias, self.hidden.numpy())
        contract.into(self.sums, self.hidden)
        layers.add_limited(h, sums, contract.scale, contract.bias)


class _Port:
    """The weights for one kind of image."""

    def __init__(self, port: mgcf.Port, kind: torch.dtype) -> None:
        self.channels = port.channels
        self.embed = _Product.of(kind, port.embed)
        self.head = _Product.of(kind, port.head)
        self.base = port.base.on_grid().t().contiguous().numpy()  # (taps * C, C)


class CpuCoder:
    """Encode and decode tiles with one network on the CPU.

    ``kind`` is what products multiply: float32, or int8 where :func:`has_int8`.
    """

    device = torch.device("cpu")

    def __init__(self, net: mgcf.MGCF, kind: torch.dtype) -> None:
        self.kind = kind
        self.sizes = net.architecture
        self.blocks = [_Block(cast(mgcf.Block, block), self.kind) for block in net.blocks]
        ports = (cast(mgcf.Port, port) for port in net.ports.values())
        self.ports = {port.channels: _Port(port, self.kind) for port in ports}
        tables = lookup(torch.device("cpu"))
        self._sigmoid = tables.sigmoid.numpy()
        self._tables = (tables.inverse_scale.numpy(), tables.weight.numpy(), self._sigmoid)

    def predict(self, tiles: Uint8) -> tuple[Tensor, Tensor]:
        """Return outputs (N, H, W, n_outputs) and base predictions (N, H, W, C) of tiles."""
        results = [self._predict(tile) for tile in tiles]
        outputs, bases = zip(*results, strict=True)
        shape = tiles.shape[:3]
        return (
            torch.from_numpy(np.stack(outputs)).view(*shape, -1),
            torch.from_numpy(np.stack(bases)).view(*shape, -1),
        )

    def encode(self, tiles: Uint8) -> list[bytes]:
        """Return the payloads of ``tiles`` (N, H, W, C), all of one shape."""
        return [self._encode(tile) for tile in tiles]

    def _encode(self, tile: Uint8) -> bytes:
        outputs, base = self._predict(tile)
        positions = scan.digit_positions(*tile.shape)
        n_digits = positions.size
        table, digits = np.empty((n_digits, RADIX), np.float32), np.empty(n_digits, np.int32)
        samples = np.ascontiguousarray(tile).reshape(-1, tile.shape[2])
        counts.encode_tables(outputs, base, samples, positions, *self._tables, table, digits)
        return encode_digits(digits, table)

    def _predict(self, tile: Uint8) -> tuple[Float32, Float32]:
        """Return outputs (H * W, n_outputs) and base predictions (H * W, C) of one tile."""
        height, width, channels = tile.shape
        port, dim = self.ports[channels], self.sizes.dim
        rows = max(1, CHUNK_PIXELS // width)
        room = _Buffers.of(rows * width, dim, self.sizes.hidden, self.kind)
        parts = [(top, min(rows, height - top)) for top in range(0, height, rows)]
        base = np.empty((height, width, channels), np.float32)
        h = self._embed(port, np.ascontiguousarray(tile), base, parts)
        value = np.empty((height * width, dim), np.float32)
        x = np.zeros((height + 3, width + 6, dim), np.float32)
        for block in self.blocks:
            self._advance(block, h, x, value, parts, room)
        outputs = np.empty((height * width, len(port.head.bias)), np.float32)
        sums = torch.empty(rows * width, outputs.shape[1], dtype=SUMS[self.kind])
        for top, n in parts:
            part, levels = slice(top * width, (top + n) * width), room.levels[: n * width]
            layers.snap_rows(h[part], levels.numpy())
            port.head.into(sums[: n * width], levels)
            layers.scaled(sums[: n * width].numpy(), port.head.scale, port.head.bias, outputs[part])
        return outputs, base.reshape(-1, channels)

    def _embed(
        self, port: _Port, tile: Uint8, base: Float32, parts: Sequence[tuple[int, int]]
    ) -> Float32:
        """Return the residual stream (H * W, dim) before the blocks; fills ``base``."""
        height, width, channels = tile.shape
        planes = np.zeros((height + 3, width + 6, mgcf.n_planes(channels)), np.int8)
        layers.base_and_planes(tile, port.base, STRICT, base, planes)
        h = np.empty((height * width, self.sizes.dim), np.float32)
        seen = torch.empty(parts[0][1] * width, len(port.embed.weight), dtype=self.kind)
        sums = torch.empty(len(seen), self.sizes.dim, dtype=SUMS[self.kind])
        for top, n in parts:
            layers.gather(planes, top, n, STRICT, seen.numpy())
            port.embed.into(sums[: n * width], seen[: n * width])
            part = h[top * width : (top + n) * width]
            layers.scaled(sums[: n * width].numpy(), port.embed.scale, port.embed.bias, part)
        return h

    def _advance(
        self,
        block: _Block,
        h: Float32,
        x: Float32,
        value: Float32,
        parts: Sequence[tuple[int, int]],
        room: _Buffers,
    ) -> None:
        """Pass the residual stream through one block, in place."""
        width, both, row = x.shape[1] - 6, block.attend_value, np.empty(x.shape[2], np.float32)
        for top, n in parts:
            buffers = room.first(n * width)
            layers.snap_rows(h[top * width : (top + n) * width], buffers.levels.numpy())
            both.into(buffers.features, buffers.levels)
            layers.features(buffers.features.numpy(), both.scale, both.bias, x, top, n, value)
        for top, n in parts:
            buffers = room.first(n * width)
            layers.depthwise_gate(
                x, top, n, OWN, block.taps, block.bias, value, row, buffers.levels.numpy()
            )
            buffers.mix(block, h[top * width : (top + n) * width])

    def decode(
        self, payloads: Sequence[bytes], shapes: Sequence[tuple[int, int]], channels: int
    ) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode, in one wavefront."""
        return _Wavefront(self, shapes, channels).decode(payloads)

    def high_tables(
        self,
        predicted: tuple[Float32, Float32, Float32],
        channel: int,
        kept: tuple[Float32, Float32],
        table: Float32,
    ) -> None:
        """Write the frequencies of one channel's high digits; see :mod:`kernels`."""
        counts.high_tables(*predicted, channel, *self._tables, *kept, table)

    def low_tables(
        self, high: NDArray[np.int32], kept: tuple[Float32, Float32], table: Float32
    ) -> None:
        """Write the frequencies of one channel's low digits; see :mod:`kernels`."""
        counts.low_tables(high, self._sigmoid, *kept, table)


def has_int8() -> bool:
    """Whether this processor multiplies int8 exactly and faster than float32.

    Without these instructions oneDNN sums pairs of products in 16 bits, which may saturate.
    """
    able = torch.cpu.get_capabilities()
    has_instructions = any(able.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
    return has_instructions and torch.backends.mkldnn.is_available()


def _taps(*, strict: bool) -> Int64:
    return np.array(causal.taps(strict=strict), np.int64)


STRICT, OWN = _taps(strict=True), _taps(strict=False)
SKEWED_STRICT = np.array(scan.skewed_taps(strict=True), np.int64)
SKEWED_OWN = np.array(scan.skewed_taps(strict=False), np.int64)


class _Wavefront:
    """Decode a batch of tiles of one channel count, group by group, rows by tiles as lanes."""

    def __init__(self, coder: CpuCoder, shapes: Sequence[tuple[int, int]], channels: int) -> None:
        self._coder, self._channels = coder, channels
        self._port, dim = coder.ports[channels], coder.sizes.dim
        self._shapes = shapes
        self._height = max(height for height, _ in shapes)
        self._width = max(width for _, width in shapes)
        tiles, ring = len(shapes), (scan.RING, causal.ABOVE + self._height, len(shapes))
        self._rings = [np.zeros((*ring, dim), np.float32) for _ in coder.blocks]
        self._planes = np.zeros((*ring, mgcf.n_planes(channels)), np.int8)
        lanes = tiles * min(self._height, (self._width + 1) // 2)  # rows of one group at most
        self._room = _Buffers.of(lanes, dim, coder.sizes.hidden, coder.kind)
        self._seen = torch.empty(lanes, len(self._port.embed.weight), dtype=coder.kind)
        self._h = np.empty((lanes, dim), np.float32)
        self._outputs = np.empty((lanes, len(self._port.head.bias)), np.float32)
        self._sums = torch.empty(self._outputs.shape, dtype=SUMS[coder.kind])
        self._row = np.empty(dim, np.float32)
        mixtures = self._outputs.shape[1] // (3 * channels + mgcf.n_couplings(channels))
        self._mixtures = np.empty((lanes, 3, mixtures), np.float32)
        self._cumulative = np.empty((lanes, RADIX + 1), np.float32)
        self._table = np.empty((lanes, RADIX), np.float32)

    def decode(self, payloads: Sequence[bytes]) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode."""
        decoders = [DigitDecoder(payload) for payload in payloads]
        tiles = [np.empty((*shape, self._channels), np.uint8) for shape in self._shapes]
        for group in range(self._width + 2 * (self._height - 1)):
            first, end = scan.group_rows(group, self._height, self._width)
            if first == end:  # tiles one column wide have no pixel in odd groups
                continue
            samples = self._step(group, first, end, decoders)
            for i, (tile, (height, width)) in enumerate(zip(tiles, self._shapes, strict=True)):
                start, stop = scan.group_rows(group, height, width)
                rows = np.arange(max(start, first), min(stop, end))
                tile[rows, group - 2 * rows] = samples[rows - first, i]
        return tiles

    def _step(self, group: int, first: int, end: int, decoders: list[DigitDecoder]) -> Uint8:
        """Decode one group: returns (rows, tiles, C) samples, rubbish outside of tiles."""
        rows, tiles = end - first, len(decoders)
        inside = self._inside(group, first, end)
        for ring in (self._planes, *self._rings):
            wavefront.clear_ended(ring, group, first)
        lanes = rows * tiles
        seen, room, h = self._seen[:lanes], self._room.first(lanes), self._h[:lanes]
        wavefront.gather_ring(
            self._planes, group, first, SKEWED_STRICT, seen.numpy().reshape(rows, tiles, -1)
        )
        base = np.empty((lanes, self._channels), np.float32)
        wavefront.base_of(seen.numpy(), self._planes.shape[3], self._port.base, base)
        embed = self._port.embed
        embed.into(room.sums, seen)
        layers.scaled(room.sums.numpy(), embed.scale, embed.bias, h)
        for block, ring in zip(self._coder.blocks, self._rings, strict=True):
            layers.snap_rows(h, room.levels.numpy())
            both = block.attend_value
            both.into(room.features, room.levels)
            features = room.features.numpy(), both.scale, both.bias
            wavefront.features_ring(*features, ring, group, first, inside)
            wavefront.depthwise_gate_ring(
                ring, group, first, SKEWED_OWN, block.taps, block.bias, *features,
                self._row, room.levels.numpy(),
            )  # fmt: skip
            room.mix(block, h)
        layers.snap_rows(h, room.levels.numpy())
        head, outputs, sums = self._port.head, self._outputs[:lanes], self._sums[:lanes]
        head.into(sums, room.levels)
        layers.scaled(sums.numpy(), head.scale, head.bias, outputs)
        samples = self._decode_samples(outputs, base, decoders, inside)
        wavefront.write_planes(self._planes, group, first, samples, base, inside)
        return samples

    def _inside(self, group: int, first: int, end: int) -> NDArray[np.bool_]:
        """Return which lanes (rows, tiles) are pixels of their tile."""
        ranges = [scan.group_rows(group, height, width) for height, width in self._shapes]
        row = np.arange(first, end)[:, None]
        starts, stops = np.array(ranges).T
        return np.ascontiguousarray((starts <= row) & (row < stops))

    def _decode_samples(
        self,
        outputs: Float32,
        base: Float32,
        decoders: list[DigitDecoder],
        inside: NDArray[np.bool_],
    ) -> Uint8:
        """Decode all channels of one group: (rows, tiles, C)."""
        lanes, channels = base.shape
        samples = np.zeros((lanes, channels), np.uint8)
        residuals = np.zeros_like(base)
        kept = self._mixtures[:lanes], self._cumulative[:lanes]
        table = self._table[:lanes]
        for channel in range(channels):
            self._coder.high_tables((outputs, base, residuals), channel, kept, table)
            high = self._digits(decoders, table, inside)
            self._coder.low_tables(high, kept, table)
            low = self._digits(decoders, table, inside)
            samples[:, channel] = high * RADIX + low
            centred = samples[:, channel].astype(np.float32) - mgcf.MID
            residuals[:, channel] = centred * mgcf.BASE_FRACTION - base[:, channel]
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
