"""Learned tiles of 8-bit samples by the text of FORMAT.md, in Python's integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from operator import mul

from reader_only_network import STRICT, Field, Model, Network, Values, levels, seen
from reader_only_range_coder import RangeDecoder, clip, nearest
from reader_only_tables import inverse_scales, sigmoids, weights

T, W, S = sigmoids(8192, 2560), weights(), inverse_scales()  # T[i] is at i + 2560
COPIED = [(0, -1), (-1, 0)]

Count = Callable[[int], int]  # F


def read_learned(model: Model, payload: bytes, height: int, width: int, channels: int) -> bytes:
    """Return the samples of a tile."""
    return LearnedTile(model, channels).read(payload, height, width)


def groups(height: int, width: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the pixels of one group after the other, by row."""
    for t in range(width + 2 * (height - 1)):
        yield [(row, t - 2 * row) for row in range(height) if 0 <= t - 2 * row < width]


def frequencies(count: Count, start: int, width: int) -> list[int]:
    """Return those of 16 digits, each worth `width`, after digits that sum to `start`."""
    ends = [count(start + j * width) for j in range(17)]
    return [end - begin + 1 for begin, end in pairwise(ends)]


def scale_index(scale: int) -> int:
    """Return s of a scale in 1/1024."""
    return levels(scale - 12 * 1024, 92) + 12


class LearnedTile:
    """One tile while it is read."""

    def __init__(self, model: Model, channels: int) -> None:
        self.network = Network(model, {1: "grey", 3: "rgb"}[channels], channels)
        self.channels = channels
        self.centred: Field = {}  # u

    def read(self, payload: bytes, height: int, width: int) -> bytes:
        """Return the samples, row by row."""
        stream = RangeDecoder(payload)
        for pixels in groups(height, width):
            outputs = [self.network.outputs(*pixel) for pixel in pixels]
            bases = [self.base(*pixel) for pixel in pixels]
            values: list[Values] = [[] for _ in pixels]
            for c in range(self.channels):
                states = zip(pixels, outputs, bases, values, strict=True)
                counts = [self.count(c, *state) for state in states]
                high = [stream.digit(frequencies(count, 0, 16)) for count in counts]
                for count, digit, pixel_values in zip(counts, high, values, strict=True):
                    low = stream.digit(frequencies(count, 16 * digit, 1))
                    pixel_values.append(16 * digit + low - 128)
            for state in zip(pixels, bases, values, strict=True):
                self.keep(*state)
        places = [(row, column) for row in range(height) for column in range(width)]
        return bytes(u + 128 for place in places for u in self.centred[place])

    def base(self, row: int, column: int) -> Values:
        """Return the base prediction of a pixel, in 1/16."""
        u = seen(self.centred, row, column, STRICT, self.channels)
        return [levels(16 * sum(map(mul, kernel, u)), 2048) for kernel in self.network.base]

    def keep(self, pixel: tuple[int, int], base: Values, u: Values) -> None:
        """Keep what later pixels see of this one."""
        residual = [16 * x - b for x, b in zip(u, base, strict=True)]
        near = [clip(nearest(r, 8), 127) for r in residual]
        fine = [clip(nearest(r, 2), 127) for r in residual]
        self.centred[pixel] = u
        self.network.planes[pixel] = [*u, *near, *fine, 64]

    def count(self, c: int, at: tuple[int, int], o: Values, base: Values, u: Values) -> Count:
        """Return F of a channel of a pixel; u: of the channels before it."""
        k, j = self.network.sizes["mixtures"], self.network.sizes.get("copies", 0)
        rows = [o[i : i + k] for i in range(0, len(o) - 2 * self.channels * j, k)]
        copied = [o[i : i + j] for i in range(len(rows) * k, len(o), j or 1)]
        logits, means, scales = rows[c], rows[self.channels + c], rows[2 * self.channels + c]
        centres = [64 * (levels(8 * mean, 4080) + base[c]) for mean in means]
        for earlier, x in enumerate(u):
            couplings = rows[3 * self.channels + c * (c - 1) // 2 + earlier]
            residual = 16 * x - base[earlier]
            gains = [levels(4 * g, 255) for g in couplings]
            centres = [m + g * residual for m, g in zip(centres, gains, strict=True)]
        centres = [clip(nearest(m, 16), 32768) for m in centres]
        if j:
            logits, scales = logits + copied[c], scales + copied[self.channels + c]
        for row, column in COPIED[:j]:
            n = self.centred.get((at[0] + row, at[1] + column), [0] * self.channels)
            centres.append(64 * (n[c] + u[c - 1] - n[c - 1] if c else n[c]))
        return mixture([levels(x) for x in logits], centres, [scale_index(x) for x in scales])


def mixture(logits: Values, centres: Values, scales: Values) -> Count:
    """Return F of 8-bit samples."""
    shares = [W[max(logits) - x] for x in logits]
    components = list(zip(shares, centres, [S[s] for s in scales], strict=True))

    def count(x: int) -> int:
        if x <= 0 or x >= 256:
            return 8192 * sum(shares) * (x > 0)
        return sum(
            share * T[clip(nearest((64 * (x - 128) - 32 - centre) * n, 1 << k), 2560) + 2560]
            for share, centre, (n, k) in components
        )

    return count
