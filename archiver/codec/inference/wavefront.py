"""The order of pixels and the two ways through it: one parallel pass, or a wavefront.

A pixel at (row, column) belongs to group ``t = column + 2 * row``; it may depend on groups before t
only, so all pixels of a group, in all tiles of a batch, are decoded together.  In the skewed layout
(row r shifted right by 2 r) group t is column t and every kernel tap is a constant shift::

    row 0   0 1 2 3 4 5 ...            tap (dr, dc) of group t reads row r + dr of group
    row 1       2 3 4 5 ...            t + dc + 2 * dr, at most 9 groups back: the decoder
    row 2           4 5 ...            keeps a ring of the last 10 groups of every layer

A tile's digits are ordered by group, then channel, then digit, then row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from archiver.codec.entropy import RADIX, DigitDecoder, encode_digits
from archiver.codec.model import architecture, causal, grid, mgcf, mixture, taps
from archiver.codec.model.frequencies import ChannelTables, frequencies

RING = 10  # groups kept: the farthest tap, row -3 and column -3, is 9 groups back

DIGITS = 2  # digits of an 8-bit sample

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


def group_rows(group: int, height: int, width: int) -> tuple[int, int]:
    """Return the half-open range of rows that have a pixel in ``group``."""
    return max(0, (group - width + 2) // 2), min(height, group // 2 + 1)


@lru_cache(maxsize=8)
def digit_positions(
    height: int, width: int, channels: int, digits: int = DIGITS
) -> NDArray[np.int64]:
    """Return where each digit stands in a tile's stream: (height * width, channels, digits)."""
    row, column = np.divmod(np.arange(height * width), width)
    group = column + 2 * row
    order = np.lexsort((row, group))
    counts = np.bincount(group, minlength=width + 2 * (height - 1))
    starts = np.cumsum(counts) - counts
    rank = np.empty(height * width, np.int64)
    rank[order] = np.arange(height * width)
    lane = rank - starts[group]
    digit = np.arange(channels * digits).reshape(channels, digits)
    first = (starts[group] * channels * digits + lane)[:, None, None]
    positions: NDArray[np.int64] = first + counts[group][:, None, None] * digit
    return positions


# --- encoding: one masked pass ---------------------------------------------------------------


def encode(net: mgcf.MGCF, tiles: Uint8) -> list[bytes]:
    """Return the payloads of ``tiles`` (N, H, W, C), all of one shape."""
    device = next(net.parameters()).device
    samples = torch.from_numpy(tiles).to(device, torch.float32)
    outputs, base = predict(net, samples)
    n, *shape = tiles.shape
    positions = digit_positions(*shape)
    return [_encode_tile(net, outputs[i], base[i], samples[i], positions) for i in range(n)]


def predict(net: mgcf.MGCF, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Do what ``net(samples)`` does, pointwise layers in chunks that fit the cache."""
    levels, base = features(net, samples)
    flat, head = levels.view(-1, levels.shape[-1]), net.port(samples.shape[-1]).head
    outputs = torch.cat([head(chunk) for chunk in flat.split(_chunk(levels))])
    return outputs.view(*levels.shape[:-1], -1), base


@torch.inference_mode()
def features(net: mgcf.MGCF, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Do what ``net.features(samples)`` does, pointwise layers in chunks that fit the cache."""
    port = net.port(samples.shape[-1])
    centred = samples - architecture.MID
    base = port.base(centred)
    h = port.embed(port.planes(centred, base)).contiguous()
    for block in net.blocks:
        _advance(cast(mgcf.Block, block), h)
    return grid.snap(h), base


def _advance(block: mgcf.Block, h: Tensor) -> None:
    """Do ``h = block(h)`` in place."""
    flat, x, value = h.view(-1, h.shape[-1]), torch.empty_like(h), torch.empty_like(h)
    size = _chunk(h)
    pairs = zip(x.view_as(flat).split(size), value.view_as(flat).split(size), strict=True)
    for chunk, (x_chunk, value_chunk) in zip(flat.split(size), pairs, strict=True):
        features, values = block.features(chunk)
        x_chunk.copy_(features)
        value_chunk.copy_(values)
    gate = block.depthwise(x).contiguous().view_as(flat).split(size)
    for chunk, g, v in zip(flat.split(size), gate, value.view_as(flat).split(size), strict=True):
        chunk.copy_(block.mix(chunk, g, v))


def _chunk(x: Tensor) -> int:
    """Return how many rows of ``x`` a pointwise layer takes at once."""
    return causal.CACHED_PIXELS if x.device.type == "cpu" else len(x)


def _encode_tile(
    net: mgcf.MGCF, outputs: Tensor, base: Tensor, samples: Tensor, positions: NDArray[np.int64]
) -> bytes:
    n_digits = positions.size
    table = np.empty((n_digits, RADIX), np.float32)
    digits = np.empty(n_digits, np.int32)
    centred = (samples - architecture.MID).flatten(0, 1)
    seen = mixture.copyable(samples - architecture.MID, net.architecture).flatten(1, 2)
    outputs, base = outputs.flatten(0, 1), base.flatten(0, 1)
    for start in range(0, len(centred), causal.CACHED_PIXELS):
        chunk = slice(start, start + causal.CACHED_PIXELS)
        p = mixture.parameters(outputs[chunk], samples.shape[-1], net.architecture)
        pixels = p, base[chunk], centred[chunk], seen[:, chunk]
        _fill_tables(*pixels, positions[chunk], table, digits)
    return encode_digits(digits, table)


def _fill_tables(
    p: mixture.Parameters,
    base: Tensor,
    centred: Tensor,
    neighbours: Tensor,
    positions: NDArray[np.int64],
    table: NDArray[np.float32],
    digits: NDArray[np.int32],
) -> None:
    """Write the frequency rows and digits of some pixels to their places in the stream."""
    samples = (centred + architecture.MID).long()
    for channel in range(samples.shape[1]):
        tables = ChannelTables.of(p, channel, base, centred, neighbours)
        values = samples[:, channel]
        cumulative = tables.high_digit()
        low = tables.low_digit((values // RADIX).unsqueeze(1), cumulative)
        both = (cumulative, values // RADIX), (low, values % RADIX)
        for digit, (counts, value) in enumerate(both):
            place = positions[:, channel, digit]
            table[place] = frequencies(counts).cpu().numpy()
            digits[place] = value.cpu().numpy()


# --- decoding: a wavefront over all tiles of a batch -------------------------------------------


Tap = tuple[int, int]  # (row offset, group offset), both <= 0 or above the row


def skewed_taps(*, strict: bool) -> list[Tap]:
    """Return the causal taps as constant shifts in the skewed layout."""
    offsets = [(r - taps.ABOVE, c - taps.SIDE) for r, c in taps.causal_taps(strict=strict)]
    return [(row, column + 2 * row) for row, column in offsets]


class _Ring:
    """The last 10 groups of one layer: (10, 3 + height, tiles, width); outside is zero."""

    def __init__(self, height: int, tiles: int, width: int, device: torch.device) -> None:
        self.data = torch.zeros(RING, taps.ABOVE + height, tiles, width, device=device)

    def write(self, group: int, first: int, value: Tensor) -> None:
        """Store rows ``first ...`` of ``group``; rows that ended before read as outside."""
        column = self.data[group % RING]
        column[taps.ABOVE + max(0, first - RING) : taps.ABOVE + first] = 0
        column[taps.ABOVE + first : taps.ABOVE + first + len(value)] = value

    def read(self, group: int, first: int, n_rows: int, tap: Tap) -> Tensor:
        """Return what ``tap`` sees from rows ``first ...`` of ``group``: (rows, tiles, width)."""
        start = taps.ABOVE + first + tap[0]
        return self.data[(group + tap[1]) % RING, start : start + n_rows]


class _Layer:
    """One block with its depth-wise kernel as taps over a ring."""

    def __init__(self, block: mgcf.Block, height: int, tiles: int) -> None:
        weight, self.bias = block.depthwise.on_grid()
        self.block = block
        self.taps = skewed_taps(strict=False)
        by_tap = causal.tap_weights(weight[:, 0], strict=False).t().unsqueeze(1)
        # one copy per tile: the inner loop then runs over tiles and channels at once
        self.weight = by_tap.expand(-1, tiles, -1).contiguous()  # (taps, tiles, dim)
        self.ring = _Ring(height, tiles, weight.shape[0], weight.device)

    def step(self, group: int, first: int, h: Tensor, inside: Tensor | None) -> Tensor:
        """Advance rows ``first ...`` of ``group``: h (rows, tiles, dim) -> same."""
        x, value = self.block.features(h)
        self.ring.write(group, first, x if inside is None else x * inside)
        gate = self.bias.expand_as(h).clone()
        for tap, weight in zip(self.taps, self.weight, strict=True):
            gate.addcmul_(self.ring.read(group, first, len(h), tap), weight)
        return self.block.mix(h, gate, value)


class Wavefront:
    """Decode a batch of tiles of one channel count, group by group.

    Tiles may differ in height and width; those of similar shape waste least.
    """

    def __init__(self, net: mgcf.MGCF, shapes: Sequence[tuple[int, int]], channels: int) -> None:
        self.device = next(net.parameters()).device
        self.sizes = net.architecture
        self.port = net.port(channels)
        self.channels = channels
        self.heights = np.array([h for h, _ in shapes])
        self.widths = np.array([w for _, w in shapes])
        self.height, self.width = int(self.heights.max()), int(self.widths.max())
        self.uniform = bool((self.widths == self.width).all())
        tiles = len(shapes)
        blocks = (cast(mgcf.Block, block) for block in net.blocks)
        self.layers = [_Layer(block, self.height, tiles) for block in blocks]
        self.planes = _Ring(self.height, tiles, architecture.n_planes(channels), self.device)
        self.taps = skewed_taps(strict=True)
        embed, self.embed_bias = self.port.embed.on_grid()
        self.embed = embed.t().contiguous()  # (taps * planes, dim)
        self.base = self._base_matrix()  # (taps * planes, C)

    def _base_matrix(self) -> Tensor:
        """Return the base predictor as a matrix over all planes: zero but for the samples."""
        weight = self.port.base.on_grid().view(self.channels, len(self.taps), self.channels)
        others = architecture.n_planes(self.channels) - self.channels
        return torch.nn.functional.pad(weight, (0, others)).flatten(1).t().contiguous()

    def decode(self, payloads: Sequence[bytes]) -> list[Uint8]:
        """Return the tiles (H, W, C) that ``payloads`` encode."""
        decoders = [DigitDecoder(payload) for payload in payloads]
        n_groups = self.width + 2 * (self.height - 1)
        tiles = len(payloads)
        skewed = np.zeros((n_groups, self.height, tiles, self.channels), np.uint8)
        for group in range(n_groups):
            first, end = group_rows(group, self.height, self.width)
            if first == end:  # tiles one column wide have no pixel in odd groups
                continue
            lanes = self._lanes(group, first, end)
            skewed[group, first:end] = self._step(group, first, end, decoders, lanes)
        return [self._unskew(skewed[:, :, i], i) for i in range(tiles)]

    def _lanes(self, group: int, first: int, end: int) -> list[tuple[int, int]]:
        """Return, per tile, the half-open range of lanes (rows from ``first``) inside it."""
        if self.uniform and (self.heights == self.height).all():
            return [(0, end - first)] * len(self.heights)
        ranges = (group_rows(group, h, w) for h, w in zip(self.heights, self.widths, strict=True))
        return [(max(0, a - first), max(0, min(b, end) - first)) for a, b in ranges]

    def _step(
        self,
        group: int,
        first: int,
        end: int,
        decoders: list[DigitDecoder],
        lanes: list[tuple[int, int]],
    ) -> Uint8:
        """Decode one group: returns (rows, tiles, C) samples."""
        rows, tiles, inside = end - first, len(decoders), self._inside(group, first, end)
        seen = torch.cat([self.planes.read(group, first, rows, tap) for tap in self.taps], -1)
        base = mgcf.snap_base(seen @ self.base)
        h = torch.addmm(self.embed_bias, seen.view(rows * tiles, -1), self.embed)
        h = h.view(rows, tiles, -1)
        for layer in self.layers:
            h = layer.step(group, first, h, inside)
        outputs = self.port.head(grid.snap(h))
        samples = self._decode_samples(outputs, base, self._neighbours(seen), decoders, lanes)
        planes = self.port.planes(samples - architecture.MID, base)
        self.planes.write(group, first, planes if inside is None else planes * inside)
        return samples.to(torch.uint8).cpu().numpy()

    def _inside(self, group: int, first: int, end: int) -> Tensor | None:
        """Return 1 where a lane's column lies inside its tile, (rows, tiles, 1); None if always."""
        if self.uniform:
            return None
        columns = group - 2 * np.arange(first, end)[:, None]
        inside = (columns < self.widths[None]).astype(np.float32)
        return torch.from_numpy(inside).to(self.device).unsqueeze(-1)

    def _neighbours(self, seen: Tensor) -> Tensor:
        """Return the samples that may be copied, (J, rows, tiles, C), out of all taps' planes."""
        by_tap = seen.unflatten(-1, (len(self.taps), -1))
        copied = [taps.tap_index(*at) for at in architecture.COPIED[: self.sizes.copies]]
        seen_now: Tensor = by_tap[..., copied, : self.channels]
        return seen_now.movedim(-2, 0)

    def _decode_samples(
        self,
        outputs: Tensor,
        base: Tensor,
        neighbours: Tensor,
        decoders: list[DigitDecoder],
        lanes: list[tuple[int, int]],
    ) -> Tensor:
        """Decode all channels of one group: (rows, tiles, C) float32 samples."""
        rows, tiles = outputs.shape[:2]
        # tile-major, so that the rows of one tile are contiguous for its decoder
        flat = outputs.transpose(0, 1).reshape(rows * tiles, -1)
        predicted = base.transpose(0, 1).reshape(rows * tiles, -1)
        seen = neighbours.transpose(1, 2).flatten(1, 2)
        p = mixture.parameters(flat, self.channels, self.sizes)
        centred = torch.zeros_like(predicted)
        for channel in range(self.channels):
            tables = ChannelTables.of(p, channel, predicted, centred, seen)
            cumulative = tables.high_digit()
            high = self._digits(decoders, cumulative, lanes)
            low = self._digits(decoders, tables.low_digit(high.unsqueeze(1), cumulative), lanes)
            centred[:, channel] = (high * RADIX + low).float() - architecture.MID
        return (centred + architecture.MID).view(tiles, rows, -1).transpose(0, 1)

    def _digits(
        self, decoders: list[DigitDecoder], cumulative: Tensor, lanes: list[tuple[int, int]]
    ) -> Tensor:
        """Decode one digit of every lane: (tiles * rows,) int64."""
        table = frequencies(cumulative).cpu().numpy().reshape(len(decoders), -1, RADIX)
        digits = np.zeros(table.shape[:2], np.int64)
        for i, (decoder, (start, end)) in enumerate(zip(decoders, lanes, strict=True)):
            if end > start:
                digits[i, start:end] = decoder.decode(table[i, start:end])
        return torch.from_numpy(digits.reshape(-1)).to(self.device)

    def _unskew(self, skewed: Uint8, tile: int) -> Uint8:
        """Return the (H, W, C) samples of one tile from (groups, rows, C)."""
        height, width = int(self.heights[tile]), int(self.widths[tile])
        row, column = np.arange(height)[:, None], np.arange(width)[None]
        return np.ascontiguousarray(skewed[column + 2 * row, row])
